"""Conditional references of a transaction among the rows that the transaction itself writes.

They are resolved after its deletions, creations and updates (https://hl7.org/fhir/R4/http.html#trules): what is deleted
is no target any more, what is created or updated is one by its new content. That content lies in no index yet, so it is
compared here, by criteria that index terms answer: tokens, addresses, references, exact strings, `_id` (SC-37).
"""

from collections.abc import Sequence

from ehr import json_text
from ehr.bundle_entries import BundleEntry
from ehr.errors import KanglianError
from ehr.indexing import Extractor
from ehr.row_filter import EVERYTHING
from ehr.search import SearchQuery
from ehr.search.query import Clause, Criterion, TokenValue
from ehr.search.rendering import Rendering
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
        self._written: dict[tuple[str, str], bytes] = {}
        for each, operation in zip(writes, operations, strict=True):
            matched = operation.expected_id or None
            address = (each.resource_type, matched or operation.resource_id or "")
            if operation.method == "delete":
                self._deleted.add(address)
            elif each.resource is not None and not (operation.method == "create" and matched):
                self._written[address] = each.resource
        self._terms: dict[tuple[str, str], frozenset[int]] = {}

    def targets(self, query: SearchQuery, stored: Sequence[str]) -> list[str]:
        """The ids that meet the criteria once the transaction is done; `stored` are those that did before it."""
        kind = query.resource_type
        found = [each for each in stored if (kind, each) not in self._deleted and (kind, each) not in self._written]
        found += [address[1] for address in self._written if address[0] == kind and self._meets(address, query.clauses)]
        return found

    def _meets(self, address: tuple[str, str], clauses: Sequence[Clause]) -> bool:
        return all(isinstance(clause, Criterion) and self._meets_one(address, clause) for clause in clauses)

    def _meets_one(self, address: tuple[str, str], criterion: Criterion) -> bool:
        if criterion.code == "_id":
            named = any(value.code == address[1] for value in criterion.values if isinstance(value, TokenValue))
            return named != (criterion.modifier == "not")
        if needs_opening(criterion):
            return False
        terms = self._terms_of(address)
        conditions = criterion_conditions(Rendering(EVERYTHING, self._extractor.hasher), "r", criterion)
        by_terms = [each for each in conditions if each.sql is None]
        if not by_terms or any(each.sql is not None and not each.keyed for each in conditions):
            return False
        return all(terms.isdisjoint(each.terms) == each.negated for each in by_terms)

    def _terms_of(self, address: tuple[str, str]) -> frozenset[int]:
        if address not in self._terms:
            try:
                resource = json_text.parse(self._written[address])
                self._terms[address] = frozenset(self._extractor.entries(address[0], resource).terms)
            except _UNCHECKED:
                self._terms[address] = frozenset()
        return self._terms[address]
