import asyncio
from dataclasses import replace
from typing import Any, cast

import asyncpg
import pytest

from ehr.errors import Forbidden, Invalid, KanglianError, MultipleMatches, NotAllowed, NotFound, PreconditionFailed
from ehr.keys import organisation_key, row_key
from ehr.row_filter import Nothing
from ehr.scopes import WriteScope
from ehr.store import Store, WriteOperation, WriteOutcome
from tests.ehr.store.record_fixtures import NOTE, AboutNamedPatient, clinician, feed, loader, read_scope

pytestmark = pytest.mark.database


def put(resource_id: str, text: str = "", **more: Any) -> WriteOperation:
    body = f'{{"resourceType":"Patient","id":"{resource_id}"{text}}}'
    return WriteOperation("update", "Patient", resource_id, body.encode(), **more)


def delete(resource_id: str) -> WriteOperation:
    return WriteOperation("delete", "Patient", resource_id)


async def refusal(store: Store, scope: WriteScope, operation: WriteOperation) -> tuple[type[BaseException], str]:
    with pytest.raises(KanglianError) as refused:
        await store.write(scope, [operation], NOTE)
    return type(refused.value), str(refused.value)


async def test_the_custodian_is_the_scopes_and_stays(store: Store, connection: asyncpg.Connection) -> None:
    await store.write(
        feed(), [put("first-hospital.own", ',"managingOrganization":{"reference":"Organization/x"}')], NOTE
    )
    await store.write(loader(), [put("first-hospital.own", ',"active":true')], NOTE)
    custodian = await connection.fetchval("select custodian from resource where id = 'first-hospital.own'")
    assert custodian == organisation_key("first-hospital")


async def test_hidden_and_absent_ids_are_refused_alike(store: Store) -> None:
    await store.write(feed("county-hospital"), [put("county-hospital.hidden")], NOTE)
    await store.write(feed(), [put("first-hospital.denied")], NOTE)
    blind = clinician(read_scope(Nothing()))
    for hidden in ("county-hospital.hidden", "first-hospital.denied"):
        assert await refusal(store, blind, put(hidden)) == await refusal(store, blind, put("absent"))
        assert await refusal(store, blind, delete(hidden)) == await refusal(store, blind, delete("absent"))
        assert (await refusal(store, blind, put(hidden, if_match=1)))[0] is NotAllowed
    assert (await refusal(store, blind, delete("absent")))[0] is NotFound


async def test_a_seen_row_of_another_custodian_is_forbidden(store: Store) -> None:
    await store.write(feed("county-hospital"), [put("county-hospital.seen")], NOTE)
    assert (await refusal(store, clinician(), put("county-hospital.seen")))[0] is Forbidden
    assert (await refusal(store, clinician(), delete("county-hospital.seen")))[0] is Forbidden


async def test_a_feed_chooses_ids_with_its_prefix_only(store: Store) -> None:
    assert (await refusal(store, feed(), put("county-hospital.new")))[0] is NotAllowed
    (made,) = await store.write(feed(), [put("first-hospital.new")], NOTE)
    assert made.kind == "created"
    assert (await refusal(store, feed(), put("../x")))[0] is Invalid


async def test_types_that_a_scope_does_not_hold_are_forbidden(store: Store) -> None:
    for refused in ("AuditEvent", "Provenance"):
        operation = WriteOperation("create", refused, body=f'{{"resourceType":"{refused}"}}'.encode())
        assert (await refusal(store, clinician(), operation))[0] is Forbidden
    parameters = WriteOperation("create", "Parameters", body=b'{"resourceType":"Parameters"}')
    assert (await refusal(store, loader(), parameters))[0] is NotAllowed
    narrow = replace(clinician(), refused_types=frozenset({"Patient"}))
    assert (await refusal(store, narrow, put("x")))[0] is Forbidden


async def test_a_resident_writes_about_himself_only(store: Store) -> None:
    await store.write(loader(), [put("resident-a"), put("resident-b")], NOTE)
    own = WriteScope(
        "zhang.wei",
        "resident",
        frozenset({"Consent"}),
        own_person_holders=frozenset({row_key("Patient", "resident-a")}),
        read=read_scope(),
    )
    mine = WriteOperation(
        "create", "Consent", body=b'{"resourceType":"Consent","patient":{"reference":"Patient/resident-a"}}'
    )
    other = WriteOperation(
        "create", "Consent", body=b'{"resourceType":"Consent","patient":{"reference":"Patient/resident-b"}}'
    )
    (made,) = await store.write(own, [mine], NOTE)
    assert made.kind == "created"
    assert (await refusal(store, own, other))[0] is Forbidden
    nobody = WriteOperation("create", "Consent", body=b'{"resourceType":"Consent"}')
    assert (await refusal(store, own, nobody))[0] is Forbidden


