"""The algebra of row predicates: what a ReadScope says about one clinical row, rendered to SQL.

Nodes are immutable. `consent` builds them; `ehr` renders them for *every* table alias that touches a clinical row
(`resource`, `resource_history`). A node may look only at columns that both tables share: key, type, holder, others,
custodian, labels, class, terms, at. The text depends only on the form of the tree (all values are parameters), so
callers of the same form share prepared statements. Nodes about the person behind a row are in `ehr.person_filter`.
"""

from dataclasses import dataclass
from typing import Protocol, cast


class Parameters:
    """Collects the values of one statement; each `add` returns its placeholder."""

    def __init__(self) -> None:
        """Start without values."""
        self.values: list[object] = []
        self.in_sets = False
        """Whether many rows are looked at, so that whom an organisation reaches is read once rather than row by row."""
        self._shared: dict[tuple[int, str], tuple[object, str]] = {}

    def add(self, value: object, sql_type: str) -> str:
        """Append a value and return its placeholder with a cast, such as `$3::bigint[]`."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"

    def shared(self, owner: object, name: str, value: object, sql_type: str) -> str:
        """As `add`, but one placeholder for all renderings of the same node (aliases, persons of one row)."""
        known = self._shared.get((id(owner), name))
        if known is None:
            # the owner is kept, so that its id is not given away while the statement is being built
            known = self._shared[id(owner), name] = (owner, self.add(value, sql_type))
        return known[1]


@dataclass(frozen=True, slots=True)
class PersonColumns:
    """SQL expressions for the person behind the row in the place where a node is rendered."""

    person: str
    consent_class: str
    holder: str | None = None
    """The holder of the row, where the place is the row itself."""
    known: tuple[tuple[object, str], ...] = ()
    """Nodes that the place answers itself, with the column of the answer."""

    def answer_to(self, node: object) -> str | None:
        """The column that holds what the node would ask for."""
        return next((column for known, column in self.known if known == node), None)


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The same facts in Python: what `explain` and tests hold a predicate against."""

    type: int
    custodian: int
    labels: int = 0
    terms: frozenset[int] = frozenset()
    at: int | None = None
    consent_class: int = 0
    reached_by: frozenset[int] = frozenset()
    emergency_for: frozenset[str] = frozenset()


class RowFilter(Protocol):
    """A predicate over one row."""

    def sql(self, alias: str, parameters: Parameters) -> str:
        """Render to a boolean SQL expression over the row alias; never null, always parenthesised or atomic."""


class RowRule(RowFilter, Protocol):
    """A predicate that can also stand inside a look-up of the row's person, and be held against facts in Python."""

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render, with the columns of the person where the place knows them."""

    def holds(self, row: RowFacts) -> bool:
        """Tell whether the row is admitted."""


def _rendered(of: RowFilter, alias: str, parameters: Parameters, person: PersonColumns | None) -> str:
    return of.sql(alias, parameters) if person is None else cast("RowRule", of).sql(alias, parameters, person)


def _holds(of: RowFilter, row: RowFacts) -> bool:
    return cast("RowRule", of).holds(row)


@dataclass(frozen=True, slots=True)
class Everything:
    """Every row (loader, internal readers)."""

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a predicate that the scope linter recognises by its alias."""
        return f"({alias}.key is not null)"

    def holds(self, row: RowFacts) -> bool:  # noqa: ARG002 - the protocol's signature
        """Admit."""
        return True


@dataclass(frozen=True, slots=True)
class Nothing:
    """No row."""

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a predicate that the scope linter recognises by its alias."""
        return f"({alias}.key is null)"

    def holds(self, row: RowFacts) -> bool:  # noqa: ARG002 - the protocol's signature
        """Refuse."""
        return False


EVERYTHING = Everything()
NOTHING = Nothing()


@dataclass(frozen=True, slots=True)
class TypeIn:
    """Rows of these resource types (`ehr.definitions.type_number`)."""

    types: frozenset[int]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to `type = any(...)`."""
        return f"({alias}.type = any({parameters.shared(self, 'types', sorted(self.types), 'smallint[]')}))"

    def holds(self, row: RowFacts) -> bool:
        """Compare the type."""
        return row.type in self.types


