"""Whatever text and whatever JSON: a value or FhirPathError, and invariants always answer."""

import contextlib
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr import fhirpath
from ehr.definitions import structure
from ehr.fhirpath import FhirPathError, invariant, model

WORDS = [
    *("name", "given", "Patient", "where(", "select(", "exists()", "is", "as", "and", "in", "$this", "%resource", "{}"),
    *("(", ")", "[", "]", ".", ",", "+", "-", "*", "/", "div", "=", "~", "<", "|", "1", "2.5", "10", "'a'", "true"),
    *("@2020-02-29", "@T10", "4 days", "1 'mg'", "count()", "round(", "power(", "substring(", "lowBoundary()", "not()"),
    *("children()", "descendants()", "extension(", "ofType(", "toDecimal()", "resolve()", "iif(", "&", "sort()"),
]
PATIENT = {
    "resourceType": "Patient",
    "name": [{"given": ["a", None], "_given": [None, {"id": "x"}]}],
    "birthDate": "2020",
    "multipleBirthInteger": 2**31 - 1,
}


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_any_words_give_a_value_or_an_error(expression: str) -> None:
    with contextlib.suppress(FhirPathError):
        assert isinstance(fhirpath.compile(expression)(PATIENT), list)


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_any_text_gives_a_value_or_an_error(expression: str) -> None:
    with contextlib.suppress(FhirPathError):
        assert isinstance(fhirpath.compile(expression)(PATIENT), list)


TYPES = ["Patient", "Observation", "Questionnaire", "Bundle", "Timing", "Quantity", "Extension", "ElementDefinition"]
RULES = [
    (name, element.path, invariant(constraint.expression, element.path))
    for name in TYPES
    for element in structure(name).elements
    for constraint in element.constraints
]
KEYS = sorted(
    {key for name in TYPES for child in model.children(name).values() for key, _ in child.options}
    | {"resourceType", "reference", "coding", "system", "value", "_value", "extension", "repeat", "item", "resource"}
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.decimals(-9, 9, places=2),
    st.sampled_from(["", "x", "#x", "2020", "2020-01-01T00:00:00Z", "Patient", "group", "1.5"]),
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)


@given(JSON, st.sampled_from(RULES))
@settings(max_examples=600, deadline=None)
def test_invariants_answer_on_any_json(element: Any, rule: tuple[str, str, Any]) -> None:
    resource = {"resourceType": "Patient", "contained": [element]}
    assert rule[2](element, resource) in {True, False}


@given(st.decimals(allow_nan=False, allow_infinity=False), st.integers(-3, 40))
@settings(max_examples=100, deadline=None)
def test_boundaries_of_any_number(value: Decimal, places: int) -> None:
    with contextlib.suppress(FhirPathError):
        fhirpath.compile(f"value.lowBoundary({places})", context_type="Quantity")({"value": value})


def test_hostile_sizes_end_within_bounds() -> None:
    many = [{"code": str(number)} for number in range(6000)]
    observation = {"resourceType": "Observation", "code": {"coding": many}, "component": [{"code": {"coding": many}}]}
    started = time.perf_counter()
    with pytest.raises(FhirPathError):
        fhirpath.compile("component.code.coding.intersect(code.coding)")(observation)
    with pytest.raises(FhirPathError):
        fhirpath.compile("code.coding.where(%resource.code.coding.code.count() > 5)")(observation)
    assert fhirpath.compile("code.coding.code.subsetOf(component.code.coding.code)")(observation) == [True]
    assert time.perf_counter() - started < 60
