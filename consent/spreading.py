"""Labels along references, whichever of the two rows comes first.

Up: the referring row takes the labels of what it refers to. Down: what it refers to takes the labels that the referring
row has by its own codes (a report of an HIV test labels its results). Later arrivals label rows that are stored
already, in the same transaction up to a bound, beyond it by a job.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from consent.labels import SPREADING, Spread, own_of, spreads_of, table, targets_of, with_level
from consent.persons import split_reference
from ehr.access.attachments import attached_to
from ehr.access.holders import RowState
from ehr.access.labels import keep_for_later, raise_labels, rows_with_terms
from ehr.keys import TermHasher, row_key
from ehr.store.jobs import enqueue

if TYPE_CHECKING:
    from consent.projection import Work

__all__ = ["RowState"]

LIMIT_ROWS = 500
LIMIT_STEPS = 6
RELABEL_JOB = "consent.relabel"
ATTACHING = frozenset({"DocumentReference", "Media", "DiagnosticReport", "Communication", "Consent"})


def _edges(work: "Work", base_url: str) -> Iterator[tuple[Spread, int]]:
    for spread in spreads_of(work.change.resource_type):
        for reference in targets_of(work.change.resource or {}, spread.element):
            split = split_reference(reference, base_url)
            if split is not None:
                yield spread, row_key(*split)


def stored_targets(works: Sequence["Work"], base_url: str) -> set[int]:
    """Keys of the rows to which labels may spread, or from which they may come."""
    return {key for work in works for _, key in _edges(work, base_url)}


def attached_binaries(resource: Mapping[str, Any], base_url: str) -> Iterator[int]:
    """Row keys of the Binaries of this server that attachments of the resource point to."""
    pending: list[Any] = [resource]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            url = node.get("url")
            split = split_reference(url, base_url) if isinstance(url, str) else None
            if split is not None and split[0] == "Binary":
                yield row_key(*split)
            pending.extend(value for value in node.values() if isinstance(value, dict | list))


async def spread(
    connection: asyncpg.Connection,
    works: Sequence["Work"],
    stored: Mapping[int, RowState],
    hasher: TermHasher,
    base_url: str,
) -> None:
    """Bring the labels of the changes, and of the stored rows they touch, into agreement."""
    fresh = {work.change.key: work for work in works}
    edges = [(work, kind, key) for work in works for kind, key in _edges(work, base_url)]
    to_stored = _agree(edges, fresh, stored)
    later = {key: labels for key, labels in to_stored.items() if key not in stored}
    to_stored = {key: labels for key, labels in to_stored.items() if key in stored}
    for work in works:
        access = work.change.access
        access.labels = with_level(access.labels)
        if work.change.operation == "update" and access.labels & SPREADING:
            # the version in place is about to become history: it is seen by its own and the current labels
            to_stored[work.change.key] = to_stored.get(work.change.key, 0) | access.labels & SPREADING
    await keep_for_later(connection, later)
    raised = await raise_labels(connection, to_stored)
    sources = {work.change.key: work.change.access.labels for work in works if work.change.access.labels & SPREADING}
    await raise_referrers(connection, raised | sources, hasher, without=set(fresh))


def _agree(
    edges: Sequence[tuple["Work", Spread, int]], fresh: Mapping[int, "Work"], stored: Mapping[int, RowState]
) -> dict[int, int]:
    """Spread among the changes until nothing moves; returns the bits for rows outside them."""
    outside: dict[int, int] = {}
    moved = True
    while moved:
        moved = False
        for work, kind, key in edges:
            access = work.change.access
            target = fresh.get(key)
            if kind.up:
                labels = target.change.access.labels if target else stored[key].labels if key in stored else 0
                wanted = access.labels | labels & SPREADING
                moved, access.labels = moved or wanted != access.labels, wanted
            if kind.down and (own := own_of(access.labels)):
                if target is None:
                    outside[key] = outside.get(key, 0) | own
                else:
                    wanted = target.change.access.labels | own
                    moved, target.change.access.labels = moved or wanted != target.change.access.labels, wanted
    return outside


async def raise_referrers(
    connection: asyncpg.Connection, sources: Mapping[int, int], hasher: TermHasher, without: set[int]
) -> None:
    """Give stored rows the labels of what they refer to, step by step; what is left over the bound goes to a job."""
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
        found = await rows_with_terms(connection, list(by_term), every, LIMIT_ROWS + 1)
        wanted: dict[int, int] = {}
        for key, labels, terms in found:
            bits = 0
            for term in terms:
                bits |= by_term[term]
            if key not in without and labels & bits != bits:
                wanted[key] = bits
        if len(found) > LIMIT_ROWS:
            for key, labels in pending.items():
                await enqueue(connection, RELABEL_JOB, {"key": str(key), "labels": str(labels)})
        pending = {key: labels & SPREADING for key, labels in (await raise_labels(connection, wanted)).items()}
        steps, rows = steps + 1, rows + len(pending)
