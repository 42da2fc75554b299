"""Answers leave at the speed of conversion where messages wait for seconds, and at once where they do not."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ehr.store import migrate
from ehr.store.database import WRITE_SETTINGS, open_pool
from ehr.store.inbox import Inbox, InboxMessage
from hospital_adapters.mllp.frames import Frame
from hospital_adapters.mllp.pace import Pace, interval_s, is_too_fast

_FEED = "first-hospital"
_ANSWER = b"MSA|AA|1"


@pytest.mark.parametrize(
    ("waiting", "rate_a_s", "expected"),
    [
        pytest.param(0, 300, 0.0, id="nothing waits"),
        pytest.param(600, 300, 0.0, id="two seconds of work wait"),
        pytest.param(600, 299, 600 / (299 * 299 * 2), id="as fast as messages are converted"),
        pytest.param(3_000, 300, 3_000 / (300 * 300 * 2), id="a fifth of that while ten seconds of work wait"),
        pytest.param(10**6, 1, 2.0, id="never slower than a sender is patient"),
        pytest.param(10, 0, 2.0, id="nothing is converted"),
    ],
)
def test_the_interval_between_two_answers(waiting: int, rate_a_s: float, expected: float) -> None:
    assert interval_s(waiting, rate_a_s) == pytest.approx(expected)


def test_answers_are_held_back_from_the_end_of_a_burst_until_nearly_nothing_waits() -> None:
    looks = ((1_000, 0.5), (9_000, 9.9), (9_000, 10.1), (3_000, 3.0), (300, 1.0), (75, 0.3), (9_000, 3.0))
    too_fast = False
    found = []
    for waiting, oldest_s in looks:
        too_fast = is_too_fast(waiting, oldest_s, 300, before=too_fast)
        found.append(too_fast)
    assert found == [False, False, True, True, True, False, False]


@pytest_asyncio.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    await migrate(database_url)
    pool = await open_pool(database_url, WRITE_SETTINGS, most=2)
    opened = Inbox(pool)
    yield opened
    await opened.close()
    await pool.close()


def _message(number: int) -> InboxMessage:
    body = b"%d" % number
    digest = hashlib.sha256(body).digest()
    return InboxMessage(_FEED, _FEED, "HIS", str(number), digest, f"HIS|{number}", "ADT^A01", body, answer=_ANSWER)


@pytest.mark.database
async def test_answers_wait_for_conversion_and_no_longer(inbox: Inbox) -> None:
    async def door(frame: Frame) -> bytes:
        (acceptance,) = await inbox.accept([_message(int(frame.content))])
        return acceptance.answer or b""

    pace = Pace(door, inbox, _FEED)

    async def seconds(*numbers: int) -> float:
        started = time.monotonic()
        answers = await asyncio.gather(*(pace(Frame(b"%d" % number)) for number in numbers))
        assert set(answers) == {_ANSWER}
        return time.monotonic() - started

    watching = asyncio.create_task(pace.watch())
    try:
        await seconds(*range(400))
        await inbox._pool.execute("update inbox set received_at = received_at - 20000000")
        for _ in range(4):
            await asyncio.sleep(0.2)  # ten in a fifth of a second: forty to eighty a second, as the looks fall
            await inbox._pool.execute(
                "update inbox set state = 'done' where inbox in "
                "(select inbox from inbox where state = 'waiting' order by inbox limit 10)"
            )
        held_s = await seconds(*range(1000, 1030))
        assert held_s > 0.5, "thirty intervals of 360 / (80 * 80 * 2) s or more"
        assert (await inbox.backlog_of(_FEED)).waiting == 390, "what is held back is durable"
        await inbox._pool.execute("update inbox set state = 'done'")
        await asyncio.sleep(0.4)
        looked = time.monotonic()
        for start in range(2000, 9000, 30):
            if await seconds(*range(start, start + 30)) < held_s / 3:
                break
            await inbox._pool.execute("update inbox set state = 'done'")
            assert time.monotonic() - looked < 10, "answers are still held back"
    finally:
        watching.cancel()
