import asyncio
import hashlib
from dataclasses import replace

import asyncpg
import pytest

from ehr.errors import KanglianError, NotFound, Unavailable
from ehr.store import Settlement, Store, WriteOperation
from ehr.store.change_log import START, read_after
from ehr.store.inbox import Backlog, InboxMessage
from ehr.store.jobs import Job, enqueue, open_worker, run_jobs
from tests.ehr.store.record_fixtures import NOTE, feed, read_scope

pytestmark = pytest.mark.database


def message(control_id: str, body: bytes = b"MSH|1") -> InboxMessage:
    return InboxMessage(
        "first-hospital-hl7",
        "first-hospital",
        "LAB",
        control_id,
        hashlib.sha256(body).digest(),
        f"LAB {control_id}",
        "ORU^R01",
        body,
        answer=b"MSA|AA|" + control_id.encode(),
    )


async def test_a_duplicate_is_stored_once_and_gets_the_first_answer(store: Store) -> None:
    (first,) = await store.inbox.accept([message("1")])
    (again,) = await store.inbox.accept([replace(message("1"), answer=b"another")])
    assert (again.inbox, again.duplicate, again.answer) == (first.inbox, True, b"MSA|AA|1")
    assert not first.duplicate
    together = await asyncio.gather(*(store.inbox.accept([message("2")]) for _ in range(20)))
    assert sorted(one.duplicate for (one,) in together) == [False] + [True] * 19
    assert len({one.inbox for (one,) in together}) == 1
    (other,) = await store.inbox.accept([message("2", b"MSH|other content")])
    assert not other.duplicate
    waiting = await store.inbox.waiting(10)
    assert [each.control_id for each in waiting] == ["1", "2", "2"]
    assert waiting[0].body == b"MSH|1"


async def test_a_message_is_settled_with_its_records_or_not_at_all(store: Store) -> None:
    (taken,) = await store.inbox.accept([message("settle")])
    settled = Settlement(taken.inbox, "done", loss=[{"field": "PID-99", "value": "x"}])
    bad = WriteOperation(
        "update", "Patient", "county-hospital.x", b'{"resourceType":"Patient","id":"county-hospital.x"}'
    )
    with pytest.raises(KanglianError):
        await store.write(feed(), [bad], NOTE, settlements=[settled])
    assert taken.inbox in [each.inbox for each in await store.inbox.waiting(50)]
    good = replace(bad, resource_id="first-hospital.x", body=b'{"resourceType":"Patient","id":"first-hospital.x"}')
    await store.write(feed(), [good], NOTE, settlements=[settled])
    assert taken.inbox not in [each.inbox for each in await store.inbox.waiting(50)]
    assert await store.inbox.losses(1) == [("LAB settle", [{"field": "PID-99", "value": "x"}])]


async def test_a_quarantined_message_is_listed_and_released(store: Store) -> None:
    (taken,) = await store.inbox.accept([message("quarantine")])
    await store.inbox.settle([Settlement(taken.inbox, "quarantined", "no such date", "PID-7")])
    (listed,) = await store.inbox.quarantined(10)
    assert (listed.inbox, listed.cause, listed.place, listed.attempts) == (taken.inbox, "no such date", "PID-7", 1)
    assert await store.inbox.release_for_replay([taken.inbox]) == 1
    assert await store.inbox.quarantined(10) == []
    with pytest.raises(NotFound):
        await store.inbox.release_for_replay([-1])


async def test_feeds_and_replays_take_turns(store: Store) -> None:
    await store.pool.execute("delete from inbox")
    bulk = [replace(message(f"b{number}"), feed="bulk") for number in range(6)]
    taken = await store.inbox.accept(bulk)
    await store.inbox.settle([Settlement(each.inbox, "quarantined", "no such code") for each in taken[:3]])
    await store.inbox.release_for_replay([each.inbox for each in taken[:3]])
    await store.inbox.accept([message("live")])
    order = [each.control_id for each in await store.inbox.waiting(10)]
    assert sorted(order[:3]) == ["b0", "b3", "live"]
    assert order[3:] == ["b1", "b4", "b2", "b5"]
    assert [each.control_id for each in await store.inbox.waiting(4)] == order[:4]
    backlog = {each.feed: each for each in await store.inbox.backlog()}
    assert {name: each.waiting for name, each in backlog.items()} == {"bulk": 6, "first-hospital-hl7": 1}
    await store.pool.execute("update inbox set received_at = received_at - 5000000 where control_id in ('b0', 'b3')")
    await store.pool.execute("update inbox set received_at = received_at - 9000000 where control_id = 'b0'")
    bulk_backlog = await store.inbox.backlog_of("bulk")
    assert bulk_backlog.waiting == 3, "replays apart"
    assert 5 <= bulk_backlog.oldest_s < 6
    assert await store.inbox.backlog_of("nobody") == Backlog("nobody", 0, 0)
    await store.pool.execute("delete from inbox")


