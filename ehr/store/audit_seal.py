"""Seals over the audit log: committed rows are hash-chained in batches, so that every later alteration shows.

Each second the sealer takes the committed rows below the snapshot's oldest running transaction, in order of their
sequence. A leaf is SHA-256 over a row's content, a seal SHA-256 over the seal before it and the leaves. Keep the head
(`head`) outside the database: without it, whoever can rewrite all tables can also compute all hashes anew.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import asyncpg

from ehr.store.clock import now_us
from ehr.store.database import keep_doing

_LOCK = 0x7365616C  # "seal": one sealer at a time
_LEAF_BYTES = 32
_MOST_MEMBERS = 5_000
_LATE_US = 10 * 60 * 1_000_000
_FIRST = b"kanglian audit log"
_CONTENT = "a.sequence, a.at, a.action, a.outcome, a.holders, a.entry::text as entry"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the log: `what` is changed, removed, inserted, reordered or broken."""

    what: str
    seal: int | None
    sequence: int | None

    def __str__(self) -> str:
        """Say it in a line."""
        place = f"row {self.sequence}" if self.sequence is not None else "the seal"
        return f"{self.what}: {place}" + (f" of seal {self.seal}" if self.seal is not None else "")


def leaf(row: asyncpg.Record) -> bytes:
    """SHA-256 over the content of one row; the transaction's number is left out, since a restore changes it."""
    holders = ",".join(map(str, row["holders"]))
    head = f"{row['sequence']}|{row['at']}|{row['action']}|{row['outcome']}|{holders}|"
    return hashlib.sha256(head.encode() + row["entry"].encode()).digest()


def seal_hash(number: int, at_us: int, previous: bytes, members: Sequence[int], leaves: bytes) -> bytes:
    """SHA-256 over a seal's content and the hash before it."""
    digest = hashlib.sha256(previous)
    digest.update(f"{number}|{at_us}|{','.join(map(str, members))}|".encode())
    digest.update(leaves)
    return digest.digest()


async def seal(connection: asyncpg.Connection) -> int:
    """Seal what is committed and not sealed yet; says how many rows. Waits for no other sealer: then it is 0."""
    async with connection.transaction(isolation="repeatable_read"):
        if not await connection.fetchval("select pg_try_advisory_xact_lock($1)", _LOCK):
            return 0
        last = await connection.fetchrow(
            "select seal, hash, horizon::text as horizon from audit_seal order by seal desc limit 1"
        )
        horizon = await connection.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text")
        rows = await connection.fetch(
            f"select {_CONTENT} from audit_row a where a.transaction >= $1::text::xid8 "
            "and a.transaction < $2::text::xid8 order by a.sequence",
            last["horizon"] if last else "0",
            horizon,
        )
        number, previous = (last["seal"], last["hash"]) if last else (0, _FIRST)
        for start in range(0, len(rows), _MOST_MEMBERS):
            part = rows[start : start + _MOST_MEMBERS]
            number, at_us = number + 1, now_us()
            members = [row["sequence"] for row in part]
            leaves = b"".join(leaf(row) for row in part)
            previous = seal_hash(number, at_us, previous, members, leaves)
            await connection.execute(
                "insert into audit_seal (seal, at, horizon, members, leaves, hash) "
                "values ($1, $2, $3::text::xid8, $4, $5, $6)",
                number,
                at_us,
                horizon,
                members,
                leaves,
                previous,
            )
    return len(rows)


async def head(connection: asyncpg.Connection) -> tuple[int, bytes] | None:
    """Number and hash of the newest seal, to be kept outside the database; None before the first."""
    row = await connection.fetchrow("select seal, hash from audit_seal order by seal desc limit 1")
    return None if row is None else (row["seal"], row["hash"])


