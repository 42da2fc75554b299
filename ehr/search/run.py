"""Runs a search for a caller and hands back one page."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Any, Literal, Protocol

import asyncpg

from ehr.audit_note import AuditNote
from ehr.definitions import type_name, type_number
from ehr.errors import Issue
from ehr.indexing import Extractor
from ehr.keys import TermHasher
from ehr.row_filter import Parameters, RowFilter
from ehr.scopes import ReadScope
from ehr.search import limits, listing, page
from ehr.search.following import CUT_OFF, Following, follows
from ehr.search.frequency import term_frequencies
from ehr.search.include import most
from ehr.search.leading import leading, reach_in_sets
from ehr.search.opening import Opening, must_open
from ehr.search.page import Listed, Position
from ehr.search.query import SearchQuery
from ehr.search.remembered import Statement, Statements
from ehr.search.rendering import Rendering
from ehr.search.sort import keys_of
from ehr.search.statement import (
    Given,
    count_statement,
    counted_on_page,
    keys_statement,
    listing_statement,
    matching_rows,
    page_statement,
)
from ehr.search.statement_columns import COLUMNS
from ehr.search.subset import cut
from ehr.search.terminology import expanded, must_expand
from ehr.store.bodies import open_body
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.scope_sql import require_fresh

_COLUMNS = slice(-len(COLUMNS), None)
"""Where a row of an answer holds what `_version` reads: at its end."""
_statements = Statements()
_FAR = 2 * limits.LISTED
"""Rows of a type, by statistics, from which a search for all of them is not tried to be listed."""


class SearchableStore(Protocol):
    """What a search needs of the store."""

    search_pool: asyncpg.Pool
    """Connections whose statements are planned for their own values."""
    keyed_search_pool: asyncpg.Pool
    """Connections that plan a statement once."""
    hasher: TermHasher
    extractor: Extractor
    """The one that the record is indexed with."""

    async def record(self, note: AuditNote, outcome: int = ..., holders: Collection[int] = ...) -> None:
        """Make the audit row of the search durable."""


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One page: matches in order, included rows, and what to show about the rest."""

    matches: list[StoredVersion]
    includes: list[StoredVersion]
    total: int | None
    """Exact, or None where it was not asked for or is 1,000 or more."""
    next_cursor: str | None
    """The token of the next page, to be passed as `page` with the same query, caller and purpose."""
    self_query: str
    """The query as understood, URL encoded, without page token."""
    issues: tuple[Issue, ...]
    paging: Literal["snapshot", "keyset"] | None = None
    """Where more pages follow: whether these are read from a list of ids, or from where the last match stands."""


def sql(query: SearchQuery, row_filter: RowFilter, parameters: Parameters, hasher: TermHasher) -> str:
    """The statement that selects `key` of all matching rows; for queries that the index answers (`must_open` False)."""
    rendering = Rendering(row_filter, hasher, parameters, walk_chains=True)
    return matching_rows(rendering, query, "r.key")


async def matching_keys(
    connection: asyncpg.Connection,
    row_filter: RowFilter,
    query: SearchQuery,
    limit: int,
    *,
    extractor: Extractor,
) -> list[int]:
    """At most `limit` keys of matching rows, on the caller's connection and in its transaction (conditional writes)."""
    if must_expand(query):
        query = await expanded(query, connection, row_filter, extractor.hasher)
    if must_open(query):
        return await Opening(connection, row_filter, extractor.hasher, extractor).keys(query, limit)
    parameters = Parameters()
    selection = sql(query, row_filter, parameters, extractor.hasher)
    rows = await connection.fetch(f"{selection} limit {limit}", *parameters.values)
    return [row["key"] for row in rows]


def matcher(
    extractor: Extractor,
) -> Callable[[asyncpg.Connection, RowFilter, SearchQuery, int], Awaitable[list[int]]]:
    """`matching_keys` for the record that this extractor indexes."""
    return partial(matching_keys, extractor=extractor)


async def search(
    store: SearchableStore,
    scope: ReadScope,
    query: SearchQuery,
    note: AuditNote,
    *,
    link_key: bytes,
    cursor: str | None = None,
) -> SearchResult:
    """Answer one page of a search; its audit row is durable before this returns.

    Args:
        store: The store.
        scope: What the caller may see; each row alias of each statement carries it.
        query: From `parse`.
        note: Who asks what and why.
        link_key: Secret that seals page tokens, 16 bytes or more.
        cursor: `SearchResult.next_cursor` of the page before.

    Raises:
        Expired: the cursor was altered, belongs to another caller, purpose or query, or is a day old.
        TooCostly: a bound of `ehr.search.limits` was passed.
        StaleScope: decide again, once; nothing was shown or logged.
        Unavailable: the database is away or too slow.
    """
    request = _Request(store, scope, query, now_us())
    self_query = page.self_query(query.pairs)
    binding = "\x1f".join(
        (scope.actor, scope.organisation or "", scope.purpose_of_use, query.resource_type, self_query)
    )
    place = page.unseal_any(link_key, binding, cursor, request.at_us) if cursor is not None else None
    with database_errors():
        await request.expand()
        found = await request.answer(place)
        if isinstance(found.following, Listed):
            found.following = await listing.kept(store.search_pool, found.following)
    if not scope.internal:
        await store.record(note, holders=_holders((*found.matches, *found.includes)))
    following = None
    if found.following is not None:
        following = page.seal(link_key, binding, found.following)
    return SearchResult(
        _shortened(query, found.matches, included=False),
        _shortened(query, found.includes, included=True),
        found.total,
        following,
        self_query,
        query.issues + found.issues,
        None if following is None else "snapshot" if isinstance(found.following, Listed) else "keyset",
    )


