"""Literal references: their form, what type they name, and whether that type may stand there.

https://hl7.org/fhir/R4/references.html, https://hl7.org/fhir/R4/http.html#trules (conditional references)

Whether the target exists is not looked at, since that would tell of rows that the caller may not see; except for
references into `contained`, which stay within the resource (SC-32).
"""

import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import Any

from ehr.definitions import RESOURCE_TYPES, structure, type_names
from ehr.validation.primitives import REFERENCE, is_urn
from ehr.validation.report import Place, Scope

_TYPES = "|".join(RESOURCE_TYPES)
_INSTANCE = r"/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?"
_relative = re.compile(rf"(?P<type>[A-Z][A-Za-z]+){_INSTANCE}").fullmatch
_conditional = re.compile(r"(?P<type>[A-Z][A-Za-z]+)\?[^\s]+").fullmatch
_absolute = re.compile(r"https?://[^\s/?#]+(?:[/?#][^\s]*)?").fullmatch
_typed_absolute = re.compile(rf"https?://[^\s?#]*/(?P<type>{_TYPES})(?:{_INSTANCE}(?:#[^\s]*)?|\?[^\s]*)").fullmatch
_restful = re.compile(rf"https?://[^\s?#]*/(?P<type>{_TYPES})/(?P<id>[A-Za-z0-9\-.]{{1,64}})").fullmatch
_RESOURCE_TYPES = frozenset(RESOURCE_TYPES)
_ANY = ("Resource",)


def type_of_reference(reference: str, scope: Scope) -> str | None:
    """The resource type that a literal reference names by its form, or through `contained` or the Bundle around it."""
    if reference.startswith("#"):
        return scope.contained.get(reference[1:])
    found = _relative(reference) or _conditional(reference)
    if found is not None:
        return found["type"] if found["type"] in _RESOURCE_TYPES else None
    if found := _typed_absolute(reference):
        return found["type"]
    return scope.targets.get(reference) if scope.targets else None


def _problem_of_form(reference: str, named: str | None, scope: Scope) -> str | None:
    """What is wrong with the form of a reference that is no fragment; None for a legal one (SC-36)."""
    if named is not None:
        if scope.conditional or not _conditional(reference):
            return None
        return f"{reference[:100]!r} is conditional; such references stand in transaction Bundles only"
    if _absolute(reference) or is_urn(reference) or not REFERENCE.test(reference) or reference in scope.targets:
        return None  # white space is reported as a value already
    if found := _relative(reference) or _conditional(reference):
        return f"{reference[:100]!r} names {found['type'][:64]}, which is no resource type of R4"
    return (
        f"{reference[:100]!r} is no reference: Type/id, Type/id/_history/version, an absolute http or https URL,"
        " urn:uuid:, urn:oid: or #id of a contained resource"
    )


def check_reference(node: Mapping[str, Any], targets: tuple[str, ...], place: Place, scope: Scope) -> None:
    """Report what is wrong with one Reference, its form included, whose element allows the resource types `targets`."""
    reference, stated = node.get("reference"), node.get("type")
    named = None
    if type(reference) is str:
        named = type_of_reference(reference, scope)
        if reference[:1] == "#" and named is None and not _names_container(reference, scope):
            problem = f"ref-1: The reference {reference[:100]!r} points to no contained resource"
            scope.report.add((place, "reference"), "invariant", problem)
        elif reference[:1] != "#" and reference:
            illegal = _problem_of_form(reference, named, scope)
            if illegal is not None:
                scope.report.add((place, "reference"), "value", illegal)
    if type(stated) is str:
        if stated not in _RESOURCE_TYPES and ":" not in stated:
            scope.report.add((place, "type"), "code-invalid", f"{stated[:100]!r} is no resource type of R4")
        elif named is not None and named != stated and ":" not in stated:
            problem = f"The reference is to a {named}, but its type says {stated}"
            scope.report.add(place, "structure", problem)
        named = named or (stated if stated in _RESOURCE_TYPES else None)
    if named is not None and targets and targets != _ANY and named not in targets:
        problem = f"A reference to {named} may not stand here, only to {', '.join(targets)}"
        scope.report.add(place, "structure", problem)


def _names_container(reference: str, scope: Scope) -> bool:
    """Whether "#" stands in a contained resource, where it means the resource around it."""
    return reference == "#" and scope.resource is not scope.root


def contained_types(resource: Mapping[str, Any]) -> dict[str, str]:
    """The types of a resource's contained resources by id, as far as they can be read."""
    contained = resource.get("contained")
    found: dict[str, str] = {}
    for inner in contained if type(contained) is list else ():
        if type(inner) is dict and type(inner.get("id")) is str and type(inner.get("resourceType")) is str:
            found[inner["id"]] = inner["resourceType"]
    return found


def bundle_targets(bundle: Mapping[str, Any]) -> dict[str, str]:
    """The types of a Bundle's entries by fullUrl, as far as they can be read."""
    entries = bundle.get("entry")
    found: dict[str, str] = {}
    for entry in entries if type(entries) is list else ():
        if type(entry) is dict and type(entry.get("fullUrl")) is str and type(entry.get("resource")) is dict:
            kind = entry["resource"].get("resourceType")
            if type(kind) is str:
                found[entry["fullUrl"]] = kind
    return found


def restful_target(url: str) -> tuple[str, str] | None:
    """The type and id that an absolute URL of a FHIR server's form names, else None."""
    found = _restful(url)
    return (found["type"], found["id"]) if found else None


def unreferenced_contained(resource: Mapping[str, Any]) -> list[int]:
    """The positions of contained resources that nothing refers to and that refer to nothing around them (dom-3)."""
    contained = resource.get("contained")
    if type(contained) is not list or not contained:
        return []
    outside: set[str] = set()
    _collect_local({key: value for key, value in resource.items() if key != "contained"}, outside)
    inside: list[set[str]] = [set() for _ in contained]
    for inner, found in zip(contained, inside, strict=True):
        _collect_local(inner, found)
    uses = Counter(name for found in inside for name in found)
    positions = []
    for position, inner in enumerate(contained):
        name = f"#{inner.get('id')}" if type(inner) is dict else "#"
        used_by_others = uses[name] > (name in inside[position])
        if name not in outside and "#" not in inside[position] and not used_by_others:
            positions.append(position)
    return positions


def _collect_local(value: Any, found: set[str]) -> None:
    """Add what refers into the resource within a JSON value: references, canonicals and URIs that start with "#"."""
    names = _names_of_links()
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is list:
            stack.extend(item)
        elif type(item) is dict:
            for key, member in item.items():
                if type(member) is dict or type(member) is list:
                    stack.append(member)
                if key in names:
                    found.update(m for m in (member if type(member) is list else [member]) if _is_local(m))


def _is_local(value: Any) -> bool:
    return type(value) is str and value[:1] == "#"


@cache
def _names_of_links() -> frozenset[str]:
    """The members of all types that hold references, canonicals or URIs."""
    names = {"reference"}
    for type_name in type_names():
        for element in structure(type_name).elements:
            names.update(name for name, kind in element.names.items() if kind.code in ("canonical", "uri", "url"))
    return frozenset(names)
