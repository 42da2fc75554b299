"""The types of FHIR R4 as FHIRPath sees them: children, choices and inheritance, from `ehr.definitions`.

Backbone elements have no name of their own and go by their path ("Patient.contact").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from ehr.definitions import RESOURCE_TYPES, codes_of, structure, type_names

__all__ = [
    "RESOURCE_TYPES",
    "Child",
    "base_of",
    "children",
    "codes_of",
    "is_known",
    "is_subtype",
    "type_at",
]

_TYPE_NAMES = frozenset(type_names())
_ANONYMOUS = frozenset({"BackboneElement", "Element"})
SYSTEM_TYPES = frozenset({"Any", "Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity"})
STRING_TYPES = frozenset(
    {
        "string",
        "code",
        "id",
        "markdown",
        "uri",
        "url",
        "canonical",
        "uuid",
        "oid",
        "base64Binary",
        "xhtml",
    }
)
INTEGER_TYPES = frozenset({"integer", "positiveInt", "unsignedInt", "integer64"})
DATE_TIME_TYPES = frozenset({"dateTime", "instant"})
PRIMITIVE_TYPES = STRING_TYPES | INTEGER_TYPES | DATE_TIME_TYPES | {"boolean", "decimal", "date", "time"}
QUANTITY_TYPES = frozenset({"Quantity", "Age", "Count", "Distance", "Duration", "SimpleQuantity", "MoneyQuantity"})


@dataclass(frozen=True, slots=True)
class Child:
    """An element of a type: one JSON key with its type, or several where the element is a choice."""

    name: str
    options: tuple[tuple[str, str], ...]
    """(JSON key, type) pairs"""
    many: bool


@cache
def children(type_name: str) -> Mapping[str, Child]:
    """The children of a type or backbone path, by FHIRPath name, in the order of the definition."""
    root = type_name.partition(".")[0]
    if root not in _TYPE_NAMES:
        return {}
    elements = structure(root).elements
    parents = {element.path.rpartition(".")[0] for element in elements}
    found: dict[str, Child] = {}
    for element in elements:
        parent, _, name = element.path.rpartition(".")
        if parent != type_name:
            continue
        if element.content_reference is not None:
            types = [element.content_reference]
        else:
            types = [
                element.path if code in _ANONYMOUS and element.path in parents else code
                for code in (element_type.code for element_type in element.types)
            ]
        if name == "id" and parent in RESOURCE_TYPES:
            types = ["id"]
        choice = name.endswith("[x]")
        plain = name.removesuffix("[x]")
        options = tuple((plain + code[0].upper() + code[1:] if choice else plain, code) for code in types)
        found[plain] = Child(plain, options, element.max != 1)
    return found


@cache
def base_of(type_name: str) -> str | None:
    """The direct base of a type; None for the roots and for what is unknown."""
    if "." in type_name:
        above = {"id", "extension", "modifierExtension"} <= set(children(type_name))
        return "BackboneElement" if above else "Element"
    return structure(type_name).base if type_name in _TYPE_NAMES else None


@cache
def is_subtype(type_name: str, ancestor: str) -> bool:
    """Whether a FHIR type is another one or derived from it."""
    found: str | None = type_name
    while found is not None:
        if found == ancestor:
            return True
        found = base_of(found)
    return False


def is_known(type_name: str) -> bool:
    """Whether FHIR R4 defines the type."""
    return type_name in _TYPE_NAMES


@cache
def type_at(path: str) -> str:
    """The type of what lies at a path: "Identifier" for "Patient.identifier", the path itself for a backbone element.

    A type's name stays itself; so does what is not known, and a choice, whose type only the data tell.
    """
    parent, _, name = path.rpartition(".")
    if not parent or children(path):
        return path
    child = children(type_at(parent)).get(name.removesuffix("[x]"))
    return child.options[0][1] if child is not None and len(child.options) == 1 else path
