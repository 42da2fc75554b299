"""The algebra of row predicates: what a ReadScope says about one clinical row, rendered to SQL.

Nodes are immutable. `consent` builds them; `ehr` renders them for *every* table alias that touches a clinical row
(`resource`, `resource_history`). A node may look only at columns that both tables share: key, type, holder, others,
custodian, labels, class, terms, at.
"""

from dataclasses import dataclass
from typing import Protocol


class Parameters:
    """Collects the values of one statement; each `add` returns its placeholder."""

    def __init__(self) -> None:
        """Start without values."""
        self.values: list[object] = []

    def add(self, value: object, sql_type: str) -> str:
        """Append a value and return its placeholder with a cast, such as `$3::bigint[]`."""
        self.values.append(value)
        return f"${len(self.values)}::{sql_type}"


class RowFilter(Protocol):
    """A predicate over one row."""

    def sql(self, alias: str, parameters: Parameters) -> str:
        """Render to a boolean SQL expression over the row alias; never null, always parenthesised or atomic."""


@dataclass(frozen=True, slots=True)
class Everything:
    """Every row (loader, internal readers)."""

    def sql(self, alias: str, parameters: Parameters) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a predicate that the scope linter recognises by its alias."""
        return f"({alias}.key is not null)"


@dataclass(frozen=True, slots=True)
class Nothing:
    """No row."""

    def sql(self, alias: str, parameters: Parameters) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a predicate that the scope linter recognises by its alias."""
        return f"({alias}.key is null)"


@dataclass(frozen=True, slots=True)
class TypeIn:
    """Rows of these resource types (`ehr.definitions.type_number`)."""

    types: frozenset[int]

    def sql(self, alias: str, parameters: Parameters) -> str:
        """Render to `type = any(...)`."""
        return f"({alias}.type = any({parameters.add(sorted(self.types), 'smallint[]')}))"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Rows that at least one of the filters admits."""

    filters: tuple[RowFilter, ...]

    def sql(self, alias: str, parameters: Parameters) -> str:
        """Render to a disjunction."""
        return "(" + " or ".join(f.sql(alias, parameters) for f in self.filters) + ")"


@dataclass(frozen=True, slots=True)
class AllOf:
    """Rows that all of the filters admit."""

    filters: tuple[RowFilter, ...]

    def sql(self, alias: str, parameters: Parameters) -> str:
        """Render to a conjunction."""
        return "(" + " and ".join(f.sql(alias, parameters) for f in self.filters) + ")"
