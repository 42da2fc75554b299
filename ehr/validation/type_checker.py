"""The checker of one type: what its members must be, what must be there, and the invariants that hold for it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ehr.validation.acceptance import Acceptance, Around
from ehr.validation.invariants import Holds, Rule
from ehr.validation.primitives import Test, json_type_name
from ehr.validation.report import Place, Scope

TextRule = tuple[Test, str, str, str]
"""The test of a text, the element's name, what it asks for in words, and the issue code of a refusal."""

MemberRule = Callable[[Any, Mapping[str, Any], Place, Scope], None]
"""Checks one member: its value, the object that holds it, that object's place, the scope."""


class Shape(NamedTuple):
    """What `TypeChecker.accepts` asks of objects with the same members, which most objects of a type are."""

    tests: tuple[tuple[str, Test], ...]
    acceptances: tuple[tuple[str, Acceptance], ...]
    invariants: tuple[Holds, ...]


_UNSEEN = Shape((), (), ())
_MOST_SHAPES = 1000


class TypeChecker:
    """Checks objects of one type or backbone element; filled by `checkers.checker_of`."""

    __slots__ = (
        *("choice_names", "choices", "invariants", "is_resource", "path", "required", "rules", "texts"),
        *("acceptances", "choice_values", "present", "present_choices", "tests", "_shapes"),
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.is_resource = False
        self.texts: dict[str, TextRule] = {}
        """Members that hold one text."""
        self.rules: dict[str, MemberRule] = {}
        self.required: tuple[tuple[str, tuple[str, ...]], ...] = ()
        """Elements that must be there: name and the members in which they may stand, extensions included (SC-30)."""
        self.choices: tuple[tuple[str, frozenset[str]], ...] = ()
        self.choice_names: frozenset[str] = frozenset()
        self.invariants: tuple[Rule, ...] = ()
        self.tests: dict[str, Test] = {}
        """What `accepts` asks of members that hold one primitive; the rest of the members are in `acceptances`."""
        self.acceptances: dict[str, Acceptance] = {}
        self.present: frozenset[str] = frozenset()
        """The members that must be there, and `present_choices` those of which one must."""
        self.present_choices: tuple[frozenset[str], ...] = ()
        self.choice_values: tuple[frozenset[str], ...] = ()
        """The members of each choice; only one of them may be there."""
        self._shapes: dict[tuple[str, ...], Shape | None] = {}

    def accepts(self, node: Mapping[str, Any], around: Around) -> bool:
        """Whether `node` surely has no problem; may raise TypeError in doubt."""
        names = tuple(node)
        shape = self._shapes.get(names, _UNSEEN)
        if shape is _UNSEEN:
            shape = self._new_shape(names)
        if shape is None:
            return False
        tests, acceptances, invariants = shape
        for name, test in tests:
            if not test(node[name]):
                return False
        for name, acceptance in acceptances:
            if not acceptance(node[name], around):
                return False
        for holds in invariants:  # noqa: SIM110 - a generator for each object costs more than most loops
            if not holds(node, around.resource, around.root):
                return False
        return True

    def _new_shape(self, names: tuple[str, ...]) -> Shape | None:
        shape = self._shape(names)
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        self._shapes[names] = shape
        return shape

    def _shape(self, names: tuple[str, ...]) -> Shape | None:
        """What is to be asked of an object with these members; None where there is a doubt about them."""
        members = frozenset(names)
        if not members or not members >= self.present or not members <= self.tests.keys() | self.acceptances.keys():
            return None
        if any(choice.isdisjoint(members) for choice in self.present_choices):
            return None
        if any(len(choice & members) > 1 for choice in self.choice_values):
            return None
        return Shape(
            tuple((name, self.tests[name]) for name in names if name in self.tests),
            tuple((name, self.acceptances[name]) for name in names if name in self.acceptances),
            tuple(rule.holds for rule in self.invariants if not rule.guard or not rule.guard.isdisjoint(members)),
        )

    def check(self, node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        """Report every problem of `node`, which stands at `place`."""
        texts, rules = self.texts, self.rules
        for key, value in node.items():
            text = texts.get(key)
            if text is not None:
                if value.__class__ is not str or not text[0](value):
                    report_text(value, text, place, scope)
                continue
            rule = rules.get(key)
            if rule is not None:
                rule(value, node, place, scope)
            else:
                scope.report.add((place, key), "structure", f"{self.path} has no element {key[:100]!r}")
        self._check_whole(node, place, scope)

    def _check_whole(self, node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        """What concerns several members at once."""
        if "id" in node and not self.is_resource:
            scope.note_element_id(node["id"], place)
        if not node or (len(node) == 1 and "id" in node and not self.is_resource):
            scope.report.add(place, "invariant", "ele-1: An element must have a value or children besides its id")
        for name, wire_names in self.required:
            if wire_names[0] not in node and not any(wire_name in node for wire_name in wire_names):
                scope.report.add((place, name), "required", f"{self.path}.{name} must be there")
        if self.choice_names and len(self.choice_names & node.keys()) > 1:
            self._check_choices(node, place, scope)
        for invariant in self.invariants:
            if invariant.guard and invariant.guard.isdisjoint(node):
                continue
            if not invariant.holds(node, scope.resource, scope.root):
                scope.report.add(place, "invariant", f"{invariant.key}: {invariant.human}")

    def _check_choices(self, node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        for name, wire_names in self.choices:
            found = sorted({key.removeprefix("_") for key in wire_names & node.keys()})
            if len(found) > 1:
                problem = f"{self.path}.{name}[x] may have one type, not several: {', '.join(found)}"
                scope.report.add((place, name), "structure", problem)


def report_text(value: Any, rule: TextRule, place: Place, scope: Scope) -> None:
    """Report a member that is not the text it should be; `place` is that of the object around it."""
    _, name, wants, code = rule
    report_value(value, (place, name), wants, code, is_json_type=type(value) is str, scope=scope)


def report_value(value: Any, place: Place, wants: str, code: str, *, is_json_type: bool, scope: Scope) -> None:
    """Report a primitive value that stands at `place`, by what is wrong with it."""
    if not is_json_type:
        scope.report.add(place, "structure", f"{json_type_name(value).capitalize()} stands here; wanted: {wants}")
    elif value == "":
        scope.report.add(place, "value", "A text may not be empty; leave the element out")
    else:
        scope.report.add(place, code, f"{str(value)[:100]!r} is not {wants}")
