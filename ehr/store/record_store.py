"""The record: opens the pools, and offers every interaction on stored resources behind a scope."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

import asyncpg

from ehr.audit_note import AuditNote
from ehr.changes import Projection
from ehr.errors import BadSearch, KanglianError, NoRoom, StaleScope, Unavailable
from ehr.keys import TermHasher
from ehr.scopes import ReadScope, WriteScope
from ehr.store import audit
from ehr.store.audit_log import AuditLog
from ehr.store.bodies import open_body
from ehr.store.conditions import MatchingKeys, ids_of, writer_filter
from ehr.store.database import (
    KEYED_SEARCH_SETTINGS,
    KEYED_SETTINGS,
    SEARCH_SETTINGS,
    WRITE_SETTINGS,
    database_errors,
    open_pool,
)
from ehr.store.feed_clock import FeedClock
from ehr.store.history import Historian, History
from ehr.store.inbox import Inbox
from ehr.store.index_key import load_index_key
from ehr.store.large import LargeWrites, is_large
from ehr.store.operations import PatientMerge, Settlement, StoredVersion, WriteOperation, WriteOutcome
from ehr.store.originals import OriginalReader, is_original
from ehr.store.people import People
from ehr.store.preparation import Check, EntryExtractor, Preparation
from ehr.store.reads import Reader
from ehr.store.room import HasRoom, always, protects_people, require_room
from ehr.store.type_history import Changes, HistoryQuestion, changes
from ehr.store.writer import Writer, WriteRequest

if TYPE_CHECKING:
    from ehr.indexing import Extractor
    from ehr.search import SearchQuery

_MUST_SEE = frozenset({"Consent", "Encounter", "ServiceRequest"})


class Store:
    """The record in one PostgreSQL database. Open with `Store.open`; every method may raise `Unavailable`."""

    def __init__(
        self,
        *,
        pools: tuple[asyncpg.Pool, asyncpg.Pool, asyncpg.Pool, asyncpg.Pool],
        extractor: "Extractor",
        projections: Sequence[Projection],
        preparation: Preparation,
        matching_keys: MatchingKeys,
        has_room: HasRoom,
        large: LargeWrites | None,
    ) -> None:
        """Take open pools (reading, writing, searching, searching by key) and what takes part in writes."""
        self.pool, self._write_pool, self.searching, self.keyed_search_pool = self._pools = pools
        self.extractor = extractor
        self.hasher = extractor.hasher
        self.people = People(self.hasher, projections)
        self.has_room = has_room
        self.inbox = Inbox(self._write_pool, has_room)
        self._open_for_writes = {name for each in projections for name in each.types} >= _MUST_SEE
        self._preparation = preparation
        self._matching_keys = matching_keys
        self._large = large
        self._audit_log = AuditLog(self.pool)
        self._reader = Reader(self.pool)
        self._originals = OriginalReader(self.pool)
        self._historian = Historian(self.pool)
        self.feed_clock = FeedClock(self.pool)
        self._writer = Writer(
            self._write_pool,
            projections=projections,
            people=self.people,
            matching_keys=matching_keys,
            implied=extractor.implied,
        )

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        keys_path: Path,
        projections: Sequence[Projection] = (),
        zone: tzinfo | None = None,
        base_url: str | None = None,
        extractor: EntryExtractor | None = None,
        check: Check | None = None,
        matching_keys: MatchingKeys | None = None,
        read_connections: int = 3,
        write_connections: int = 4,
        search_connections: int = 4,
        has_room: HasRoom = always,
        large_apart: bool = False,
    ) -> Self:
        """Connect to a migrated database.

        Args:
            url: PostgreSQL URL, as asyncpg takes it.
            keys_path: File of the secret index key; made with mode 0600 where it is missing.
            projections: What takes part in writes; without those of Consent, Encounter and ServiceRequest the store
                refuses to write.
            zone: Zone of dates without one, in the index and in searches; Asia/Shanghai by default.
            base_url: The FHIR base whose absolute URLs name rows of this record.
            extractor: Makes the index entries in place of the store's own `ehr.indexing.Extractor`.
            check: `ehr.validation.check` by default.
            matching_keys: `ehr.search.matching_keys` by default.
            read_connections: Most connections for reads by id, of which one is the spare.
            write_connections: Likewise for writes and the inbox.
            search_connections: Likewise for searches, of each of their two kinds.
            has_room: Whether the disk takes writes; asked before each.
            large_apart: Write large bodies in a thread with connections, checks and an extractor of its own.

        Raises:
            Unavailable: the database cannot be reached.
        """
        own = _extractor(TermHasher(load_index_key(keys_path)), zone, base_url)
        pools = await asyncio.gather(
            open_pool(url, KEYED_SETTINGS, most=read_connections),
            open_pool(url, WRITE_SETTINGS, most=write_connections),
            open_pool(url, SEARCH_SETTINGS, most=search_connections),
            open_pool(url, KEYED_SEARCH_SETTINGS, most=search_connections),
        )
        apart = partial(cls.open, url, keys_path=keys_path, projections=projections, zone=zone, base_url=base_url)
        few = partial(apart, read_connections=2, write_connections=2, search_connections=1)
        return cls(
            pools=(pools[0], pools[1], pools[2], pools[3]),
            extractor=own,
            projections=projections,
            preparation=Preparation(check or _default_check(), extractor or own),
            matching_keys=matching_keys or _default_matching_keys(own),
            has_room=has_room,
            large=LargeWrites(few) if large_apart else None,
        )

    async def close(self) -> None:
        """Finish what waits and close all connections."""
        if self._large is not None:
            await self._large.close()
        queues = (self._reader, self._originals, self._writer, self.inbox, self._audit_log)
        await asyncio.gather(*(queue.close() for queue in queues))
        await asyncio.gather(*(pool.close() for pool in self._pools))

    async def read(self, scope: ReadScope, resource_type: str, resource_id: str, note: AuditNote) -> StoredVersion:
        """The current version; see `Reader.read`."""
        reader = self._originals if is_original(resource_type, resource_id) else self._reader
        return await reader.read(scope, resource_type, resource_id, note)

    async def vread(
        self, scope: ReadScope, resource_type: str, resource_id: str, version: int, note: AuditNote
    ) -> StoredVersion:
        """One version; see `Historian.vread`."""
        return await self._historian.vread(scope, resource_type, resource_id, version, note)

    async def history(
        self,
        scope: ReadScope,
        resource_type: str,
        resource_id: str,
        note: AuditNote,
        *,
        count: int = 50,
        before_version: int | None = None,
        since_us: int | None = None,
    ) -> History:
        """A page of versions; see `Historian.history`."""
        return await self._historian.history(scope, resource_type, resource_id, note, count, before_version, since_us)

    async def changes(self, scope: ReadScope, question: HistoryQuestion, note: AuditNote) -> Changes:
        """A page of the history of a type or of all types; see `ehr.store.type_history.changes`."""
        return await changes(self.searching, scope, question, note)

    async def write(
        self,
        scope: WriteScope,
        operations: Sequence[WriteOperation],
        note: AuditNote,
        *,
        atomic: bool = True,
        settlements: Sequence[Settlement] = (),
        merges: Sequence[PatientMerge] = (),
    ) -> list[WriteOutcome]:
        """Write operations; their versions, index, labels, reach, change log and audit row are durable on return.

        Concurrent calls share a transaction. `settlements` and `merges` are committed with the operations or not at
        all. With `atomic=False` each operation stands alone, and a refused one is an outcome of kind "failed".

        Raises:
            KanglianError: one of its subclasses says which rule refused the whole; it has been audited.
            StaleScope: decide again, once; nothing was written.
            NoRoom: the disk is nearly full; that this was refused has been audited.
            Unavailable: the database is down, full or too slow.
        """
        if not self._open_for_writes:
            raise Unavailable("The record is not open for writes: projections are missing.")
        try:
            require_room(lambda: self.has_room() or protects_people(scope, operations))
        except NoRoom:
            await self._audit_log.record(note, audit.FAILURE, ())
            raise
        if not atomic:
            return list(await asyncio.gather(*(self._write_one(scope, each, note) for each in operations)))
        if self._large is not None and is_large(operations):
            return await self._large.run(
                lambda store: store.write(scope, operations, note, settlements=settlements, merges=merges)
            )
        try:
            prepared = self._preparation.prepare_all(scope, operations)
        except KanglianError:
            await self._writer.record(note, audit.REFUSED, ())
            raise
        future = asyncio.get_running_loop().create_future()
        return await self._writer.submit(WriteRequest(scope, prepared, note, settlements, merges, future))

    async def rehearse(self, scope: WriteScope, operation: WriteOperation, note: AuditNote) -> set[int]:
        """Say whether an operation would be written now, and write nothing; no audit row, which is the caller's.

        Returns:
            Whom the row in place and the new one are about.

        Raises:
            KanglianError: what the write would raise.
        """
        if self._large is not None and is_large([operation]):
            return await self._large.run(lambda store: store.rehearse(scope, operation, note))
        prepared = self._preparation.prepare(scope, operation)
        request = WriteRequest(scope, [prepared], note, (), (), asyncio.get_running_loop().create_future())
        await self._writer.rehearse(request)
        return request.holders

    def condition(
        self, resource_type: str, pairs: Sequence[tuple[str, str]], *, now: datetime | None = None
    ) -> "SearchQuery":
        """Read the criteria of a conditional interaction; BadSearch where none of them says anything about a row."""
        query = self.parse(resource_type, pairs, now=now)
        if not query.clauses:
            raise BadSearch(f"The criteria must name at least one search parameter of {resource_type}.")
        return query

    def parse(
        self,
        resource_type: str,
        pairs: Sequence[tuple[str, str]],
        *,
        lenient: bool = False,
        now: datetime | None = None,
    ) -> "SearchQuery":
        """Read criteria as the record is indexed: its zone, its own address; see `ehr.search.parse`."""
        from ehr.search import parse  # noqa: PLC0415 - search imports the store's parts

        return parse(
            resource_type, pairs, lenient=lenient, now=now, zone=self.extractor.zone, base_url=self.extractor.base_url
        )

    async def match(self, scope: WriteScope, queries: Sequence["SearchQuery"]) -> list[list[str]]:
        """At most two ids for each query, among the rows that this writer's conditions may match.

        What is found may change before a write; give it as `WriteOperation.expected_id` with the condition.
        """
        if not queries:
            return []
        row_filter = writer_filter(scope)
        with database_errors():
            async with self.searching.acquire() as connection:
                found = [await self._matching_keys(connection, row_filter, query, 2) for query in queries]
                ids = await ids_of(connection, row_filter, [key for keys in found for key in keys])
        return [[ids[key] for key in keys if key in ids] for keys in found]

    async def _write_one(self, scope: WriteScope, operation: WriteOperation, note: AuditNote) -> WriteOutcome:
        try:
            return (await self.write(scope, [operation], note))[0]
        except (StaleScope, Unavailable):
            raise
        except KanglianError as error:
            return WriteOutcome("failed", operation.resource_type, operation.resource_id or "", error=error)

    async def record(self, note: AuditNote, outcome: int = audit.SUCCESS, holders: Collection[int] = ()) -> None:
        """Make the audit row of what no statement of the store has logged durable; concurrent ones share a commit."""
        await self._audit_log.record(note, outcome, holders)

    async def is_reachable(self) -> bool:
        """Whether the database answers (readiness)."""
        try:
            with database_errors():
                return bool(await self.pool.fetchval("select count(*) from policy_state", timeout=3))
        except (KanglianError, TimeoutError):
            return False

    @property
    def search_pool(self) -> asyncpg.Pool:
        """Connections whose statements are planned for their own values."""
        return self.searching

    @staticmethod
    def open_body(dictionary: int, body: bytes) -> bytes:
        """The JSON bytes of a stored body."""
        return open_body(body, dictionary)


def _default_check() -> Check:
    from ehr import validation  # noqa: PLC0415 - loading the definitions waits until a store is opened

    return cast("Check", validation.check)


def _extractor(hasher: TermHasher, zone: tzinfo | None, base_url: str | None) -> "Extractor":
    from ehr.indexing import PLATFORM_ZONE, Extractor  # noqa: PLC0415 - likewise

    return Extractor(hasher, zone=zone or PLATFORM_ZONE, base_url=base_url)


def _default_matching_keys(extractor: "Extractor") -> MatchingKeys:
    from ehr.search import matcher  # noqa: PLC0415 - search imports the store's parts

    return matcher(extractor)
