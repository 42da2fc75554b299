"""Reads StructureDefinitions of profiles: a snapshot, or differentials one upon another.

https://hl7.org/fhir/R4/structuredefinition.html, https://hl7.org/fhir/R4/elementdefinition.html#id
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from ehr.definitions import constraints, type_names
from ehr.fhirpath import model
from ehr.validation.profiles.elements import (
    Discriminator,
    ElementRules,
    Profile,
    ProfileConstraint,
    Slicing,
    TypeRule,
)

OFFICIAL = "http://hl7.org/fhir/StructureDefinition/"
_EXTENSIONS = frozenset({"extension", "modifierExtension"})
_BY_URL = Slicing((Discriminator("value", "url"),))
_BY_TYPE = Slicing((Discriminator("type", "$this"),))


class UnusableProfileError(Exception):
    """The StructureDefinition is no profile that can be checked; the text says why."""


def official_type(canonical: str) -> str | None:
    """The type of R4 that a canonical names; None for a profile."""
    name = canonical.partition("|")[0].removeprefix(OFFICIAL)
    return name if name != canonical.partition("|")[0] and name in _types() else None


@cache
def _types() -> frozenset[str]:
    return frozenset(type_names())


@cache
def _known_constraints() -> frozenset[tuple[str, str]]:
    """Those of the base definitions, which snapshots repeat."""
    return frozenset((each.key, each.expression) for each in constraints())


def profile_of(chain: Sequence[Mapping[str, Any]], missing_base: str = "") -> Profile:
    """The profile that the last of `chain` defines, upon those before it; raises UnusableProfileError.

    `chain` begins with a snapshot, with a differential on a type of R4, or above `missing_base`.
    """
    last = chain[-1]
    type_name = last.get("type")
    if type(type_name) is not str or type_name not in _types():
        raise UnusableProfileError(f"it is about {str(type_name)[:100]!r}, which is no type of R4")
    if last.get("derivation") != "constraint":
        raise UnusableProfileError("it constrains no type, as its derivation says")
    tree = _Tree(type_name)
    for number, definition in enumerate(chain):
        elements = _elements(definition, "snapshot") if number == 0 else []
        tree.latest = {}
        for element in elements or _elements(definition, "differential"):
            tree.apply(element)
    return Profile(str(last.get("url", "")), type_name, tree.root, tree.is_modifier, missing_base)


def has_snapshot(definition: Mapping[str, Any]) -> bool:
    """Whether a definition says the whole without its base."""
    return bool(_elements(definition, "snapshot"))


def _elements(definition: Mapping[str, Any], member: str) -> list[Mapping[str, Any]]:
    listed: list[Mapping[str, Any]] = definition.get(member, {}).get("element", [])
    return listed


class _Tree:
    """The elements read so far."""

    def __init__(self, type_name: str) -> None:
        self.root = ElementRules(type_name, (type_name,))
        self.latest: dict[str, ElementRules] = {}
        """What stood last at each path: the parent of elements without ids."""
        self.is_modifier = False

    def apply(self, element: Mapping[str, Any]) -> None:
        """Add what one ElementDefinition asks."""
        path = str(element.get("path", ""))
        rules = self._found(element, path)
        if rules is self.root and "isModifier" in element:
            self.is_modifier = element["isModifier"] is True
        _take_counts(rules, element)
        _take_values(rules, element)
        _take_types(rules, element)
        _take_slicing(rules, element)
        for each in element.get("constraint", ()):
            _take_constraint(rules, each)
        self.latest[path] = rules

    def _found(self, element: Mapping[str, Any], path: str) -> ElementRules:
        parts = path.split(".")
        segments = str(element.get("id", "")).split(".")
        if [_name_of(each) for each in segments] == [_name_of(each) for each in parts]:
            rules = self.root
            for segment in segments[1:]:
                rules = _step(rules, segment)
            return rules
        parent, _, name = path.rpartition(".")
        if not parent:
            return self.root
        named = element.get("sliceName")
        rules = self.latest.get(parent) or self._along(parent)
        return _step(rules, f"{name}:{named}" if named else name)

    def _along(self, path: str) -> ElementRules:
        rules = self.root
        for name in path.split(".")[1:]:
            rules = _step(rules, name)
        return rules


def _name_of(segment: str) -> str:
    return segment.partition(":")[0].removesuffix("[x]")


def _step(rules: ElementRules, segment: str) -> ElementRules:
    """The child that a segment of an id names: `name`, `value[x]`, `valueQuantity`, `coding:loinc`."""
    name, _, slice_name = segment.partition(":")
    child, shortcut = _child(rules, name.removesuffix("[x]"))
    slice_name = slice_name or shortcut
    return _slice(child, slice_name) if slice_name else child


def _child(rules: ElementRules, name: str) -> tuple[ElementRules, str]:
    """A child, made where it is met first; and the slice of it that the name means, as `valueQuantity` does."""
    for type_name in _types_of(rules):
        children = model.children(type_name)
        found = children.get(name)
        if found is not None:
            return _made(rules, found), ""
        for child in children.values():
            if len(child.options) > 1 and any(key == name for key, _ in child.options):
                return _made(rules, child), name
    raise UnusableProfileError(f"its element {name[:100]!r} below {rules.name!r} is not in the base definition")


def _types_of(rules: ElementRules) -> Sequence[str]:
    """What the element may be, where the profile has said so already: its types there, else those of the base."""
    named = [kind.code for kind in rules.types or () if kind.code not in {"BackboneElement", "Element"}]
    return named or rules.possible


def _made(rules: ElementRules, child: model.Child) -> ElementRules:
    made = rules.children.get(child.name)
    if made is None:
        made = rules.children[child.name] = ElementRules(child.name, tuple(code for _, code in child.options))
        if child.name in _EXTENSIONS:
            made.slicing = _BY_URL
        elif len(child.options) > 1:
            made.slicing = _BY_TYPE
    return made


def _slice(rules: ElementRules, slice_name: str) -> ElementRules:
    """A slice; `a/b` is a slice of the slice `a` (https://hl7.org/fhir/R4/profiling.html#reslicing)."""
    outer, _, _ = slice_name.rpartition("/")
    if outer in rules.slices:
        rules = rules.slices[outer]
    made = rules.slices.get(slice_name)
    if made is None:
        made = rules.slices[slice_name] = ElementRules(rules.name, rules.possible, slice_name)
        kind = next((code for code in rules.possible if rules.name + code[0].upper() + code[1:] == slice_name), None)
        if kind is not None and len(rules.possible) > 1:
            made.types = (TypeRule(kind),)
    return made


def _take_counts(rules: ElementRules, element: Mapping[str, Any]) -> None:
    least, most = element.get("min"), element.get("max")
    if type(least) is int:
        rules.min = least
    if type(most) is str:
        rules.max = int(most) if most.isascii() and most.isdigit() and len(most) < 10 else None
    length = element.get("maxLength")
    if type(length) is int:
        rules.max_length = length


def _take_values(rules: ElementRules, element: Mapping[str, Any]) -> None:
    for key, value in element.items():
        if key.startswith("fixed"):
            rules.fixed = value
        elif key.startswith("pattern"):
            rules.pattern = value
        elif key.startswith("minValue"):
            rules.lowest = value
        elif key.startswith("maxValue"):
            rules.highest = value
    binding = element.get("binding", {})
    if binding.get("strength") == "required":
        rules.value_set = str(binding.get("valueSet", ""))


def _take_types(rules: ElementRules, element: Mapping[str, Any]) -> None:
    listed = element.get("type", ())
    if not listed or any(str(each.get("code", "")).startswith("http") for each in listed):
        return  # the System types of id and url, which no element of JSON has
    rules.types = tuple(
        TypeRule(str(each.get("code", "")), tuple(each.get("profile", ())), tuple(each.get("targetProfile", ())))
        for each in listed
    )


def _take_slicing(rules: ElementRules, element: Mapping[str, Any]) -> None:
    slicing = element.get("slicing")
    if slicing is None:
        return
    listed = tuple(
        Discriminator(str(each.get("type", "")), str(each.get("path", "")).replace("[x]", ""))
        for each in slicing.get("discriminator", ())
    )
    known = rules.slicing.discriminators if rules.slicing else ()
    rules.slicing = Slicing(listed or known, str(slicing.get("rules", "open")), slicing.get("ordered") is True)


def _take_constraint(rules: ElementRules, each: Mapping[str, Any]) -> None:
    key, expression = str(each.get("key", "")), each.get("expression")
    if type(expression) is not str or (key, expression) in _known_constraints() or key in {"ele-1", "ext-1"}:
        return
    severity: Literal["error", "warning"] = "warning" if each.get("severity") == "warning" else "error"
    rules.constraints[key] = ProfileConstraint(key, severity, str(each.get("human", "")), expression)