async def verify(connection: asyncpg.Connection, expected_head: tuple[int, bytes] | None = None) -> list[Finding]:
    """Compare every row with the seals; an empty list means that nothing was altered since it was sealed.

    Args:
        connection: Of a reader; the whole log is read in one snapshot.
        expected_head: A head noted earlier: that seal must still be there with this hash.
    """
    findings: list[Finding] = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        check = _Check(connection, expected_head)
        async for row in _cursor(connection, "select *, horizon::text as below from audit_seal order by seal"):
            findings += await check.next_seal(row)
        findings += await check.end()
    return findings


class _Check:
    """Goes over the seals in order; those made at one moment share a range of transactions."""

    def __init__(self, connection: asyncpg.Connection, expected_head: tuple[int, bytes] | None) -> None:
        self._connection = connection
        self._expected_head = expected_head
        self._previous = _FIRST
        self._number = 0
        self._at_us = 0
        self._from, self._below = "0", "0"
        self._late_before_us = 0
        self._rows: dict[int, asyncpg.Record] = {}
        """Rows of the range that no seal has named yet"""

    async def next_seal(self, seal_row: asyncpg.Record) -> list[Finding]:
        """Findings about one seal and the rows that it names."""
        findings = []
        if seal_row["below"] != self._below:
            findings += self._end_range()
            self._from, self._below = self._below, seal_row["below"]
            self._late_before_us = self._at_us - _LATE_US
            self._rows = {
                row["sequence"]: row
                for row in await self._connection.fetch(
                    f"select {_CONTENT} from audit_row a where a.transaction >= $1::text::xid8 "
                    "and a.transaction < $2::text::xid8",
                    self._from,
                    self._below,
                )
            }
        self._number += 1
        if seal_row["seal"] != self._number:
            findings.append(Finding("removed", self._number, None))
            self._number = seal_row["seal"]
        hashed = seal_hash(self._number, seal_row["at"], self._previous, seal_row["members"], seal_row["leaves"])
        noted = self._expected_head
        other_than_noted = noted is not None and noted[0] == self._number and noted[1] != seal_row["hash"]
        if seal_row["hash"] != hashed or other_than_noted:
            findings.append(Finding("broken", self._number, None))
        self._previous, self._at_us = seal_row["hash"], seal_row["at"]
        return findings + self._check_members(seal_row["members"], seal_row["leaves"])

    def _check_members(self, members: list[int], leaves: bytes) -> list[Finding]:
        findings = []
        if members != sorted(set(members)):
            findings.append(Finding("reordered", self._number, None))
        known = {leaves[start : start + _LEAF_BYTES] for start in range(0, len(leaves), _LEAF_BYTES)}
        for place, sequence in enumerate(members):
            row = self._rows.pop(sequence, None)
            if row is None:
                findings.append(Finding("removed", self._number, sequence))
                continue
            found = leaf(row)
            if found != leaves[place * _LEAF_BYTES : (place + 1) * _LEAF_BYTES]:
                findings.append(Finding("reordered" if found in known else "changed", self._number, sequence))
            elif row["at"] < self._late_before_us:
                findings.append(Finding("inserted", self._number, sequence))
        return findings

    def _end_range(self) -> list[Finding]:
        """Rows of the range that no seal named were put in afterwards."""
        return [Finding("inserted", self._number, sequence) for sequence in sorted(self._rows)]

    async def end(self) -> list[Finding]:
        """Findings once all seals are seen."""
        findings = self._end_range()
        if self._expected_head is not None and self._number < self._expected_head[0]:
            findings.append(Finding("removed", self._expected_head[0], None))
        return findings


async def _cursor(connection: asyncpg.Connection, statement: str) -> AsyncIterator[asyncpg.Record]:
    async for row in connection.cursor(statement, prefetch=500):
        yield row


async def keep_sealing(url: str, *, every_s: float = 1.0, stop: asyncio.Event | None = None) -> None:
    """Seal every second until `stop` is set; a lost database is waited for."""
    await keep_doing(url, seal, name="the audit sealer", every_s=every_s, stop=stop or asyncio.Event())
