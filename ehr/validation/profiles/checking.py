"""Checks a resource against profiles: what they ask beyond the base definitions.

https://hl7.org/fhir/R4/profiling.html, https://hl7.org/fhir/R4/validation.html
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ehr.fhirpath import FhirPathError, compile, invariant, model  # noqa: A004 - the name of what it does
from ehr.fhirpath.nodes import Node, child_nodes
from ehr.fhirpath.operators import truth
from ehr.validation.profiles.elements import ABSENT, ElementRules, Profile, Slicing, TypeRule
from ehr.validation.profiles.findings import Clock, Findings, Known, fits, same
from ehr.validation.profiles.reading import official_type
from ehr.validation.profiles.slices import Slices, codes_in
from ehr.validation.references import contained_types, type_of_reference
from ehr.validation.report import Place, Report, Scope

_WITHOUT_COMPARATOR = frozenset({"SimpleQuantity", "MoneyQuantity"})
_UNBOUNDED = Slicing()
Items = Sequence[tuple[Node, Place]]


class Checking:
    """One check of one resource, contained ones included by calls of their own."""

    def __init__(
        self, known: Known, resource: Mapping[str, Any], root: Mapping[str, Any], findings: Findings, clock: Clock
    ) -> None:
        """Take %resource and %rootResource, and where findings go."""
        self._known = known
        self._resource = resource
        self._root = root
        self._findings = findings
        self._clock = clock
        self._slices = Slices(known, resource, root, lambda node, named: self._meets(node, ("",), named))
        self._scope = Scope(Report(), resource, root, contained_types(root), {})
        self._active: set[tuple[int, str]] = set()

    def profile(self, profile: Profile, node: Node, place: Place) -> None:
        """Report what a profile asks of a resource or element and does not find."""
        mark = (id(node.value), profile.url)
        if mark in self._active:
            return  # the profile names itself
        self._active.add(mark)
        try:
            if not model.is_subtype(node.type, profile.type):
                text = f"The profile {profile.url} is about {profile.type}, and this is {node.type}"
                self._findings.add(place, "structure", text)
                return
            self._item(profile.root, node, place)
        finally:
            self._active.discard(mark)

    def _item(self, rules: ElementRules, node: Node, place: Place) -> None:
        """One element: what it is, what it holds, what is below."""
        self._clock.tick()
        if rules.types is not None:
            self._type(rules.types, node, place)
        self._value(rules, node, place)
        if rules.value_set:
            self._binding(rules.value_set, node, place)
        for constraint in rules.constraints.values():
            self._clock.tick()
            try:
                kept = invariant(constraint.expression, node.type)(node, self._resource, self._root)
            except FhirPathError as error:
                text = f"{constraint.key} cannot be evaluated here: {error}"
                self._findings.add(place, "not-supported", text, "warning")
                continue
            if not kept:
                self._findings.add(place, "invariant", f"{constraint.key}: {constraint.human}", constraint.severity)
        for child in rules.children.values():
            found = [each for each in child_nodes(node, child.name) or () if isinstance(each, Node)]
            self._group(child, [(each, _place(node, child.name, n, place)) for n, each in enumerate(found)], place)

    def _group(self, rules: ElementRules, items: Items, parent: Place) -> None:
        """All repetitions of an element or slice."""
        self._count(rules, len(items), parent)
        for node, place in items:
            self._item(rules, node, place)
        if rules.slices:
            self._sliced(rules, items, parent)

    def _count(self, rules: ElementRules, number: int, parent: Place) -> None:
        what = f"{rules.name}:{rules.slice_name}" if rules.slice_name else rules.name
        if rules.min and number < rules.min:
            text = f"{what} must be there {rules.min} times or more; found {number}"
            self._findings.add((parent, rules.name), "required", text)
        if rules.max is not None and number > rules.max:
            text = f"{what} may be there {rules.max} times at most; found {number}"
            self._findings.add((parent, rules.name), "structure", text)

    def _sliced(self, rules: ElementRules, items: Items, parent: Place) -> None:
        slicing = rules.slicing or _UNBOUNDED
        names = list(rules.slices)
        places = [self._slice_of(rules, slicing, node) for node, _ in items]
        for name, each in rules.slices.items():
            self._group(each, [item for item, found in zip(items, places, strict=True) if found == name], parent)
        last = max((n for n, found in enumerate(places) if found), default=-1)
        for n, found in enumerate(places):
            if not found and (slicing.rules == "closed" or (slicing.rules == "openAtEnd" and n < last)):
                where = "here" if slicing.rules == "closed" else "before the last of them"
                text = f"This is in none of the slices {', '.join(names)}, and nothing else may stand {where}"
                self._findings.add(items[n][1], "structure", text)
        order = [names.index(found) for found in places if found]
        if slicing.ordered and order != sorted(order):
            text = f"The slices stand in another order than {', '.join(names)}"
            self._findings.add((parent, rules.name), "structure", text)

    def _slice_of(self, rules: ElementRules, slicing: Slicing, node: Node) -> str:
        """The first slice that an element is in; without discriminators, the first that it meets wholly."""
        for name, each in rules.slices.items():
            self._clock.tick()
            if slicing.discriminators:
                if self._slices.holds(each, node, slicing.discriminators):
                    return name
            elif not self._tried(partial(self._item, each, node, ("",))).refuses:
                return name
        return ""

    def _tried(self, check: Callable[[], None]) -> Findings:
        """What a check would find; nothing is reported."""
        kept, self._findings = self._findings, Findings()
        try:
            check()
            return self._findings
        finally:
            self._findings = kept

    # --- types and references -----------------------------------------------------------------------------------

    def _type(self, types: tuple[TypeRule, ...], node: Node, place: Place) -> None:
        fitting = [kind for kind in types if model.is_subtype(node.type, kind.code)]
        if not fitting:
            wanted = ", ".join(kind.code for kind in types)
            self._findings.add(place, "structure", f"{node.type} may not stand here, only {wanted}")
            return
        profiles = () if any(not kind.profiles for kind in fitting) else fitting
        named = tuple(each for kind in profiles for each in kind.profiles)
        if len(named) == 1:
            self._named(named[0], node, place)
        elif named and not self._meets(node, place, named):
            text = f"None of the profiles is met that are allowed here: {', '.join(named)}"
            self._findings.add(place, "structure", text)
        targets = [each for kind in fitting if kind.code in {"Reference", "canonical"} for each in kind.targets]
        if targets and any(kind.code == "Reference" for kind in fitting):
            self._reference(targets, node, place)

    def _named(self, canonical: str, node: Node, place: Place) -> None:
        """One profile that the element must meet."""
        profile = self._known.profiles.get(canonical)
        kind = official_type(canonical)
        if profile is not None:
            self.profile(profile, node, place)
        elif kind is None:
            text = f"The profile {canonical[:200]} is not stored here, so that it was not checked"
            self._findings.add(place, "not-found", text, "warning")
        elif kind in _WITHOUT_COMPARATOR and isinstance(node.value, dict) and "comparator" in node.value:
            self._findings.add((place, "comparator"), "structure", f"A {kind} has no comparator")
        elif kind not in _WITHOUT_COMPARATOR and not model.is_subtype(node.type, kind):
            self._findings.add(place, "structure", f"{node.type} stands here; wanted: {kind}")

    def _meets(self, node: Node, place: Place, named: Sequence[str]) -> bool:
        return any(not self._tried(partial(self._named, each, node, place)).refuses for each in named)

    def _reference(self, targets: Sequence[str], node: Node, place: Place) -> None:
        """The type that a reference names must be one of those that the profile allows."""
        value = node.value if isinstance(node.value, dict) else {}
        text, stated = value.get("reference"), value.get("type")
        named = type_of_reference(text, self._scope) if isinstance(text, str) else None
        named = named or (stated if isinstance(stated, str) and model.is_known(stated) else None)
        allowed = {self._slices.type_of_target(each) for each in targets}
        if named is not None and not any(model.is_subtype(named, each) for each in allowed):
            problem = f"A reference to {named} may not stand here, only to {', '.join(sorted(allowed))}"
            self._findings.add(place, "structure", problem)

    # --- values -------------------------------------------------------------------------------------------------

    def _value(self, rules: ElementRules, node: Node, place: Place) -> None:
        value = node.value
        if rules.fixed is not ABSENT and not same(value, rules.fixed):
            self._findings.add(place, "value", f"The value must be {_shown(rules.fixed)}")
        if rules.pattern is not ABSENT and not fits(value, rules.pattern):
            self._findings.add(place, "value", f"The value must have {_shown(rules.pattern)}")
        if rules.max_length is not None and isinstance(value, str) and len(value) > rules.max_length:
            self._findings.add(place, "too-long", f"A text of {rules.max_length} characters at most may stand here")
        if rules.lowest is not ABSENT and _lies(node, "<", rules.lowest):
            self._findings.add(place, "value", f"The value must be {_shown(rules.lowest)} or more")
        if rules.highest is not ABSENT and _lies(node, ">", rules.highest):
            self._findings.add(place, "value", f"The value must be {_shown(rules.highest)} or less")

    def _binding(self, value_set: str, node: Node, place: Place) -> None:
        has = self._known.value_sets.get(value_set)
        if has is None:
            text = f"The value set {value_set[:200]} is not known here as a list of codes; the code was not checked"
            self._findings.add(place, "not-supported", text, "warning")
            return
        codes = codes_in(node)
        if node.value is None or any(has(system, code) for system, code in codes):
            return
        if not codes and isinstance(node.value, dict) and not node.value.keys() - {"id", "extension"}:
            return  # only extensions stand for it
        text = f"None of the codes is from {value_set[:200]}, which is required" if codes else (
            f"A code from {value_set[:200]} is required"
        )  # fmt: skip
        self._findings.add(place, "code-invalid", text)


def _place(node: Node, name: str, position: int, parent: Place) -> Place:
    child = model.children(node.type).get(name)
    return (parent, name, position) if child is not None and child.many else (parent, name)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in list(value.items())[:8])[:200]
    if isinstance(value, list):
        return "; ".join(map(_shown, value[:4]))[:200]
    return repr(value) if isinstance(value, str) and len(value) <= 100 else str(value)[:100]


def _lies(node: Node, comparison: str, bound: Any) -> bool:
    """Whether a value surely lies below or above a bound of its type, as FHIRPath compares them."""
    compared = compile(f"$this {comparison} %bound", context_type=node.type)
    try:
        found = compared.items(node, variables={"bound": Node(bound, node.type)})
    except FhirPathError:
        return False
    return truth(found, "a bound") is True
