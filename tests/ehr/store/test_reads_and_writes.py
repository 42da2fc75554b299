import asyncio

import asyncpg
import pytest

from ehr.errors import Gone, Invalid, NotFound, StaleScope
from ehr.row_filter import Nothing
from ehr.store import Store, WriteOperation
from tests.ehr.store.record_fixtures import NOTE, clinician, loader, read_scope

pytestmark = pytest.mark.database


def create(body: str, resource_type: str = "Patient") -> WriteOperation:
    return WriteOperation("create", resource_type, body=body.encode())


def update(resource_type: str, resource_id: str, body: str) -> WriteOperation:
    return WriteOperation("update", resource_type, resource_id, body.encode())


async def test_a_created_resource_is_read_with_its_digits(store: Store) -> None:
    body = '{"resourceType":"Observation","status":"final","valueQuantity":{"value":72.50}}'
    (made,) = await store.write(clinician(), [create(body, "Observation")], NOTE)
    found = await store.read(read_scope(), "Observation", made.resource_id, NOTE)
    assert found.body == made.body
    assert b"72.50" in (found.body or b"")
    assert (made.kind, found.version) == ("created", 1)
    assert f'"id":"{made.resource_id}"'.encode() in (found.body or b"")


async def test_versions_move_to_history_and_a_deletion_is_gone(store: Store) -> None:
    scope = loader()
    for gender in ("male", "female"):
        body = f'{{"resourceType":"Patient","id":"v1","birthDate":"1980-01-01","gender":"{gender}"}}'
        await store.write(scope, [update("Patient", "v1", body)], NOTE)
    assert b"female" in ((await store.read(read_scope(), "Patient", "v1", NOTE)).body or b"")
    assert b'"male"' in ((await store.vread(read_scope(), "Patient", "v1", 1, NOTE)).body or b"")
    (deleted,) = await store.write(scope, [WriteOperation("delete", "Patient", "v1")], NOTE)
    assert (deleted.kind, deleted.version) == ("deleted", 3)
    with pytest.raises(Gone):
        await store.read(read_scope(), "Patient", "v1", NOTE)
    with pytest.raises(Gone):
        await store.vread(read_scope(), "Patient", "v1", 3, NOTE)
    with pytest.raises(NotFound):
        await store.vread(read_scope(), "Patient", "v1", 4, NOTE)
    page = await store.history(read_scope(), "Patient", "v1", NOTE, count=2)
    assert [each.version for each in page.versions] == [3, 2]
    assert (page.total, page.more) == (3, True)
    rest = await store.history(read_scope(), "Patient", "v1", NOTE, count=2, before_version=2)
    assert [each.version for each in rest.versions] == [1]
    (again,) = await store.write(scope, [update("Patient", "v1", '{"resourceType":"Patient","id":"v1"}')], NOTE)
    assert (again.kind, again.version) == ("created", 4)


async def test_hidden_and_absent_are_alike_down_to_the_audit_row(store: Store, connection: asyncpg.Connection) -> None:
    (made,) = await store.write(clinician(), [create('{"resourceType":"Patient"}')], NOTE)
    hidden = read_scope(Nothing())
    before = await connection.fetchval("select coalesce(max(sequence), 0) from audit_row")
    texts = set()
    for resource_id in (made.resource_id, "no-such-id"):
        for reading in (
            store.read(hidden, "Patient", resource_id, NOTE),
            store.vread(hidden, "Patient", resource_id, 1, NOTE),
            store.history(hidden, "Patient", resource_id, NOTE),
        ):
            with pytest.raises(NotFound) as refused:
                await reading
            texts.add(str(refused.value))
    assert len(texts) == 2
    rows = await connection.fetch(
        "select outcome, holders, entry::text from audit_row where sequence > $1 order by sequence", before
    )
    assert [(row["outcome"], row["holders"]) for row in rows] == [(4, [])] * 6


async def test_concurrent_reads_and_writes_each_get_their_own_answer(store: Store) -> None:
    outcomes = await asyncio.gather(
        *(
            store.write(loader(), [update("Patient", f"c{n}", f'{{"resourceType":"Patient","id":"c{n}"}}')], NOTE)
            for n in range(60)
        ),
        *(
            store.write(loader(), [update("Patient", "same", '{"resourceType":"Patient","id":"same"}')], NOTE)
            for n in range(20)
        ),
    )
    assert sorted(one.version for (one,) in outcomes[60:]) == list(range(1, 21))
    scopes = [read_scope(), read_scope(Nothing()), read_scope()]
    answers = await asyncio.gather(
        *(store.read(scopes[n % 3], "Patient", f"c{n}", NOTE) for n in range(60)), return_exceptions=True
    )
    for n, answer in enumerate(answers):
        if n % 3 == 1:
            assert isinstance(answer, NotFound)
        else:
            assert not isinstance(answer, BaseException)
            assert answer.resource_id == f"c{n}"


async def test_a_stale_scope_shows_and_logs_nothing(store: Store, connection: asyncpg.Connection) -> None:
    (made,) = await store.write(clinician(), [create('{"resourceType":"Patient"}')], NOTE)
    before = await connection.fetchval("select count(*) from audit_row")
    with pytest.raises(StaleScope):
        await store.read(read_scope(epoch=0), "Patient", made.resource_id, NOTE)
    with pytest.raises(StaleScope):
        await store.vread(read_scope(epoch=0), "Patient", made.resource_id, 1, NOTE)
    with pytest.raises(StaleScope):
        await store.write(clinician(read_scope(epoch=0)), [create('{"resourceType":"Patient"}')], NOTE)
    assert await connection.fetchval("select count(*) from audit_row") == before


async def test_an_invalid_resource_is_refused_and_audited(store: Store, connection: asyncpg.Connection) -> None:
    before = await connection.fetchval("select count(*) from resource")
    with pytest.raises(Invalid) as refused:
        await store.write(clinician(), [create('{"resourceType":"Patient","gender":"x"}')], NOTE)
    assert refused.value.issues[0].expression == "Patient.gender"
    assert await connection.fetchval("select count(*) from resource") == before
    assert await connection.fetchval("select outcome from audit_row order by transaction desc limit 1") == 4
