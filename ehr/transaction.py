"""Batch and transaction Bundles, for the API and for adapters alike.

A transaction is one write: references are resolved first, then DELETE, POST and PUT are done in one database
transaction, all or nothing, then GET. https://hl7.org/fhir/R4/http.html#transaction
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qsl

from ehr import json_text
from ehr.audit_note import AuditNote
from ehr.bundle_conditions import WrittenRows
from ehr.bundle_entries import METHODS, BundleEntry, Reading, invalid, read_entry, split
from ehr.bundle_links import LinkRewriter, base_of, conditional_references
from ehr.errors import (
    Conflict,
    Invalid,
    Issue,
    KanglianError,
    Malformed,
    MultipleMatches,
    PreconditionFailed,
    StaleScope,
    Unavailable,
)
from ehr.indexing import Extractor
from ehr.keys import new_resource_id
from ehr.scopes import WriteScope
from ehr.search import SearchQuery
from ehr.store.operations import (
    ANY_VERSION,
    Method,
    OrderKey,
    PatientMerge,
    Settlement,
    WriteOperation,
    WriteOutcome,
    named,
)
from ehr.turns import Turns

Fetch = Callable[[BundleEntry], Awaitable[Any]]
"""Answers a GET or HEAD entry with whatever the caller renders."""
Patch = Callable[[BundleEntry], Awaitable[BundleEntry]]
"""Makes of a PATCH entry the PUT of its result over the version that was patched; may be asked again."""
_Entry = tuple[Any, bytes | None]
"""An entry without its resource, and the resource's bytes"""
_METHODS: dict[str, Method] = {"POST": "create", "PUT": "update", "DELETE": "delete"}
_MOST_ENTRIES = 20_000
_ATTEMPTS = 3
_WIDEST_BATCH = 64


class WritableStore(Protocol):
    """What a Bundle needs of the store."""

    extractor: Extractor
    """Indexes what is written."""

    def condition(
        self, resource_type: str, pairs: Sequence[tuple[str, str]], *, now: datetime | None = None
    ) -> SearchQuery:
        """Read criteria."""

    async def match(self, scope: WriteScope, queries: Sequence[SearchQuery]) -> list[list[str]]:
        """At most two ids for each query, among the rows that the writer may touch."""

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
        """Write operations."""

    async def record(self, note: AuditNote, outcome: int = 0, holders: Sequence[int] = ()) -> None:
        """Make an audit row durable."""


@dataclass(slots=True)
class EntryResult:
    """What became of one entry: a write's outcome, what `fetch` gave, or (in a batch) the refusal."""

    method: str
    outcome: WriteOutcome | None = None
    fetched: Any = None
    error: KanglianError | None = None


async def run(
    store: WritableStore,
    scope: WriteScope,
    bundle: bytes | dict[str, Any],
    note: AuditNote,
    *,
    fetch: Fetch | None = None,
    patch: Patch | None = None,
    base_url: str | None = None,
    order_keys: Sequence[OrderKey | None] | None = None,
    settlements: Sequence[Settlement] = (),
    merges: Sequence[PatientMerge] = (),
) -> list[EntryResult]:
    """Run a Bundle; one result for each entry, in the Bundle's order.

    Args:
        store: The record.
        scope: Whose rows may be written; `scope.read` bounds what conditions match.
        bundle: Bytes, or parsed (decimals as Decimal).
        note: For the audit rows.
        fetch: Answers GET and HEAD entries after the writes; without it they are refused.
        patch: Likewise for PATCH entries, in the writes' place.
        base_url: The server's own address: absolute URLs below it are relative ones.
        order_keys: For feeds: the place of each entry's message among all messages (DESIGN 4.7).
        settlements: Inbox rows settled with a transaction.
        merges: A40 merges done with a transaction.

    Raises:
        KanglianError: a transaction was refused as a whole, or the Bundle is none.
        StaleScope: decide again, once; nothing was written.
        Unavailable: the database is down, full or too slow.
    """
    try:
        try:
            outside, resources = split(json_text.encode(bundle) if isinstance(bundle, dict) else bundle)
        except KanglianError as error:
            raise _Refused(error) from error
        entries = _entries_of(outside, resources)
        runner = _Run(store, scope, note, fetch, patch, base_url, order_keys)
        if outside["type"] == "transaction":
            return await runner.transaction(entries, settlements, merges)
    except _Refused as refused:
        await store.record(note, 4)
        raise refused.error from None
    return await runner.batch(entries)