@dataclass(frozen=True, slots=True)
class TermsOverlap:
    """Rows with at least one of these index terms."""

    terms: frozenset[int]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to `terms && ...`."""
        return f"({alias}.terms && {parameters.shared(self, 'terms', sorted(self.terms), 'bigint[]')})"

    def holds(self, row: RowFacts) -> bool:
        """Intersect the terms."""
        return not self.terms.isdisjoint(row.terms)


@dataclass(frozen=True, slots=True)
class LabelsAny:
    """Rows that carry at least one bit of the mask."""

    mask: int

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a test that the planner estimates well: most rows carry no label."""
        return f"({alias}.labels <> 0 and {alias}.labels & {parameters.shared(self, 'mask', self.mask, 'bigint')} <> 0)"

    def holds(self, row: RowFacts) -> bool:
        """Test the bits."""
        return bool(row.labels & self.mask)


@dataclass(frozen=True, slots=True)
class LabelsNone:
    """Rows that carry no bit of the mask."""

    mask: int

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to the form that does not wreck plans (DESIGN 4.1)."""
        return f"({alias}.labels = 0 or {alias}.labels & {parameters.shared(self, 'mask', self.mask, 'bigint')} = 0)"

    def holds(self, row: RowFacts) -> bool:
        """Test the bits."""
        return not row.labels & self.mask


@dataclass(frozen=True, slots=True)
class AtWithin:
    """Rows whose main clinical date lies in [low, high) microseconds; `undated` says what a row without one is."""

    low: int
    high: int
    undated: bool

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a range test that is never null."""
        low = parameters.shared(self, "low", self.low, "bigint")
        high = parameters.shared(self, "high", self.high, "bigint")
        return f"(coalesce({alias}.at >= {low} and {alias}.at < {high}, {str(self.undated).lower()}))"

    def holds(self, row: RowFacts) -> bool:
        """Compare the date."""
        return self.undated if row.at is None else self.low <= row.at < self.high


@dataclass(frozen=True, slots=True)
class CustodianIn:
    """Rows kept by one of these organisations (`ehr.keys.organisation_key`)."""

    custodians: frozenset[int]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to `custodian = any(...)`."""
        custodians = parameters.shared(self, "custodians", sorted(self.custodians), "bigint[]")
        return f"({alias}.custodian = any({custodians}))"

    def holds(self, row: RowFacts) -> bool:
        """Compare the custodian."""
        return row.custodian in self.custodians


@dataclass(frozen=True, slots=True)
class AboutNobody:
    """Rows without a resolvable person."""

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to `holder = 0`."""
        return f"({alias}.holder = 0)"

    def holds(self, row: RowFacts) -> bool:  # noqa: ARG002 - the protocol's signature
        """Facts in Python are always about a person."""
        return False


@dataclass(frozen=True, slots=True)
class Not:
    """Rows that the filter does not admit."""

    filter: RowFilter

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to a negation."""
        return f"(not {_rendered(self.filter, alias, parameters, person)})"

    def holds(self, row: RowFacts) -> bool:
        """Negate."""
        return not _holds(self.filter, row)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Rows that at least one of the filters admits."""

    filters: tuple[RowFilter, ...]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to a disjunction; without filters no row."""
        if not self.filters:
            return NOTHING.sql(alias, parameters)
        return "(" + " or ".join(_rendered(f, alias, parameters, person) for f in self.filters) + ")"

    def holds(self, row: RowFacts) -> bool:
        """Ask each."""
        return any(_holds(f, row) for f in self.filters)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Rows that all of the filters admit."""

    filters: tuple[RowFilter, ...]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to a conjunction; without filters every row."""
        if not self.filters:
            return EVERYTHING.sql(alias, parameters)
        return "(" + " and ".join(_rendered(f, alias, parameters, person) for f in self.filters) + ")"

    def holds(self, row: RowFacts) -> bool:
        """Ask each."""
        return all(_holds(f, row) for f in self.filters)


def any_of(*filters: RowRule) -> RowRule:
    """The disjunction, without needless nodes."""
    kept = tuple(dict.fromkeys(f for f in filters if f != NOTHING))
    if EVERYTHING in kept:
        return EVERYTHING
    return (AnyOf(kept) if len(kept) > 1 else kept[0]) if kept else NOTHING


def all_of(*filters: RowRule) -> RowRule:
    """The conjunction, without needless nodes."""
    kept = tuple(dict.fromkeys(f for f in filters if f != EVERYTHING))
    if NOTHING in kept:
        return NOTHING
    return (AllOf(kept) if len(kept) > 1 else kept[0]) if kept else EVERYTHING


def negation(of: RowRule) -> RowRule:
    """The complement, without double negation."""
    if isinstance(of, Not):
        return cast("RowRule", of.filter)
    if of == EVERYTHING:
        return NOTHING
    return EVERYTHING if of == NOTHING else Not(of)
