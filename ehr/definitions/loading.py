"""Reads `r4.json.zst`, the definitions as `scripts/derive_definitions.py` leaves them.

The file is opened once (about 10 ms); a type is decoded when it is first asked for.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import msgspec
import zstandard

from ehr.definitions.model import (
    Binding,
    BindingStrength,
    Constraint,
    Element,
    ElementType,
    ParameterKind,
    SearchParameter,
    Structure,
    StructureKind,
)

_MAXIMUM_BYTES = 64 << 20


class _StoredBinding(msgspec.Struct):
    strength: BindingStrength
    value_set: str


class _StoredElement(msgspec.Struct):
    path: str
    min: int
    max: int | None = None
    types: tuple[ElementType, ...] = ()
    binding: _StoredBinding | None = None
    constraints: tuple[int, ...] = ()
    content_reference: str | None = None
    modifier: bool = False
    summary: bool = False


class _StoredStructure(msgspec.Struct):
    name: str
    kind: StructureKind
    abstract: bool
    base: str | None
    profile: bool
    elements: tuple[_StoredElement, ...]


class _StoredParameter(msgspec.Struct):
    url: str
    code: str
    kind: ParameterKind
    expressions: dict[str, str | None]
    targets: tuple[str, ...] = ()
    components: tuple[tuple[str, str], ...] = ()
    usage: str = "normal"


class _Document(msgspec.Struct):
    fhir_version: str
    resource_types: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    structures: dict[str, msgspec.Raw]
    code_sets: msgspec.Raw
    search_parameters: msgspec.Raw


def _read() -> _Document:
    packed = files(__package__).joinpath("r4.json.zst").read_bytes()
    text = zstandard.ZstdDecompressor().decompress(packed, max_output_size=_MAXIMUM_BYTES)
    return msgspec.json.decode(text, type=_Document)


_document = _read()

RESOURCE_TYPES: tuple[str, ...] = _document.resource_types
"""The concrete resource types of R4, sorted."""

_numbers = {name: number for number, name in enumerate(RESOURCE_TYPES, start=1)}


def type_number(name: str) -> int:
    """The number, 1 or more, that stands for a resource type in rows; KeyError for an unknown type."""
    return _numbers[name]


def type_name(number: int) -> str:
    """The resource type that `type_number` numbered; IndexError outside 1 to 146."""
    if number < 1:
        raise IndexError(number)
    return RESOURCE_TYPES[number - 1]


def is_resource_type(name: object) -> bool:
    """Whether a name is that of a concrete resource type."""
    return name in _numbers


def type_names() -> tuple[str, ...]:
    """Every type of which there is a structure, data types and the abstract ones included."""
    return tuple(_document.structures)


def _element(stored: _StoredElement) -> Element:
    binding = stored.binding
    return Element(
        path=stored.path,
        min=stored.min,
        max=stored.max,
        types=stored.types,
        binding=Binding(binding.strength, binding.value_set) if binding else None,
        constraints=tuple(_document.constraints[number] for number in stored.constraints),
        content_reference=stored.content_reference,
        modifier=stored.modifier,
        summary=stored.summary,
    )


def constraints() -> tuple[Constraint, ...]:
    """Every invariant of the base definitions."""
    return _document.constraints


@cache
def structure(name: str) -> Structure:
    """The definition of a resource or data type; KeyError for an unknown one."""
    stored = msgspec.json.decode(_document.structures[name], type=_StoredStructure)
    elements = tuple(_element(e) for e in stored.elements)
    return Structure(stored.name, stored.kind, stored.abstract, stored.base, stored.profile, elements)


@cache
def _code_sets() -> dict[str, dict[str, list[str]]]:
    return msgspec.json.decode(_document.code_sets, type=dict[str, dict[str, list[str]]])


@cache
def codes_of(value_set: str) -> frozenset[tuple[str, str]] | None:
    """The (system, code) pairs of a value set of a required binding; None where it is not a finite list."""
    by_system = _code_sets().get(value_set.partition("|")[0])
    if by_system is None:
        return None
    return frozenset((system, code) for system, codes in by_system.items() for code in codes)


@cache
def codes_of_system(system: str) -> frozenset[str]:
    """The codes of a code system that the value sets of required bindings list; empty for others."""
    return frozenset(code for by_system in _code_sets().values() for code in by_system.get(system, ()))


@cache
def _parameters() -> dict[str, dict[str, SearchParameter]]:
    by_type: dict[str, dict[str, SearchParameter]] = {}
    for stored in msgspec.json.decode(_document.search_parameters, type=list[_StoredParameter]):
        bases = tuple(stored.expressions)
        for base, expression in stored.expressions.items():
            by_type.setdefault(base, {})[stored.code] = SearchParameter(
                code=stored.code,
                kind=stored.kind,
                url=stored.url,
                expression=expression,
                targets=stored.targets,
                bases=bases,
                components=stored.components,
                usage=stored.usage,
            )
    return by_type


@cache
def search_parameters(name: str) -> Mapping[str, SearchParameter]:
    """The parameters of a resource type by code: its own, DomainResource's and Resource's; KeyError if unknown."""
    found: dict[str, SearchParameter] = {}
    ancestor: str | None = name
    while ancestor is not None:
        found = _parameters().get(ancestor, {}) | found
        ancestor = structure(ancestor).base
    return MappingProxyType(found)


@cache
def search_parameter_of(url: str) -> SearchParameter:
    """The first parameter that the definition at `url` makes, for a composite's components; KeyError if unknown."""
    for parameters in _parameters().values():
        for parameter in parameters.values():
            if parameter.url == url:
                return parameter
    raise KeyError(url)


def statistics() -> dict[str, Any]:
    """The version and sizes of the definitions, for `doctor` and the CapabilityStatement."""
    return {"fhir_version": _document.fhir_version, "resource_types": len(RESOURCE_TYPES)}