class _Refused(Exception):
    def __init__(self, error: KanglianError) -> None:
        super().__init__(str(error))
        self.error = error


def _entries_of(bundle: dict[str, Any], resources: list[bytes | None]) -> list[_Entry]:
    entries = bundle.get("entry", [])
    if bundle.get("resourceType") != "Bundle" or bundle.get("type") not in {"batch", "transaction"}:
        raise _Refused(Invalid(Issue("error", "invalid", "Send a Bundle of type batch or transaction.", "Bundle.type")))
    if not isinstance(entries, list) or len(entries) != len(resources) or len(entries) > _MOST_ENTRIES:
        text = f"Bundle.entry is a list of at most {_MOST_ENTRIES} objects."
        raise _Refused(Invalid(Issue("error", "invalid", text, "Bundle.entry")))
    return list(zip(entries, resources, strict=True))


@dataclass(slots=True)
class _Run:
    store: WritableStore
    scope: WriteScope
    note: AuditNote
    fetch: Fetch | None
    patch: Patch | None
    base_url: str | None
    order_keys: Sequence[OrderKey | None] | None

    async def batch(self, entries: list[_Entry]) -> list[EntryResult]:
        """Each entry for itself."""
        gate = asyncio.Semaphore(_WIDEST_BATCH)
        now = datetime.now(UTC)

        async def one(place: int, entry: _Entry) -> EntryResult:
            async with gate:
                return await self._batch_entry(place, entry, now)

        return list(await asyncio.gather(*(one(place, entry) for place, entry in enumerate(entries))))

    async def _batch_entry(self, place: int, entry: _Entry, now: datetime) -> EntryResult:
        try:
            read = read_entry(place, *entry, self._reading(now))
        except KanglianError as error:
            await self.store.record(self.note, 4)
            return EntryResult("", error=error)
        method = read.method
        try:
            if method in {"GET", "HEAD"}:
                return EntryResult(method, fetched=await self._fetch(read))
            return EntryResult(method, await self._write_alone(read))
        except (StaleScope, Unavailable):
            raise
        except KanglianError as error:
            return EntryResult(method, error=error)

    async def _write_alone(self, read: BundleEntry) -> WriteOutcome:
        attempts = _ATTEMPTS if _may_be_overtaken(read) else 1
        while True:
            attempts -= 1
            update = await self._as_update(read)
            try:
                return (await self.store.write(self.scope, [self._operation(update)], self.note))[0]
            except PreconditionFailed:
                if not attempts:
                    raise

    async def _as_update(self, each: BundleEntry) -> BundleEntry:
        if each.method != "PATCH":
            return each
        if self.patch is None:
            raise invalid(each.place, "PATCH is not offered in this Bundle.", "request.method")
        return await self.patch(each)

    async def transaction(
        self, entries: list[_Entry], settlements: Sequence[Settlement], merges: Sequence[PatientMerge]
    ) -> list[EntryResult]:
        """All or nothing; GET entries see what was written."""
        read = await self._read_all(entries)
        writes = sorted(
            (each for each in read if each.method not in {"GET", "HEAD"}), key=lambda each: METHODS.index(each.method)
        )
        writes, repeats = _without_repeats(writes)
        results = [EntryResult(each.method) for each in read]
        if writes or settlements:
            outcomes = await self._write(writes, settlements, merges)
            for each, outcome in zip(writes, outcomes, strict=True):
                results[each.place].outcome = outcome
            for each, first in repeats:
                made = results[first.place].outcome
                results[each.place].outcome = None if made is None else replace(made, kind="matched")
        for each in read:
            if each.method in {"GET", "HEAD"}:
                try:
                    results[each.place].fetched = await self._fetch(each)
                except KanglianError as error:
                    results[each.place].error = error  # the writes are durable: the entry alone says what failed
        return results

    async def _read_all(self, entries: list[_Entry]) -> list[BundleEntry]:
        reading, turns = self._reading(datetime.now(UTC)), Turns()
        read: list[BundleEntry] = []
        issues: list[Issue] = []
        for place, entry in enumerate(entries):
            await turns.next()
            try:
                read.append(read_entry(place, *entry, reading))
            except KanglianError as error:
                issues += error.issues
        if issues:
            raise _Refused(Invalid(*issues))
        return read

    async def _write(
        self, writes: list[BundleEntry], settlements: Sequence[Settlement], merges: Sequence[PatientMerge]
    ) -> list[WriteOutcome]:
        is_conditional = any(each.condition is not None for each in writes)
        is_overtaken = any(map(_may_be_overtaken, writes))
        for attempt in range(_ATTEMPTS):
            operations = await self._resolve(await self._as_updates(writes))
            try:
                return await self.store.write(self.scope, operations, self.note, settlements=settlements, merges=merges)
            except (Conflict, PreconditionFailed) as error:
                # a condition found something else inside the transaction than when it was resolved, or another write
                # came between the look at what is patched and this one
                again = is_overtaken if isinstance(error, PreconditionFailed) else is_conditional
                if attempt + 1 == _ATTEMPTS or not again:
                    raise
        raise AssertionError  # the loop returns or raises

    async def _as_updates(self, writes: list[BundleEntry]) -> list[BundleEntry]:
        """The writes with each PATCH made the update that it comes to."""
        if all(each.method != "PATCH" for each in writes):
            return writes
        gate = asyncio.Semaphore(_WIDEST_BATCH)

        async def one(each: BundleEntry) -> BundleEntry:
            try:
                async with gate:
                    return await self._as_update(each)
            except (StaleScope, Unavailable):
                raise
            except KanglianError as error:
                raise _Refused(error if self.patch is None else named(error, each.expression)) from error

        return list(await asyncio.gather(*(one(each) for each in writes)))

    async def _resolve(self, writes: list[BundleEntry]) -> list[WriteOperation]:
        """Ids for every entry, then every link to them rewritten."""
        operations = [self._operation(each) for each in writes]
        conditional = [place for place, each in enumerate(writes) if each.condition is not None]
        references = sorted({link for each in writes for link in conditional_references(each.resource or b"")})
        named = [self._query(link) for link in references]
        queries = [writes[place].condition for place in conditional] + named
        matches = await self.store.match(self.scope, [query for query in queries if query is not None])
        for place, found in zip(conditional, matches[: len(conditional)], strict=True):
            _expect(writes[place], operations[place], found)
        addresses = _addresses(writes, operations)
        written = WrittenRows(self.store.extractor, writes, operations)
        for link, query, found in zip(references, named, matches[len(conditional) :], strict=True):
            targets = written.targets(query, found)
            if len(targets) != 1:
                raise _Refused(_unresolved(link, targets))
            addresses[link] = f"{query.resource_type}/{targets[0]}"
        rewriter, turns = LinkRewriter(addresses), Turns()
        for each, operation in zip(writes, operations, strict=True):
            await turns.next()
            if each.resource is not None:
                base = base_of(each.full_url) if each.full_url else None
                operation.body = rewriter.rewrite(each.resource, base)
        return operations

    def _reading(self, now: datetime) -> Reading:
        return Reading(partial(self.store.condition, now=now), self.base_url)

    def _query(self, link: str) -> SearchQuery:
        resource_type, _, criteria = link.partition("?")
        try:
            return self.store.condition(resource_type, parse_qsl(criteria, keep_blank_values=True))
        except KanglianError as error:
            raise _Refused(error) from error

    def _operation(self, each: BundleEntry) -> WriteOperation:
        return WriteOperation(
            _METHODS[each.method],
            each.resource_type,
            each.resource_id or (new_resource_id() if each.method == "POST" else None),
            body=each.resource,
            if_match=each.if_match,
            condition=each.condition,
            place=each.expression,
            order_key=None if self.order_keys is None else self.order_keys[each.place],
        )

    async def _fetch(self, each: BundleEntry) -> Any:
        if self.fetch is None:
            raise invalid(each.place, "GET is not offered in this Bundle.", "request.method")
        return await self.fetch(each)


