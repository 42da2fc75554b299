"""When the label sets change, stored rows are read anew by jobs; until that is done, labels are in doubt.

In doubt, every row counts as if it carried every label: what opens only where no label stands is closed, what a deny
closes by a label is closed everywhere. Labels that the sets no longer give are taken away afterwards
(`consent.unlabelling`).
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import asyncpg

from consent import unlabelling
from consent.decision import Decision
from consent.labels import (
    ABOVE_NORMAL,
    OWN_SHIFT,
    SENSITIVE,
    SPREADING,
    Spread,
    own_of,
    read_resource,
    sets_text,
    spreads_of,
    targets_of,
    with_level,
)
from consent.persons import split_reference
from consent.spreading import raise_referrers
from ehr import json_text
from ehr.access.holders import Custody, custody_of, rows_by_key
from ehr.access.labels import keep_for_later, raise_labels
from ehr.access.relabelling import (
    FIRST_KEY,
    LABEL_JOB,
    StoredRow,
    doubt,
    has_rows,
    raise_past,
    read_label_state,
    rows_after,
    settle,
)
from ehr.errors import KanglianError
from ehr.keys import organisation_key, row_key
from ehr.row_filter import (
    EVERYTHING,
    NOTHING,
    AllOf,
    AnyOf,
    LabelsAny,
    LabelsNone,
    Not,
    RowRule,
    all_of,
    any_of,
    negation,
)
from ehr.store.jobs import Job, enqueue

if TYPE_CHECKING:
    from consent.service import Consent

_ROWS = 500
_BATCHES = 10
"""Of one job; other jobs have their turn between two."""
_MOST_WALKS = 12


def doubted(decision: Decision) -> Decision:
    """The decision as long as labels are in doubt."""
    return replace(decision, kept=_carrying_all(decision.kept), foreign=_carrying_all(decision.foreign))


def _carrying_all(rule: RowRule) -> RowRule:
    """The rule for rows that carry every label."""
    if isinstance(rule, LabelsAny | LabelsNone) and rule.mask & (SENSITIVE | ABOVE_NORMAL):
        return EVERYTHING if isinstance(rule, LabelsAny) else NOTHING
    if isinstance(rule, Not):
        return negation(_carrying_all(cast("RowRule", rule.filter)))
    if isinstance(rule, AnyOf | AllOf):
        parts = [_carrying_all(cast("RowRule", part)) for part in rule.filters]
        return any_of(*parts) if isinstance(rule, AnyOf) else all_of(*parts)
    return rule


async def begin(connection: asyncpg.Connection) -> bool:
    """Compare the label sets with those of the stored rows, before anybody reads; whether rows must be read anew.

    Where the sets only lost codes, no row lacks a label, and nothing is in doubt; a job takes them away.
    """
    sets = sets_text()
    async with connection.transaction():
        state = await read_label_state(connection, lock=True)
        if state.sets == sets and not state.in_doubt:
            return False
        await unlabelling.plan(connection, unlabelling.lost_labels(f"{state.sets}\n{state.wanted}", sets))
        added = set(sets.splitlines()) - set(state.sets.splitlines())
        if (added or state.in_doubt) and await has_rows(connection):
            await doubt(connection, sets, _payload("1", sets))
            return True
        await settle(connection, sets)
        return False


def _payload(walk: str, sets: str, key: int = FIRST_KEY, version: int = 0, raised: int = 0) -> dict[str, str]:
    digest = hashlib.sha256(sets.encode()).hexdigest()
    return {"walk": walk, "sets": digest, "key": str(key), "version": str(version), "raised": str(raised)}


async def label_anew(consent: "Consent", job: Job) -> None:
    """Read some thousand rows anew, and leave the next job in their transaction.

    Current rows are walked until a walk raises nothing: a label may come along a reference from a row further on. Past
    versions follow, by their own codes. Then nothing is in doubt any more.
    """
    payload = job.payload
    walk, raised = payload["walk"], int(payload["raised"])
    key, version = int(payload["key"]), int(payload["version"])
    async with consent.store.searching.acquire() as connection:
        for _ in range(_BATCHES):
            rows = await rows_after(connection, key, version, _ROWS, past=walk == "past")
            async with connection.transaction():
                raised += await _batch(connection, rows, consent)
            if rows:
                key, version = rows[-1].key, rows[-1].version
            else:
                break
        async with connection.transaction():
            state = await read_label_state(connection, lock=True)
            if not state.in_doubt or payload["sets"] != _payload("", state.wanted)["sets"]:
                return  # other sets are wanted by now, and have jobs of their own
            if state.wanted != sets_text():
                raise KanglianError("the platform that began this has other label sets than this process: restart it")
            if rows:
                await enqueue(connection, LABEL_JOB, _payload(walk, state.wanted, key, version, raised))
            elif walk == "past":
                await settle(connection, state.wanted)
            else:
                again = raised and int(walk) < _MOST_WALKS
                await enqueue(connection, LABEL_JOB, _payload(str(int(walk) + 1) if again else "past", state.wanted))


@dataclass(frozen=True, slots=True)
class _Reference:
    """A reference of a row along which labels spread."""

    kind: Spread
    key: int
    own_name: bool
    """The id is one that only the row's custodian may give."""