@dataclass(slots=True)
class _Found:
    matches: list[StoredVersion]
    includes: list[StoredVersion]
    total: int | None
    following: Position | Listed | None
    issues: tuple[Issue, ...] = ()


@dataclass(slots=True)
class _Request:
    store: SearchableStore
    scope: ReadScope
    query: SearchQuery
    at_us: int
    expanded: bool = False
    """Whether the query was made for this request alone."""

    async def expand(self) -> None:
        """Put codes in place of value sets."""
        if must_expand(self.query):
            async with self.store.search_pool.acquire() as connection:
                self.query = await expanded(self.query, connection, self.scope.row_filter, self.store.hasher)
            self.expanded = True

    async def answer(self, place: Position | Listed | None) -> _Found:
        if isinstance(place, Listed):
            return await self._from_list(place)
        if must_open(self.query):
            async with self._opening() as opening:
                given, following = await opening.page(self.query, place)
                return await self._page(opening.connection, place, given, following)
        if place is not None and not place.unlisted:
            keys = await self._list(place, walk=False)
            if len(keys) <= limits.LISTED:
                return await self._from_list(Listed(tuple(keys), b"", 0, place.started_us, place.large))
            place = replace(place, unlisted=True)
        return await self._page(None, place, None, None)

    @asynccontextmanager
    async def _opening(self) -> AsyncIterator[Opening]:
        """What opens bodies, in one snapshot."""
        async with (
            self.store.search_pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read"),
        ):
            yield Opening(connection, self.scope.row_filter, self.store.hasher, self.store.extractor)

    async def _from_list(self, listed: Listed) -> _Found:
        """The next page of a list: those of its rows that the caller still sees."""
        keys, following = await listing.next_keys(self.store.search_pool, listed, self.query.count)
        counting = self.query.total == "accurate" or not (self.query.total == "none" or listed.large)
        if not (counting and must_open(self.query)):
            given = Given(keys, None, following is not None, recounted=counting)
            return await self._page(None, None, given, following)
        async with self._opening() as opening:
            given = Given(keys, await opening.total(self.query), following is not None)
            return await self._page(opening.connection, None, given, following)

    async def _list(self, position: Position, *, walk: bool) -> list[int]:
        """The keys of all matches behind a position; one more than are listed where there are too many."""
        frequencies = await term_frequencies(self.store.hasher, self.store.keyed_search_pool)
        if not self.query.clauses and frequencies.rows_of_type.get(type_number(self.query.resource_type), 0) > _FAR:
            return [0] * (limits.LISTED + 1)
        everything = replace(self.query, total="accurate")
        lead = await leading(self.scope.row_filter, everything, self.store.keyed_search_pool)
        rendering = Rendering(
            self.scope.row_filter, self.store.hasher, walk_chains=walk, frequencies=frequencies, lead=lead
        )
        text = listing_statement(rendering, self.query, position)
        row = (await self._fetch(None, _finished(rendering, text, None)))[0]
        if row["overflow"]:
            return await self._list(position, walk=True)
        require_fresh(self.scope, row["epoch"], row["highest_class"])
        return row["listed"] or []

    async def _page(
        self,
        connection: asyncpg.Connection | None,
        position: Position | None,
        given: Given | None,
        following: Position | Listed | None,
        *,
        walk: bool = False,
    ) -> _Found:
        statement = await self._statement(position, given, walk=walk)
        rows = await self._fetch(connection, statement)
        first = rows[0]
        if first["overflow"]:
            return await self._page(connection, position, given, following, walk=True)
        require_fresh(self.scope, first["epoch"], first["highest_class"])
        found = self._read(rows, given, counted=statement.counted)
        if self.query.includes and not self.query.count_only:
            await self._follow(connection, found, cut_off=sum(row["place"] == 0 for row in rows) >= most(self.query))
        more = given.more if given is not None else not self.query.count_only and first["found"] > self.query.count
        if more:
            found.following = self._following(first, position, following, found)
        return found

    async def _statement(self, position: Position | None, given: Given | None, *, walk: bool) -> Statement:
        frequencies = await term_frequencies(self.store.hasher, self.store.keyed_search_pool)
        lead, in_sets = None, False
        if given is None or given.recounted:
            lead = await leading(self.scope.row_filter, self.query, self.store.keyed_search_pool)
        if (given is None or given.recounted) and lead is None:
            in_sets = await reach_in_sets(self.scope.row_filter, self.query, self.store.keyed_search_pool)

        def make() -> Statement:
            rendering = Rendering(
                self.scope.row_filter, self.store.hasher, walk_chains=walk, frequencies=frequencies, lead=lead
            )
            rendering.parameters.in_sets = in_sets
            if self.query.count_only and given is None:
                return _finished(rendering, count_statement(rendering, self.query), None)
            text = page_statement(rendering, self.query, position, given)
            counted = None if self.query.count_only else counted_on_page(rendering, self.query, position)
            return _finished(rendering, text, counted)

        if position is not None or given is not None or self.expanded:
            return make()
        made_of = (self.scope.row_filter, self.store.hasher, lead, walk, in_sets)
        return _statements.get(self.query, frequencies, made_of, make)

    async def _fetch(self, connection: asyncpg.Connection | None, statement: Statement) -> list[asyncpg.Record]:
        """Run a statement on the connection of the snapshot, else on one that plans as the statement needs."""
        if connection is not None:
            return list(await connection.fetch(statement.text, *statement.values))
        pool = self.store.keyed_search_pool if statement.plan_holds else self.store.search_pool
        async with pool.acquire() as free:
            return list(await free.fetch(statement.text, *statement.values))

    def _read(self, rows: list[asyncpg.Record], given: Given | None, *, counted: int | None) -> _Found:
        first = rows[0]
        matches = sorted((row for row in rows if row["place"]), key=itemgetter("place"))
        found = _Found([_version(row) for row in matches], [], first["total"], None)
        found.includes = _distinct(found.matches, (_version(row) for row in rows if row["place"] == 0))
        if given is not None:
            found.total = first["total"] if given.recounted else given.total
        elif counted is not None and first["found"] < counted:
            found.total = first["found"]
        return found

    def _following(
        self, first: asyncpg.Record, position: Position | None, following: Position | Listed | None, found: _Found
    ) -> Position | Listed:
        started = position.started_us if position is not None else self.at_us
        snapshot = position.snapshot if position is not None else first.get("snapshot", "")
        if isinstance(following, Listed):
            return replace(following, started_us=following.started_us or started)
        if following is not None:
            return replace(following, started_us=started, snapshot=snapshot)
        if listed := first.get("listed"):
            return Listed(tuple(listed), b"", 0, started, large=False)
        last = found.matches[-1]
        own = {"_lastUpdated": last.last_updated_us, "_id": last.resource_id}
        values = tuple(
            own[key.code] if key.code in own else first[f"s{number}"] for number, key in enumerate(keys_of(self.query))
        )
        unlisted = position is not None and position.unlisted
        return Position(values, last.key, started, snapshot, found.total is None, unlisted)

    async def _follow(self, connection: asyncpg.Connection | None, found: _Found, *, cut_off: bool) -> None:
        """Include what the statement of the page did not find, and cut off what is too much."""
        if follows(self.query):
            following = Following(self.query, self.store.extractor, {match.key for match in found.matches})
            step = following.first(found.matches, found.includes)
            while step is not None:
                rendering = Rendering(self.scope.row_filter, self.store.hasher)
                statement = _finished(rendering, keys_statement(rendering, step.keys, step.terms, step.most), None)
                rows = await self._fetch(connection, statement)
                require_fresh(self.scope, rows[0]["epoch"], rows[0]["highest_class"])
                step = following.after(step, [_version(row) for row in rows if row["place"] is not None])
            cut_off = cut_off or following.cut_off
            found.includes = _distinct(found.matches, following.found)
        if cut_off or len(found.includes) > limits.INCLUDED_ROWS:
            found.includes = found.includes[: limits.INCLUDED_ROWS]
            found.issues = (CUT_OFF,)


