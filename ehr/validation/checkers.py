"""Checkers of types, made from the definitions when a type is first met and kept.

A checker goes once through the members of a JSON object: texts are tested through one table, everything else by a rule
per member; then it looks for what is missing, for two choices at once, and runs the invariants of the type.
"""

from threading import RLock

from ehr.definitions import Element, ElementType, structure
from ehr.validation import members
from ehr.validation.invariants import rules_of
from ehr.validation.primitives import PRIMITIVES
from ehr.validation.type_checker import TypeChecker

_checkers: dict[str, TypeChecker] = {}
_unfinished: dict[str, TypeChecker] = {}
"""What one thread is filling; types contain themselves, so that each stands here before it is filled."""
_filling = RLock()


def checker_of(path: str) -> TypeChecker:
    """The checker of a type ("Patient", "HumanName") or backbone element ("Patient.contact")."""
    checker = _checkers.get(path)
    if checker is not None:
        return checker
    with _filling:
        checker = _checkers.get(path) or _unfinished.get(path)
        if checker is not None:
            return checker
        is_first = not _unfinished
        checker = _unfinished[path] = TypeChecker(path)
        try:
            _fill(checker)
            if is_first:
                _checkers.update(_unfinished)
        finally:
            if is_first:
                _unfinished.clear()
        return checker


def wire_names(element: Element) -> tuple[str, ...]:
    """The members in which an element may stand, those of its extensions included."""
    names: list[str] = []
    for name, kind in element.names.items():
        names.append(name)
        if kind.code in PRIMITIVES:
            names.append("_" + name)
    return tuple(names) or (element.name,)


def _fill(checker: TypeChecker) -> None:
    type_name = checker.path.partition(".")[0]
    definition = structure(type_name)
    own = definition.element(checker.path)
    children = definition.children(checker.path)
    names = {child.name: wire_names(child) for child in children}
    checker.is_resource = definition.kind == "resource" and own is definition.root
    checker.required = tuple((child.name, names[child.name]) for child in children if child.min)
    checker.choices = tuple((child.name, frozenset(names[child.name])) for child in children if child.is_choice)
    checker.choice_names = frozenset(wire for _, names_of in checker.choices for wire in names_of)
    values = {child.name: frozenset(child.names or (child.name,)) for child in children}
    needed = [values[child.name] for child in children if child.min]
    checker.present = frozenset(name for names_of in needed if len(names_of) == 1 for name in names_of)
    checker.present_choices = tuple(names_of for names_of in needed if len(names_of) > 1)
    checker.choice_values = tuple(values[child.name] for child in children if child.is_choice)
    checker.invariants = rules_of(own.constraints, checker.path, names)
    if checker.is_resource:
        checker.texts["resourceType"] = (type_name.__eq__, "resourceType", f"the text {type_name}", "structure")
        checker.tests["resourceType"] = frozenset((type_name,)).__contains__
    for child in children:
        if child.content_reference:
            members.add_complex(checker, child, child.name, checker_of(child.content_reference), ElementType("Element"))
        for name, kind in child.names.items():
            _add_member(checker, child, name, kind)


def _add_member(checker: TypeChecker, child: Element, name: str, kind: ElementType) -> None:
    if kind.code in PRIMITIVES:
        members.add_primitive(checker, child, name, kind, checker_of("Element"))
    elif kind.code == "Resource":
        members.add_resource(checker, child, name, checker_of)
    elif kind.code in ("BackboneElement", "Element"):
        members.add_complex(checker, child, name, checker_of(child.path), kind)
    else:
        members.add_complex(checker, child, name, checker_of(kind.code), kind)