async def test_if_match_names_the_current_version(store: Store) -> None:
    await store.write(loader(), [put("etag")], NOTE)
    assert (await refusal(store, loader(), put("etag", if_match=2)))[0] is PreconditionFailed
    (done,) = await store.write(loader(), [put("etag", if_match=1)], NOTE)
    assert done.version == 2
    assert (await refusal(store, loader(), put("etag-absent", if_match=1)))[0] is PreconditionFailed


def conditional(method: str, value: str, *, resource_id: str | None = None, **more: Any) -> WriteOperation:
    own = f'"id":"{resource_id}",' if resource_id else ""
    body = f'{{"resourceType":"Patient",{own}"identifier":[{{"value":"{value}"}}]}}'.encode()
    return WriteOperation(
        cast("Any", method), "Patient", body=None if method == "delete" else body, condition=cast("Any", value), **more
    )


async def test_conditions_create_once_update_and_delete(store: Store) -> None:
    made: list[list[WriteOutcome]] = await asyncio.gather(
        *(store.write(loader(), [conditional("create", "mrn-1")], NOTE) for _ in range(5))
    )
    assert sorted(one.kind for (one,) in made) == ["created", "matched", "matched", "matched", "matched"]
    assert len({one.resource_id for (one,) in made}) == 1
    (updated,) = await store.write(loader(), [conditional("update", "mrn-1")], NOTE)
    assert (updated.kind, updated.version, updated.resource_id) == ("updated", 2, made[0][0].resource_id)
    (fresh,) = await store.write(loader(), [conditional("update", "mrn-2")], NOTE)
    (chosen,) = await store.write(loader(), [conditional("update", "mrn-3", resource_id="mrn-three")], NOTE)
    assert (fresh.kind, chosen.resource_id) == ("created", "mrn-three")
    assert (await refusal(store, clinician(), conditional("update", "mrn-4", resource_id="four")))[0] is NotAllowed
    (gone,) = await store.write(loader(), [conditional("delete", "mrn-2")], NOTE)
    (none,) = await store.write(loader(), [conditional("delete", "mrn-2")], NOTE)
    assert (gone.kind, none.kind) == ("deleted", "nothing")
    twice = put("double", ',"identifier":[{"value":"mrn-1"}]')
    await store.write(loader(), [twice], NOTE)
    for method in ("create", "update", "delete"):
        assert (await refusal(store, loader(), conditional(method, "mrn-1")))[0] is MultipleMatches


async def test_the_audit_row_names_whom_a_write_touched(store: Store, connection: asyncpg.Connection) -> None:
    for name in ("touched-a", "touched-b"):
        await store.write(loader(), [put(name)], NOTE)
    for name in ("touched-a", "touched-b"):
        body = f'{{"resourceType":"Observation","id":"moves","subject":{{"reference":"Patient/{name}"}}}}'
        await store.write(loader(), [WriteOperation("update", "Observation", "moves", body.encode())], NOTE)
    newest = "select holders from audit_row order by transaction desc, sequence desc limit 1"
    assert set(await connection.fetchval(newest)) == {row_key("Patient", name) for name in ("touched-a", "touched-b")}
    (made,) = await store.write(loader(), [conditional("create", "mrn-audit")], NOTE)
    await store.write(loader(), [conditional("create", "mrn-audit")], NOTE)
    assert await connection.fetchval(newest) == [row_key("Patient", made.resource_id)]


async def test_conditions_do_not_match_hidden_rows(store: Store) -> None:
    await store.write(feed("county-hospital"), [put("county-hospital.c", ',"identifier":[{"value":"mrn-h"}]')], NOTE)
    (made,) = await store.write(clinician(read_scope(Nothing())), [conditional("create", "mrn-h")], NOTE)
    assert made.kind == "created"


async def test_an_operation_that_breaks_fails_alone(store: Store, projection: AboutNamedPatient) -> None:
    projection.refuse = "breaks"
    try:
        results = await asyncio.gather(
            *(store.write(loader(), [put(name)], NOTE) for name in ("fine-1", "breaks", "fine-2")),
            return_exceptions=True,
        )
    finally:
        projection.refuse = None
    assert [isinstance(result, ValueError) for result in results] == [False, True, False]
    assert (await store.read(read_scope(), "Patient", "fine-2", NOTE)).version == 1


async def test_operations_of_one_call_are_all_or_nothing(store: Store) -> None:
    assert (await refusal_of_all(store, [put("all-1"), put("all-2", if_match=7)])) is PreconditionFailed
    with pytest.raises(NotFound):
        await store.read(read_scope(), "Patient", "all-1", NOTE)
    twice = await store.write(loader(), [put("all-3"), put("all-3", ',"active":true')], NOTE)
    assert [one.version for one in twice] == [1, 2]
    single = await store.write(loader(), [put("all-4"), put("all-5", if_match=7)], NOTE, atomic=False)
    assert [one.kind for one in single] == ["created", "failed"]


async def refusal_of_all(store: Store, operations: list[WriteOperation]) -> type[BaseException]:
    with pytest.raises(KanglianError) as refused:
        await store.write(loader(), operations, NOTE)
    return type(refused.value)
