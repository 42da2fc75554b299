"""The statements of an export: rows of a type in the order of their change, as they were at one instant.

A row that changed after that instant moves away in the order, so it may be missed where it was and must not be shown
where it is. What it was lies in the history then: `changed_meanwhile` finds it by the change log, and the snapshots of
the batches say which of these were read in time. Each alias carries the caller's scope (DESIGN 4.3).
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
import msgspec

from ehr.bulk.export_request import ExportRequest
from ehr.definitions import type_number
from ehr.keys import TermHasher, row_key
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.search.query import SearchQuery
from ehr.search.run import sql
from ehr.store.scope_sql import require_fresh

ROWS = 20_000
"""Rows of a batch: with their bodies some megabytes."""
_STATEMENT_S = 600
"""Where a caller sees few rows, the database looks at many to fill a batch."""
_CHANGED_KEYS = 5_000
_COLUMNS = ("key", "last_updated", "dictionary", "body", "holder", "others")
KEY, LAST_UPDATED, DICTIONARY, BODY, HOLDER, OTHERS = range(6)
"""Places of the columns in a row."""


class Batch(msgspec.Struct):
    """Up to where a batch read, and the snapshot in which it did."""

    last_updated: int
    key: int
    snapshot: str


@dataclass(slots=True)
class Selection:
    """Which rows of one type are asked for, for whom, at which instant."""

    request: ExportRequest
    scope: ReadScope
    resource_type: str
    at_us: int
    queries: Sequence[SearchQuery]
    """Of the type's filters; alternatives."""
    hasher: TermHasher

    def _conditions(self, alias: str, parameters: Parameters) -> list[str]:
        at = parameters.add(self.at_us, "bigint")
        conditions = [
            f"{alias}.type = {parameters.add(type_number(self.resource_type), 'smallint')}",
            f"{alias}.last_updated <= {at}",
            f"not {alias}.deleted",
            self.scope.row_filter.sql(alias, parameters),
        ]
        if self.request.since_us is not None:
            conditions.append(f"{alias}.last_updated > {parameters.add(self.request.since_us, 'bigint')}")
        if self.request.until_us is not None:
            conditions.append(f"{alias}.last_updated < {parameters.add(self.request.until_us, 'bigint')}")
        if self.request.patients is not None:
            holders = parameters.add([row_key("Patient", each) for each in self.request.patients], "bigint[]")
            conditions.append(f"({alias}.holder = any({holders}) or {alias}.others && {holders})")
        elif self.request.level != "system":
            conditions.append(f"{alias}.holder <> 0")
        if self.queries:
            matching = [
                f"{alias}.key in ({sql(each, self.scope.row_filter, parameters, self.hasher)})" for each in self.queries
            ]
            conditions.append(f"({' or '.join(matching)})")
        return conditions

    def following(self, behind: tuple[int, int] | None) -> tuple[str, list[object]]:
        """The statement of the next batch, and its values."""
        parameters = Parameters()
        conditions = self._conditions("r", parameters)
        if behind is not None:
            place = ", ".join(parameters.add(part, "bigint") for part in behind)
            conditions.append(f"(r.last_updated, r.key) > ({place})")
        columns = ", ".join(f"r.{name}" for name in _COLUMNS)
        text = (
            f"select {columns} from resource r where {' and '.join(conditions)}"
            f" order by r.last_updated, r.key limit {ROWS}"
        )
        return text, parameters.values

    def replaced(self, keys: list[int]) -> tuple[str, list[object]]:
        """The statement of what these rows were at the instant, where they have changed since."""
        parameters = Parameters()
        conditions = [
            *self._conditions("h", parameters),
            f"h.key = any({parameters.add(keys, 'bigint[]')})",
            f"r.last_updated > {parameters.add(self.at_us, 'bigint')}",
            self.scope.row_filter.sql("r", parameters),
        ]
        columns = ", ".join(f"h.{name}" for name in _COLUMNS)
        text = (
            f"select distinct on (h.key) {columns} from resource_history h join resource r on r.key = h.key"
            f" where {' and '.join(conditions)} order by h.key, h.version desc"
        )
        return text, parameters.values


