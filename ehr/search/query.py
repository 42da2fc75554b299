"""A search as understood: criteria, order, page size, includes and result shape.

https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from ehr.errors import Issue

Prefix = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
PREFIXES: frozenset[str] = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})


@dataclass(frozen=True, slots=True)
class TokenValue:
    """A token: `code`, `system|code`, `|code` or `system|`, unescaped; for `:text` the words looked for."""

    text: str
    code: str = ""
    """The code alone, for `_id`."""


@dataclass(frozen=True, slots=True)
class StringValue:
    """A string as given and as the index compares it (no case, no accents, single spaces)."""

    text: str
    normalised: str
    characters: str = ""
    """Of a name in Chinese alone: its characters, simplified"""
    letters: str = ""
    """Of a name that may be pinyin: its letters without spaces and tones"""

    @property
    def asks_name(self) -> bool:
        """Whether names are compared as a whole too."""
        return bool(self.characters or self.letters)


@dataclass(frozen=True, slots=True)
class ReferenceValue:
    """Candidate local targets as (type, id); or a URL that is compared as it is."""

    targets: tuple[tuple[str, str], ...]
    uri: str | None = None


@dataclass(frozen=True, slots=True)
class DateValue:
    """A half-open range of instants [low_us, high_us), microseconds since 1970 UTC."""

    prefix: Prefix
    low_us: int
    high_us: int


@dataclass(frozen=True, slots=True)
class NumberValue:
    """A number and the half-open range [low, high) that its written precision implies."""

    prefix: Prefix
    value: Decimal
    low: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True)
class QuantityValue:
    """A number with an optional unit: `number|system|code`, `number||code` (code or unit) or `number`."""

    number: NumberValue
    """In base units where there is a dimension"""
    system: str | None
    code: str | None
    dimension: str | None = None
    """Of a unit of UCUM: what it can be compared with (`ehr.indexing.ucum`)"""


@dataclass(frozen=True, slots=True)
class UriValue:
    """A URI, compared exactly."""

    text: str


@dataclass(frozen=True, slots=True)
class NearValue:
    """A place in degrees and a distance from it in metres."""

    latitude: float
    longitude: float
    distance_m: float


@dataclass(frozen=True, slots=True)
class RowKeys:
    """Rows already found, by key: stands for a chained criterion that had to be compared in the bodies."""

    keys: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CodeSet:
    """What a value set, or the codes above or below a code, stand for: tokens as `TokenValue` has them."""

    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompositeValue:
    """The parts of a composite, all of which one element must meet; each is a criterion of one value."""

    parts: tuple["Criterion", ...]


Value = (
    TokenValue
    | StringValue
    | ReferenceValue
    | DateValue
    | NumberValue
    | QuantityValue
    | UriValue
    | RowKeys
    | CodeSet
    | CompositeValue
    | NearValue
)


@dataclass(frozen=True, slots=True)
class Criterion:
    """One parameter with its modifier and alternatives: matches where any of the values does."""

    resource_type: str
    code: str
    kind: str
    modifier: str | None
    values: tuple[Value, ...]
    missing: bool | None = None
    """For `:missing`: True looks for rows without, False for rows with the parameter."""
    whole: Literal["equals", "ends"] | None = None
    """For strings in `_filter`: what must hold of the whole string beside the criterion, whose rows are candidates."""


@dataclass(frozen=True, slots=True)
class Chain:
    """`code:type.inner=`: matches rows whose reference names a visible row that meets one of the alternatives."""

    resource_type: str
    code: str
    alternatives: tuple["Clause", ...]
    """One for each possible target type; its `resource_type` is that type."""


@dataclass(frozen=True, slots=True)
class Has:
    """`_has:source:code:inner=`: matches rows that a visible row of the source type names by `code`."""

    resource_type: str
    code: str
    inner: "Clause"
    """On the source type."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Clauses on the same row of which all (`and`) or some (`or`) hold, as `_filter` joins them."""

    resource_type: str
    operator: Literal["and", "or"]
    clauses: tuple["Clause", ...]


@dataclass(frozen=True, slots=True)
class Negated:
    """Rows that do not meet the clause."""

    resource_type: str
    clause: "Clause"


Clause = Criterion | Chain | Has | Joined | Negated


def criteria_of(clause: Clause) -> Iterator[Criterion]:
    """The criteria at the ends of a clause."""
    match clause:
        case Criterion():
            yield clause
        case Chain(alternatives=inner) | Joined(clauses=inner):
            for each in inner:
                yield from criteria_of(each)
        case Has(inner=below) | Negated(clause=below):
            yield from criteria_of(below)


def with_criteria(clause: Clause, change: Callable[[Criterion], Criterion]) -> Clause:
    """The clause with each of its criteria changed."""
    match clause:
        case Criterion():
            return change(clause)
        case Chain(alternatives=alternatives):
            return replace(clause, alternatives=tuple(with_criteria(each, change) for each in alternatives))
        case Joined(clauses=clauses):
            return replace(clause, clauses=tuple(with_criteria(each, change) for each in clauses))
        case Has(inner=inner):
            return replace(clause, inner=with_criteria(inner, change))
        case Negated(clause=negated):
            return replace(clause, clause=with_criteria(negated, change))


@dataclass(frozen=True, slots=True)
class SortKey:
    """One `_sort` key; rows without a value come last in both directions."""

    code: str
    kind: str
    descending: bool


@dataclass(frozen=True, slots=True)
class Include:
    """`_include` (from matches to targets) or `_revinclude` (from rows naming a match)."""

    source_type: str
    """A type, or `*` for each."""
    codes: tuple[str, ...]
    """Reference parameters of the source type; none for all of them."""
    target_types: frozenset[str] | None
    reverse: bool
    iterate: bool = False
    """Whether it is followed from included rows too."""


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A whole search on one resource type."""

    resource_type: str
    clauses: tuple[Clause, ...]
    sort: tuple[SortKey, ...] = ()
    count: int = 20
    includes: tuple[Include, ...] = ()
    summary: Literal["true", "text", "data", "count", "false"] | None = None
    elements: tuple[str, ...] = ()
    total: Literal["none", "estimate", "accurate"] | None = None
    pairs: Sequence[tuple[str, str]] = ()
    """The parameters that were understood, as given."""
    issues: tuple[Issue, ...] = ()
    """With lenient handling: what was dropped."""

    @property
    def count_only(self) -> bool:
        """Whether only the number of matches is asked for."""
        return self.summary == "count" or self.count == 0
