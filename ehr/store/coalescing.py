"""Group commit: concurrent requests share one statement or transaction (DESIGN 4.5).

A batch closes when the last commit returns: no timer holds a request back. When a batch runs longer than the patience,
the waiting requests go out on a spare lane, so that one slow statement stalls nobody. Requests for the same row stay in
their order: those whose rows another lane is writing wait for it, since on a lane of their own they would only wait for
its locks, time out, and be redone one by one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Generic, Protocol, TypeVar

from ehr.errors import Unavailable


class Waiting(Protocol):
    """A request in a queue: its size, and where the answer goes."""

    weight: int
    future: "asyncio.Future[Any]"


R = TypeVar("R", bound=Waiting)
_MOST_PASSED = 256
"""Requests that a lane steps over in search of some that it may take."""


def _no_rows(_: Waiting) -> Collection[int]:
    return ()


class Coalescer(Generic[R]):
    """A queue whose waiting requests are served together, `most` of them (by weight) at a time."""

    def __init__(
        self,
        serve: Callable[[list[R]], Awaitable[None]],
        *,
        most: int,
        lanes: int = 2,
        patience_s: float = 0.02,
        longest_queue: int = 20_000,
        rows: Callable[[R], Collection[int]] = _no_rows,
    ) -> None:
        """`serve` sets the future of each request it is given; a future left open gets its exception.

        `rows` names what a request locks: no two lanes lock the same.
        """
        self._serve = serve
        self._rows = rows
        self._locked: set[int] = set()
        self._most = most
        self._lanes = lanes
        self._patience_s = patience_s
        self._longest_queue = longest_queue
        self._waiting: deque[R] = deque()
        self._open = 0
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def submit(self, request: R) -> None:
        """Queue the request and wait until its future is set; the caller reads the answer from there.

        Raises:
            Unavailable: the queue is full or closed.
        """
        if self._closed or len(self._waiting) >= self._longest_queue:
            raise Unavailable("The record is busy or closing; try again.")
        self._waiting.append(request)
        if not self._open:
            self._open_lane()
        elif self._timer is None and self._open < self._lanes:
            self._timer = asyncio.get_running_loop().call_later(self._patience_s, self._overdue)
        await request.future

    async def close(self) -> None:
        """Serve what waits, then take no more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._running:
            await asyncio.gather(*self._running, return_exceptions=True)

    def _open_lane(self) -> None:
        self._open += 1
        task = asyncio.get_running_loop().create_task(self._lane())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _overdue(self) -> None:
        self._timer = None
        if self._waiting and self._open < self._lanes:
            self._open_lane()

    def _take(self) -> list[R]:
        batch: list[R] = []
        passed: list[R] = []
        held = set(self._locked)
        weight = 0
        while self._waiting and len(passed) < _MOST_PASSED:
            request = self._waiting[0]
            if batch and weight + request.weight > self._most:
                break
            self._waiting.popleft()
            rows = self._rows(request)
            if held.isdisjoint(rows):
                weight += request.weight
                batch.append(request)
            else:
                held.update(rows)  # what comes later for the same rows stays behind it
                passed.append(request)
        self._waiting.extendleft(reversed(passed))
        return batch

    async def _lane(self) -> None:
        try:
            await self._serve_waiting()
        finally:
            self._open -= 1  # no await since nothing was there to take: what waits, waits for another lane's rows

    async def _serve_waiting(self) -> None:
        while batch := self._take():
            locked = {row for request in batch for row in self._rows(request)}
            self._locked |= locked
            try:
                await self._serve(batch)
            except Exception as error:  # noqa: BLE001 - whatever went wrong belongs to the requests of the batch
                fail(batch, error)
            else:
                fail(batch, Unavailable("The record gave no answer."))
            finally:
                self._locked -= locked


def fail(batch: list[R], error: BaseException) -> None:
    """Give the error to every request that has no answer yet."""
    for request in batch:
        if not request.future.done():
            request.future.set_exception(error)
