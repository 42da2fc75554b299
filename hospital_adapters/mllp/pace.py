"""Answers come no faster than messages become records, but for bursts.

A message is in the record within 5 s of its acknowledgement (DESIGN 6), and the platform acknowledges several times as
fast as it converts. A burst is answered at full speed. Once a message has waited for ten seconds, answers leave one
by one: at the speed of conversion, or slower while more waits than is converted in two seconds, until nearly nothing
waits. What is held back is durable already, and never held back for longer than a sender is patient.
"""

import asyncio

from ehr.errors import Unavailable
from ehr.store.inbox import Inbox
from hospital_adapters.mllp.frames import Frame
from hospital_adapters.mllp.listener import Door

_LOOK_S = 0.25
_BURST_S = 10.0
"""Nothing is held back before a message has waited for so long."""
_BACKLOG_S = 2.0
"""How much waits while messages keep coming too fast, in seconds of conversion."""
_LONGEST_S = 2.0
_WEIGHT = 0.1
"""Of the newest look in the measured speed of conversion."""


def interval_s(waiting: int, rate_a_s: float) -> float:
    """Seconds between two answers while messages come too fast, 0 for no bound.

    Args:
        waiting: messages that wait for conversion.
        rate_a_s: messages converted in a second.
    """
    if waiting <= _BACKLOG_S * rate_a_s:
        return 0.0
    return min(_LONGEST_S, waiting / (rate_a_s * rate_a_s * _BACKLOG_S)) if rate_a_s else _LONGEST_S


def is_too_fast(waiting: int, oldest_s: float, rate_a_s: float, *, before: bool) -> bool:
    """Whether answers are held back: from the end of a burst until what waits is converted in a quarter of a second."""
    return waiting > rate_a_s / 4 if before else oldest_s > _BURST_S


class Pace:
    """A door whose answers wait for conversion; run `watch` beside it."""

    def __init__(self, door: Door, inbox: Inbox, feed: str) -> None:
        """Hold back the answers of `door`, by what waits of `feed`, whose new messages come through `inbox` alone."""
        self._door = door
        self._inbox = inbox
        self._feed = feed
        self._too_fast = False
        self._interval_s = 0.0
        self._next = 0.0
        self._rate_a_s = 0.0

    async def __call__(self, frame: Frame) -> bytes:
        """Take the frame, and return its answers when it is time.

        Raises:
            Unavailable: the inbox could not commit: there is no answer.
        """
        answer = await self._door(frame)
        if self._interval_s:
            now = asyncio.get_running_loop().time()
            self._next = min(max(now, self._next + self._interval_s), now + _LONGEST_S)
            await asyncio.sleep(self._next - now)
        return answer

    async def watch(self) -> None:
        """Look at the backlog four times a second, until cancelled."""
        loop = asyncio.get_running_loop()
        looked, taken, waiting = loop.time(), self._inbox.taken[self._feed], 0
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                backlog = await self._inbox.backlog_of(self._feed)
            except Unavailable:
                continue  # nothing is taken either
            before = (looked, taken, waiting)
            looked, taken, waiting = loop.time(), self._inbox.taken[self._feed], backlog.waiting
            if waiting and before[2]:  # conversion had work all the time
                converted = max(0, taken - before[1] - (waiting - before[2])) / (looked - before[0])
                self._rate_a_s += _WEIGHT * (converted - self._rate_a_s) if self._rate_a_s else converted
            self._too_fast = is_too_fast(waiting, backlog.oldest_s, self._rate_a_s, before=self._too_fast)
            self._interval_s = interval_s(waiting, self._rate_a_s) if self._too_fast else 0.0
