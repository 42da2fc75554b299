"""Conditional references of a transaction among the rows that the transaction itself writes.

They are resolved after its deletions, creations and updates (https://hl7.org/fhir/R4/http.html#trules): what is deleted
is no target any more, what is created or updated is one by its new content. That content lies in no index yet, so it is
compared here, by criteria that index terms answer: tokens, addresses, references, exact strings, `_id` (SC-37).
"""

from collections.abc import Collection, Sequence

from ehr import json_text
from ehr.bundle_entries import BundleEntry
from ehr.errors import KanglianError
from ehr.indexing import Extractor
from ehr.row_filter import EVERYTHING
from ehr.search import SearchQuery
from ehr.search.query import Clause, Criterion, TokenValue
from ehr.search.rendering import Condition, Rendering
from ehr.search.where import criterion_conditions, needs_opening
from ehr.store.operations import WriteOperation

_UNCHECKED = (KanglianError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What indexing an invalid resource may raise; it is refused with its reasons when it is written."""


class WrittenRows:
    """What a transaction deletes and writes, as far as conditional references ask for it."""

    def __init__(
        self, extractor: Extractor, writes: Sequence[BundleEntry], operations: Sequence[WriteOperation]
    ) -> None:
        """Take the entries and what they became, matches of their own conditions noted."""
        self._extractor = extractor
        self._deleted: set[tuple[str, str]] = set()
        self._written: dict[str, dict[str, bytes]] = {}
        """By type and id; a Bundle of thousands of rows refers to few types by criteria."""
        for each, operation in zip(writes, operations, strict=True):
            matched = operation.expected_id or None
            resource_id = matched or operation.resource_id or ""
            if operation.method == "delete":
                self._deleted.add((each.resource_type, resource_id))
            elif each.resource is not None and not (operation.method == "create" and matched):
                self._written.setdefault(each.resource_type, {})[resource_id] = each.resource
        self._indexes: dict[str, tuple[dict[str, frozenset[int]], dict[int, list[str]]]] = {}

    def targets(self, query: SearchQuery, stored: Sequence[str]) -> list[str]:
        """The ids that meet the criteria once the transaction is done; `stored` are those that did before it."""
        kind = query.resource_type
        written = self._written.get(kind, {})
        found = [each for each in stored if (kind, each) not in self._deleted and each not in written]
        return found + (self._meeting(kind, query.clauses) if written else [])

    def _meeting(self, kind: str, clauses: Sequence[Clause]) -> list[str]:
        """The written rows that meet every clause; none where one cannot be answered here."""
        terms_of, rows_of = self._index(kind)
        wanted: list[Condition] = []
        found: list[Collection[str]] = []
        for clause in clauses:
            if not isinstance(clause, Criterion) or needs_opening(clause):
                return []
            if clause.code == "_id" and clause.modifier is None:
                found.append({value.code for value in clause.values if isinstance(value, TokenValue)} & terms_of.keys())
                continue
            conditions = criterion_conditions(Rendering(EVERYTHING, self._extractor.hasher), "r", clause)
            by_terms = [each for each in conditions if each.sql is None]
            if not by_terms or any(each.sql is not None and not each.keyed for each in conditions):
                return []
            wanted += by_terms
            found += [
                {row for term in each.terms for row in rows_of.get(term, ())} for each in by_terms if not each.negated
            ]
        candidates = min(found, key=len, default=())
        return [
            row
            for row in candidates
            if all(row in others for others in found)
            and all(terms_of[row].isdisjoint(each.terms) == each.negated for each in wanted)
        ]

    def _index(self, kind: str) -> tuple[dict[str, frozenset[int]], dict[int, list[str]]]:
        """The terms of the written rows of a type, and the rows of each term."""
        if kind not in self._indexes:
            terms_of = {row: self._terms(kind, body) for row, body in self._written[kind].items()}
            rows_of: dict[int, list[str]] = {}
            for row, terms in terms_of.items():
                for term in terms:
                    rows_of.setdefault(term, []).append(row)
            self._indexes[kind] = (terms_of, rows_of)
        return self._indexes[kind]

    def _terms(self, kind: str, body: bytes) -> frozenset[int]:
        try:
            entries = self._extractor.entries(kind, json_text.parse(body))
            return entries.present.union(entries.terms)
        except _UNCHECKED:
            return frozenset()
