"""What the expressions of search parameters select, as paths of JSON keys that can be walked together.

Most official expressions are plain paths with a choice of type or one simple condition; these become `Branch`es of a
tree over the keys. The rest stays FHIRPath.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from ehr.definitions import SearchParameter, search_parameters, structure
from ehr.fhirpath import model
from ehr.fhirpath.syntax import Binary, Call, Expression, Literal, Member, TypeTest, parse
from ehr.fhirpath.types_functions import type_argument

KINDS = frozenset({"token", "string", "reference", "date", "quantity", "number", "uri"})
SPECIAL = frozenset({"near"})
"""Parameters of the kind "special" that have index entries."""
ROW_COLUMNS = frozenset({"_id", "_lastUpdated"})
"""Parameters that are columns of a row and have no index entries."""

Leaf = Callable[[Any, Any], None]
"""Takes a JSON value and the sink that it adds to (`IndexEntries`, or a list)."""


class JoinedLeaf(ABC):
    """A leaf that, at the same place, is done in one with others of its kind."""

    @abstractmethod
    def __call__(self, value: Any, sink: Any) -> None:
        """As a `Leaf`."""

    @abstractmethod
    def joined(self, leaves: "Sequence[JoinedLeaf]") -> Leaf:
        """One leaf that does what these do in turn, itself among them."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One path to values of one type: keys, and conditions (key, wanted text) on the way."""

    steps: tuple[str | tuple[str, str], ...]
    type_name: str
    target: str | None = None
    """Only references to this type (`where(resolve() is Patient)`)."""
    element: str = ""
    """Path of the definition of the last element ("Observation.status")."""


class NotPlain(Exception):
    """The expression is no plain path."""


def indexed_parameters(resource_type: str) -> list[SearchParameter]:
    """The search parameters of a type that have index entries."""
    return [
        parameter
        for code, parameter in search_parameters(resource_type).items()
        if (parameter.kind in KINDS or code in SPECIAL) and parameter.expression is not None and code not in ROW_COLUMNS
    ]


def branches_of(resource_type: str, expression: str) -> list[Branch]:
    """The paths that an expression takes through a type; NotPlain where there are none that say the same."""
    return list(_branches(resource_type, parse(expression)))


@cache
def selected_types(resource_type: str, expression: str) -> frozenset[str]:
    """The types of the values that an expression selects; none where it is no plain path (`Patient.deceased`)."""
    try:
        return frozenset(branch.type_name for branch in branches_of(resource_type, expression))
    except NotPlain:
        return frozenset()


def _branches(resource_type: str, node: Expression) -> Iterable[Branch]:
    match node:
        case Binary(operator="|", left=left, right=right):
            return [*_branches(resource_type, left), *_branches(resource_type, right)]
        case Member(source=None, name=name) if model.is_known(name) and model.is_subtype(resource_type, name):
            return [Branch((), resource_type)]
        case Member(source=source, name=name) if source is not None:
            return [below for above in _branches(resource_type, source) for below in _children(above, name)]
        case TypeTest(operator="as", operand=operand, type_name=type_name):
            return [branch for branch in _branches(resource_type, operand) if branch.type_name == type_name]
        case Call(source=source, name="as" | "ofType", arguments=(argument,)) if source is not None:
            wanted = type_argument(argument)
            return [branch for branch in _branches(resource_type, source) if branch.type_name == wanted]
        case Call(source=source, name="where", arguments=(criteria,)) if source is not None:
            return [_filtered(branch, criteria) for branch in _branches(resource_type, source)]
    raise NotPlain


def _children(above: Branch, name: str) -> list[Branch]:
    child = model.children(above.type_name).get(name)
    if child is None:
        raise NotPlain
    return [
        Branch((*above.steps, key), type_name, element=f"{above.type_name}.{name}") for key, type_name in child.options
    ]


def _filtered(branch: Branch, criteria: Expression) -> Branch:
    match criteria:
        case TypeTest(operator="is", operand=Call(source=None, name="resolve"), type_name=target):
            return replace(branch, target=target)
        case Binary(operator="=", left=Member(source=None, name=key), right=Literal(value=str(text))):
            return replace(branch, steps=(*branch.steps, (key, text)))
    raise NotPlain


def implicit_systems(element: str) -> str | None:
    """The value set of a code's required binding, which names the systems its codes come from."""
    try:
        binding = structure(element.partition(".")[0]).element(element).binding
    except KeyError:
        return None
    return binding.value_set if binding is not None and binding.strength == "required" else None


class Tree:
    """JSON keys to walk, with what is done at each; paths of several parameters share their beginnings."""

    def __init__(self) -> None:
        """An empty tree."""
        self.children: dict[str, Tree] = {}
        self.conditions: dict[tuple[str, str], Tree] = {}
        self.leaves: list[Leaf] = []

    def add(self, branch: Branch, leaf: Leaf) -> None:
        """Do `leaf` at the end of a branch."""
        node = self
        for step in branch.steps:
            if isinstance(step, str):
                node = node.children.setdefault(step, Tree())
            else:
                node = node.conditions.setdefault(step, Tree())
        node.leaves.append(leaf)

    def compiled(self) -> Leaf:
        """The walk as one function of a value, not of a list, and the sink."""
        leaves = _joined(self.leaves)
        conditions = tuple((key, wanted, tree.compiled()) for (key, wanted), tree in self.conditions.items())
        below = {key: tree.compiled() for key, tree in self.children.items()}
        if not below and not conditions:
            return leaves[0] if len(leaves) == 1 else _in_turn(leaves)
        return _visit(leaves, conditions, below)


def _visit(  # noqa: C901 - calls cost more than all else here
    leaves: tuple[Leaf, ...], conditions: tuple[tuple[str, str, Leaf], ...], below: dict[str, Leaf]
) -> Leaf:
    """What is done at a place, then below it; of a list, for each item."""
    find = below.get

    def visit(value: Any, sink: Any) -> None:
        for leaf in leaves:
            leaf(value, sink)
        if type(value) is not dict:
            return
        for key, wanted, conditional in conditions:
            if value.get(key) == wanted:
                conditional(value, sink)
        for key, child in value.items():
            walk = find(key)
            if walk is None:
                continue
            if type(child) is list:
                for item in child:
                    if item is not None:
                        walk(item, sink)
            else:
                walk(child, sink)

    return visit


def _joined(leaves: Sequence[Leaf]) -> tuple[Leaf, ...]:
    """The leaves of one place, those that can be done together as one."""
    joining = [leaf for leaf in leaves if isinstance(leaf, JoinedLeaf)]
    if not joining:
        return tuple(leaves)
    return (*(leaf for leaf in leaves if not isinstance(leaf, JoinedLeaf)), joining[0].joined(joining))


def _in_turn(leaves: tuple[Leaf, ...]) -> Leaf:
    def visit(value: Any, sink: Any) -> None:
        for leaf in leaves:
            leaf(value, sink)

    return visit
