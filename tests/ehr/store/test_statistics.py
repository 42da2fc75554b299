import asyncio

import asyncpg
import pytest

from ehr.store.statistics import Statistics, keep_statistics

pytestmark = pytest.mark.database

_WRITE = """insert into resource
  (key, last_updated, holder, custodian, labels, until, version, class, type, dictionary, id, terms, last_version)
select n + $1, 0, 0, 1, 0, 0, 1, 0, 1, 0, n::text, array[7, n], 1 from generate_series(1, $2::integer) n"""


async def write(connection: asyncpg.Connection, first: int, rows: int) -> None:
    await connection.execute(_WRITE, first, rows)
    await connection.execute("select pg_stat_force_next_flush()")


async def common_terms(connection: asyncpg.Connection) -> str | None:
    found: str | None = await connection.fetchval(
        "select most_common_elems::text from pg_stats where tablename = 'resource' and attname = 'terms'"
    )
    return found


async def test_tables_are_analysed_when_a_large_write_is_over(connection: asyncpg.Connection) -> None:
    await connection.execute("alter table resource set (autovacuum_enabled = off)")  # nobody else analyses it
    found = Statistics()
    await write(connection, 0, 600)
    assert await found.look(connection) == []  # it may go on
    await write(connection, 1000, 600)
    assert await found.look(connection) == []
    assert await common_terms(connection) is None
    assert "resource" in await found.look(connection)
    assert "7" in (await common_terms(connection) or "")
    await write(connection, 2000, 20)
    for _ in range(3):
        assert await found.look(connection) == []  # too little to look at 1,200 rows again


async def test_an_endless_write_is_not_waited_for(connection: asyncpg.Connection) -> None:
    found = Statistics()
    await found.look(connection)
    await write(connection, 10_000, 6000)
    assert "resource" in await found.look(connection)


async def test_pending_index_entries_are_merged(connection: asyncpg.Connection) -> None:
    found = Statistics()
    await write(connection, 20_000, 50)
    await found.look(connection)
    assert found.pending
    await found.look(connection)
    assert not found.pending
    assert await connection.fetchval("select gin_clean_pending_list('resource_terms')") == 0


async def test_it_stops_when_told(connection: asyncpg.Connection, database_url: str) -> None:
    stop = asyncio.Event()
    await write(connection, 30_000, 8000)
    keeping = asyncio.create_task(keep_statistics(database_url, every_s=0.02, stop=stop))
    rows = 0
    for _ in range(400):
        rows = await connection.fetchval("select reltuples::bigint from pg_class where relname = 'resource'")
        if rows > 15_000:
            break
        await asyncio.sleep(0.05)
    assert rows > 15_000
    stop.set()
    await keeping
