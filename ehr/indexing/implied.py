"""Terms that others imply: a row stores one of them, and the table `implied_term` says once what it is found by, too.

For which parameters a resource has values ("present", nine terms a resource of Synthea) is stored as one term for the
whole set, of which there are few. The beginnings of a token's text are stored as the longest, which implies the others.
Rows written before have all of them; whoever asks for a term asks for those that imply it as well
(`ehr.search.rendering.Condition.implied`).
"""

from collections.abc import Collection, Iterable

from ehr.keys import TermHasher

_KNOWN_SETS = 10_000
"""Sets of parameters that a type remembers (about 1 kB each)."""


class Implied:
    """What terms imply, until it is written."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.unwritten: dict[tuple[int, int], None] = {}
        """(implied term, stored term), to be durable before the first row that has the stored term"""

    def note(self, stored: int, implied: Iterable[int]) -> None:
        """Remember that rows with the term `stored` are found by `implied`, too."""
        self.unwritten |= dict.fromkeys((each, stored) for each in implied)

    def written(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Forget what the database holds durably now."""
        for pair in pairs:
            self.unwritten.pop(pair, None)


class NothingStored(Implied):
    """What a search reads from opened rows is not stored, and implies nothing that is to be written."""

    def note(self, stored: int, implied: Iterable[int]) -> None:
        """Remember nothing."""


class PresentParameters:
    """Makes one term of the "present" terms of a resource."""

    def __init__(self, hasher: TermHasher, resource_type: str, codes: Iterable[str], implied: Implied) -> None:
        """Take the indexed parameters of a type, and where to note what the terms of sets imply."""
        self._hasher = hasher
        self._type = resource_type
        self._terms = frozenset(hasher.term(resource_type, code, "present", "") for code in codes)
        self._implied = implied
        self._known: dict[frozenset[int], int] = {}

    def shortened(self, terms: Collection[int]) -> tuple[list[int], frozenset[int]]:
        """The terms that a row stores for these, each once, and those of parameters with values among them."""
        found = set(terms)
        present = self._terms & found
        if len(present) > 1:
            stored = self._known.get(present)
            if stored is None:
                stored = self._stored(present)
            found -= present
            found.add(stored)
        return list(found), present

    def _stored(self, present: frozenset[int]) -> int:
        if len(self._known) >= _KNOWN_SETS:
            self._known.clear()
        stored = self._hasher.term(self._type, "", "present", ",".join(map(str, sorted(present))))
        self._known[present] = stored
        self._implied.note(stored, present)
        return stored
