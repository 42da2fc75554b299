"""Where in a JSON document the elements of a FHIRPath expression lie, so that they can be changed in place."""

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ehr.fhirpath import model
from ehr.fhirpath.compiler import closure_of_tree
from ehr.fhirpath.environment import Environment
from ehr.fhirpath.nodes import Node, element_node, root_node
from ehr.fhirpath.syntax import Call, Expression, Index, Member, TypeTest, parse
from ehr.patch.errors import PatchRefused

_REGULAR_EXPRESSIONS = frozenset({"matches", "matchesFull", "replaceMatches"})


@dataclass(frozen=True, slots=True)
class Place:
    """One element: `parent[key]`, or `parent[key][index]` in a list; the root has no parent."""

    node: Node
    parent: dict[str, Any] | None = None
    key: str = ""
    index: int | None = None

    def below(self, *, make: bool = False) -> dict[str, Any]:
        """The JSON object that holds this element's children; for a primitive its `_name` sibling, made if asked."""
        if isinstance(self.node.value, dict):
            return self.node.value
        if self.node.sibling is not None or self.parent is None or not make:
            return self.node.sibling or {}
        made: dict[str, Any] = {}
        put(self.parent, f"_{self.key}", self.index, made)
        return made


@dataclass(frozen=True, slots=True)
class Slot:
    """What a path's last name stands for below one element, whether anything is there or not."""

    holder: Place
    child: model.Child


def put(parent: dict[str, Any], key: str, index: int | None, value: Any) -> None:
    """Set `parent[key]`, or one item of its list, which grows by nulls up to it."""
    if index is None:
        parent[key] = value
        return
    items = parent.setdefault(key, [])
    items += [None] * (index + 1 - len(items))
    items[index] = value


class Document:
    """A resource being patched."""

    def __init__(self, resource: dict[str, Any]) -> None:
        """Take the parsed resource; it is changed in place."""
        self.resource = resource

    def places(self, path: str) -> list[Place]:
        """The elements that a path selects, in order.

        Raises:
            FhirPathError: the path cannot be read or evaluated.
            PatchRefused: it computes values instead of selecting elements.
        """
        return self._places(_read(path), self._environment())

    def slot(self, path: str) -> Slot:
        """The one place that a path of the form `element.name` stands for.

        Raises:
            PatchRefused: the path has another form, or its element is not there exactly once.
        """
        tree = _read(path)
        if not isinstance(tree, Member) or tree.source is None:
            raise PatchRefused(f"'{path}' names no element below another")
        holders = self._places(tree.source, self._environment())
        if len(holders) != 1:
            raise PatchRefused(f"'{path}' stands below {len(holders)} elements instead of one")
        return Slot(holders[0], child_of(holders[0], tree.name))

    def _environment(self) -> Environment:
        items = [root_node(self.resource)]
        return Environment(items, items, items)

    def _places(self, tree: Expression, environment: Environment) -> list[Place]:
        match tree:
            case Member(source=None):
                return self._named(tree.name)
            case Member(source=source) if source is not None:
                return [found for place in self._places(source, environment) for found in _children(place, tree.name)]
            case Call(source=source) if source is not None:
                return _kept(self._places(source, environment), Call(None, tree.name, tree.arguments), environment)
            case Index():
                found = self._places(tree.source, environment)
                nodes = closure_of_tree(tree.index)([root_node(self.resource)], environment)
                if len(nodes) != 1 or type(nodes[0]) is not int:
                    raise PatchRefused("an index is a whole number")
                return found[nodes[0] : nodes[0] + 1] if nodes[0] >= 0 else []
            case TypeTest(operator="as"):
                kind = tree.type_name.rpartition(".")[2]
                operand = self._places(tree.operand, environment)
                return [place for place in operand if model.is_subtype(place.node.type, kind)]
            case _:
                raise PatchRefused("the path must select elements: names, indexes, where() and the like")

    def _named(self, name: str) -> list[Place]:
        root = Place(root_node(self.resource))
        if model.is_known(name) and model.is_subtype(root.node.type, name):
            return [root]
        return _children(root, name)


def _read(path: str) -> Expression:
    """Parse a path; PatchRefused for regular expressions, which one short text can keep busy for ever."""
    tree = parse(path)
    pending: list[object] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Call) and node.name in _REGULAR_EXPRESSIONS:
            raise PatchRefused(f"{node.name}() is not offered in a path")
        if isinstance(node, tuple):
            pending.extend(node)
        elif is_dataclass(node):
            pending.extend(getattr(node, each.name) for each in fields(node))
    return tree


def child_of(place: Place, name: str) -> model.Child:
    """The definition of an element's child, by its FHIRPath name; PatchRefused where there is none."""
    child = model.children(place.node.type).get(name)
    if child is None:
        raise PatchRefused(f"{place.node.type} has no element '{name}'")
    return child


def items_of(holder: dict[str, Any], key: str) -> int:
    """How many items a list has, those with extensions only included."""
    lists = [found for found in (holder.get(key), holder.get(f"_{key}")) if isinstance(found, list)]
    return max(map(len, lists), default=0)


def _children(place: Place, name: str) -> list[Place]:
    child, holder = child_of(place, name), place.below()
    found = []
    for key, type_name in child.options:
        value, sibling = holder.get(key), holder.get(f"_{key}")
        if isinstance(value, list) or isinstance(sibling, list):
            for index in range(items_of(holder, key)):
                node = element_node(_item(value, index), type_name, _item(sibling, index))
                found.append(Place(node, holder, key, index))
        elif value is not None or sibling is not None:
            found.append(Place(element_node(value, type_name, sibling), holder, key))
    return found


def _item(items: Any, index: int) -> Any:
    return items[index] if isinstance(items, list) and index < len(items) else None


def _kept(places: list[Place], call: Call, environment: Environment) -> list[Place]:
    """Those that a selecting function (where, first, ofType ...) leaves, found again by identity."""
    by_node = {id(place.node): place for place in places}
    nodes = closure_of_tree(call)([place.node for place in places], environment)
    if any(id(node) not in by_node for node in nodes):
        raise PatchRefused(f"{call.name}() selects no elements of its input")
    return [by_node[id(node)] for node in nodes]
