"""Pages, totals, order, includes, audit and scope of answers."""

import asyncio
import json

import asyncpg
import pytest
import pytest_asyncio

from ehr.errors import BadSearch, Expired, StaleScope, TooCostly
from ehr.keys import row_key
from ehr.row_filter import EVERYTHING, NOTHING, AllOf, CustodianIn, RowFilter
from ehr.search import matcher, parse, search
from ehr.search.scope_linter import unscoped_aliases
from ehr.store import Store
from tests.search_record import NOTE, START_US, Kept, ask, ask_all, fill, plain, recorded_statements, scope_of

pytestmark = pytest.mark.database
OWN: RowFilter = AllOf((EVERYTHING, CustodianIn(frozenset({1}))))
COUNT = 60
NOW_US = "(extract(epoch from clock_timestamp()) * 1e6)::bigint"


def _rows() -> list[Kept]:
    """Patients 0 to 59; every third is of custodian 1, the rest of custodian 2; one observation each, alike."""
    rows = []
    for n in range(COUNT):
        custodian = 1 if n % 3 == 0 else 2
        name = f'"name":[{{"family":"Family{n % 7}"}}],' if n % 5 else ""
        birth = f'"birthDate":"19{50 + n % 10}-01-01",' if n % 4 else ""
        patient = f'{{"resourceType":"Patient","id":"{n}",{name}{birth}"gender":"{"male" if n % 2 else "female"}"}}'
        observation = (
            f'{{"resourceType":"Observation","id":"{n}","status":"final","code":{{"coding":[{{"code":"c{n % 2}"}}]}},'
            f'"subject":{{"reference":"Patient/{n}"}},"encounter":{{"reference":"Encounter/{n}"}},'
            f'"performer":[{{"reference":"Patient/{(n + 1) % COUNT}"}}],"valueQuantity":{{"value":{n}.0}}}}'
        )
        encounter = (
            f'{{"resourceType":"Encounter","id":"{n}","status":"finished","class":{{"code":"AMB"}},'
            f'"subject":{{"reference":"Patient/{n}"}}}}'
        )
        for place, text in enumerate((patient, observation, encounter)):
            resource = plain(text)
            rows.append(
                Kept(
                    resource,
                    START_US + n * 10 + place,
                    row_key("Patient", str(n)),
                    custodian=custodian,
                    deleted=n == 59,
                )
            )
    return rows


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def _filled(store: Store, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await fill(connection, store.hasher, _rows())
    await connection.close()


@pytest_asyncio.fixture
async def connection(database_url: str) -> asyncpg.Connection:
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


def _ids(names: list[str]) -> list[int]:
    return [int(name.partition("/")[2]) for name in names]


async def test_pages_are_whole_and_newest_first(store: Store) -> None:
    assert _ids(await ask_all(store, "Patient?_count=7")) == list(range(58, -1, -1))
    assert _ids(await ask_all(store, "Patient?_count=7&_sort=_lastUpdated")) == list(range(59))
    assert _ids(await ask_all(store, "Patient?_count=7&_total=accurate", OWN)) == list(range(57, -1, -3))


@pytest.mark.parametrize(
    "sort", ["birthdate,_id", "-birthdate,_id", "birthdate,-_lastUpdated", "family,_id", "-family,-_id"]
)
async def test_sort_puts_the_missing_last_and_pages_agree(store: Store, sort: str) -> None:
    whole = await ask_all(store, f"Patient?_count=1000&_sort={sort}")
    assert await ask_all(store, f"Patient?_count=7&_sort={sort}") == whole
    by_family = "family" in sort
    has = [n % 5 != 0 if by_family else n % 4 != 0 for n in _ids(whole)]
    assert has == sorted(has, reverse=True)
    values = [n % 7 if by_family else n % 10 for n in _ids(whole)][: sum(has)]
    assert values == sorted(values, reverse=sort.startswith("-"))


async def test_totals(store: Store) -> None:
    assert (await ask(store, "Patient?_count=5")).total == 59
    assert (await ask(store, "Patient?_count=5&_total=none")).total is None
    assert (await ask(store, "Patient?_summary=count", OWN)).total == 20
    assert (await ask(store, "Patient?_count=0", OWN)).total == 20
    counted = await ask(store, "Patient?_summary=count&name:contains=amily3", OWN)
    assert (counted.total, counted.matches) == (sum(n % 7 == 3 and n % 5 != 0 for n in range(0, 59, 3)), [])
    first = await ask(store, "Patient?_count=5", OWN)
    second = await ask(store, "Patient?_count=5", OWN, cursor=first.next_cursor)
    assert second.total == 20


async def test_rows_that_change_between_pages_appear_once_or_not(store: Store, connection: asyncpg.Connection) -> None:
    for sort in ("birthdate", "-birthdate", "_lastUpdated", "family", "-_lastUpdated"):
        query = f"Patient?_count=10&_sort={sort}&gender=male,female"
        seen = []
        first = await ask(store, query)
        seen += [match.resource_id for match in first.matches]
        shown, waiting = seen[0], "58" if "58" not in seen else "0"
        before = await connection.fetch("select key, last_updated from resource")
        moved = [row_key("Patient", shown), row_key("Patient", waiting)]
        await connection.execute(
            f"update resource set last_updated = {NOW_US} where key = any($1)",
            moved,
        )
        await connection.execute("update index_date set low = 0 where key = any($1)", moved)
        cursor = first.next_cursor
        while cursor:
            result = await ask(store, query, cursor=cursor)
            seen += [match.resource_id for match in result.matches]
            cursor = result.next_cursor
        assert len(seen) == len(set(seen)), sort
        assert set(seen) >= {str(n) for n in range(59)} - {shown, waiting}, sort
        await connection.executemany("update resource set last_updated = $2 where key = $1", [tuple(r) for r in before])


async def test_a_change_that_commits_after_the_first_page_is_not_shown_twice(
    store: Store, connection: asyncpg.Connection
) -> None:
    query = "Patient?_count=10&_sort=birthdate"
    transaction = connection.transaction()
    await transaction.start()
    key = row_key("Patient", "11")
    await connection.execute(f"update resource set last_updated = {NOW_US} where key = $1", key)
    await connection.execute("update index_date set low = 0, high = 8000000000000000 where key = $1", key)
    await asyncio.sleep(0.002)
    first = await ask(store, query)
    assert "11" in [match.resource_id for match in first.matches]
    await transaction.commit()
    seen = [match.resource_id for match in first.matches]
    cursor = first.next_cursor
    while cursor:
        result = await ask(store, query, cursor=cursor)
        seen += [match.resource_id for match in result.matches]
        cursor = result.next_cursor
    assert seen.count("11") == 1
    await connection.execute("update resource set last_updated = $2 where key = $1", key, START_US + 110)


async def test_a_link_is_bound_to_subject_purpose_and_query(store: Store) -> None:
    first = await ask(store, "Patient?_count=5")
    assert first.next_cursor
    for text, more in (
        ("Patient?_count=5", {"actor": "dr.li"}),
        ("Patient?_count=5", {"purpose": "HRESCH"}),
        ("Patient?_count=6", {}),
        ("Observation?_count=5", {}),
    ):
        with pytest.raises(Expired):
            await ask(store, text, cursor=first.next_cursor, **more)
    narrowed = await ask(store, "Patient?_count=5", OWN, cursor=first.next_cursor)
    assert all(int(match.resource_id) % 3 == 0 for match in narrowed.matches)


async def test_included_rows_pass_the_scope(store: Store) -> None:
    result = await ask(
        store, "Observation?_count=1000&_include=Observation:performer&_include=Observation:subject", OWN
    )
    assert {row.resource_id for row in result.includes} == {str(n) for n in range(0, 59, 3)}
    for everything in ("Observation:*", "*"):
        result = await ask(store, f"Observation?_id=4&_include={everything}")
        assert {f"{row.resource_type}/{row.resource_id}" for row in result.includes} == {
            "Patient/4",
            "Patient/5",
            "Encounter/4",
        }
    result = await ask(store, "Patient?_id=4&_revinclude=Observation:*")
    assert {f"{row.resource_type}/{row.resource_id}" for row in result.includes} == {"Observation/3", "Observation/4"}
    result = await ask(store, "Observation?_id=4&_include=Observation:patient&_include=Observation:encounter")
    assert {f"{row.resource_type}/{row.resource_id}" for row in result.includes} == {"Patient/4", "Encounter/4"}
    result = await ask(store, "Observation?_id=58&_include=Observation:performer")
    assert result.includes == []
    reverse = "Patient?_id=3,4&_revinclude=Observation:patient&_revinclude=Encounter:subject"
    reverse += "&_revinclude=Observation:performer"
    result = await ask(store, reverse, OWN)
    assert {f"{r.resource_type}/{r.resource_id}" for r in result.includes} == {"Observation/3", "Encounter/3"}
    assert [row.resource_id for row in result.matches] == ["3"]


async def test_hidden_rows_cannot_be_felt_through_chains(store: Store) -> None:
    assert await ask_all(store, "Patient?_has:Observation:performer:code=c1", OWN) == []
    assert _ids(await ask_all(store, "Observation?performer:Patient._id=5")) == [4]
    assert await ask_all(store, "Observation?performer:Patient._id=4", OWN) == []
    assert await ask_all(store, "Observation?performer:Patient.name:contains=amily", OWN) == []
    assert await ask_all(store, "Observation?subject:Patient._id=4", OWN) == []
    assert _ids(await ask_all(store, "Patient?_has:Observation:performer:_id=4")) == [5]
    assert (await ask(store, "Observation?encounter.status=finished&_summary=count", OWN)).total == 20
    assert (await ask(store, "Patient?gender:not=male&_total=accurate&_count=1", OWN)).total == 10
    assert await ask_all(store, "Patient", NOTHING) == []


async def test_chains_with_many_targets_are_walked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = await ask_all(store, "Observation?encounter.status=finished&code=c1")
    assert len(whole) == 29
    monkeypatch.setattr("ehr.search.limits.CHAINED_KEYS", 3)
    assert await ask_all(store, "Observation?encounter.status=finished&code=c1") == whole
    assert (await ask(store, "Observation?encounter.status=finished&_summary=count")).total == 59


async def test_opening_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ehr.search.limits.OPENED", 10)
    for text in ("Patient?name:contains=am&_total=accurate", "Patient?_sort=family"):
        with pytest.raises(TooCostly):
            await ask(store, text)


async def test_one_audit_row_names_everybody_in_the_answer(store: Store, connection: asyncpg.Connection) -> None:
    queries = {
        "Patient?_id=3,6": {3, 6},
        "Patient?_id=3,4&_count=1": {4},
        "Observation?_id=3&_include=Observation:performer": {3, 4},
        "Observation?_id=3&_include=Observation:subject": {3},
        "Patient?name:contains=amily3&_count=1": {52},
        "Patient?_summary=count": set(),
        "Patient?_id=nobody": set(),
    }
    for text, people in queries.items():
        await connection.execute("delete from audit_row")
        await ask(store, text)
        rows = await connection.fetch("select holders, outcome, action from audit_row")
        assert [(set(r["holders"]), r["outcome"]) for r in rows] == [
            ({row_key("Patient", str(n)) for n in people}, 0)
        ], text


async def test_a_stale_scope_shows_and_logs_nothing(store: Store, connection: asyncpg.Connection) -> None:
    await connection.execute("delete from audit_row")
    for text in (
        "Patient",
        "Patient?_summary=count",
        "Patient?_sort=family",
        "Observation?_include=Observation:performer",
    ):
        with pytest.raises(StaleScope):
            await ask(store, text, epoch=0)
    assert await connection.fetchval("select count(*) from audit_row") == 0


async def test_a_common_search_is_one_statement_beside_its_audit_and_each_alias_is_scoped(store: Store) -> None:
    texts = (
        "Patient?gender=male&_sort=birthdate&_total=accurate",
        "Observation?subject:Patient.gender=male&_include=Observation:patient",
        "Observation?encounter.status=finished",
        "Patient?_has:Observation:patient:code=c1&_revinclude=Encounter:patient",
        "Observation?patient:mdm=3",
        "Observation?_summary=count",
    )
    await ask(store, "Patient?_count=1")
    for text in texts:
        with recorded_statements() as statements:
            await ask(store, text, OWN)
        assert len(statements) == 2, text
        assert statements[1].startswith("insert into audit_row"), text
        assert unscoped_aliases(statements[0]) == [], text


async def test_conditional_look_ups_see_only_the_filter(store: Store, connection: asyncpg.Connection) -> None:
    find = matcher(store.extractor)
    query = parse("Patient", [("_id", "3,4")])
    assert set(await find(connection, EVERYTHING, query, 5)) == {row_key("Patient", "3"), row_key("Patient", "4")}
    assert await find(connection, OWN, query, 5) == [row_key("Patient", "3")]
    assert len(await find(connection, EVERYTHING, parse("Patient", [("family:contains", "amily")]), 2)) == 2


async def test_whole_person_spans_linked_patients_that_the_caller_sees(
    store: Store, connection: asyncpg.Connection
) -> None:
    await connection.executemany(
        "insert into holder_person (holder, person, patient_id) values ($1, 1, $2)",
        [(row_key("Patient", n), n) for n in ("3", "4")],
    )
    assert sorted(_ids(await ask_all(store, "Observation?patient:mdm=3"))) == [3, 4]
    assert sorted(_ids(await ask_all(store, "Observation?performer:mdm=Patient/3"))) == [2, 3]
    assert sorted(_ids(await ask_all(store, "Observation?patient=3"))) == [3]
    assert sorted(_ids(await ask_all(store, "Observation?patient:mdm=3", OWN))) == [3]
    assert await ask_all(store, "Observation?patient:mdm=4", OWN) == []


async def test_elements_cut_the_matches(store: Store) -> None:
    result = await ask(store, "Patient?_id=1&_elements=gender")
    assert set(json.loads(result.matches[0].body or b"")) == {"resourceType", "id", "meta", "gender"}


async def test_lenient_issues_and_self_query_come_along(store: Store) -> None:
    query = parse("Patient", [("x", "1"), ("_id", "1 2")], lenient=True)
    result = await search(store, scope_of(EVERYTHING), query, NOTE, link_key=b"k" * 16)
    assert result.self_query == "_id=1+2"
    assert len(result.issues) == 1
    with pytest.raises(BadSearch):
        parse("Patient", [("x", "1")])