_CHANGED = """select distinct on (c.key) c.key, c.operation, c.transaction::text as transaction from change_log c
where c.transaction >= $1::text::xid8 and c.type = $2 and c.at > $3 and c.operation in ('c', 'u', 'd')
order by c.key, c.transaction, c.sequence"""
_STATE = "select epoch, highest_class, pg_current_snapshot()::text as snapshot from policy_state"


@dataclass(slots=True)
class Snapshot:
    """`pg_snapshot` as text, read: which transactions it sees."""

    text: str
    _xmin: int = 0
    _xmax: int = 0
    _running: frozenset[int] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Read `xmin:xmax:xip,...` (https://www.postgresql.org/docs/current/functions-info.html)."""
        low, high, running = self.text.split(":")
        self._xmin, self._xmax = int(low), int(high)
        self._running = frozenset(int(each) for each in running.split(",") if each)

    @property
    def xmin(self) -> int:
        """Every transaction below it has ended."""
        return self._xmin

    @property
    def xmax(self) -> int:
        """No transaction from it on has begun."""
        return self._xmax

    def sees(self, transaction: int) -> bool:
        """Whether what the transaction wrote is visible."""
        return transaction < self._xmin or (transaction < self._xmax and transaction not in self._running)


_PRESENT = """select t.type from unnest($1::smallint[]) as t(type)
where exists (select 1 from resource r where r.type = t.type and r.key is not null)"""


async def types_present(pool: asyncpg.Pool, types: Sequence[str]) -> list[str]:
    """The types of which there is any row, whoever may see it: nothing is asked about the others."""
    rows = await pool.fetch(_PRESENT, [type_number(name) for name in types])
    present = {row["type"] for row in rows}
    return [name for name in types if type_number(name) in present]


async def next_batch(
    pool: asyncpg.Pool, selection: Selection, behind: tuple[int, int] | None
) -> tuple[list[asyncpg.Record], str]:
    """The next rows, and the snapshot in which they were read.

    Raises:
        StaleScope: decide again.
    """
    text, values = selection.following(behind)
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        state = await _state(connection, selection.scope)
        return list(await connection.fetch(text, *values)), state


async def _state(connection: asyncpg.Connection, scope: ReadScope) -> str:
    await connection.execute(f"set local statement_timeout = '{_STATEMENT_S}s'")
    state = await connection.fetchrow(_STATE)
    require_fresh(scope, state["epoch"], state["highest_class"])
    return str(state["snapshot"])


async def changed_meanwhile(
    pool: asyncpg.Pool, selection: Selection, horizon: int, batches: Sequence[Batch]
) -> list[asyncpg.Record]:
    """What rows of the type were at the instant, for those which no batch met as they were.

    Raises:
        StaleScope: decide again.
    """
    ends = [(batch.last_updated, batch.key) for batch in batches]
    snapshots = [Snapshot(batch.snapshot) for batch in batches]
    found: list[asyncpg.Record] = []
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await _state(connection, selection.scope)
        number = type_number(selection.resource_type)
        changes = await connection.fetch(_CHANGED, str(horizon), number, selection.at_us)
        moved = {row["key"]: int(row["transaction"]) for row in changes if row["operation"] != "c"}
        keys = sorted(moved)
        for start in range(0, len(keys), _CHANGED_KEYS):
            text, values = selection.replaced(keys[start : start + _CHANGED_KEYS])
            for row in await connection.fetch(text, *values):
                batch = bisect_left(ends, (row[LAST_UPDATED], row[KEY]))
                if snapshots[min(batch, len(snapshots) - 1)].sees(moved[row[KEY]]):
                    found.append(row)
    return found


async def still_visible(connection: asyncpg.Connection, scope: ReadScope, keys: Sequence[int]) -> list[asyncpg.Record]:
    """Of the rows with these keys those that the scope admits now: (key, holder, others).

    Raises:
        StaleScope: decide again.
    """
    parameters = Parameters()
    asked = parameters.add(list(keys), "bigint[]")
    predicate = scope.row_filter.sql("r", parameters)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await _state(connection, scope)
        return list(
            await connection.fetch(
                f"select r.key, r.holder, r.others from resource r where r.key = any({asked}) and {predicate}",
                *parameters.values,
            )
        )
