"""Jobs: rows written in the transaction of their cause, claimed by a committed row plus a session lock (DESIGN 4.5).

A worker holds an advisory lock for as long as its session lives. A claim whose worker's lock is free belongs to a
worker that died: it waits again at once. No transaction stays open while a job runs.
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from ehr.errors import Unavailable
from ehr.store.clock import now_us
from ehr.store.database import COMMON_SETTINGS, database_errors

_log = logging.getLogger(__name__)
_LOCK_SPACE = 0x6A6F62  # "job": first half of the two-part advisory lock
MOST_ATTEMPTS = 8
_LOOK_FOR_ORPHANS_S = 1.0
"""Between two looks for jobs of dead workers while there is always another one to do."""


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed job."""

    job: int
    kind: str
    payload: dict[str, Any]
    attempts: int
    """This attempt included."""


Handler = Callable[[Job], Awaitable[None]]


async def enqueue(
    connection: asyncpg.Connection | asyncpg.Pool, kind: str, payload: Mapping[str, Any], *, not_before_us: int = 0
) -> int:
    """Add a job; inside a transaction it exists only if the transaction commits."""
    return int(
        await connection.fetchval(
            "insert into job (kind, payload, not_before) values ($1, $2::text::jsonb, $3) returning job",
            kind,
            msgspec.json.encode(payload).decode(),
            not_before_us,
        )
    )


class Worker:
    """One session that claims and finishes jobs."""

    def __init__(self, connection: asyncpg.Connection, number: int) -> None:
        """Take the session that holds the worker's lock; `open_worker` makes both."""
        self._connection = connection
        self._number = number

    async def claim(self, kinds: list[str], *, only: int | None = None) -> Job | None:
        """Claim the oldest job of these kinds that is due, or this one that waits; committed when this returns."""
        with database_errors():
            row = await self._connection.fetchrow(
                "update job set state = 'claimed', worker = $1, attempts = attempts + 1 where job = ("
                "select job from job where state = 'waiting' and kind = any($3::text[]) "
                "and ((not_before <= $2 and $4::bigint is null) or job = $4) "
                "order by not_before, job limit 1 for update skip locked) "
                "returning job, kind, payload::text as payload, attempts",
                self._number,
                now_us(),
                kinds,
                only,
            )
        if row is None:
            return None
        return Job(row["job"], row["kind"], msgspec.json.decode(row["payload"]), row["attempts"])

    async def finish(self, job: Job) -> None:
        """The job is done and its row goes; a claim that was lost meanwhile stays with whoever has it now."""
        with database_errors():
            await self._connection.execute("delete from job where job = $1 and worker = $2", job.job, self._number)

    async def fail(self, job: Job, error: str, *, again: bool = False) -> None:
        """Let the job wait for its next attempt (1 s, doubling), or mark it failed after the last.

        Where it is not the job's fault, there is always one `again`.
        """
        last = job.attempts >= MOST_ATTEMPTS and not again
        with database_errors():
            await self._connection.execute(
                "update job set state = $3, worker = null, error = $4, not_before = $5 where job = $1 and worker = $2",
                job.job,
                self._number,
                "failed" if last else "waiting",
                error[:2_000],
                now_us() + 1_000_000 * 2 ** min(job.attempts, 10),
            )

    async def give_back_orphans(self) -> int:
        """Let the jobs of workers that died wait again; says how many."""
        with database_errors():
            rows = await self._connection.fetch(_GIVE_BACK, _LOCK_SPACE, self._number)
        return len(rows)

    async def close(self) -> None:
        """End the session, and with it the lock."""
        await self._connection.close()


_GIVE_BACK = """with workers as materialized (
  select distinct worker from job where state = 'claimed' and worker <> $2
), dead as materialized (
  select worker from workers where pg_try_advisory_xact_lock($1, worker::integer)
)
update job j set state = 'waiting', worker = null from dead d where j.worker = d.worker and j.state = 'claimed'
returning j.job"""


async def open_worker(url: str) -> Worker:
    """Open a session with a number of its own and take the number's lock.

    Raises:
        Unavailable: the database cannot be reached.
    """
    with database_errors():
        connection = await asyncpg.connect(url, server_settings=COMMON_SETTINGS, timeout=5)
        while True:
            number = secrets.randbelow(2**31 - 1) + 1
            if await connection.fetchval("select pg_try_advisory_lock($1, $2)", _LOCK_SPACE, number):
                return Worker(connection, number)


async def run_jobs(
    url: str, handlers: Mapping[str, Handler], *, poll_s: float = 0.25, stop: asyncio.Event | None = None
) -> None:
    """Run jobs until `stop` is set: claim, hand to the kind's handler, finish; a lost database is waited for."""
    stop = stop or asyncio.Event()
    while not stop.is_set():
        try:
            worker = await open_worker(url)
        except Unavailable:
            await _pause(stop, 1.0)
            continue
        try:
            await _work(worker, handlers, poll_s, stop)
        except Unavailable:
            await _pause(stop, 1.0)
        finally:
            await worker.close()


async def _work(worker: Worker, handlers: Mapping[str, Handler], poll_s: float, stop: asyncio.Event) -> None:
    kinds = list(handlers)
    now = asyncio.get_running_loop().time
    looked = -_LOOK_FOR_ORPHANS_S
    while not stop.is_set():
        job = await worker.claim(kinds)
        if job is None or now() - looked > _LOOK_FOR_ORPHANS_S:
            looked = now()
            given_back = await worker.give_back_orphans()
        if job is None:
            if not given_back:
                await _pause(stop, poll_s)
            continue
        await perform(worker, handlers, job)


async def perform(worker: Worker, handlers: Mapping[str, Handler], job: Job) -> None:
    """Do a claimed job, and say in the table how it ended.

    Raises:
        Unavailable: the database is away; the job waits.
    """
    try:
        await handlers[job.kind](job)
    except Unavailable:
        await worker.fail(job, "the database was away", again=True)
        raise
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is the job's failure
        _log.exception("job %s of kind %s failed", job.job, job.kind)
        await worker.fail(job, f"{type(error).__name__}: {error}")
    else:
        await worker.finish(job)


async def due_jobs(connection: asyncpg.Connection, kinds: list[str]) -> list[int]:
    """The jobs of these kinds that are due, and those of workers that died, which wait again from now on."""
    with database_errors():
        await connection.execute(_GIVE_BACK, _LOCK_SPACE, 0)
        rows = await connection.fetch(
            "select job from job where state = 'waiting' and not_before <= $1 and kind = any($2::text[]) "
            "order by not_before, job limit 1000",
            now_us(),
            kinds,
        )
    return [row["job"] for row in rows]


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