async def test_jobs_run_once_and_failures_are_tried_again(store: Store, database_url: str) -> None:
    async with store.pool.acquire() as connection:
        for number in range(3):
            await enqueue(connection, "count", {"number": number})
    done: list[int] = []
    stop = asyncio.Event()

    async def handle(job: Job) -> None:
        if job.payload["number"] == 1 and job.attempts == 1:
            raise ValueError("once")
        done.append(job.payload["number"])
        if len(done) == 2:
            stop.set()

    await asyncio.wait_for(run_jobs(database_url, {"count": handle}, poll_s=0.01, stop=stop), 10)
    assert sorted(done) == [0, 2]
    state = await store.pool.fetchrow("select state, attempts, error from job")
    assert tuple(state) == ("waiting", 1, "ValueError: once")
    await store.pool.execute("delete from job")


async def test_the_claim_of_a_dead_worker_waits_again_at_once(store: Store, database_url: str) -> None:
    await enqueue(store.pool, "long", {})
    first, second = await open_worker(database_url), await open_worker(database_url)
    claimed = await first.claim(["long"])
    assert claimed is not None
    assert await second.claim(["long"]) is None
    assert await second.give_back_orphans() == 0
    first._connection.terminate()
    for _ in range(100):
        if await second.give_back_orphans():
            break
        await asyncio.sleep(0.01)
    again = await second.claim(["long"])
    assert again is not None
    assert (again.job, again.attempts) == (claimed.job, 2)
    await second.finish(again)
    assert await second.claim(["long"]) is None
    await second.close()


async def test_the_claim_of_a_dead_worker_is_found_while_there_is_always_another_job(
    store: Store, database_url: str
) -> None:
    await enqueue(store.pool, "long", {})
    dead = await open_worker(database_url)
    assert await dead.claim(["long"]) is not None
    dead._connection.terminate()
    await enqueue(store.pool, "short", {})
    stop = asyncio.Event()

    async def again(_: Job) -> None:
        if not stop.is_set():
            await enqueue(store.pool, "short", {})

    async def done(job: Job) -> None:
        assert job.attempts == 2
        stop.set()

    await asyncio.wait_for(run_jobs(database_url, {"short": again, "long": done}, stop=stop), 10)
    await store.pool.execute("delete from job")


async def test_the_change_log_stops_below_running_transactions(
    store: Store, connection: asyncpg.Connection, database_url: str
) -> None:
    _, position = await read_after(store.pool, START, 10_000)
    other = await asyncpg.connect(database_url)
    running = other.transaction()
    await running.start()
    await other.execute("select pg_current_xact_id()")
    body = b'{"resourceType":"Patient","id":"first-hospital.log"}'
    await store.write(feed(), [WriteOperation("update", "Patient", "first-hospital.log", body)], NOTE)
    assert (await read_after(connection, position, 10))[0] == []
    await running.rollback()
    await other.close()
    (change,), after = await read_after(connection, position, 10)
    assert (change.resource_id, change.operation, change.deleted) == ("first-hospital.log", "c", False)
    assert b"first-hospital.log" in (change.body or b"")
    assert (await read_after(connection, after, 10))[0] == []


async def test_a_database_that_is_away_is_unavailable(store: Store, connection: asyncpg.Connection) -> None:
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid()"
    )
    outcomes = await asyncio.gather(
        store.read(read_scope(), "Patient", "x", NOTE), store.inbox.accept([message("away")]), return_exceptions=True
    )
    assert all(isinstance(outcome, KanglianError) for outcome in outcomes[:1])
    for _ in range(5):
        try:
            await store.read(read_scope(), "Patient", "first-hospital.log", NOTE)
            break
        except Unavailable:
            await asyncio.sleep(0.05)
    assert await store.is_reachable()
