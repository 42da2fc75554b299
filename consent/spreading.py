"""Labels along references, whichever of the two rows comes first.

Up: the referring row takes the labels of what it refers to. Down: what it refers to takes the labels that the referring
row has by its own codes (a report of an HIV test labels its results). Later arrivals label rows that are stored
already, in the same transaction up to a bound, beyond it by a job.

A reference is not checked, so nobody may change or learn anything by naming a stranger's row: labels go down only to
rows of the same custodian, and up only from rows of the same custodian or about the same person.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from consent.labels import SPREADING, Spread, own_of, spreads_of, table, targets_of, with_level
from consent.persons import split_reference
from ehr.access.attachments import attached_to
from ehr.access.holders import Custody, HolderState, RowState, custody_of
from ehr.access.labels import keep_for_later, labels_by_terms, raise_labels, rows_with_terms
from ehr.changes import Change
from ehr.keys import TermHasher, row_key
from ehr.store.jobs import enqueue

if TYPE_CHECKING:
    from consent.projection import Work

__all__ = ["RowState"]

LIMIT_ROWS = 500
LIMIT_STEPS = 6
RELABEL_JOB = "consent.relabel"
ATTACHING = frozenset({"DocumentReference", "Media", "DiagnosticReport", "Communication", "Consent"})


@dataclass(frozen=True, slots=True)
class Edge:
    """A reference along which labels spread."""

    change: Change
    kind: Spread
    key: int
    is_own_name: bool
    """The id is one that only this custodian may give, so that a row that is still to come will be its own."""


def edges_of(change: Change, base_url: str) -> list[Edge]:
    """The references of a change along which labels spread."""
    found: list[Edge] = []
    scope = change.scope
    for spread in spreads_of(change.resource_type):
        for reference in targets_of(change.resource or {}, spread.element):
            split = split_reference(reference, base_url)
            if split is not None:
                own = scope.may_change_any_custodian or split[1].startswith(f"{scope.custodian}.")
                found.append(Edge(change, spread, row_key(*split), own))
    return found


def stored_targets(works: Sequence["Work"]) -> set[int]:
    """Keys of the rows to which labels may spread, or from which they may come."""
    return {edge.key for work in works for edge in work.edges}


def attached_binaries(urls: Iterable[str], base_url: str) -> Iterator[int]:
    """Row keys of the Binaries of this server among the addresses that a resource's attachments give."""
    for url in urls:
        split = split_reference(url, base_url)
        if split is not None and split[0] == "Binary":
            yield row_key(*split)


async def spread(
    connection: asyncpg.Connection,
    works: Sequence["Work"],
    stored: Mapping[int, RowState],
    states: Mapping[int, HolderState],
    *,
    hasher: TermHasher,
) -> None:
    """Bring the labels of the changes, and of the stored rows they touch, into agreement."""
    fresh = {work.change.key: work for work in works}
    edges = [edge for work in works for edge in work.edges]
    labelled = [edge.key for edge in edges if edge.key in stored and stored[edge.key].labels & SPREADING]
    custody = await custody_of(connection, labelled) | {
        work.change.key: Custody(
            work.change.access.custodian, frozenset(states[h].person for h in work.holders if h in states)
        )
        for work in works
    }
    to_stored = _agree(edges, fresh, stored, custody)
    later = {key: labels for key, labels in to_stored.items() if key not in stored}
    to_stored = {key: labels for key, labels in to_stored.items() if key in stored}
    for work in works:
        access = work.change.access
        access.labels = with_level(access.labels)
        if work.change.version > 1 and access.labels & SPREADING:
            # the version in place is about to become history: it is seen by its own and the current labels
            to_stored[work.change.key] = to_stored.get(work.change.key, 0) | access.labels & SPREADING
    await keep_for_later(connection, later)
    raised = await raise_labels(connection, to_stored)
    sources = {work.change.key: work.change.access.labels for work in works if work.change.access.labels & SPREADING}
    await raise_referrers(connection, raised | sources, hasher, fresh={key: custody[key] for key in fresh})


