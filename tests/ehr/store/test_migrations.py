"""The steps of the schema stand for themselves, end in what `ehr.store.schema` describes, and keep what was stored."""

import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from consent import Consent
from ehr.definitions import type_number
from ehr.errors import Unavailable
from ehr.indexing import MAIN_DATE, ONE_DATE
from ehr.keys import parameter_number
from ehr.store import Store, migrate, migrations
from ehr.store.schema import metadata
from tests.consent.house import HE, LI, WANG, House, observation

pytestmark = pytest.mark.database
STORED = sorted((Path(__file__).parent / "databases").glob("*.sql"))
"""Small databases as pg_dump wrote them, named by their newest step."""
STEPS = Path(migrations.__file__).parent
KEY = bytes(range(32))
"""The index key of the stored databases."""

_COLUMNS = """select c.relname, a.attname, format_type(a.atttypid, a.atttypmod) as type, a.attnotnull, a.attidentity,
  pg_get_expr(d.adbin, d.adrelid) as fallback, o.collname
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum left join pg_collation o on o.oid = a.attcollation
where c.relnamespace = $1::text::regnamespace and c.relkind = 'r' and c.relname <> 'alembic_version'"""
_INDEXES = """select indexname, regexp_replace(replace(indexdef, ' ON ' || schemaname || '.', ' ON '),
  ' WITH \\([^)]*\\)', '') as definition from pg_indexes
where schemaname = $1 and tablename <> 'alembic_version'"""
_CONSTRAINTS = """select r.relname, c.conname, pg_get_constraintdef(c.oid) as definition
from pg_constraint c join pg_class r on r.oid = c.conrelid
where c.connamespace = $1::text::regnamespace and c.contype <> 'n' and r.relname <> 'alembic_version'"""
_STORAGE = """select c.relname, c.reloptions::text as options, (select string_agg(a.attname, ' ' order by a.attname)
  from pg_attribute a where a.attrelid = c.oid and a.attstorage = 'e' and c.relkind = 'r') as external
from pg_class c where c.relnamespace = $1::text::regnamespace and c.relkind in ('r', 'i')"""


async def _catalogue(connection: asyncpg.Connection, schema: str, *, storage: bool = False) -> set[tuple[object, ...]]:
    queries = (_COLUMNS, _INDEXES, _CONSTRAINTS, *((_STORAGE,) if storage else ()))
    return {tuple(row) for query in queries for row in await connection.fetch(query, schema)}


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database with nothing in it."""
    opened = await asyncpg.connect(database_url)
    await opened.execute("drop schema if exists public cascade; drop schema if exists described cascade")
    await opened.execute("create schema public")
    yield opened
    await opened.close()


def _described() -> list[str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it untyped
    elements = [
        element
        for table in metadata.sorted_tables
        for element in (CreateTable(table), *(CreateIndex(index) for index in table.indexes))
    ]
    return [str(element.compile(dialect=dialect)) for element in elements]


async def test_the_steps_from_empty_give_the_schema_as_described(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await migrate(database_url)
    await connection.execute("create schema described; set search_path = described")
    for statement in _described():
        await connection.execute(statement)
    made, described = await _catalogue(connection, "public"), await _catalogue(connection, "described")
    assert len(described) > 200
    assert sorted(map(str, made ^ described)) == []


def test_no_step_reads_the_present_schema() -> None:
    for step in (STEPS / "env.py", *(STEPS / "versions").glob("*.py")):
        imports = re.findall(r"^\s*(?:from|import) .*", step.read_text(), re.MULTILINE)
        assert not [line for line in imports if "ehr" in line], step


@pytest.mark.parametrize("stored", [path.read_text() for path in STORED], ids=[path.stem for path in STORED])
async def test_a_stored_database_becomes_the_newest(
    connection: asyncpg.Connection, database_url: str, stored: str, tmp_path: Path
) -> None:
    await migrate(database_url)
    newest = await _catalogue(connection, "public", storage=True)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.execute(stored)
    await migrate(database_url)
    assert sorted(map(str, newest ^ await _catalogue(connection, "public", storage=True))) == []
    key = tmp_path / "index.key"
    key.write_bytes(KEY)
    decisions = Consent("cn-county")
    store = await Store.open(database_url, keys_path=key, projections=decisions.projections())
    await decisions.open(store)
    try:
        house = House(store, decisions)
        for reference, who, seen in (
            ("Observation/first-hospital.o1", WANG, True),
            ("Observation/first-hospital.o1", LI, True),
            ("Observation/first-hospital.hiv", LI, False),
            ("Consent/c1", HE, True),
        ):
            assert await house.sees(who, reference) is seen, (reference, who.subject)
        await house.feed("first-hospital", observation("first-hospital.o1", "first-hospital.p1", status="corrected"))
        versions = await connection.fetch(
            "select version from resource where id = 'first-hospital.o1' union all "
            "select version from resource_history where id = 'first-hospital.o1' order by 1"
        )
        assert [row["version"] for row in versions] == [1, 2, 3]
    finally:
        await store.close()


async def test_ends_of_main_dates_are_carried_over_to_their_rows(
    connection: asyncpg.Connection, database_url: str
) -> None:
    step = import_module("ehr.store.migrations.versions.0013_ends_of_main_dates")
    assert set(step._MAIN_DATES) == {(type_number(each), parameter_number(each, MAIN_DATE[each])) for each in ONE_DATE}
    await connection.execute((STORED[0].parent / "0003.sql").read_text())
    key = await connection.fetchval("select key from public.resource where id = 'first-hospital.o1'")
    kept = {tuple(row) for row in await connection.fetch("select * from public.index_date")} | {(key, 1, 2, 77)}
    date = parameter_number("Observation", "date")
    await connection.execute("update public.resource set at = 5 where key = $1", key)
    await connection.execute(f"insert into public.index_date values ($1, 5, 9, {date}), ($1, 1, 2, 77)", key)
    await migrate(database_url)
    ends = await connection.fetch("select key, at, until from public.resource where until is not null")
    assert [tuple(row) for row in ends] == [(key, 5, 9)]
    assert {tuple(row) for row in await connection.fetch("select * from public.index_date")} == kept
    assert len(kept) == 3


async def test_a_dump_restored_behind_its_own_transactions_is_refused(
    connection: asyncpg.Connection, database_url: str
) -> None:
    await migrate(database_url)
    await migrate(database_url)
    await connection.execute(
        "insert into change_log (transaction, key, version, type, operation, at) "
        "values ('30064771072', 1, 1, 1, 'c', 1)"
    )
    with pytest.raises(Unavailable, match="pg_resetwal -e 8 "):
        await migrate(database_url)
    await connection.execute("delete from change_log")
    await migrate(database_url)


async def test_a_database_that_cannot_be_reached_is_told_with_its_cause() -> None:
    with pytest.raises(Unavailable, match=r"cannot be reached \(.*failed.*KANGLIAN_DATABASE_URL"):
        await migrate("postgresql://kanglian@127.0.0.1:1/kanglian")