def _references(row: StoredRow, resource: Mapping[str, object], base_url: str) -> Iterator[_Reference]:
    for kind in spreads_of(row.resource_type):
        for reference in targets_of(resource, kind.element):
            if (split := split_reference(reference, base_url)) is not None:
                own_name = organisation_key(split[1].partition(".")[0]) == row.custodian
                yield _Reference(kind, row_key(*split), own_name)


async def _batch(connection: asyncpg.Connection, rows: Sequence[StoredRow], consent: "Consent") -> int:
    """Raise what these rows lack, and what their neighbours lack through them; says how many bits were missing."""
    resources = [json_text.parse_stored(row.body) for row in rows]
    read = [read_resource(resource).labels for resource in resources]
    if rows and rows[0].version:
        missing = [(row.key, row.version, said & ~row.labels) for row, said in zip(rows, read, strict=True)]
        await raise_past(connection, [each for each in missing if each[2]])
        return 0
    references = [
        (row, said, reference)
        for row, resource, said in zip(rows, resources, read, strict=True)
        for reference in _references(row, resource, consent.base_url)
    ]
    wanted = {row.key: said & (SENSITIVE | SENSITIVE << OWN_SHIFT) for row, said in zip(rows, read, strict=True)}
    targets, _ = await rows_by_key(connection, sorted({reference.key for _, _, reference in references}), [])
    labelled = [key for key, target in targets.items() if target.labels & SPREADING]
    custody = await custody_of(connection, sorted({*labelled, *wanted})) if labelled else {}
    later: dict[int, int] = {}
    for row, said, reference in references:
        target = targets.get(reference.key)
        if reference.kind.up and target and _shares(custody, row.key, target.key):
            wanted[row.key] |= target.labels & SPREADING
        if reference.kind.down and (own := own_of(said)):
            if target and target.custodian == row.custodian:
                wanted[target.key] = wanted.get(target.key, 0) | own
            elif target is None and reference.own_name:
                later[reference.key] = later.get(reference.key, 0) | own
    stored = {row.key: row.labels for row in rows} | {key: target.labels for key, target in targets.items()}
    missing_bits = {key: bits & ~stored[key] for key, bits in wanted.items() if bits & ~stored[key]}
    missing_bits = {key: _with_one_level(bits, stored[key]) for key, bits in missing_bits.items()}
    await keep_for_later(connection, later)
    raised = await raise_labels(connection, {key: bits for key, bits in missing_bits.items() if bits})
    await raise_referrers(connection, raised, consent.store.hasher, fresh={})
    return len(raised)


def _shares(custody: Mapping[int, Custody], one: int, other: int) -> bool:
    return one in custody and other in custody and custody[one].shares_with(custody[other])


def _with_one_level(bits: int, stored: int) -> int:
    """The bits without a confidentiality that is not above the stored row's."""
    return with_level(bits | stored) & ~stored
