"""SQL of reading stored rows anew when the label sets change: which sets hold, whether labels are in doubt, the walk.

`label_state` is one row: `sets` are those by which every stored row is labelled, `wanted` those that new rows follow.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from ehr.access.classes import raise_epoch
from ehr.definitions import type_name
from ehr.store.bodies import open_body
from ehr.store.database import database_errors
from ehr.store.jobs import enqueue

LABEL_JOB = "consent.label_anew"
FIRST_KEY = -(2**63)


@dataclass(frozen=True, slots=True)
class LabelState:
    """The row of `label_state`."""

    sets: str
    wanted: str
    in_doubt: bool
    """Some stored row may lack a label that the wanted sets give it."""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One version as the walk reads it; `version` is 0 for the current one."""

    key: int
    version: int
    resource_type: str
    custodian: int
    labels: int
    body: bytes


async def read_label_state(connection: asyncpg.Connection, *, lock: bool = False) -> LabelState:
    """What holds; locked, nobody else changes it before the transaction ends."""
    row = await connection.fetchrow("select sets, wanted, in_doubt from label_state" + (" for update" if lock else ""))
    return LabelState(row["sets"], row["wanted"], row["in_doubt"])


async def has_rows(connection: asyncpg.Connection) -> bool:
    """Whether anything is stored."""
    return bool(
        await connection.fetchval("select exists (select from resource r where r.key is not null)")
        or await connection.fetchval("select exists (select from resource_history h where h.key is not null)")
    )


async def settle(connection: asyncpg.Connection, sets: str) -> None:
    """Every stored row follows these sets; whoever decided in doubt decides anew."""
    await connection.execute("update label_state set sets = $1, wanted = $1, in_doubt = false", sets)
    await raise_epoch(connection)


async def doubt(connection: asyncpg.Connection, wanted: str, first_job: Mapping[str, Any]) -> None:
    """Stored rows may lack labels from now on, until the jobs that begin with this one are done."""
    await connection.execute("update label_state set wanted = $1, in_doubt = true", wanted)
    await connection.execute("delete from job where kind = $1 and state <> 'claimed'", LABEL_JOB)
    await enqueue(connection, LABEL_JOB, first_job)
    await raise_epoch(connection)


# internal readers see every row (the mark of `row_filter.Everything`)
_CURRENT = """select r.key, 0 as version, r.type, r.custodian, r.labels, r.body, r.dictionary from resource r
where (r.key is not null) and r.key > $1::bigint and $2::integer = 0 and not r.deleted order by r.key limit $3"""
_PAST = """select h.key, h.version, h.type, h.custodian, h.labels, h.body, h.dictionary from resource_history h
where (h.key is not null) and (h.key, h.version) > ($1::bigint, $2::integer) and not h.deleted
order by h.key, h.version limit $3"""


async def rows_after(
    connection: asyncpg.Connection, key: int, version: int, limit: int, *, past: bool
) -> list[StoredRow]:
    """The next rows in the order of their keys: current versions, or past ones."""
    rows = await connection.fetch(_PAST if past else _CURRENT, key, version, limit)
    return [
        StoredRow(
            row["key"],
            row["version"],
            type_name(row["type"]),
            row["custodian"],
            row["labels"],
            open_body(row["body"], row["dictionary"]),
        )
        for row in rows
    ]


async def raise_past(connection: asyncpg.Connection, labels: Sequence[tuple[int, int, int]]) -> None:
    """Add bits to past versions: (key, version, bits)."""
    if labels:
        await connection.execute(
            """update resource_history h set labels = h.labels | g.labels
            from unnest($1::bigint[], $2::integer[], $3::bigint[]) as g(key, version, labels)
            where h.key = g.key and h.version = g.version""",
            *([row[place] for row in labels] for place in range(3)),
        )


async def progress(url: str) -> tuple[str, int] | None:
    """Which walk goes on and how many hundredths of it are done; None where no label is in doubt."""
    with database_errors():
        connection = await asyncpg.connect(url, timeout=5)
        try:
            if not (await read_label_state(connection)).in_doubt:
                return None
            row = await connection.fetchrow(
                "select payload->>'walk' as walk, (payload->>'key')::bigint as key from job where kind = $1 "
                "order by job desc limit 1",
                LABEL_JOB,
            )
        finally:
            await connection.close()
    return ("no job", 0) if row is None else (row["walk"], (row["key"] - FIRST_KEY) * 100 >> 64)
