"""Includes beyond what the statement of a page finds: https://hl7.org/fhir/R4/search.html#include.

References that only the bodies tell, `_revinclude=*`, and what `:iterate` follows from included rows. Each step is one
statement; nothing is asked for twice, so that circles end. Where a bound is reached the rest is left out and said so.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ehr.definitions import RESOURCE_TYPES
from ehr.errors import Issue
from ehr.indexing import Extractor
from ehr.json_text import parse
from ehr.keys import row_key
from ehr.search import limits
from ehr.search.controls import NOT_ROWS, followed
from ehr.search.include import in_page
from ehr.search.query import Include, SearchQuery
from ehr.store.operations import StoredVersion

CUT_OFF = Issue(
    "warning",
    "too-costly",
    f"Included resources are cut off: at most {limits.INCLUDED_ROWS} on a page, found in {limits.INCLUDE_STEPS}"
    " steps; ask for fewer matches with _count, or follow fewer references.",
)


def follows(query: SearchQuery) -> bool:
    """Whether included rows are found by more than the statement of the page."""
    return any(one.iterate or not in_page(query, one) for one in query.includes)


@dataclass(frozen=True, slots=True)
class Step:
    """What one statement fetches."""

    keys: list[int]
    """Rows that are named."""
    terms: list[int]
    """References, whose rows are those that name something."""
    most: int
    """How many of those are fetched; so many mean that there may be more."""


@dataclass(slots=True)
class Following:
    """The included rows of one page in the making."""

    query: SearchQuery
    extractor: Extractor
    shown: set[int]
    """Keys of rows that are there already."""
    found: list[StoredVersion] = field(default_factory=list)
    cut_off: bool = False
    _keys: set[int] = field(default_factory=set)
    _terms: set[int] = field(default_factory=set)
    _waiting: list[int] = field(default_factory=list)
    """References that the next steps look for."""
    _salts: dict[tuple[Include, str], list[int]] = field(default_factory=dict)
    _steps: int = 0

    def first(self, matches: Iterable[StoredVersion], included: Iterable[StoredVersion]) -> Step | None:
        """The step behind the statement of the page."""
        included = list(included)
        self.found = included
        self.shown.update(one.key for one in included)
        of_matches = [one for one in self.query.includes if not in_page(self.query, one)]
        return self._step([(matches, of_matches), (included, self._iterating())])

    def after(self, step: Step, rows: Iterable[StoredVersion]) -> Step | None:
        """Take the rows of a step; the next one, or None at the end."""
        new, number = [], 0
        for row in rows:
            number += 1
            if row.key not in self.shown:
                self.shown.add(row.key)
                new.append(row)
        self.found += new
        self._steps += 1
        if len(self.found) > limits.INCLUDED_ROWS or number >= step.most:
            self.cut_off = True
            return None
        following = self._step([(new, self._iterating())])
        if following is not None and self._steps >= limits.INCLUDE_STEPS:
            self.cut_off = True
            return None
        return following

    def _iterating(self) -> list[Include]:
        return [one for one in self.query.includes if one.iterate]

    def _step(self, asked: Iterable[tuple[Iterable[StoredVersion], list[Include]]]) -> Step | None:
        keys: set[int] = set()
        for rows, includes in asked:
            for row in rows:
                keys |= self._named(row, [one for one in includes if not one.reverse])
                if len(self._waiting) > limits.INCLUDE_STEPS * limits.INCLUDE_TERMS:
                    self.cut_off = True
                    continue
                new = [term for term in self._naming(row, includes) if term not in self._terms]
                self._terms.update(new)
                self._waiting += new
        keys -= self._keys | self.shown
        self._keys |= keys
        if len(keys) > limits.INCLUDED_ROWS:
            self.cut_off = True
        terms, self._waiting = self._waiting[: limits.INCLUDE_TERMS], self._waiting[limits.INCLUDE_TERMS :]
        most = limits.INCLUDED_ROWS + len(self.shown) + 1
        return Step(sorted(keys)[: limits.INCLUDED_ROWS], terms, most) if keys or terms else None

    def _named(self, row: StoredVersion, includes: list[Include]) -> set[int]:
        """The targets of a row's references."""
        wanted = [one for one in includes if one.source_type in ("*", row.resource_type)]
        if not wanted or row.body is None:
            return set()
        references = self.extractor.reference_values(row.resource_type, parse(row.body))
        return set(_targets(references, wanted))

    def _naming(self, row: StoredVersion, includes: list[Include]) -> list[int]:
        """The terms of references to a row."""
        reverse = [one for one in includes if one.reverse]
        return [row.key ^ salt for one in reverse for salt in self._salts_of(one, row.resource_type)]

    def _salts_of(self, one: Include, target: str) -> list[int]:
        """What makes a term of a target's key, for each reference parameter that may name the target."""
        place = (one, target)
        if place not in self._salts:
            sources = RESOURCE_TYPES if one.source_type == "*" else (one.source_type,)
            if one.target_types is not None and target not in one.target_types:
                sources = ()
            self._salts[place] = [
                self.extractor.hasher.reference_salt(source, code)
                for source in sources
                if source not in NOT_ROWS
                for code in followed(source, target)
                if not one.codes or code in one.codes
            ]
        return self._salts[place]


def _targets(references: Mapping[str, list[tuple[str, str]]], wanted: list[Include]) -> Iterator[int]:
    for one in wanted:
        for code in one.codes or references:
            for target_type, target_id in references.get(code, ()):
                if one.target_types is None or target_type in one.target_types:
                    yield row_key(target_type, target_id)
