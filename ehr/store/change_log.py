"""The change log: every committed change once, in an order that late commits do not disturb (DESIGN 4.5).

Rows are ordered by transaction, then sequence; readers stop below the oldest transaction still running, so that
nothing can commit behind them. https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT
"""

from dataclasses import dataclass

import asyncpg

from ehr.definitions import type_name
from ehr.store.bodies import open_body
from ehr.store.database import database_errors

START = (0, 0)
Position = tuple[int, int]
"""(transaction, sequence) of the last row read."""


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """One change with the row as it is now; `body` is None where the resource is deleted now."""

    position: Position
    key: int
    resource_type: str
    resource_id: str
    version: int
    operation: str
    """c create, u update, d delete, l labels or class changed"""
    at_us: int
    holder: int
    others: tuple[int, ...]
    custodian: int
    labels: int
    consent_class: int
    current_version: int
    deleted: bool
    body: bytes | None


# internal readers see every row (the mark of `row_filter.Everything`)
_READ = """select c.transaction::text as transaction, c.sequence, c.key, c.version, c.type, c.operation, c.at, r.id,
  r.holder, r.others, r.custodian, r.labels, r.class, r.version as current_version, r.deleted, r.body, r.dictionary
from change_log c join resource r on r.key = c.key
where (r.key is not null) and (c.transaction, c.sequence) > ($1::text::xid8, $2::bigint)
  and c.transaction < pg_snapshot_xmin(pg_current_snapshot())
order by c.transaction, c.sequence limit $3"""


async def read_after(
    source: asyncpg.Connection | asyncpg.Pool, position: Position, limit: int
) -> tuple[list[LoggedChange], Position]:
    """The next changes after a position, and the position to go on from.

    For internal readers only (analytics, indexing): no scope is applied, the caller filters what it hands out.

    Raises:
        Unavailable: the database is down or too slow.
    """
    with database_errors():
        rows = await source.fetch(_READ, str(position[0]), position[1], limit)
    changes = [
        LoggedChange(
            (int(row["transaction"]), row["sequence"]),
            row["key"],
            type_name(row["type"]),
            row["id"],
            row["version"],
            row["operation"],
            row["at"],
            row["holder"],
            tuple(row["others"] or ()),
            row["custodian"],
            row["labels"],
            row["class"],
            row["current_version"],
            row["deleted"],
            None if row["deleted"] else open_body(row["body"], row["dictionary"]),
        )
        for row in rows
    ]
    return changes, changes[-1].position if changes else position
