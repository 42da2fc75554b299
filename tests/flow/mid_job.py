"""Holds an export in mid-job: its first rows are written, and the table that it looks into next is locked."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

_CLAIMED = "select exists (select from job where kind = 'bulk-export' and state = 'claimed')"
_LONGEST_S = 60
_BEGUN_S = 0.6
"""From the claim to the snapshot whose transactions the export waits for."""


@asynccontextmanager
async def held_exports(database_url: str) -> AsyncIterator["Held"]:
    """While open: the next export that `take` is asked for stands still behind its first rows."""
    held = Held(await asyncpg.connect(database_url), await asyncpg.connect(database_url))
    await held.first.execute("begin; select pg_current_xact_id()")
    try:
        yield held
    finally:
        await held.first.close()
        await held.second.close()


class Held:
    """Two sessions: the export waits for the transaction of the first, then for the lock of the second."""

    def __init__(self, first: asyncpg.Connection, second: asyncpg.Connection) -> None:
        self.first, self.second = first, second

    async def take(self) -> None:
        """The export was asked for: let it begin, and stand still where it has written."""
        end = time.monotonic() + _LONGEST_S
        while not await self.second.fetchval(_CLAIMED):
            assert time.monotonic() < end, "nobody claims the export"
            await asyncio.sleep(0.05)
        await asyncio.sleep(_BEGUN_S)
        # a lock gives its session a transaction, which an export that begins later would wait for
        await self.second.execute("begin; lock table change_log in access exclusive mode")
        await self.first.execute("rollback")
