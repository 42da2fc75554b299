"""Labels that the sets no longer give are taken from stored rows, where nothing else gave them.

What carries such a label is read again, past versions too: a label that once went along a reference stays, though the
row that said it was corrected since. Whoever says a label by its own codes, or got it from one who does, keeps it; more
references count here than pass labels when rows are written, since custody may have changed. What is left over carries
a label for no reason any more. Labels are taken away in small transactions, each void where something came in between.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from consent.labels import OWN_SHIFT, SENSITIVE, read_resource, sensitivity_mask, sets_text, spreads_of, targets_of
from consent.persons import split_reference
from consent.spreading import ATTACHING, attached_binaries
from ehr import json_text
from ehr.access.relabelling import read_label_state
from ehr.access.unlabelling import (
    UNLABEL_JOB,
    LabelledVersion,
    attached,
    changed,
    horizon,
    labelled_versions,
    take_away,
)
from ehr.errors import KanglianError
from ehr.keys import row_key
from ehr.store.clock import now_us
from ehr.store.jobs import Job, enqueue
from ehr.turns import Turns

if TYPE_CHECKING:
    from consent.service import Consent

_VERSIONS = 500
"""From which labels are taken in one transaction."""
_READINGS = 20
_PAUSE_S = 0.05
_LATER_US = 5_000_000


def lost_labels(before: str, after: str) -> int:
    """The sensitivities of which the sets lost a line; all of them where labels spread along one reference less."""
    lines = set(before.splitlines()) - set(after.splitlines())
    if any(line.startswith("spread ") for line in lines):
        return SENSITIVE
    return sensitivity_mask([line.split()[0] for line in lines if line and not line.startswith("reading ")])


async def plan(connection: asyncpg.Connection, lost: int, *, not_before_us: int = 0) -> None:
    """Leave the job that takes these labels away."""
    if lost:
        await enqueue(connection, UNLABEL_JOB, {"labels": str(lost)}, not_before_us=not_before_us)


@dataclass(slots=True)
class _Carrying:
    """The versions that carry the labels, what they say, and who passes labels to whom."""

    labels: dict[int, dict[int, int]] = field(default_factory=dict)
    """key: version (0 = current): the bits that it carries."""
    said: dict[int, dict[int, int]] = field(default_factory=dict)
    """Likewise, the bits that its own codes give."""
    passes: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """To which rows each one passes what it has (up)."""
    tells: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """To which rows each one passes what its own codes say (down)."""

    def unfounded(self, lost: int) -> dict[tuple[int, int], int]:
        """The bits that each version carries and neither says itself nor got from anybody."""
        ever = {key: _any_of(said.values()) & lost for key, said in self.said.items()}
        given = self._given(ever)
        found: dict[tuple[int, int], int] = {}
        for key, versions in self.labels.items():
            for version, labels in versions.items():
                own = self.said[key].get(version, 0)
                # a past version carries what the row said since, too
                founded = given.get(key, 0) | (ever[key] if version else own)
                bits = labels & lost & ~founded | labels & (lost & ~own) << OWN_SHIFT
                if bits:
                    found[key, version] = bits
        return found

    def _given(self, ever: dict[int, int]) -> dict[int, int]:
        """What each row got from others, step by step from those that once said it themselves."""
        holds, given = dict(ever), dict[int, int]()
        for source, keys in self.tells.items():
            for key in keys if ever.get(source) else ():
                given[key] = given.get(key, 0) | ever[source]
                holds[key] = holds.get(key, 0) | ever[source]
        pending = [key for key, bits in holds.items() if bits]
        while pending:
            source = pending.pop()
            for key in self.passes.get(source, ()):
                given[key] = given.get(key, 0) | holds[source]
                if given[key] & ~holds.get(key, 0):
                    holds[key] = holds.get(key, 0) | given[key]
                    pending.append(key)
        return given


def _any_of(masks: Iterable[int]) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


async def unlabel(consent: "Consent", job: Job) -> None:
    """Take labels away until none is left over; put off while rows are still being read anew."""
    lost = int(job.payload["labels"])
    async with consent.store.searching.acquire() as connection:
        state = await read_label_state(connection)
        if state.in_doubt:
            await plan(connection, lost, not_before_us=now_us() + _LATER_US)
            return
        if state.sets != sets_text():
            raise KanglianError("the record follows other label sets than this process: restart it")
        if not await _taken(connection, lost, consent.base_url):
            await plan(connection, lost, not_before_us=now_us() + _LATER_US)


async def _taken(connection: asyncpg.Connection, lost: int, base_url: str) -> bool:
    """Read what carries the labels, and take away what is unfounded; False where too much came in between."""
    carrying, since = _Carrying(), ""
    for _ in range(_READINGS):
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            now = await horizon(connection)
            keys = await changed(connection, lost, since) if since else None
            for referrer, binary in await attached(connection, lost):
                carrying.passes[referrer].add(binary)
            await _read(connection, carrying, lost, keys, base_url)
        since = now
        try:
            if await _take(connection, sorted(carrying.unfounded(lost).items()), lost, since):
                return True
        except asyncpg.LockNotAvailableError:
            pass  # writers are let through first
        await asyncio.sleep(_PAUSE_S)
    return False


async def _take(connection: asyncpg.Connection, rest: list[tuple[tuple[int, int], int]], lost: int, since: str) -> bool:
    for start in range(0, len(rest), _VERSIONS):
        if not await take_away(connection, dict(rest[start : start + _VERSIONS]), labels=lost, since=since):
            return False
    return True


async def _read(
    connection: asyncpg.Connection, carrying: _Carrying, lost: int, keys: list[int] | None, base_url: str
) -> None:
    """Add what carries the labels, of all rows or of those with these keys."""
    turns, deleted = Turns(), []
    for key in keys or ():
        carrying.labels.pop(key, None)
        carrying.said.pop(key, None)
    async for version in labelled_versions(connection, lost, keys):
        await turns.next()
        carrying.labels.setdefault(version.key, {})[version.version] = version.labels
        said = carrying.said.setdefault(version.key, {})
        if version.body is None:
            deleted.append((version.key, version.version))
            continue
        resource = json_text.parse_stored(version.body)
        reading = read_resource(resource)
        said[version.version] = reading.labels & SENSITIVE
        _add_ways(version, resource, reading.urls, carrying, base_url)
    for key, number in deleted:
        # a deleted row is as hidden as what it said before; one of which nothing is left stays as it is
        carrying.said[key][number] = _any_of(carrying.said[key].values()) if carrying.said[key] else SENSITIVE


def _add_ways(
    version: LabelledVersion, resource: dict[str, Any], urls: list[str], carrying: _Carrying, base_url: str
) -> None:
    """Note along which references of this version labels pass; what was once attached stays so."""
    for kind in spreads_of(version.resource_type):
        for reference in targets_of(resource, kind.element):
            if (split := split_reference(reference, base_url)) is not None:
                if kind.up:
                    carrying.passes[row_key(*split)].add(version.key)
                if kind.down:
                    carrying.tells[version.key].add(row_key(*split))
    if version.resource_type in ATTACHING:
        carrying.passes[version.key].update(attached_binaries(urls, base_url))
