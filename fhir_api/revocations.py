"""Which tokens were withdrawn before their time: a copy in memory of the table, kept fresh within a second.

https://www.rfc-editor.org/rfc/rfc7009
"""

import asyncio
import logging
import time
from collections.abc import Iterable

from ehr.errors import KanglianError
from ehr.store import Store, tokens

_LOG = logging.getLogger(__name__)
REFRESH_S = 1.0
FORGET_EVERY = 600


class Revocations:
    """The withdrawn identifiers ("jti:...", "family:...") and a number that grows with each change of them."""

    def __init__(self, store: Store) -> None:
        """Take the store whose table is copied."""
        self._store = store
        self._identifiers: frozenset[str] = frozenset()
        self.epoch = 0

    def holds(self, identifiers: Iterable[str]) -> bool:
        """True where one of the identifiers was withdrawn."""
        return not self._identifiers.isdisjoint(identifiers)

    async def refresh(self) -> None:
        """Copy the table; the epoch grows only where it changed."""
        found = frozenset(await tokens.revoked(self._store, _now_us()))
        if found != self._identifiers:
            self._identifiers = found
            self.epoch += 1

    async def revoke(self, identifier: str, until_s: float) -> None:
        """Withdraw a token or its family until it would have expired; durable on return, known here at once."""
        await tokens.revoke(self._store, identifier, int(until_s * 1_000_000))
        await self.refresh()

    async def spend(self, identifier: str, until_s: float) -> bool:
        """Use a single-use identifier (code, assertion jti, refresh token); False where it was used before."""
        return await tokens.spend(self._store, identifier, int(until_s * 1_000_000))

    async def keep_fresh(self) -> None:
        """Copy the table each second until cancelled; errors are logged and tried again."""
        turn = 0
        while True:
            await asyncio.sleep(REFRESH_S)
            turn += 1
            try:
                await self.refresh()
                if turn % FORGET_EVERY == 0:
                    await tokens.forget_expired(self._store, _now_us())
            except (KanglianError, OSError) as error:
                _LOG.warning("revoked tokens not read: %s", type(error).__name__)


def _now_us() -> int:
    return time.time_ns() // 1_000
