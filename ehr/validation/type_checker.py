"""The checker of one type: what its members must be, what must be there, and the invariants that hold for it."""

from collections.abc import Callable, Mapping
from typing import Any

from ehr.validation.acceptance import Acceptance, Around
from ehr.validation.invariants import Rule
from ehr.validation.primitives import Test, json_type_name
from ehr.validation.report import Place, Scope

TextRule = tuple[Test, str, str, str]
"""The test of a text, the element's name, what it asks for in words, and the issue code of a refusal."""

MemberRule = Callable[[Any, Mapping[str, Any], Place, Scope], None]
"""Checks one member: its value, the object that holds it, that object's place, the scope."""


class TypeChecker:
    """Checks objects of one type or backbone element; filled by `checkers.checker_of`."""

    __slots__ = (
        *("choice_names", "choices", "invariants", "is_resource", "path", "required", "rules", "texts"),
        *("acceptances", "choice_values", "present", "present_choices", "tests"),
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

    def accepts(self, node: Mapping[str, Any], around: Around) -> bool:  # noqa: C901, PLR0911 - one flat walk, for speed
        """Whether `node` surely has no problem; may raise TypeError in doubt."""
        tests, acceptances = self.tests, self.acceptances
        for key, value in node.items():
            test = tests.get(key)
            if test is not None:
                if not test(value):
                    return False
                continue
            acceptance = acceptances.get(key)
            if acceptance is None or not acceptance(value, around):
                return False
        members = node.keys()
        if not members >= self.present or not node:
            return False
        for choice in self.present_choices:
            if choice.isdisjoint(members):
                return False
        for choice in self.choice_values:
            if len(choice & members) > 1:
                return False
        for invariant in self.invariants:
            if invariant.guard and invariant.guard.isdisjoint(members):
                continue
            if not invariant.holds(node, around.resource, around.root):
                return False
        return True

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
