"""Queries and statements that were just made: work lists and dashboards ask the same again and again.

A query means the same each time it is read, but for `ap`, which measures from now. A statement is made of the query,
the caller's filter, the people who lead it and the statistics, and used again only where each is the same object.
What is remembered is short, so that long queries cannot fill the memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ehr.search.frequency import Frequencies
from ehr.search.query import SearchQuery

_MOST = 1024
_LONGEST = 1000


def _is_short(pairs: Sequence[tuple[str, str]]) -> bool:
    return sum(len(name) + len(value) for name, value in pairs) <= _LONGEST


def _measures_from_now(value: str) -> bool:
    return value.startswith("ap") or ",ap" in value or "$ap" in value or " ap " in value


class ParsedQueries:
    """Queries by their text."""

    def __init__(self) -> None:
        """Start without any."""
        self._known: dict[object, SearchQuery] = {}

    def get(
        self, pairs: Sequence[tuple[str, str]], others: tuple[object, ...], read: Callable[[], SearchQuery]
    ) -> SearchQuery:
        """The query of these pairs and of what else it is read with, read where it is not known."""
        if not _is_short(pairs) or any(_measures_from_now(value) for _, value in pairs):
            return read()
        key = (tuple(pairs), others)
        found = self._known.get(key)
        if found is None:
            found = read()
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = found
        return found


@dataclass(frozen=True, slots=True)
class Statement:
    """A finished statement of a first page or a count."""

    text: str
    values: Sequence[object]
    plan_holds: bool
    counted: int | None
    """Up to how many matches it reads on."""


class Statements:
    """Statements by the identity of what they are made of."""

    def __init__(self) -> None:
        """Start without any."""
        self._known: dict[tuple[int, ...], tuple[tuple[object, ...], Statement]] = {}

    def get(
        self, query: SearchQuery, frequencies: Frequencies, others: tuple[object, ...], make: Callable[[], Statement]
    ) -> Statement:
        """The statement of exactly these objects, made where it is not known."""
        if not _is_short(query.pairs):
            return make()
        made_of = (query, frequencies, *others)
        key = tuple(map(id, made_of))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            # what it is made of is kept, so that no other object takes its identity
            found = self._known[key] = (made_of, make())
        return found[1]
