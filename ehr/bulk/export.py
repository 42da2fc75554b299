"""One export, from its first batch to its end: resumable, with the consents of the moment in which each row is written.

Each batch is decided anew where policies or consents changed. Before the end, all rows written are looked at once
more: those of people who withdrew meanwhile are cut out. The audit rows are committed with the end, one entry for each
person; before that nobody reads the files. https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

import asyncio
import shutil
from array import array
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg
import msgspec

from ehr.audit_note import AuditNote
from ehr.bulk import export_rows
from ehr.bulk.export_files import ExportFolder, OutputFile
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.export_rows import Batch, Selection, Snapshot, changed_meanwhile, next_batch, still_visible, types_present
from ehr.bulk.jobs import Claim
from ehr.definitions import type_number
from ehr.errors import StaleScope, Unavailable
from ehr.scopes import ReadScope
from ehr.search.query import SearchQuery
from ehr.search.subset import cut
from ehr.store import Store
from ehr.store.bodies import open_body, opener
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.room import require_room

Decide = Callable[[], Awaitable[ReadScope]]
"""What the client may see now, decided from the claims that it asked with."""
_T = TypeVar("_T")
_DECISIONS = 8
_LOOKS = 8
"""Looks for withdrawals before the job is left for another attempt."""
_PERSONS_A_ROW = 5_000
_BEGINNING_WRITES_S = 0.25
"""Between the instant that a write gives its rows and the number of its transaction."""
_PENDING_WRITES_S = 30.0


class ExportProgress(msgspec.Struct):
    """What is durable of an export."""

    at_us: int = 0
    """`transactionTime`: the rows are as they were then."""
    horizon: int = 0
    """Every transaction below it had ended at `at_us`."""
    types: list[str] = msgspec.field(default_factory=list)
    """Of those asked for."""
    type_place: int = 0
    """Which of the types is being written."""
    batches: list[Batch] = msgspec.field(default_factory=list)
    """Of that type."""
    files: list[OutputFile] = msgspec.field(default_factory=list)
    persons: int = 0
    """Entries of the file of persons."""

    @property
    def count(self) -> int:
        """Resources written so far."""
        return sum(file.count for file in self.files)


@dataclass(slots=True)
class Export:
    """One attempt at an export."""

    store: Store
    claim: Claim
    folder_path: Path
    decide: Decide
    refresh: Callable[[], Awaitable[None]]
    note: AuditNote
    request: ExportRequest
    progress: ExportProgress = field(default_factory=ExportProgress)
    scope: ReadScope | None = None
    queries: dict[str, list[SearchQuery]] = field(default_factory=dict)
    persons: set[int] = field(default_factory=set)
    _unsaved: list[int] = field(default_factory=list)
    _folder: ExportFolder | None = None

    async def run(self) -> None:
        """Go on where the last attempt came to, to the end.

        Raises:
            LostClaim: cancelled, or another worker's.
            Forbidden: the client may not export any more.
            Unavailable: the database is away, or consents change too fast now.
        """
        self.scope = await self.decide()
        self.progress = msgspec.json.decode(self.claim.bulk.progress, type=ExportProgress)
        self._folder = ExportFolder(self.folder_path, self.progress.files, with_keys=not self.scope.lasting)
        self._folder.recover()
        self._recall_persons()
        for each in self.request.filters:
            self.queries.setdefault(each.type, []).append(self.store.parse(each.type, each.pairs))
        if not self.progress.at_us:
            await self._begin()
        while self.progress.type_place < len(self.progress.types):
            await self._write_type(self.progress.types[self.progress.type_place])
        await self._end()

    @property
    def folder(self) -> ExportFolder:
        """The files."""
        if self._folder is None:
            raise AssertionError
        return self._folder

    async def _begin(self) -> None:
        """Choose the instant: what was written up to it is committed, so that no later look finds more of it."""
        self.progress.at_us = now_us()
        await asyncio.sleep(_BEGINNING_WRITES_S)
        with database_errors():
            first = Snapshot(await self._snapshot())
            waited_s = 0.0
            seen = first
            while seen.xmin < first.xmax and waited_s < _PENDING_WRITES_S:
                await asyncio.sleep(0.05)
                waited_s += 0.05
                seen = Snapshot(await self._snapshot())
            self.progress.types = await types_present(self.store.search_pool, self.request.types)
        self.progress.horizon = first.xmin
        await self.claim.save(self.progress)

    async def _snapshot(self) -> str:
        return str(await self.store.search_pool.fetchval("select pg_current_snapshot()::text"))

    async def _write_type(self, resource_type: str) -> None:
        more = True
        while more:
            last = self.progress.batches[-1] if self.progress.batches else None
            behind = None if last is None else (last.last_updated, last.key)
            rows, snapshot = await self._decided(partial(self._batch, resource_type, behind))
            more = len(rows) == export_rows.ROWS
            end = (rows[-1][export_rows.LAST_UPDATED], rows[-1][export_rows.KEY]) if more else (2**63 - 1, 0)
            self.progress.batches.append(Batch(end[0], end[1], snapshot))
            await self._write(resource_type, rows, save=more)
        missed = await self._decided(partial(self._missed, resource_type))
        self.progress.type_place += 1
        self.progress.batches = []
        await self._write(resource_type, missed, save=bool(missed) or self.progress.count > 0)

    async def _batch(self, resource_type: str, behind: tuple[int, int] | None) -> tuple[list[asyncpg.Record], str]:
        with database_errors():
            return await next_batch(self.store.search_pool, self._selection(resource_type), behind)

    async def _missed(self, resource_type: str) -> list[asyncpg.Record]:
        with database_errors():
            return await changed_meanwhile(
                self.store.search_pool,
                self._selection(resource_type),
                self.progress.horizon,
                self.progress.batches,
            )

    def _selection(self, resource_type: str) -> Selection:
        if self.scope is None:
            raise AssertionError
        return Selection(
            self.request,
            self.scope,
            resource_type,
            self.progress.at_us,
            self.queries.get(resource_type, ()),
            self.store.hasher,
        )

    async def _decided(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """Run `act` under the decision of now."""
        for _ in range(_DECISIONS):
            self.scope = await self.decide()
            try:
                return await act()
            except StaleScope:
                await self.refresh()
        raise Unavailable("Policies change too often now.")

    async def _write(self, resource_type: str, rows: Sequence[asyncpg.Record], *, save: bool) -> None:
        if rows:
            require_room(self.store.has_room)  # the files lie beside the record
            self._remember(rows)
            bodies = _bodies(rows)
            elements = self.request.elements_of(resource_type)
            if elements:
                bodies = [cut(body, resource_type, None, elements) for body in bodies]
            self.folder.append(resource_type, bodies, [row[export_rows.KEY] for row in rows])
            self._save_persons()
        if save:
            await self.claim.save(self.progress)

    # --- whose rows were written

    def _remember(self, rows: Sequence[asyncpg.Record]) -> None:
        fresh = {row[export_rows.HOLDER] for row in rows}
        for row in rows:
            if row[export_rows.OTHERS] is not None:
                fresh.update(row[export_rows.OTHERS])
        fresh -= self.persons
        fresh.discard(0)
        self._unsaved += fresh
        self.persons |= fresh

    @property
    def _persons_file(self) -> Path:
        return self.folder_path / "persons.list"

    def _save_persons(self) -> None:
        if self._unsaved:
            with self._persons_file.open("ab") as file:
                file.write(array("q", self._unsaved).tobytes())
            self.progress.persons += len(self._unsaved)
            self._unsaved = []

    def _recall_persons(self) -> None:
        with suppress(FileNotFoundError):
            stored = array("q", self._persons_file.read_bytes()[: self.progress.persons * 8])
            self._persons_file.write_bytes(stored.tobytes())
            self.persons = set(stored)

    # --- the end

    async def _end(self) -> None:
        for _ in range(_LOOKS):
            since: tuple[str, int] | None = None
            self.scope = await self.decide()
            if not self.scope.lasting:
                with database_errors():
                    horizon = Snapshot(await self._snapshot()).xmin
                since = (str(horizon), type_number("Consent"))
                await self._cut_hidden()
            await self.claim.save(self.progress)
            if await self.claim.complete(self.progress, self._notes(), unless_since=since):
                self.folder.finish()
                return
            await self.claim.save(self.progress)  # cancelled, where this is refused; else somebody's consent changed
        raise Unavailable("Consents change too often now.")

    async def _cut_hidden(self) -> None:
        """Take out the rows that the client may not see any more; the persons of the others are the audit's."""
        self.persons = set()
        for place, file in enumerate(self.folder.files):
            hidden: set[int] = set()
            for keys, _ in self.folder.keys(file):
                rows = await self._decided(partial(self._visible, keys))
                hidden.update(keys)
                hidden.difference_update(row["key"] for row in rows)
                self.persons.update(person for row in rows for person in (row["holder"], *(row["others"] or ())))
            if hidden:
                self.folder.files[place] = self.folder.without(file, hidden)
        self.persons.discard(0)

    async def _visible(self, keys: Sequence[int]) -> list[asyncpg.Record]:
        if self.scope is None:
            raise AssertionError
        with database_errors():
            async with self.store.search_pool.acquire() as connection:
                return await still_visible(connection, self.scope, keys)

    def _notes(self) -> list[tuple[AuditNote, list[int]]]:
        """One entry for each person, some thousands a row; one row where the export is of nobody."""
        persons = sorted(self.persons)
        parts = [persons[start : start + _PERSONS_A_ROW] for start in range(0, len(persons), _PERSONS_A_ROW)]
        return [(self.note, part) for part in parts or [[]]]


def _bodies(rows: Sequence[asyncpg.Record]) -> list[bytes]:
    dictionaries = {row[export_rows.DICTIONARY] for row in rows}
    if len(dictionaries) == 1:
        opened = opener(dictionaries.pop())
        return [opened(row[export_rows.BODY]) for row in rows]
    return [open_body(row[export_rows.BODY], row[export_rows.DICTIONARY]) for row in rows]


def remove(folder: Path) -> None:
    """Remove the files of a bulk job, if any."""
    shutil.rmtree(folder, ignore_errors=True)
