"""The rules of members: primitives with their `_` siblings, objects, arrays of both, and resources within resources.

JSON's form of each: https://hl7.org/fhir/R4/json.html#primitive. A property is never null, an array never empty; inside
an array of primitives null stands where only the sibling array has something, and the other way round.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ehr.definitions import Constraint, Element, ElementType, codes_of, is_resource_type, structure
from ehr.validation import acceptance, narrative
from ehr.validation.attachments import check_attachment
from ehr.validation.bundles import check_entries
from ehr.validation.currencies import CURRENCIES
from ehr.validation.invariants import Rule, rules_of
from ehr.validation.primitives import (
    ABSOLUTE_URI,
    LANGUAGE_TAG,
    PRIMITIVES,
    REFERENCE,
    SCHEMED,
    Primitive,
    has_json_type,
    json_type_name,
)
from ehr.validation.references import bundle_targets, check_reference, contained_types, unreferenced_contained
from ehr.validation.report import Place, Scope
from ehr.validation.type_checker import MemberRule, TypeChecker, report_text, report_value

_LANGUAGES = "http://hl7.org/fhir/ValueSet/languages"
_NARROWER = {"Identifier.system": ABSOLUTE_URI, "Reference.reference": REFERENCE}
"""Elements of which the text of the specification asks more than their type says (SC-35)."""
_CURRENCIES = "http://hl7.org/fhir/ValueSet/currencies"


# --- primitives -------------------------------------------------------------------------------------------------


def add_primitive(checker: TypeChecker, element: Element, name: str, kind: ElementType, base: TypeChecker) -> None:
    """Add the rules of a primitive member and of its sibling; `base` checks Element."""
    primitive, code = _primitive_of(checker, element, kind)
    invariants = rules_of(element.constraints, kind.code, {})
    if element.path == "Narrative.div":
        checker.rules[name] = _narrative_rule(element.name)
        checker.acceptances[name] = acceptance.narrative
    elif element.repeats:
        checker.rules[name] = _primitive_array_rule(element, name, primitive, code, invariants)
        if not invariants:
            checker.acceptances[name] = acceptance.primitive_array(element, primitive)
    elif primitive.kind == "string" and not invariants:
        checker.texts[name] = (primitive.test, element.name, primitive.wants, code)
        if element.name != "id" or checker.is_resource:
            checker.tests[name] = acceptance.test_of(primitive)
    else:
        checker.rules[name] = _primitive_rule(element.name, primitive, code, invariants)
        if not invariants:
            checker.tests[name] = acceptance.test_of(primitive)
    if not _is_attribute(element):
        build = _sibling_array_rule if element.repeats else _sibling_rule
        checker.rules["_" + name] = build(element.name, name, base)


def _is_attribute(element: Element) -> bool:
    """Whether the element is a bare string, which cannot be extended: ids of elements, URLs of extensions."""
    return element.path in ("Extension.url", "Narrative.div") or (element.name == "id" and not element.summary)


def _primitive_of(checker: TypeChecker, element: Element, kind: ElementType) -> tuple[Primitive, str]:
    """The test of a primitive member, its binding included, and the issue code of a refusal."""
    primitive = PRIMITIVES[kind.code]
    if element.name == "id" and checker.is_resource:
        return PRIMITIVES["id"], "value"
    if element.path in _NARROWER:
        return _NARROWER[element.path], "value"
    if kind.code == "code" and element.binding is not None:
        if element.binding.value_set == _LANGUAGES:
            return LANGUAGE_TAG, "code-invalid"
        if element.binding.strength == "required":
            return _bound_code(element.binding.value_set) or primitive, "code-invalid"
    return primitive, "value"


def _bound_code(value_set: str) -> Primitive | None:
    """The test of a code with a required binding; None where the value set is no finite list."""
    if value_set == _CURRENCIES:
        return Primitive("string", CURRENCIES.__contains__, "a currency of ISO 4217")
    pairs = codes_of(value_set)
    if pairs is None:
        return None
    codes = frozenset(code for _, code in pairs)
    sample = ", ".join(sorted(codes)[:12]) + (", ..." if len(codes) > 12 else "")
    return Primitive("string", codes.__contains__, f"a code of {value_set} ({sample})")


def _check_value(value: Any, primitive: Primitive, code: str, place: Place, scope: Scope) -> bool:
    is_json_type = has_json_type(primitive, value)
    if is_json_type and primitive.test(value):
        return True
    report_value(value, place, primitive.wants, code, is_json_type=is_json_type, scope=scope)
    return False


def _check_invariants(value: Any, invariants: tuple[Rule, ...], place: Place, scope: Scope) -> None:
    for invariant in invariants:
        if not invariant.holds(value, scope.resource, scope.root):
            scope.report.add(place, "invariant", f"{invariant.key}: {invariant.human}")


def _primitive_rule(name: str, primitive: Primitive, code: str, invariants: tuple[Rule, ...]) -> MemberRule:
    def rule(value: Any, _node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        here = (place, name)
        if _check_value(value, primitive, code, here, scope) and invariants:
            _check_invariants(value, invariants, here, scope)

    return rule


def _narrative_rule(name: str) -> MemberRule:
    text = PRIMITIVES["xhtml"]

    def rule(value: Any, _node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        here = (place, name)
        if _check_value(value, text, "value", here, scope):
            problem = narrative.problem_of(value)
            if problem is not None:
                scope.report.add(here, "invariant", f"{problem[0]}: {problem[1]}")

    return rule


def _array_of(value: Any, place: Place, minimum: int, scope: Scope) -> list[Any]:
    """The items of what should be an array that is not empty; reports it where it is not."""
    if type(value) is not list:
        scope.report.add(place, "structure", f"{json_type_name(value).capitalize()} stands here; wanted: an array")
        return []
    if not value:
        scope.report.add(place, "structure", "An array may not be empty; leave the element out")
    elif len(value) < minimum:
        scope.report.add(place, "required", f"At least {minimum} are wanted here, found {len(value)}")
    return value


def _primitive_array_rule(
    element: Element, name: str, primitive: Primitive, code: str, invariants: tuple[Rule, ...]
) -> MemberRule:
    element_name, sibling_name = element.name, "_" + name

    def rule(value: Any, node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        siblings = node.get(sibling_name)
        for index, item in enumerate(_array_of(value, (place, element_name), element.min, scope)):
            here = (place, element_name, index)
            if item is None:
                if not _has_item(siblings, index):
                    scope.report.add(here, "structure", "null stands here without an id or extension beside it")
            elif _check_value(item, primitive, code, here, scope) and invariants:
                _check_invariants(item, invariants, here, scope)

    return rule


def _has_item(array: Any, index: int) -> bool:
    return type(array) is list and index < len(array) and array[index] is not None


def _check_sibling(value: Any, base: TypeChecker, place: Place, scope: Scope, *, has_value: bool) -> None:
    if type(value) is dict and len(value) == 1 and has_value and type(value.get("id")) is str and value["id"]:
        scope.note_element_id(value["id"], place)
    elif type(value) is not dict:
        problem = f"{json_type_name(value).capitalize()} stands here; wanted: an object with id or extension"
        scope.report.add(place, "structure", problem)
    elif not value or (not has_value and "extension" not in value):
        scope.report.add(place, "invariant", "ele-1: An element must have a value or children besides its id")
    elif len(value) == 1 and "id" in value:
        report_text(value["id"], base.texts["id"], place, scope)
    else:
        base.check(value, place, scope)


def _sibling_rule(element_name: str, name: str, base: TypeChecker) -> MemberRule:
    def rule(value: Any, node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        _check_sibling(value, base, (place, element_name), scope, has_value=name in node)

    return rule


def _sibling_array_rule(element_name: str, name: str, base: TypeChecker) -> MemberRule:
    def rule(value: Any, node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        values = node.get(name)
        for index, item in enumerate(_array_of(value, (place, element_name), 0, scope)):
            here = (place, element_name, index)
            has_value = _has_item(values, index)
            if item is not None:
                _check_sibling(item, base, here, scope, has_value=has_value)
            elif not has_value and not (type(values) is list and index < len(values)):
                scope.report.add(here, "structure", "null stands here without a value beside it")

    return rule


# --- objects ----------------------------------------------------------------------------------------------------


def add_complex(checker: TypeChecker, element: Element, name: str, inner: TypeChecker, kind: ElementType) -> None:
    """Add the rule of a member that is an object, or an array of them, checked by `inner`."""
    item_check, accepts_item = _item_check(element, inner, kind)
    element_name = element.name

    def one(value: Any, _node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        here = (place, element_name)
        if value.__class__ is dict:
            item_check(value, here, scope)
        else:
            problem = f"{json_type_name(value).capitalize()} stands here; wanted: an object"
            scope.report.add(here, "structure", problem)

    def array(value: Any, _node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        for index, item in enumerate(_array_of(value, (place, element_name), element.min, scope)):
            here = (place, element_name, index)
            if item.__class__ is dict:
                item_check(item, here, scope)
            else:
                problem = f"{json_type_name(item).capitalize()} stands here; wanted: an object"
                scope.report.add(here, "structure", problem)

    checker.rules[name] = array if element.repeats else one
    checker.acceptances[name] = acceptance.objects(element, accepts_item)


ItemCheck = Callable[[Mapping[str, Any], Place, Scope], None]


def _item_check(element: Element, inner: TypeChecker, kind: ElementType) -> tuple[ItemCheck, acceptance.Acceptance]:
    """What is checked of one object: its type, and what the element itself adds to that; and what surely passes it."""
    own = _own_constraints(element, kind)
    for profile in kind.profiles:
        known = {c.key for c in structure(kind.code).root.constraints}
        own += tuple(c for c in structure(profile).root.constraints if c.key not in known)
    added: list[ItemCheck] = []
    tests: list[acceptance.Acceptance] = []
    if kind.code == "Extension" and element.path != "Extension.extension":
        added.append(_check_outer_extension)
        tests.append(acceptance.outer_extension)
    if kind.code in _ADDED_CHECKS:
        added.append(_ADDED_CHECKS[kind.code])
        tests.append(acceptance.ADDED[kind.code])
    if kind.code == "Reference":
        added.append(lambda node, place, scope: check_reference(node, kind.targets, place, scope))
        tests.append(acceptance.reference(kind))
    if kind.code == "CodeableConcept" and element.binding and element.binding.strength == "required":
        codes = codes_of(element.binding.value_set)
        added.append(lambda node, place, scope: _check_concept(node, codes, element, place, scope))
        tests.append(acceptance.concept(codes))
    if invariants := rules_of(own, element.content_reference or kind.code, {}):
        added.append(lambda node, place, scope: _check_invariants(node, invariants, place, scope))
        tests.append(acceptance.invariants(invariants))
    accepts = acceptance.with_tests(inner.accepts, tuple(tests))
    if not added:
        return inner.check, accepts

    def check(node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        inner.check(node, place, scope)
        for each in added:
            each(node, place, scope)

    return check, accepts


def _check_outer_extension(node: Mapping[str, Any], place: Place, scope: Scope) -> None:
    """Extensions on elements other than extensions have absolute URLs (https://hl7.org/fhir/R4/extensibility.html)."""
    url = node.get("url")
    if url.__class__ is str and url[:4] != "http" and not ABSOLUTE_URI.test(url):
        report_value(url, (place, "url"), ABSOLUTE_URI.wants, "value", is_json_type=True, scope=scope)


def _check_identifier(node: Mapping[str, Any], place: Place, scope: Scope) -> None:
    """An Identifier whose system says that its value is a URI has one (https://hl7.org/fhir/R4/datatypes.html#uri)."""
    value = node.get("value")
    if node.get("system") == "urn:ietf:rfc:3986" and type(value) is str and not SCHEMED.test(value):
        report_value(value, (place, "value"), SCHEMED.wants, "value", is_json_type=True, scope=scope)


_ADDED_CHECKS: dict[str, ItemCheck] = {"Identifier": _check_identifier, "Attachment": check_attachment}


_BACKBONE = frozenset(("BackboneElement", "Element"))


def _own_constraints(element: Element, kind: ElementType) -> tuple[Constraint, ...]:
    """The constraints of the element that its type's checker does not run already."""
    if element.content_reference:
        referenced = structure(element.content_reference.partition(".")[0]).element(element.content_reference)
        return tuple(c for c in element.constraints if c not in referenced.constraints)
    if kind.code in _BACKBONE:
        return ()
    return tuple(c for c in element.constraints if c.key != "ext-1")


def _check_concept(
    node: Mapping[str, Any], codes: frozenset[tuple[str, str]] | None, element: Element, place: Place, scope: Scope
) -> None:
    """A CodeableConcept of a required binding: one coding from the value set, unless only extensions stand for it.

    Where the value set is no finite list (`codes` is None), any code will do, but text alone will not (SC-31).
    """
    coding = node.get("coding")
    if coding is None and "text" not in node:
        return
    for candidate in coding if type(coding) is list else ():
        if type(candidate) is not dict or type(code := candidate.get("code")) is not str:
            continue
        system = candidate.get("system")
        if codes is None or (type(system) is str and (system, code) in codes):
            return
    value_set = element.binding.value_set if element.binding else ""
    listed = ", ".join(sorted(code for _, code in codes or ())[:12]) or "no finite list"
    scope.report.add(place, "code-invalid", f"None of the codings is from {value_set} ({listed}), which is required")


# --- resources within resources ---------------------------------------------------------------------------------


def add_resource(checker: TypeChecker, element: Element, name: str, checker_of: Callable[[str], TypeChecker]) -> None:
    """Add the rule of `contained`, or of a Bundle's or Parameters' resource."""
    element_name = element.name

    def contained(value: Any, _node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        seen: set[str] = set()
        for index, item in enumerate(_array_of(value, (place, element_name), 0, scope)):
            here = (place, element_name, index)
            inner_checker = _checker_for(item, here, scope, checker_of)
            if inner_checker is not None:
                inner = Scope(
                    scope.report, item, scope.root, scope.contained, scope.targets, conditional=scope.conditional
                )
                inner_checker.check(item, here, inner)
                _check_contained_id(item, seen, here, scope)

    def standing_alone(value: Any, _node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        here = (place, element_name)
        inner_checker = _checker_for(value, here, scope, checker_of)
        if inner_checker is not None:
            check_resource(inner_checker, value, here, scope)

    def accepts_typed(item: Any, around: acceptance.Around) -> bool:
        resource_type = item.get("resourceType") if type(item) is dict else None
        known = type(resource_type) is str and is_resource_type(resource_type) and resource_type != "Bundle"
        return known and checker_of(str(resource_type)).accepts(item, around)

    checker.rules[name] = contained if element.repeats else standing_alone
    if element.repeats:
        checker.acceptances[name] = acceptance.contained(accepts_typed)


def _checker_for(
    value: Any, place: Place, scope: Scope, checker_of: Callable[[str], TypeChecker]
) -> TypeChecker | None:
    """The checker of a resource by its resourceType; reports where there is none."""
    if type(value) is not dict:
        scope.report.add(place, "structure", f"{json_type_name(value).capitalize()} stands here; wanted: a resource")
        return None
    resource_type = value.get("resourceType")
    if type(resource_type) is not str or not is_resource_type(resource_type):
        known = "resourceType must be there" if resource_type is None else f"{str(resource_type)[:100]!r} is none"
        scope.report.add((place, "resourceType"), "structure", f"A resource needs a resource type of R4: {known}")
        return None
    return checker_of(resource_type)


def _check_contained_id(item: Mapping[str, Any], seen: set[str], place: Place, scope: Scope) -> None:
    identity = item.get("id")
    if identity is None:
        scope.report.add((place, "id"), "required", "A contained resource must have an id")
    elif type(identity) is str and identity in seen:
        scope.report.add((place, "id"), "structure", f"The id {identity[:100]!r} is given to two contained resources")
    elif type(identity) is str:
        seen.add(identity)


def check_resource(checker: TypeChecker, resource: Mapping[str, Any], place: Place, outer: Scope) -> None:
    """Check a resource that stands by itself or in a Bundle or Parameters: references resolve against it."""
    targets = bundle_targets(resource) if checker.path == "Bundle" else outer.targets
    contained = contained_types(resource) if "contained" in resource else {}
    conditional = resource.get("type") == "transaction" if checker.path == "Bundle" else outer.conditional
    scope = Scope(outer.report, resource, resource, contained, targets, conditional=conditional)
    checker.check(resource, place, scope)
    if checker.path == "Bundle":
        check_entries(resource, place, scope)
    if contained:
        _check_unreferenced(resource, place, scope)


def _check_unreferenced(resource: Mapping[str, Any], place: Place, scope: Scope) -> None:
    for position in unreferenced_contained(resource):
        problem = "dom-3: Nothing in the resource refers to this contained resource, and it refers to nothing around it"
        scope.report.add((place, "contained", position), "invariant", problem)
