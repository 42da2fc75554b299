"""Reads the names of chains and reverse chains: https://hl7.org/fhir/R4/search.html#chaining and #has.

A name is a path: `subject:Patient.organization.name`, `_has:Observation:patient:encounter.type`,
`patient._has:Condition:subject:code`. A reference without a type leads to each of its target types on which the rest of
the path can be read.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from ehr.definitions import is_resource_type, search_parameters
from ehr.errors import BadSearch, TooCostly
from ehr.search import controls, limits, reference
from ehr.search.query import Chain, Clause, Has, Joined, Negated

_HAS = "_has:"


def is_path(name: str) -> bool:
    """Whether a name leads to another resource."""
    return name.startswith(_HAS) or "." in name


def links_in(clause: Clause) -> int:
    """How many joins a clause comes to."""
    match clause:
        case Chain(alternatives=alternatives):
            return sum(1 + links_in(inner) for inner in alternatives)
        case Has(inner=inner):
            return 1 + links_in(inner)
        case Joined(clauses=clauses):
            return sum(links_in(each) for each in clauses)
        case Negated(clause=negated):
            return links_in(negated)
    return 0


@dataclass(slots=True)
class PathReader:
    """Reads one name with one value."""

    name: str
    """The whole name, for messages."""
    criterion: Callable[[str, str], Clause]
    """Reads the end of a path, `code` or `code:modifier`, on a type; BadSearch where it cannot be."""
    _known: dict[tuple[str, str], Clause | BadSearch] = field(default_factory=dict)

    def clause(self, resource_type: str, path: str) -> Clause:
        """Read a path from a type on.

        Raises:
            BadSearch: no step or no end of it fits; the text names it.
            TooCostly: it is too long, or leads through too many types.
        """
        if path.count(".") + path.count(_HAS) > limits.CHAIN_DEPTH:
            raise TooCostly(f"{self.name[:100]}: at most {limits.CHAIN_DEPTH} steps")
        return self._read(resource_type, path)

    def chain(self, resource_type: str, head: str, below: Callable[[str], Clause]) -> Chain:
        """Read one step, `code` or `code:Type`; `below` reads what the target meets, on its type."""
        code, _, only = head.partition(":")
        targets = self._targets(resource_type, code)
        if only and only not in targets:
            raise BadSearch(f"{self.name[:100]}: {code} does not refer to {only[:64]}")
        if not only and len(targets) > 1:
            targets = tuple(target for target in targets if target not in controls.NOT_ROWS)
        found: list[Clause] = []
        refusals: list[BadSearch] = []
        for target in (only,) if only else targets:
            try:
                found.append(below(target))
            except BadSearch as refusal:
                refusals.append(refusal)
        if not found:
            raise refusals[0] if len(refusals) == 1 else BadSearch(f"Unknown search parameter: {self.name[:100]}")
        chain = Chain(resource_type, code, tuple(found))
        if links_in(chain) > limits.CHAIN_LINKS:
            raise TooCostly(f"{self.name[:100]}: too many target types; say which, as in {code}:{targets[0]}")
        return chain

    def _targets(self, resource_type: str, code: str) -> tuple[str, ...]:
        """The types that a step may lead to."""
        parameter = search_parameters(resource_type).get(code)
        if parameter is None or parameter.expression is None:
            raise BadSearch(f"Unknown search parameter: {self.name[:100]} (on {resource_type})")
        if parameter.kind != "reference":
            raise BadSearch(f"{self.name[:100]}: {code} is not a reference")
        return reference.targets_of(parameter)

    def _read(self, resource_type: str, path: str) -> Clause:
        """Read a path, once for each type that it comes to by several ways."""
        place = (resource_type, path)
        known = self._known.get(place)
        if known is None:
            try:
                known = self._step(resource_type, path)
            except BadSearch as refusal:
                known = refusal
            self._known[place] = known
        if isinstance(known, BadSearch):
            raise known
        return known

    def _step(self, resource_type: str, path: str) -> Clause:
        if path.startswith(_HAS):
            return self._has(resource_type, path)
        head, dot, tail = path.partition(".")
        if not dot:
            return self.criterion(resource_type, path)
        return self.chain(resource_type, head, lambda target: self._read(target, tail))

    def _has(self, resource_type: str, path: str) -> Has:
        _, source, code, rest = (*path.split(":", 3), "", "", "")[:4]
        if not rest:
            raise BadSearch(f"{self.name[:100]}: _has:Type:reference:parameter")
        if not is_resource_type(source) or source in controls.NOT_ROWS:
            raise BadSearch(f"{self.name[:100]}: no resource type {source[:64]}")
        if resource_type not in self._targets(source, code):
            raise BadSearch(f"{self.name[:100]}: {source}.{code[:64]} does not refer to {resource_type}")
        return Has(resource_type, code, self._read(source, rest))
