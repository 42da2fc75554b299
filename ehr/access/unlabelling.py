"""SQL of taking labels away: the versions that carry them, and their removal where nothing has come in between."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from ehr.definitions import type_name
from ehr.store.bodies import open_body

UNLABEL_JOB = "consent.unlabel"
_LONGEST_READ = "set local statement_timeout = '10min'"
_SHORT_WAIT = "set local lock_timeout = '200ms'"


@dataclass(frozen=True, slots=True)
class LabelledVersion:
    """One version of a row that carries, or once carried, one of the labels; `version` is 0 for the current one."""

    key: int
    version: int
    resource_type: str
    labels: int
    body: bytes | None
    """None where the row is deleted: its last content is a past version."""


# internal readers see every row (the mark of `row_filter.Everything`)
_VERSIONS = """with carrying as materialized (
  select r.key from resource r
  where (r.key is not null) and r.labels & $1::bigint <> 0 and ($2::bigint[] is null or r.key = any($2::bigint[]))
  union select h.key from resource_history h
  where (h.key is not null) and h.labels & $1::bigint <> 0 and ($2::bigint[] is null or h.key = any($2::bigint[]))
)
select r.key, 0 as version, r.type, r.labels, r.body, r.dictionary, r.deleted
from carrying c join resource r on r.key = c.key where (r.key is not null)
union all select h.key, h.version, h.type, h.labels, h.body, h.dictionary, h.deleted
from carrying c join resource_history h on h.key = c.key where (h.key is not null)"""
_CHANGED = """select distinct c.key from change_log c
where c.transaction >= $1::text::xid8 and c.operation <> 'l' and (
  exists (select from resource r where (r.key is not null) and r.key = c.key and r.labels & $2::bigint <> 0)
  or exists (select from resource_history h
    where (h.key is not null) and h.key = c.key and h.labels & $2::bigint <> 0))"""


async def changed(connection: asyncpg.Connection, labels: int, since: str) -> list[int]:
    """Rows with one of the labels that were written by transactions from this horizon on."""
    return [row["key"] for row in await connection.fetch(_CHANGED, since, labels)]


async def labelled_versions(
    connection: asyncpg.Connection, labels: int, keys: Sequence[int] | None
) -> AsyncIterator[LabelledVersion]:
    """All versions of the rows of which some version carries one of the labels, in the transaction's snapshot.

    Of all rows, or of those with these keys.
    """
    await connection.execute(_LONGEST_READ)
    async for row in connection.cursor(_VERSIONS, labels, keys, prefetch=200):
        body = None if row["deleted"] or row["body"] is None else open_body(row["body"], row["dictionary"])
        yield LabelledVersion(row["key"], row["version"], type_name(row["type"]), row["labels"], body)


async def attached(connection: asyncpg.Connection, labels: int) -> list[tuple[int, int]]:
    """(referrer, Binary) of the Binaries that carry one of the labels."""
    rows = await connection.fetch(
        """select a.referrer, a."binary" from attachment a join resource r on r.key = a."binary"
        where (r.key is not null) and r.labels & $1::bigint <> 0""",
        labels,
    )
    return [(row["referrer"], row["binary"]) for row in rows]


async def horizon(connection: asyncpg.Connection) -> str:
    """The oldest transaction that this one may not see."""
    return str(await connection.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text"))


_TAKE_AWAY = """with given as (
  select * from unnest($1::bigint[], $2::bigint[]) as g(key, bits)
), cleared as (
  update resource r set labels = r.labels & ~g.bits from given g where r.key = g.key and r.labels & g.bits <> 0
  returning r.key, r.version, r.type
)
insert into change_log (key, version, type, operation, at)
select key, version, type, 'l', (extract(epoch from statement_timestamp()) * 1000000)::bigint from cleared"""
_TAKE_AWAY_PAST = """update resource_history h set labels = h.labels & ~g.bits
from unnest($1::bigint[], $2::integer[], $3::bigint[]) as g(key, version, bits)
where h.key = g.key and h.version = g.version"""


async def take_away(
    connection: asyncpg.Connection, bits: Mapping[tuple[int, int], int], *, labels: int, since: str
) -> bool:
    """Take bits from versions (key, version; 0 = current); False where a labelled row was written since.

    Writers hold a lock of the table from before they look at labels to their commit, and this keeps them out for the
    milliseconds that it takes: a label that a writer found in place, and so did not set, is never taken behind it.

    Raises:
        LockNotAvailableError: writers did not end within a fifth of a second.
    """
    current = [(key, taken) for (key, version), taken in bits.items() if not version]
    past = [(key, version, taken) for (key, version), taken in bits.items() if version]
    async with connection.transaction():
        await connection.execute(_SHORT_WAIT)
        await connection.execute("lock table resource in exclusive mode")
        if await changed(connection, labels, since):
            return False
        await connection.execute(_TAKE_AWAY, [key for key, _ in current], [taken for _, taken in current])
        await connection.execute(_TAKE_AWAY_PAST, *([row[place] for row in past] for place in range(3)))
    return True
