"""Audit rows of concurrent requests, made durable by one statement and one commit (DESIGN 4.5)."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

import asyncpg

from ehr.audit_note import AuditNote
from ehr.store import audit
from ehr.store.clock import now_us
from ehr.store.coalescing import Coalescer
from ehr.store.database import database_errors

_MOST_ROWS = 256
_INSERT = (
    "insert into audit_row (at, action, outcome, holders, entry)"
    " select a.at, a.action, a.outcome, a.holders::bigint[], a.entry::json"
    " from unnest($1::bigint[], $2::text[], $3::smallint[], $4::text[], $5::text[])"
    " as a(at, action, outcome, holders, entry)"
)


@dataclass(slots=True, eq=False)
class _Row:
    at_us: int
    note: AuditNote
    outcome: int
    holders: Collection[int]
    future: "asyncio.Future[None]"
    weight: int = 1


class AuditLog:
    """Takes audit rows of what no statement of its own has logged: searches, refusals, sign-ins."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Take the pool of connections for keyed statements."""
        self._pool = pool
        self._queue: Coalescer[_Row] = Coalescer(self._insert, most=_MOST_ROWS)

    async def close(self) -> None:
        """Write what waits, then take no more."""
        await self._queue.close()

    async def record(self, note: AuditNote, outcome: int, holders: Collection[int]) -> None:
        """Write one row; it is durable when this returns.

        Args:
            note: Who asked what and why.
            outcome: 0 (success), 4 (refused or not found) or 8 (failure).
            holders: Row keys of the source Patients in the answer.

        Raises:
            Unavailable: the row could not be written; nothing may be shown.
        """
        row = _Row(now_us(), note, outcome, holders, asyncio.get_running_loop().create_future())
        await self._queue.submit(row)
        row.future.result()

    async def _insert(self, rows: list[_Row]) -> None:
        values = (
            [row.at_us for row in rows],
            [row.note.action for row in rows],
            [row.outcome for row in rows],
            [f"{{{','.join(map(str, sorted(set(row.holders))))}}}" for row in rows],
            [audit.note_json(row.note) for row in rows],
        )
        with database_errors():
            async with self._pool.acquire() as connection:
                await connection.execute(_INSERT, *values)
        for row in rows:
            if not row.future.done():
                row.future.set_result(None)