def _holders(shown: Iterable[StoredVersion]) -> set[int]:
    return {holder for one in shown if one.holder for holder in (one.holder, *one.others)}


def _distinct(matches: list[StoredVersion], rows: Iterable[StoredVersion]) -> list[StoredVersion]:
    """Included rows that are no matches, once each, in an order in which rows that are hidden have no part."""
    seen = {match.key for match in matches}
    kept = []
    for row in rows:
        if row.key not in seen:
            seen.add(row.key)
            kept.append(row)
    return sorted(kept, key=lambda row: (row.resource_type, row.resource_id))


def _finished(rendering: Rendering, text: str, counted: int | None) -> Statement:
    return Statement(text, tuple(rendering.parameters.values), rendering.plan_holds, counted)


def _version(row: Any) -> StoredVersion:
    key, number, resource_id, version, last_updated, dictionary, body, holder, others, custodian, labels = row[_COLUMNS]
    return StoredVersion(
        type_name(number),
        resource_id,
        version,
        last_updated,
        deleted=False,
        body=None if body is None else open_body(body, dictionary),
        key=key,
        holder=holder,
        others=tuple(others or ()),
        custodian=custodian,
        labels=labels,
    )


def _shortened(query: SearchQuery, versions: list[StoredVersion], *, included: bool) -> list[StoredVersion]:
    elements = () if included else query.elements
    if not (elements or query.summary in ("true", "text", "data")):
        return versions
    return [
        version
        if version.body is None
        else replace(version, body=cut(version.body, version.resource_type, query.summary, elements))
        for version in versions
    ]
