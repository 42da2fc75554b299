"""Writes of large bodies, in a thread with an event loop and connections of its own.

Parsing, checking, indexing and laying out the rows of tens of megabytes takes seconds of pure computing. In the event
loop of a server everybody else would wait for them; beside it, the interpreter changes between both threads every few
milliseconds. The extractor is not for several threads at once: the thread has a store of its own.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ehr.store.operations import WriteOperation

if TYPE_CHECKING:
    from ehr.store.record_store import Store

_Result = TypeVar("_Result")

LARGE_BYTES = 256 << 10
"""Bodies of one write that are together larger are written apart (about 300 resources of Synthea, 50 ms)."""


def is_large(operations: Sequence[WriteOperation]) -> bool:
    """Whether the operations are more than an event loop can do between two answers."""
    return sum(len(operation.body or b"") for operation in operations) > LARGE_BYTES


class LargeWrites:
    """The thread, started with the first large write."""

    def __init__(self, open_store: Callable[[], Awaitable["Store"]]) -> None:
        """Take what opens the thread's own store, in its event loop."""
        self._open_store = open_store
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._store: Store | None = None
        self._opening = asyncio.Lock()

    async def run(self, work: Callable[["Store"], Awaitable[_Result]]) -> _Result:
        """Do the work with the thread's store, and wait for it without keeping this event loop.

        Raises:
            Unavailable: the database cannot be reached.
        """
        async with self._opening:
            if self._store is None:
                self._store = await self._in_thread(self._open_store)
        store = self._store
        return await self._in_thread(lambda: work(store))

    async def _in_thread(self, work: Callable[[], Awaitable[_Result]]) -> _Result:
        if self._loop is None:
            self._loop = type(asyncio.get_running_loop())()  # uvloop's, where the server runs on it
            self._thread = threading.Thread(target=self._loop.run_forever, name="large-writes", daemon=True)
            self._thread.start()

        async def done() -> _Result:
            return await work()

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(done(), self._loop))

    async def close(self) -> None:
        """Finish what waits, close the store, end the thread."""
        if self._store is not None:
            await self._in_thread(self._store.close)
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            await asyncio.to_thread(self._thread.join)
            self._loop.close()
