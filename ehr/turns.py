"""Long work in an event loop, done in turns with everybody else's."""

import asyncio
import time

_TURN_S = 0.005


class Turns:
    """Hands the event loop on when a turn is over."""

    def __init__(self) -> None:
        """Begin the first turn."""
        self._until = time.monotonic() + _TURN_S

    async def next(self) -> None:
        """To be awaited between two steps of the work."""
        if time.monotonic() >= self._until:
            await asyncio.sleep(0)
            self._until = time.monotonic() + _TURN_S
