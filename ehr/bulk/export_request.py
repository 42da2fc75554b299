"""What an export is asked for, checked: types, times, filters, elements, people.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters
"""

from typing import Literal

import msgspec

Level = Literal["system", "patient", "group"]


class TypeFilter(msgspec.Struct, frozen=True):
    """One `_typeFilter`: rows of the type that match the search; several of one type are alternatives."""

    type: str
    pairs: tuple[tuple[str, str], ...]


class ExportRequest(msgspec.Struct, frozen=True):
    """An export as understood."""

    level: Level
    types: tuple[str, ...]
    """The types asked for, or all."""
    since_us: int | None = None
    """Rows last updated after this instant."""
    until_us: int | None = None
    """Rows last updated before this instant."""
    filters: tuple[TypeFilter, ...] = ()
    elements: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(type, elements); the type "" is every type."""
    patients: tuple[str, ...] | None = None
    """Ids of the Patients whose compartments are asked for; None = of all people."""

    def elements_of(self, resource_type: str) -> tuple[str, ...]:
        """The elements asked for of a type; none means all."""
        return tuple(name for type_, names in self.elements if type_ in ("", resource_type) for name in names)
