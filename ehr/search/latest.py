"""The last rows of each code, as Observation/$lastn asks: https://hl7.org/fhir/R4/observation-operation-lastn.html.

Rows are of one code where the first coding is the same; where there is none, the text.
"""

from collections.abc import Sequence

import asyncpg
import msgspec

from ehr.audit_note import AuditNote
from ehr.definitions import type_name
from ehr.errors import TooCostly
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.search.query import SearchQuery
from ehr.search.run import SearchableStore, matching_keys
from ehr.search.statement_columns import columns_of
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.reads import version_of
from ehr.store.scope_sql import require_fresh

MOST_ROWS = 1_000
"""Rows in one answer."""
_MOST_READ = 10_000
"""Rows whose codes are compared."""


class _Coding(msgspec.Struct):
    system: str = ""
    code: str = ""


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []
    text: str = ""


class _Coded(msgspec.Struct):
    """What is read of a row."""

    code: _Concept


_coded = msgspec.json.Decoder(_Coded)


async def last_of_each_code(
    store: SearchableStore, scope: ReadScope, query: SearchQuery, most: int, note: AuditNote
) -> list[StoredVersion]:
    """At most so many rows of each code among the matches, newest first by their main date; audited when it returns.

    Raises:
        TooCostly: there are too many matches or codes.
        StaleScope: decide again, once.
        Unavailable: the database is away or too slow.
    """
    with database_errors():
        async with store.search_pool.acquire() as connection:
            keys = await matching_keys(connection, scope.row_filter, query, _MOST_READ + 1, extractor=store.extractor)
            if len(keys) > _MOST_READ:
                raise TooCostly(f"Over {_MOST_READ} rows match; narrow the search.")
            rows = await _newest_first(connection, scope, keys)
    found = _first_of_each(rows, most)
    if len(found) > MOST_ROWS:
        raise TooCostly(f"Over {MOST_ROWS} rows would be shown; narrow the search by category or code.")
    if not scope.internal:
        await store.record(note, holders=holders_of(found))
    return found


async def _newest_first(connection: asyncpg.Connection, scope: ReadScope, keys: Sequence[int]) -> list[asyncpg.Record]:
    parameters = Parameters()
    given = parameters.add(list(keys), "bigint[]")
    shown = (
        f"select r.deleted, r.at, {columns_of('r')} from resource r where r.key = any({given}) and not r.deleted"
        f" and {scope.row_filter.sql('r', parameters)}"
    )
    statement = (
        f"select s.epoch, s.highest_class, f.* from policy_state s left join ({shown}) f on true"
        " order by f.at desc nulls last, f.last_updated desc, f.key"
    )
    rows = await connection.fetch(statement, *parameters.values)
    require_fresh(scope, rows[0]["epoch"], rows[0]["highest_class"])
    return [row for row in rows if row["key"] is not None]


def _first_of_each(rows: Sequence[asyncpg.Record], most: int) -> list[StoredVersion]:
    """At most so many of each code, code after code in the order of their newest."""
    groups: dict[tuple[str, str], list[StoredVersion]] = {}
    for row in rows:
        version = version_of(row, type_name(row["type"]), row["id"], row["key"])
        concept = _coded.decode(version.body or b"{}").code
        first = concept.coding[0] if concept.coding else _Coding("", "")
        group = groups.setdefault((first.system, first.code) if concept.coding else ("text", concept.text), [])
        if len(group) < most:
            group.append(version)
    return [version for group in groups.values() for version in group]


def holders_of(versions: Sequence[StoredVersion]) -> set[int]:
    """Everybody whom the rows are about."""
    return {holder for one in versions if one.holder for holder in (one.holder, *one.others)}
