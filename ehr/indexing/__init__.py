"""Index entries of a resource: what the search parameters of R4 extract from it."""

from dataclasses import dataclass, field
from decimal import Decimal


@dataclass(slots=True)
class IndexEntries:
    """The values that one resource contributes to the index; see `ehr.keys.TermHasher` for terms.

    Instants are microseconds since 1970 UTC, ranges half open [low, high). A missing bound is `MIN_INSTANT` /
    `MAX_INSTANT`. `parameter` is `ehr.keys.parameter_number`.
    """

    terms: list[int] = field(default_factory=list)
    dates: list[tuple[int, int, int]] = field(default_factory=list)
    """(parameter, low_us, high_us)"""
    numbers: list[tuple[int, Decimal, Decimal]] = field(default_factory=list)
    """(parameter, low, high): the range that the written precision implies"""
    quantities: list[tuple[int, int, int, int, Decimal, Decimal]] = field(default_factory=list)
    """(parameter, hash of system|code or 0, hash of code or 0, hash of unit or 0, low, high)"""
    code: int = 0
    """Term of the type's main code (Observation.code: first coding, kind token, "system|code"); 0 = none."""
    at: int | None = None
    """Low end of the type's main clinical date (Observation.effective and its like)."""


MIN_INSTANT = -(2**62)
MAX_INSTANT = 2**62
