"""Composite parameters: what several parameters select from one and the same element.

https://hl7.org/fhir/R4/search.html#composite

They have no index entries of their own. Candidates are found by the parts; where the element is not the resource
itself, each element's own entries are made anew from the opened row, by the leaves that index the parts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from ehr.definitions import SearchParameter, search_parameters
from ehr.fhirpath import compile as compile_expression
from ehr.fhirpath.nodes import Node
from ehr.indexing.derived import answering
from ehr.indexing.entries import IndexEntries
from ehr.indexing.plan import Branch, Leaf, NotPlain, branches_of
from ehr.indexing.string import texts_of

LeafMaker = Callable[[str, SearchParameter], Callable[[SearchParameter, Branch], Leaf | None]]
_CORRECTED = {
    # SC-54: the published expressions of the two parts stand at each other's place
    ("relationship", "relatesto"): "target",
    ("relationship", "relation"): "code",
    # FHIR's type is dateTime
    ("code-value-date", "value-date"): "value.as(dateTime) | value.as(Period)",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a composite: the parameter whose values it takes, and the way to them from the element."""

    parameter: SearchParameter
    expression: str


@dataclass(slots=True)
class Found:
    """What an element has for one part."""

    entries: IndexEntries = field(default_factory=IndexEntries)
    texts: list[str] = field(default_factory=list)
    """The strings of a string part as written."""


@cache
def parts_of(resource_type: str, code: str) -> tuple[Part, ...]:
    """The parts of a composite parameter, in the order in which a search names them."""
    parameters = search_parameters(resource_type)
    by_address = {parameter.url: parameter for parameter in parameters.values()}
    found = []
    for address, published in parameters[code].components:
        part = by_address[address]
        found.append(Part(part, _CORRECTED.get((code, part.code), published)))
    return tuple(found)


def is_of_resource(resource_type: str, code: str) -> bool:
    """Whether the element is the resource itself, so that rows that meet each part meet the composite (SC-55)."""
    return search_parameters(resource_type)[code].expression == resource_type


class Elements:
    """The elements of one composite parameter, each with what its parts find in it."""

    def __init__(self, resource_type: str, code: str, leaf_maker: LeafMaker) -> None:
        """Take the parameter, and what makes the leaves of another one."""
        self._elements = compile_expression(search_parameters(resource_type)[code].expression or "")
        self._parts = [_PartLeaves(resource_type, part, leaf_maker) for part in parts_of(resource_type, code)]

    def __call__(self, resource: Mapping[str, Any]) -> Iterator[tuple[Found, ...]]:
        """For each element what it has for the parts, in their order."""
        for element in self._elements.items(resource):
            yield tuple(part.found(element, resource) for part in self._parts)


class _PartLeaves:
    """Makes the index entries of one part from an element."""

    def __init__(self, resource_type: str, part: Part, leaf_maker: LeafMaker) -> None:
        # a parameter without entries of its own is searched by the terms of those that answer it
        indexed = search_parameters(resource_type)[answering(resource_type, part.parameter.code)[0]]
        self._parameter = indexed
        self._values = compile_expression(part.expression)
        self._make = leaf_maker(resource_type, indexed)
        self._paths = _paths_of(resource_type, part.parameter.expression or "")
        self._leaves: dict[str, Leaf | None] = {}

    def found(self, element: Any, resource: Mapping[str, Any]) -> Found:
        found = Found()
        for item in self._values.items(element, resource=resource):
            if not isinstance(item, Node) or item.value is None:
                continue
            leaf = self._leaf(item.type)
            if leaf is not None:
                leaf(item.value, found.entries)
            if self._parameter.kind == "string":
                found.texts += texts_of(item.value, item.type)
        return found

    def _leaf(self, type_name: str) -> Leaf | None:
        if type_name not in self._leaves:
            branch = Branch((), type_name, element=self._paths.get(type_name, ""))
            self._leaves[type_name] = self._make(self._parameter, branch)
        return self._leaves[type_name]


def _paths_of(resource_type: str, expression: str) -> dict[str, str]:
    """The definition of the element that a part's own parameter takes values of a type from: it names code systems."""
    try:
        return {branch.type_name: branch.element for branch in branches_of(resource_type, expression)}
    except NotPlain:
        return {}