def _may_be_overtaken(each: BundleEntry) -> bool:
    """Whether the version that a PATCH is made from is the server's choice, so that another write may come between."""
    return each.method == "PATCH" and each.if_match in {None, ANY_VERSION}


def _without_repeats(writes: list[BundleEntry]) -> tuple[list[BundleEntry], list[tuple[BundleEntry, BundleEntry]]]:
    """Conditional creates of one type under the same criteria are one create; the others repeat it (SC-38)."""
    kept: list[BundleEntry] = []
    repeats: list[tuple[BundleEntry, BundleEntry]] = []
    known: dict[tuple[str, tuple[tuple[str, str], ...]], BundleEntry] = {}
    for each in writes:
        if each.condition is None:
            kept.append(each)
            continue
        criteria = (each.resource_type, tuple(sorted(each.condition.pairs)))
        first = known.setdefault(criteria, each)
        if first is each:
            kept.append(each)
        elif first.method != "POST" or each.method != "POST":
            raise _Refused(invalid(each.place, "Another entry writes under the same criteria.", "request.url"))
        else:
            first.also += [each.full_url] if each.full_url else []
            repeats.append((each, first))
    return kept, repeats


def _expect(each: BundleEntry, operation: WriteOperation, found: list[str]) -> None:
    """Note what the condition found, so that the write can tell whether it still does."""
    if len(found) > 1:
        error = MultipleMatches(f"The criteria match more than one {each.resource_type}.")
        raise _Refused(named(error, each.expression))
    operation.expected_id = found[0] if found else ""
    if each.method != "PUT":
        return
    given = json_text.parse(each.resource or b"{}").get("id")
    if found and given not in {None, found[0]}:
        expression = f"Bundle.entry[{each.place}].resource.id"
        text = "The body's id is not the id that the criteria match."
        raise _Refused(Malformed(Issue("error", "invalid", text, expression)))
    operation.resource_id = found[0] if found else given
    if not found and given is None and each.resource is not None:
        # the server makes the id; it is known now, so that links can name it
        operation.resource_id = new_resource_id()


def _addresses(writes: list[BundleEntry], operations: list[WriteOperation]) -> dict[str, str]:
    """Where each full URL leads; refuses a resource that two entries would write."""
    addresses: dict[str, str] = {}
    written: set[str] = set()
    for each, operation in zip(writes, operations, strict=True):
        matched = operation.expected_id or None
        if operation.method == "delete" and matched is None and operation.resource_id is None:
            continue
        address = f"{each.resource_type}/{matched or operation.resource_id}"
        if operation.method != "create" or matched is None:
            if address in written:
                raise _Refused(invalid(each.place, "Another entry writes the same resource.", "fullUrl"))
            written.add(address)
        for url in (each.full_url, *each.also) if each.method != "DELETE" else ():
            if url and addresses.get(url, address) != address:
                raise _Refused(invalid(each.place, "Another entry has the same fullUrl.", "fullUrl"))
            if url:
                addresses[url] = address
    return addresses


def _unresolved(link: str, found: list[str]) -> KanglianError:
    if found:
        return MultipleMatches(f"The reference {link[:200]} matches more than one resource.")
    return Invalid(Issue("error", "not-found", f"The reference {link[:200]} matches no resource.", "Bundle.entry"))
