"""Refreshing the analytics files: the change log in micro-batches, and who is counted, to Parquet.

Rows with a sensitivity label are written as deletions, so that a label given later takes the row out. Who is counted,
and which source patients are one person, is a snapshot of its own, taken anew each time: a refusal, a merge or an
unmerge holds from the next refresh on without rewriting a row.
"""

import asyncio
import fcntl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import asyncpg
import pyarrow as pa

from analytics.count import PEOPLE_SCHEMA
from analytics.deidentify import Gazetteer, arrow_schema, columns_of, pseudonym, written_types
from analytics.files import AnalyticsFiles, Manifest
from ehr import json_text
from ehr.store.change_log import START, LoggedChange, Position, read_after

_AREA = "http://terminology.hl7.org/CodeSystem/location-physical-type"
_BATCH = 5_000
_MOST_PARTS = 40

PeopleForCounts = Callable[[asyncpg.Pool], Awaitable[Iterable[tuple[int, int, bool]]]]
"""(holder, person, whether de-identified counts may include the person) of everybody."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one refresh did."""

    changes: int
    people: int
    people_left_out: int


class Refresher:
    """Keeps one folder of analytics files up to the record's change log."""

    def __init__(self, files: AnalyticsFiles, pool: asyncpg.Pool, secret: bytes, people: PeopleForCounts) -> None:
        """Take the pseudonym secret (16 to 64 bytes, kept outside the database) and who is counted."""
        self._files = files
        self._pool = pool
        self._secret = secret
        self._people = people

    async def refresh(self) -> Refresh:
        """Bring the files up to date; a second refresh at the same time waits for the first.

        Raises:
            Unavailable: the database is down or too slow.
        """
        with await asyncio.to_thread(_lock, self._files):
            manifest = self._files.manifest()
            manifest, changed = await self._take_changes(manifest)
            people = list(await self._people(self._pool))
            manifest.number += 1
            manifest.people = self._files.write_part(f"people-{manifest.number:08d}", self._people_table(people))
            manifest.refreshed_at = datetime.now(UTC).isoformat(timespec="seconds")
            self._compact(manifest)
            self._files.commit(manifest)
        return Refresh(changed, len(people), sum(not allowed for _, _, allowed in people))

    async def _take_changes(self, manifest: Manifest) -> tuple[Manifest, int]:
        changed = 0
        position: Position = (manifest.transaction, manifest.sequence)
        while True:
            changes, position = await read_after(self._pool, position, _BATCH)
            if not changes:
                return manifest, changed
            begun = (manifest.transaction, manifest.sequence) != START
            if _learn_townships(manifest, changes) and begun:  # addresses written before must be read again
                manifest = Manifest(number=manifest.number, gazetteer=manifest.gazetteer)
                position = START
                continue
            self._write_changes(manifest, changes)
            manifest.transaction, manifest.sequence = position
            changed += len(changes)

    def _write_changes(self, manifest: Manifest, changes: list[LoggedChange]) -> None:
        gazetteer = Gazetteer(manifest.gazetteer)
        rows: dict[str, list[dict[str, Any]]] = {}
        for change in {each.key: each for each in changes}.values():  # all changes of a row come with it as it is now
            if change.resource_type in written_types():
                rows.setdefault(change.resource_type, []).append(self._row(change, gazetteer))
        manifest.number += 1
        for resource_type, listed in rows.items():
            table = pa.Table.from_pylist(listed, schema=arrow_schema(resource_type))
            name = self._files.write_part(f"{resource_type}-{manifest.number:08d}", table)
            manifest.parts.setdefault(resource_type, []).append(name)

    def _row(self, change: LoggedChange, gazetteer: Gazetteer) -> dict[str, Any]:
        row: dict[str, Any] = {
            "row": pseudonym(self._secret, change.key),
            "holder": pseudonym(self._secret, change.holder),
            "sequence": change.position[1],
            "deleted": change.body is None or change.labels != 0 or bool(change.others),
        }
        if not row["deleted"] and change.body is not None:
            row.update(columns_of(change.resource_type, json_text.parse_stored(change.body), gazetteer))
        return row

    def _people_table(self, people: list[tuple[int, int, bool]]) -> pa.Table:
        columns = {
            "holder": [pseudonym(self._secret, holder) for holder, _, _ in people],
            "person": [pseudonym(self._secret, person) for _, person, _ in people],
            "allowed": [allowed for _, _, allowed in people],
        }
        return pa.table(columns, schema=PEOPLE_SCHEMA)

    def _compact(self, manifest: Manifest) -> None:
        for resource_type, names in manifest.parts.items():
            if len(names) > _MOST_PARTS:
                manifest.number += 1
                table = self._files.newest_rows(names, arrow_schema(resource_type))
                manifest.parts[resource_type] = [
                    self._files.write_part(f"{resource_type}-{manifest.number:08d}", table)
                ]


def _learn_townships(manifest: Manifest, changes: list[LoggedChange]) -> bool:
    """Add townships among the changed places to the gazetteer; whether it changed."""
    before = dict(manifest.gazetteer)
    for change in changes:
        if change.resource_type != "Location" or change.body is None:
            continue
        place = json_text.parse_stored(change.body)
        codings = place.get("physicalType", {}).get("coding", ())
        if (
            any(coding.get("system") == _AREA and coding.get("code") == "area" for coding in codings)
            and "name" in place
        ):
            manifest.gazetteer[place["name"]] = place.get("address", {}).get("district", "")
    return before != manifest.gazetteer


def _lock(files: AnalyticsFiles) -> TextIO:
    """Take the folder's lock, waiting for its holder; closing the handle gives it back."""
    handle = (files.folder / "lock").open("w")
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle
