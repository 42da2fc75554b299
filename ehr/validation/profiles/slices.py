"""Which slice an element is in.

https://hl7.org/fhir/R4/profiling.html#discriminator
"""

import re
from collections.abc import Callable, Sequence

from ehr.fhirpath import FhirPathError, compile, model  # noqa: A004 - the name of what it does
from ehr.fhirpath.nodes import Node, child_nodes
from ehr.validation.profiles.elements import ABSENT, Discriminator, ElementRules, TypeRule
from ehr.validation.profiles.findings import Known, fits, same
from ehr.validation.profiles.reading import official_type

_STEP = re.compile(r"(?P<name>\$?\w+)(?:\((?P<argument>[^)]*)\))?")
Conforms = Callable[[Node, tuple[str, ...]], bool]
"""Whether an element meets one of the profiles."""


class Slices:
    """Tells slices apart within one resource."""

    def __init__(self, known: Known, resource: object, root: object, conforms: Conforms) -> None:
        self._known = known
        self._resource = resource
        self._root = root
        self._conforms = conforms

    def holds(self, rules: ElementRules, node: Node, discriminators: Sequence[Discriminator]) -> bool:
        """Whether an element is in a slice: every discriminator says so about which the slice says anything."""
        said = [self._met(each, rules, node) for each in discriminators]
        return False not in said and True in said

    def _met(self, discriminator: Discriminator, rules: ElementRules, node: Node) -> bool | None:
        """None where the slice asks nothing of what the discriminator selects."""
        found = self._selected(discriminator.path, node)
        wanted = self._rules_at(rules, discriminator.path)
        match discriminator.kind:
            case "exists":
                if any(each.max == 0 for each in wanted):
                    return not found
                return bool(found) if any(each.min for each in wanted) else None
            case "type":
                kinds = [kind for each in wanted for kind in each.types or ()]
                return any(self._is_of(each, kinds, discriminator.path) for each in found) if kinds else None
            case "profile":
                named = tuple(name for each in wanted for kind in each.types or () for name in kind.profiles)
                return any(self._conforms(each, named) for each in found) if named else None
            case _:
                return self._has_value(discriminator.path, rules, wanted, found)

    def _selected(self, path: str, node: Node) -> list[Node]:
        try:
            items = compile(path or "$this", context_type=node.type).items(
                node, resource=self._resource, root=self._root
            )
        except FhirPathError:
            return []
        return [item for item in items if isinstance(item, Node)]

    def _rules_at(self, rules: ElementRules, path: str) -> list[ElementRules]:
        """What the slice asks of the element that a discriminator's path leads to."""
        here = [rules]
        for step in _STEP.finditer(path):
            name, is_call, argument = step["name"], step["argument"] is not None, (step["argument"] or "").strip("'\"")
            if name == "$this" or (is_call and name == "resolve"):
                continue
            if is_call and name == "extension":
                here = [
                    found for each in here for outer in self._children(each, "extension")
                    for found in outer.slices.values() if argument in self._urls(found)
                ]  # fmt: skip
            elif is_call and name == "ofType":
                here = [found for each in here for found in (each, *each.slices.values()) if _may_be(found, argument)]
            elif not is_call:
                here = [found for each in here for found in self._children(each, name)]
        return here

    def _children(self, rules: ElementRules, name: str) -> list[ElementRules]:
        """The child in the slice itself, or in the profiles that its types name."""
        if name in rules.children:
            return [rules.children[name]]
        named = (self._known.profiles.get(each) for kind in rules.types or () for each in kind.profiles)
        return [each.root.children[name] for each in named if each is not None and name in each.root.children]

    def _urls(self, rules: ElementRules) -> set[str]:
        """The URLs that an Extension of this slice may have."""
        fixed = {each.fixed for each in self._children(rules, "url") if isinstance(each.fixed, str)}
        return fixed or {each.partition("|")[0] for kind in rules.types or () for each in kind.profiles}

    def _has_value(self, path: str, rules: ElementRules, wanted: list[ElementRules], found: list[Node]) -> bool | None:
        if path == "url" and "Extension" in rules.possible:
            urls = self._urls(rules)
            return any(each.value in urls for each in found)
        asking = [each for each in wanted if self._says(each)]
        return all(any(self.has_values(each, node) for node in found) for each in asking) if asking else None

    def _is_of(self, node: Node, kinds: Sequence[TypeRule], path: str) -> bool:
        if path.endswith("resolve()"):
            targets = {self.type_of_target(each) for kind in kinds for each in kind.targets}
            return node.type in targets
        return any(model.is_subtype(node.type, kind.code) for kind in kinds)

    def type_of_target(self, canonical: str) -> str:
        """The resource type that a targetProfile means; "Resource" where the profile is not known here."""
        profile = self._known.profiles.get(canonical)
        return official_type(canonical) or (profile.type if profile is not None else "Resource")

    def _says(self, rules: ElementRules) -> bool:
        return any(
            each.fixed is not ABSENT or each.pattern is not ABSENT or self._known.value_sets.get(each.value_set)
            for each in rules.every()
        )

    def has_values(self, rules: ElementRules, node: Node) -> bool:
        """Whether an element has the fixed values, patterns and codes that are asked for, itself and below."""
        if rules.fixed is not ABSENT and not same(node.value, rules.fixed):
            return False
        if rules.pattern is not ABSENT and not fits(node.value, rules.pattern):
            return False
        has = self._known.value_sets.get(rules.value_set)
        if has is not None and not any(has(system, code) for system, code in codes_in(node)):
            return False
        for child in rules.children.values():
            nodes = [each for each in child_nodes(node, child.name) or () if isinstance(each, Node)]
            needed = [each for each in child.slices.values() if each.min]
            asking = [each for each in (_alone(child), *needed) if self._says(each)]
            if not all(any(self.has_values(each, one) for one in nodes) for each in asking):
                return False
        return True


def _alone(rules: ElementRules) -> ElementRules:
    """The element's own rules, without those of its slices."""
    return ElementRules(
        rules.name,
        rules.possible,
        fixed=rules.fixed,
        pattern=rules.pattern,
        value_set=rules.value_set,
        children=rules.children,
    )


def _may_be(rules: ElementRules, type_name: str) -> bool:
    kinds = rules.types
    return kinds is None or any(kind.code == type_name for kind in kinds)


def codes_in(node: Node) -> list[tuple[str | None, str]]:
    """The (system, code) pairs of a code, Coding, CodeableConcept or Quantity; a bare code has no system."""
    value = node.value
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return []
    if node.type == "CodeableConcept":
        listed = value.get("coding")
        codings = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    else:
        codings = [value]
    return [(str(each.get("system", "")), each["code"]) for each in codings if isinstance(each.get("code"), str)]
