"""Items of a collection: elements of FHIR with their type, and plain values of FHIRPath's System types.

System values are bool, int, Decimal, str, `Temporal` and `Quantity`; everything that comes out of a resource is a
`Node`, so that `is`, `extension()` and `children()` know what it was.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from ehr.fhirpath import model
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.quantity import Quantity
from ehr.fhirpath.temporal import Temporal


class Node:
    """An element: JSON value, FHIR type and, for primitives, the `_name` sibling with id and extensions."""

    __slots__ = ("sibling", "type", "value")

    def __init__(self, value: Any, type_name: str, sibling: dict[str, Any] | None = None) -> None:
        """Take the JSON value (None for a primitive with extensions only), its type and its sibling."""
        self.value = value
        self.type = type_name
        self.sibling = sibling

    def __repr__(self) -> str:
        """Type only: values of records stay out of logs."""
        return f"Node({self.type})"


Item = Any
"""A Node or a System value."""


def root_node(value: Any, context_type: str | None = None) -> Item:
    """Wrap what an expression is evaluated on: a resource by its resourceType, an element by the type given."""
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node(value, _resource_type(value) or context_type or "Element")
    return value if context_type is None else Node(value, context_type)


def _resource_type(value: dict[str, Any]) -> str | None:
    """The resource type that JSON names; None where it names none that R4 has."""
    named = value.get("resourceType")
    return named if type(named) is str and model.is_known(named) else None


def child_nodes(node: Node, name: str) -> list[Item] | None:
    """The children of one name; None where the type has no such child."""
    child = model.children(node.type).get(name)
    if child is None:
        return _off_model(node, name)
    value = node.value
    if type(value) is not dict:
        return _children_of_primitive(node, name)
    found: list[Item] = []
    for key, type_name in child.options:
        item = value.get(key)
        sibling = value.get("_" + key)
        if item is None and sibling is None:
            continue
        if type(item) is list or type(sibling) is list:
            _spread(item or [], sibling or [], type_name, found)
        else:
            found.append(element_node(item, type_name, sibling))
    return found


def element_node(value: Any, type_name: str, sibling: Any = None) -> Node:
    """The Node of a JSON value at an element of this type, and of its `_name` sibling."""
    if type_name == "Resource" and type(value) is dict:
        return Node(value, _resource_type(value) or "Resource")
    return Node(value, type_name, sibling if type(sibling) is dict else None)


def _spread(values: Any, siblings: Any, type_name: str, found: list[Item]) -> None:
    if type(values) is not list or type(siblings) is not list:
        return
    for place in range(max(len(values), len(siblings))):
        value = values[place] if place < len(values) else None
        sibling = siblings[place] if place < len(siblings) else None
        if value is not None or sibling is not None:
            found.append(element_node(value, type_name, sibling))


def _children_of_primitive(node: Node, name: str) -> list[Item]:
    if node.sibling is None or name not in {"id", "extension"}:
        return []
    found = node.sibling.get(name)
    if name == "extension" and type(found) is list:
        return [Node(extension, "Extension") for extension in found]
    return [] if found is None else [Node(found, "string")]


def _off_model(node: Node, name: str) -> list[Item] | None:
    """Children of TypeInfo, and of elements whose type is not known (no context type was given)."""
    if node.type not in {"System.TypeInfo", "Element"} or type(node.value) is not dict:
        return None
    if node.type == "Element" and node.value.get("resourceType"):
        return None
    found = node.value.get(name)
    if found is None:
        return [] if node.type == "Element" else None
    values = found if type(found) is list else [found]
    if node.type == "System.TypeInfo":
        return values
    return [Node(value, _guessed(value)) for value in values if value is not None]


def _guessed(value: Any) -> str:
    if type(value) is bool:
        return "boolean"
    if type(value) is int:
        return "integer"
    if type(value) is Decimal:
        return "decimal"
    return "string" if type(value) is str else "Element"


def all_children(node: Item) -> Iterator[Item]:
    """Every child of an element, in the order of its definition."""
    if not isinstance(node, Node):
        return
    for name in model.children(node.type):
        if name != "value" or node.type not in model.PRIMITIVE_TYPES:
            yield from child_nodes(node, name) or ()


def descendants(items: list[Item]) -> list[Item]:
    """All elements below, depth first."""
    found: list[Item] = []
    for item in items:
        for child in all_children(item):
            found.append(child)
            found.extend(descendants([child]))
    return found


def system_value(item: Item) -> Any:  # noqa: PLR0911 - one return for each family of types
    """The System value of an item: primitives and quantities converted, other elements as they are.

    None for a primitive without a value.
    """
    if not isinstance(item, Node):
        return item
    kind, value = item.type, item.value
    if value is None or kind in model.STRING_TYPES or kind in model.INTEGER_TYPES or kind == "boolean":
        return value
    if kind == "decimal":
        return Decimal(value) if type(value) is int else value
    if kind in model.DATE_TIME_TYPES:
        return _temporal(Temporal.date_time(value)) if type(value) is str else None
    if kind == "date":
        return _temporal(Temporal.date(value)) if type(value) is str else None
    if kind == "time":
        return _temporal(Temporal.time(value)) if type(value) is str else None
    if kind in model.QUANTITY_TYPES and type(value) is dict:
        return _quantity(item)
    return item


def _temporal(found: Temporal | None) -> Temporal | None:
    return found


def _quantity(node: Node) -> Any:
    value = node.value.get("value")
    if type(value) not in {int, Decimal} or node.value.get("comparator") is not None:
        return node
    code = node.value.get("code") or node.value.get("unit")
    return Quantity(Decimal(value), code if type(code) is str else "1")


def has_value(item: Item) -> bool:
    """Whether a primitive carries a value (not only extensions)."""
    if not isinstance(item, Node):
        return True
    return item.type in model.PRIMITIVE_TYPES and item.value is not None


def plain(item: Item) -> Any:
    """What a caller gets: the JSON value of an element, or the System value itself."""
    return item.value if isinstance(item, Node) else item


def type_of(item: Item) -> tuple[str, str]:
    """(namespace, name) of an item's type."""
    if isinstance(item, Node):
        return ("System", "Any") if item.type == "System.TypeInfo" else ("FHIR", item.type)
    if isinstance(item, Temporal):
        return "System", item.kind
    for kind, name in ((bool, "Boolean"), (int, "Integer"), (Decimal, "Decimal"), (str, "String")):
        if type(item) is kind:
            return "System", name
    if isinstance(item, Quantity):
        return "System", "Quantity"
    raise FhirPathError("FHIRPath: a value of no known type")


def is_type(item: Item, type_name: str, *, exactly: bool = False) -> bool:
    """Whether an item is of a type, written with or without namespace.

    With `exactly`, derived primitive types do not count: `as` and `ofType` take a code for no string (SC-8).
    """
    namespace, _, name = type_name.rpartition(".")
    found_namespace, found = type_of(item)
    if found_namespace == "System":
        return namespace in {"", "System"} and name in {found, "Any"}
    if namespace not in {"", "FHIR"}:
        return False
    if exactly and found in model.PRIMITIVE_TYPES:
        return found == name
    return model.is_subtype(found, name)