async def said_by_others(connection: asyncpg.Connection, works: Sequence["Work"], hasher: TermHasher) -> dict[int, int]:
    """What stored rows of the same custodian say, by their own codes, of rows that no longer say it themselves.

    One bit serves both sources, so that it cannot tell whether a label that the row's own codes gave came from a
    report, too.
    """
    dropped = {
        work.change.key: (lost, work.change.access.custodian)
        for work in works
        if (lost := own_of(work.change.access.labels) & ~own_of(work.reading.labels))
    }
    salts = [
        hasher.reference_salt(kind.type, kind.parameter) for kind in table().spreads if kind.down and kind.parameter
    ]
    keys = {key ^ salt: key for key in dropped for salt in salts}
    said: dict[int, int] = {}
    for custodian, labels, terms in await labels_by_terms(connection, list(keys)):
        for term in terms:
            lost, keeper = dropped[keys[term]]
            if keeper == custodian:
                said[keys[term]] = said.get(keys[term], 0) | own_of(labels) & lost
    return said


def _agree(
    edges: Sequence[Edge],
    fresh: Mapping[int, "Work"],
    stored: Mapping[int, RowState],
    custody: Mapping[int, Custody],
) -> dict[int, int]:
    """Spread among the changes until nothing moves; returns the bits for rows outside them."""
    outside: dict[int, int] = {}
    moved = True
    while moved:
        moved = False
        for edge in edges:
            access, key = edge.change.access, edge.key
            target = fresh.get(key)
            if edge.kind.up and key in custody and custody[edge.change.key].shares_with(custody[key]):
                labels = target.change.access.labels if target else stored[key].labels
                wanted = access.labels | labels & SPREADING
                moved, access.labels = moved or wanted != access.labels, wanted
            if edge.kind.down and (own := own_of(access.labels)):
                if target is not None and target.change.access.custodian == access.custodian:
                    wanted = target.change.access.labels | own
                    moved, target.change.access.labels = moved or wanted != target.change.access.labels, wanted
                elif target is None and _is_own(edge, stored.get(key)):
                    outside[key] = outside.get(key, 0) | own
    return outside


def _is_own(edge: Edge, row: RowState | None) -> bool:
    """Whether the custodian of the referring row keeps the other one, or will when it comes."""
    return edge.is_own_name if row is None else row.custodian == edge.change.access.custodian


async def raise_referrers(
    connection: asyncpg.Connection, sources: Mapping[int, int], hasher: TermHasher, fresh: Mapping[int, Custody]
) -> None:
    """Give stored rows the labels of what they refer to, step by step; what is left over the bound goes to a job.

    `fresh` are the rows that this transaction writes itself: they have their labels, and stand in no table yet.
    """
    salts = [hasher.reference_salt(kind.type, kind.parameter) for kind in table().spreads if kind.up and kind.parameter]
    steps, rows = 0, 0
    pending = {key: labels & SPREADING for key, labels in sources.items() if labels & SPREADING}
    while pending:
        if steps >= LIMIT_STEPS or rows >= LIMIT_ROWS:
            for key, labels in pending.items():
                await enqueue(connection, RELABEL_JOB, {"key": str(key), "labels": str(labels)})
            return
        await raise_labels(connection, await attached_to(connection, pending))
        by_term = {key ^ salt: labels for key, labels in pending.items() for salt in salts}
        every = 0
        for labels in pending.values():
            every |= labels
        custody = await custody_of(connection, [key for key in pending if key not in fresh]) | dict(fresh)
        named = {key ^ salt: custody[key] for key in pending if key in custody for salt in salts}
        found = await rows_with_terms(connection, named, every, LIMIT_ROWS + 1)
        wanted: dict[int, int] = {}
        for key, labels, terms in found:
            bits = 0
            for term in terms:
                bits |= by_term[term]
            if key not in fresh and labels & bits != bits:
                wanted[key] = bits
        if len(found) > LIMIT_ROWS:
            for key, labels in pending.items():
                await enqueue(connection, RELABEL_JOB, {"key": str(key), "labels": str(labels)})
        pending = {key: labels & SPREADING for key, labels in (await raise_labels(connection, wanted)).items()}
        steps, rows = steps + 1, rows + len(pending)
