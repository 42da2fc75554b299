"""CodeableConcepts that were found without a problem are not looked at again: the same codes come all day.

A quarter of the work of checking clinical records goes into concepts. Only those are remembered that consist of texts
alone and have no ids, since then nothing around them has a say in whether they are right.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ehr.validation.report import Place, Scope

ItemCheck = Callable[[Mapping[str, Any], Place, Scope], None]
REMEMBERED = 4096
"""Concepts that one element remembers (about 1 kB each) before it begins anew."""


def remembering_concepts(check: ItemCheck) -> ItemCheck:
    """The check of a CodeableConcept, skipped for those that passed it before."""
    passed: set[Any] = set()

    def check_once(node: Mapping[str, Any], place: Place, scope: Scope) -> None:
        concept = _identity(node)
        try:
            if concept in passed:
                return
        except TypeError:  # something in it is no text
            concept = None
        before = len(scope.report.issues)
        check(node, place, scope)
        if concept is not None and len(scope.report.issues) == before and _is_of_texts(concept):
            if len(passed) >= REMEMBERED:
                passed.clear()
            passed.add(concept)

    return check_once


def _identity(node: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """All that a concept of codings and a text says, with the number of its members; None for other forms."""
    coding = node.get("coding")
    if type(coding) is not list:
        return None
    try:
        return (len(node), node.get("text"), *[tuple(item.items()) for item in coding])
    except AttributeError:  # an item is no object
        return None


def _is_of_texts(concept: tuple[Any, ...]) -> bool:
    """Whether its members are `coding` and at most `text`, with nothing but texts inside and no ids.

    Numbers and booleans are left out because 1 and true are equal in Python.
    """
    members, text, *codings = concept
    if members != (1 if text is None else 2) or not (text is None or type(text) is str):
        return False
    return all(type(value) is str and name != "id" for coding in codings for name, value in coding)
