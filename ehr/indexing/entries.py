"""What a resource contributes to the index."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(slots=True)
class IndexEntries:
    """The values that one resource contributes to the index; see `ehr.keys.TermHasher` for terms.

    Instants are microseconds since 1970 UTC, ranges half open [low, high). A missing bound is `MIN_INSTANT` /
    `MAX_INSTANT`, of numbers Decimal("-Infinity") / Decimal("Infinity"). `parameter` is `ehr.keys.parameter_number`.
    """

    terms: list[int] = field(default_factory=list)
    """As a row stores them: terms that others imply are not among them (`ehr.indexing.implied`)"""
    present: frozenset[int] = frozenset()
    """The terms "present" of all parameters for which there are values; `terms` has one for the set"""
    dates: list[tuple[int, int, int]] = field(default_factory=list)
    """(parameter, low_us, high_us)"""
    numbers: list[tuple[int, Decimal, Decimal]] = field(default_factory=list)
    """(parameter, low, high), both included: a number is the point low = high, a Range its two ends (SC-1)"""
    quantities: list[tuple[int, int, int, int, Decimal, Decimal]] = field(default_factory=list)
    """(parameter, term of "system|code", term of the code, term of the unit, low, high); 0 where absent, terms of kind
    "token", bounds as in `numbers`. One of UCUM stands in base units too: (canonical number, 0, term of kind "unit", 0,
    low, high)"""
    at: int | None = None
    """Low end of the type's main clinical date (`MAIN_DATE`); None where it is absent."""
    until: int | None = None
    """High end of the main date of a type in `ONE_DATE`, which then is not among `dates`; None elsewhere."""


MIN_INSTANT = -(2**62)
MAX_INSTANT = 2**62
