import asyncpg
import pytest

from ehr.store import Store
from ehr.store.audit import AuditQuestion, count, events
from ehr.store.audit_seal import head, seal, verify
from tests.ehr.store.record_fixtures import NOTE

pytestmark = pytest.mark.database


@pytest.fixture
async def sealed(store: Store, connection: asyncpg.Connection) -> asyncpg.Connection:
    await connection.execute("truncate audit_row; truncate audit_seal")
    for _ in range(3):
        for outcome in (0, 4, 0):
            await store.record(NOTE, outcome, [1, 2])
        await seal(connection)
    return connection


async def sequences(connection: asyncpg.Connection) -> list[int]:
    return [row[0] for row in await connection.fetch("select sequence from audit_row order by sequence")]


async def test_an_untouched_log_is_sound(sealed: asyncpg.Connection) -> None:
    assert await verify(sealed, await head(sealed)) == []
    assert await sealed.fetchval("select count(*) from audit_seal") == 3
    assert await seal(sealed) == 0


@pytest.mark.parametrize(
    ("alteration", "what"),
    [
        ("update audit_row set outcome = 8 where sequence = $1", "changed"),
        ('update audit_row set entry = (entry::jsonb || \'{"actor":"x"}\')::json where sequence = $1', "changed"),
        ("delete from audit_row where sequence = $1", "removed"),
        (
            (
                "insert into audit_row (transaction, at, action, outcome, holders, entry) "
                "select transaction, at, action, outcome, holders, entry from audit_row where sequence = $1"
            ),
            "inserted",
        ),
        ("update audit_seal set hash = sha256(hash) where seal = 2 and $1::bigint > 0", "broken"),
        ("delete from audit_seal where seal = 2 and $1::bigint > 0", "removed"),
        ("update audit_seal set leaves = '' where seal = 3 and $1::bigint > 0", "broken"),
    ],
)
async def test_an_altered_log_is_found_out(sealed: asyncpg.Connection, alteration: str, what: str) -> None:
    await sealed.execute(alteration, (await sequences(sealed))[4])
    assert what in {finding.what for finding in await verify(sealed)}


async def test_two_rows_that_changed_places_are_found_out(sealed: asyncpg.Connection) -> None:
    first, second = (await sequences(sealed))[3:5]
    await sealed.execute(
        "with old as (select * from audit_row where sequence in ($1, $2)) update audit_row a set outcome = o.outcome, "
        "at = o.at from old o where a.sequence in ($1, $2) and o.sequence <> a.sequence",
        first,
        second,
    )
    assert [finding.sequence for finding in await verify(sealed)] == [first, second]


async def test_a_cut_off_end_is_found_out_by_the_noted_head(sealed: asyncpg.Connection) -> None:
    noted = await head(sealed)
    await sealed.execute("delete from audit_row where sequence = any($1)", (await sequences(sealed))[6:])
    await sealed.execute("delete from audit_seal where seal = 3")
    assert await verify(sealed) == []
    assert [finding.what for finding in await verify(sealed, noted)] == ["removed"]


async def test_rows_of_running_transactions_wait_and_are_sealed_later(
    sealed: asyncpg.Connection, database_url: str, store: Store
) -> None:
    other = await asyncpg.connect(database_url)
    running = other.transaction()
    await running.start()
    await other.execute(
        "insert into audit_row (at, action, outcome, holders, entry) "
        "select 0, 'R', 0, '{}', '{}' from generate_series(1, 2)"
    )
    await store.record(NOTE, 0, [])
    assert await seal(sealed) == 0
    await running.commit()
    await other.close()
    assert await seal(sealed) == 3


async def test_the_log_is_asked_by_person_time_and_outcome(sealed: asyncpg.Connection) -> None:
    await sealed.execute(
        "insert into holder_person (holder, person, custodian, patient_id) values (1, 1, 0, 'a'), (2, 1, 0, 'b') "
        "on conflict do nothing"
    )
    mine = await events(sealed, AuditQuestion(person=2, limit=4))
    assert len(mine) == 4
    assert (mine[0].persons, mine[0].patients) == ((1,), ("a", "b"))
    assert mine[0].entry["actor"] == "dr.wang"
    rest = await events(sealed, AuditQuestion(person=1, before=mine[-1].position))
    assert len(rest) == 5
    assert await count(sealed, AuditQuestion(outcome=4)) == 3
    assert await count(sealed, AuditQuestion(actor="nobody")) == 0
    assert await count(sealed, AuditQuestion(person=77)) == 0
    assert await events(sealed, AuditQuestion(until_us=1)) == []
