"""Searches that the index answers only in part: candidates are opened and compared, within a bound.

This serves `:contains`, strings longer than the indexed prefixes, and `_sort` by words. All statements of one such
search run in one snapshot.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from ehr.errors import TooCostly
from ehr.indexing import Extractor
from ehr.json_text import parse
from ehr.keys import TermHasher
from ehr.row_filter import RowFilter
from ehr.search import limits
from ehr.search.page import Listed, Position
from ehr.search.query import (
    Chain,
    Clause,
    Criterion,
    Has,
    Joined,
    Negated,
    RowKeys,
    SearchQuery,
    SortKey,
    criteria_of,
)
from ehr.search.recheck import meets
from ehr.search.rendering import Rendering
from ehr.search.sort import NEWEST_FIRST, by_words, compare_rows, comparing, keys_of, order_of, unmoved, values_at
from ehr.search.statement import Given, candidates_statement
from ehr.search.where import needs_opening
from ehr.search.words import words_of
from ehr.store.bodies import open_body

_CHUNK = 500
_REFUSAL = "Too many candidates to compare one by one; narrow the search, by a person, a code or a date"


@dataclass(slots=True)
class Opening:
    """One search that opens bodies, on one connection inside one snapshot."""

    connection: asyncpg.Connection
    row_filter: RowFilter
    hasher: TermHasher
    extractor: Extractor
    opened: int = 0
    """Bodies opened so far; at most `limits.OPENED`."""

    async def page(self, query: SearchQuery, position: Position | None) -> tuple[Given, Position | Listed | None]:
        """Find one page and what follows it."""
        query = await self.resolved(query)
        keys = keys_of(query)
        exact = query.total == "accurate" or query.count_only
        counting = exact or (query.total != "none" and not (position is not None and position.large))
        needed = None if counting or any(by_words(key) for key in keys) else query.count + 1
        rows = await self._matches(query, keys, needed, position)
        total = len(rows) if counting and (exact or len(rows) < limits.COUNTED) else None
        if query.count_only:
            return Given([], total, more=False), None
        if position is not None:
            place = (values_at(keys, position), position.key)
            rows = [row for row in rows if row.unmoved and compare_rows(keys, place, (row.values, row.key)) < 0]
        shown, more = rows[: query.count], len(rows) > query.count
        following: Position | Listed | None = None
        if more and needed is None:
            following = Listed(tuple(row.key for row in rows[query.count :]), b"", 0, 0, counting and total is None)
        elif more and shown:
            last = shown[-1]
            following = Position(last.values, last.key, 0, "", counting and total is None, unlisted=True)
        return Given([row.key for row in shown], total, more), following

    async def total(self, query: SearchQuery) -> int | None:
        """The number of matches: exact, or below the bound up to which they are counted."""
        rows = await self._matches(await self.resolved(query), (NEWEST_FIRST,), None, None)
        return len(rows) if query.total == "accurate" or len(rows) < limits.COUNTED else None

    async def resolved(self, query: SearchQuery) -> SearchQuery:
        """Replace chained criteria that must be compared in bodies by the keys of the rows that meet them."""
        return replace(query, clauses=tuple([await self._resolved(clause) for clause in query.clauses]))

    async def _resolved(self, clause: Clause) -> Clause:
        match clause:
            case Chain(alternatives=alternatives):
                return replace(clause, alternatives=tuple([await self._found(inner) for inner in alternatives]))
            case Has(inner=inner):
                return replace(clause, inner=await self._found(inner))
            case Joined(clauses=clauses):
                return replace(clause, clauses=tuple([await self._found(inner) for inner in clauses]))
            case Negated(clause=negated):
                return replace(clause, clause=await self._found(negated))
        return clause

    async def _found(self, inner: Clause) -> Clause:
        """A clause below another one, with rows in the place of criteria that must be compared in bodies."""
        if not isinstance(inner, Criterion):
            return await self._resolved(inner)
        if not needs_opening(inner):
            return inner
        query = SearchQuery(inner.resource_type, (inner,))
        rows = await self._matches(query, (NEWEST_FIRST,), limits.RESOLVED_KEYS + 1, None)
        if len(rows) > limits.RESOLVED_KEYS:
            raise TooCostly(_REFUSAL)
        return Criterion(inner.resource_type, inner.code, "key", None, (RowKeys(tuple(row.key for row in rows)),))

    async def keys(self, query: SearchQuery, limit: int) -> list[int]:
        """At most `limit` keys of matching rows."""
        rows = await self._matches(await self.resolved(query), (NEWEST_FIRST,), limit, None)
        return [row.key for row in rows]

    async def _matches(
        self, query: SearchQuery, keys: Sequence[SortKey], needed: int | None, position: Position | None
    ) -> list["_Row"]:
        """Matching rows in order; all of them where `needed` is None, else at most that many behind the position."""
        checks = [clause for clause in query.clauses if isinstance(clause, Criterion) and needs_opening(clause)]
        in_database = tuple(key for key in keys if not by_words(key)) or (NEWEST_FIRST,)
        words = any(by_words(key) for key in keys)
        if words and not checks and not self.opened:
            await self._refuse_large(query)
        found: list[_Row] = []
        after = position if needed is not None else None
        while needed is None or len(found) < needed:
            limit = limits.OPENED - self.opened + 1 if words else _CHUNK
            rows = await self._candidates(query, in_database, after, position, limit)
            self.opened += len(rows)
            if self.opened > limits.OPENED:
                raise TooCostly(_REFUSAL)
            found += self._compare(query, keys, in_database, checks, rows)
            if len(rows) < limit:
                break
            last = rows[-1]
            after = Position(tuple(last[f"s{n}"] for n in range(len(in_database))), last["key"], 0, "", large=False)
        if words:
            found.sort(key=lambda row: comparing(keys)((row.values, row.key)))
        return found if needed is None else found[:needed]

    async def _refuse_large(self, query: SearchQuery) -> None:
        """Refuse to open bodies for an order by words before any is opened, where there are too many."""
        rendering = self._rendering()
        order = order_of(rendering, "r", (NEWEST_FIRST,), query.resource_type)
        text = candidates_statement(rendering, query, order, None, limit=limits.OPENED + 1)
        values = rendering.parameters.values
        number = await self.connection.fetchval(f"select count(*) from ({text}) as candidates", *values)
        if number > limits.OPENED:
            raise TooCostly(f"_sort by words needs at most {limits.OPENED} matches; narrow the search")

    async def _candidates(
        self,
        query: SearchQuery,
        in_database: tuple[SortKey, ...],
        after: Position | None,
        first: Position | None,
        limit: int,
    ) -> list[asyncpg.Record]:
        rendering = self._rendering()
        order = order_of(rendering, "r", in_database, query.resource_type)
        moved = f", {unmoved(rendering, 'r', first)} as unmoved" if first is not None and first.snapshot else ""
        text = candidates_statement(rendering, query, order, after, limit=limit, more_columns=moved)
        rows: list[asyncpg.Record] = await self.connection.fetch(text, *rendering.parameters.values)
        return rows

    def _rendering(self) -> Rendering:
        return Rendering(self.row_filter, self.hasher, walk_chains=True)

    def _compare(
        self,
        query: SearchQuery,
        keys: Sequence[SortKey],
        in_database: Sequence[SortKey],
        checks: Iterable[Criterion],
        rows: Iterable[asyncpg.Record],
    ) -> Iterable["_Row"]:
        columns = {key: f"s{number}" for number, key in enumerate(in_database)}
        for row in rows:
            resource = parse(open_body(row["body"], row["dictionary"]))
            if all(meets(self.extractor, check, resource) for check in checks):
                values = tuple(
                    words_of(self.extractor, query.resource_type, key, resource) if by_words(key) else row[columns[key]]
                    for key in keys
                )
                yield _Row(row["key"], values, bool(row.get("unmoved", True)))


@dataclass(frozen=True, slots=True)
class _Row:
    key: int
    values: tuple[Any, ...]
    unmoved: bool


def must_open(query: SearchQuery) -> bool:
    """Whether the index alone does not answer this query."""
    if any(needs_opening(criterion) for clause in query.clauses for criterion in criteria_of(clause)):
        return True
    return any(by_words(key) for key in query.sort) and not query.count_only
