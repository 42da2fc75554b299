"""The table of bulk jobs: what was asked and by whom, what is done for good, how it ended.

The row of the job table says who works on a bulk job: each change of its progress holds only for the attempt that has
the claim now, so that a worker which lost its session changes nothing any more.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import msgspec

from ehr.audit_note import AuditNote
from ehr.errors import KanglianError, TooCostly
from ehr.store import audit
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.jobs import Job, enqueue

Kind = Literal["export", "import"]
State = Literal["accepted", "running", "complete", "failed", "gone"]
KINDS: Mapping[Kind, str] = {"export": "bulk-export", "import": "bulk-import"}
"""Kinds of jobs in the job table."""
EXPIRE = "bulk-expire"
"""The kind of job that removes the files of a bulk job."""
MOST_UNDER_WAY = 100
ALL_KINDS = (*KINDS.values(), EXPIRE)
LIFE_US = 24 * 3_600 * 1_000_000
"""For how long the files of a completed job are kept."""


class LostClaim(KanglianError):
    """Another worker has the job now, or it was cancelled: this one leaves everything as it is."""


@dataclass(frozen=True, slots=True)
class BulkJob:
    """One row."""

    id: str
    kind: Kind
    caller: dict[str, Any]
    request: dict[str, Any]
    state: State
    progress: bytes
    """JSON, as the work itself describes what it has done."""
    created_at_us: int
    completed_at_us: int | None
    expires_at_us: int | None
    error: str | None
    job: int | None
    """Its row in the table of jobs."""


_COLUMNS = (
    "b.id, b.kind, b.caller::text as caller, b.request::text as request, b.progress::text as progress, b.created_at, "
    "b.completed_at, b.expires_at, b.error, b.job, "
    "case when b.state in ('accepted', 'running') and j.state = 'failed' then 'failed' else b.state end as state"
)
_FIND = f"select {_COLUMNS} from bulk_job b left join job j on j.job = b.job where b.id = $1 and b.state <> 'gone'"
_UNDER_WAY = "select count(*) from bulk_job where caller->>'client' = $1 and state in ('accepted', 'running')"
_MINE = "exists (select from job j where j.job = $2 and j.attempts = $3 and j.state = 'claimed')"


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def ask(
    pool: asyncpg.Pool, kind: Kind, caller: Mapping[str, Any], request: Mapping[str, Any], *, not_before_us: int = 0
) -> str:
    """Write down what is asked, with the job that will do it; the new bulk job's id.

    Raises:
        TooCostly: too many of this client are under way.
    """
    identity = secrets.token_urlsafe(16)
    with database_errors():
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_UNDER_WAY, caller.get("client")) >= MOST_UNDER_WAY:
                raise TooCostly(f"{MOST_UNDER_WAY} bulk jobs of this client are under way; wait for them, or end some.")
            job = await enqueue(connection, KINDS[kind], {"bulk": identity}, not_before_us=not_before_us)
            await connection.execute(
                "insert into bulk_job (id, kind, caller, request, created_at, job) "
                "values ($1, $2, $3::text::jsonb, $4::text::jsonb, $5, $6)",
                identity,
                kind,
                _text(caller),
                _text(request),
                now_us(),
                job,
            )
    return identity


async def find(pool: asyncpg.Pool, identity: str) -> BulkJob | None:
    """The bulk job of this id, unless it was cancelled or has expired."""
    with database_errors():
        row = await pool.fetchrow(_FIND, identity)
    if row is None:
        return None
    return BulkJob(
        row["id"],
        row["kind"],
        msgspec.json.decode(row["caller"]),
        msgspec.json.decode(row["request"]),
        row["state"],
        row["progress"].encode(),
        row["created_at"],
        row["completed_at"],
        row["expires_at"],
        row["error"],
        row["job"],
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """A bulk job in the hands of the worker that has claimed its row of the job table."""

    pool: asyncpg.Pool
    bulk: BulkJob
    job: Job

    async def save(self, progress: object) -> None:
        """Make what is done durable; LostClaim where the job is another's by now, or nobody's."""
        await self._change("state = 'running', progress = $4::text::jsonb", _text(progress))

    async def fail(self, error: str) -> None:
        """The job cannot be done; its cause is told to the client."""
        await self._change("state = 'failed', error = $4", error[:2_000])
        with database_errors():
            await enqueue(self.pool, EXPIRE, {"bulk": self.bulk.id}, not_before_us=now_us() + LIFE_US)

    async def complete(
        self, progress: object, notes: list[tuple[AuditNote, list[int]]], *, unless_since: tuple[str, int] | None = None
    ) -> bool:
        """End the job, with its audit rows, in one transaction; False where the condition kept it open.

        Args:
            progress: what it came to.
            notes: audit rows and the persons of each.
            unless_since: (transaction, type): stay open where a row of this type was written since.
        """
        moment = now_us()
        expires = moment + LIFE_US
        condition = ""
        values: list[object] = [_text(progress), moment, expires]
        if unless_since is not None:
            condition = " and not exists (select from change_log where transaction >= $7::text::xid8 and type = $8)"
            values += unless_since
        with database_errors():
            async with self.pool.acquire() as connection, connection.transaction():
                done = await connection.fetchval(
                    "update bulk_job set state = 'complete', progress = $4::text::jsonb, completed_at = $5,"
                    f" expires_at = $6, error = null where id = $1 and {_MINE} and state = 'running'{condition}"
                    " returning id",
                    self.bulk.id,
                    self.job.job,
                    self.job.attempts,
                    *values,
                )
                if done is None:
                    return False
                for note, holders in notes:
                    await audit.record(connection, note, audit.SUCCESS, holders)
                await enqueue(connection, EXPIRE, {"bulk": self.bulk.id}, not_before_us=expires)
        return True

    async def _change(self, what: str, value: str) -> None:
        with database_errors():
            done = await self.pool.fetchval(
                f"update bulk_job set {what} where id = $1 and {_MINE} and state in ('accepted', 'running')"
                " returning id",
                self.bulk.id,
                self.job.job,
                self.job.attempts,
                value,
            )
        if done is None:
            raise LostClaim("the bulk job was cancelled or is another worker's")


async def end(pool: asyncpg.Pool, identity: str) -> None:
    """Cancel a bulk job, or forget a complete one: its address answers no more, and a job removes its files."""
    with database_errors():
        async with pool.acquire() as connection, connection.transaction():
            ended = await connection.fetchrow(
                "update bulk_job set state = 'gone' where id = $1 and state <> 'gone' returning job", identity
            )
            if ended is None:
                return
            await connection.execute("delete from job where job = $1 and state in ('waiting', 'failed')", ended["job"])
            await enqueue(connection, EXPIRE, {"bulk": identity})


async def forget(pool: asyncpg.Pool, identity: str) -> None:
    """The files are being removed: nothing is kept of the job, and its address answers no more."""
    with database_errors():
        await pool.execute("delete from bulk_job where id = $1", identity)
