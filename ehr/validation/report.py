"""What one check carries along: the resource at hand, and the issues found so far with the places of their elements."""

from collections.abc import Mapping
from typing import Any

from ehr.errors import Issue

MAXIMUM_ISSUES = 100

Place = tuple[Any, ...]
"""Where an element stands: ("Patient",) or (place of its parent, name) or (place of its parent, name, index)."""


class TooManyIssuesError(Exception):
    """MAXIMUM_ISSUES are reached; the rest of the resource is not looked at."""


def expression_of(place: Place) -> str:
    """A place as FHIRPath: "Patient.name[0].given[1]"."""
    parts: list[str] = []
    while len(place) > 1:
        parts.append(f".{place[1]}" if len(place) == 2 else f".{place[1]}[{place[2]}]")
        place = place[0]
    return str(place[0]) + "".join(reversed(parts))


class Report:
    """The issues of one check, shared by all resources within it."""

    __slots__ = ("issues",)

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, place: Place, code: str, diagnostics: str) -> None:
        """Note a problem at a place; raises TooManyIssuesError once there are enough."""
        self.issues.append(Issue("error", code, diagnostics, expression_of(place)))
        if len(self.issues) >= MAXIMUM_ISSUES:
            raise TooManyIssuesError


class Scope:
    """What holds within one resource: itself, the outermost resource around it, and what references may point to.

    `resource` and `root` are FHIRPath's %resource and %rootResource; they differ inside of `contained` only.
    `contained` maps ids to types. `targets` maps the fullUrls of the Bundle around it to the types of its entries;
    `conditional` says that this Bundle is a transaction, in which references may be conditional.
    """

    __slots__ = ("conditional", "contained", "element_ids", "report", "resource", "root", "targets")

    def __init__(
        self,
        report: Report,
        resource: Mapping[str, Any],
        root: Mapping[str, Any],
        contained: Mapping[str, str],
        targets: Mapping[str, str],
        *,
        conditional: bool = False,
    ) -> None:
        self.report = report
        self.resource = resource
        self.root = root
        self.contained = contained
        self.targets = targets
        self.conditional = conditional
        self.element_ids: set[str] = set()

    def note_element_id(self, element_id: Any, place: Place) -> None:
        """Remember the id of an element; report it when another element of the resource has it."""
        if type(element_id) is not str:
            return
        known = element_id
        if self.resource.get("resourceType") == "StructureDefinition" and _member(place, "differential"):
            known = f"differential {element_id}"  # snapshot and differential name the same elements (SC-39)
        if known in self.element_ids:
            problem = f"The id {element_id[:100]!r} is given to two elements of the resource"
            self.report.add((place, "id"), "structure", problem)
        self.element_ids.add(known)


def _member(place: Place, name: str) -> bool:
    """Whether an element stands in the resource's member of this name."""
    while len(place) > 1:
        if place[1] == name and len(place[0]) == 1:
            return True
        place = place[0]
    return False
