"""Every invariant and every search expression of R4 compiles, and a sample of invariants decides as published."""

from typing import Any

import pytest

from ehr import fhirpath
from ehr.definitions import RESOURCE_TYPES, search_parameters, structure, type_names
from ehr.fhirpath import invariant


def test_every_invariant_of_r4_compiles() -> None:
    compiled = 0
    for name in type_names():
        for element in structure(name).elements:
            for constraint in element.constraints:
                invariant(constraint.expression, element.path)
                compiled += 1
    assert compiled > 8000


def test_every_search_expression_of_r4_compiles() -> None:
    expressions = {
        parameter.expression
        for name in RESOURCE_TYPES
        for parameter in search_parameters(name).values()
        if parameter.expression is not None
    }
    assert len(expressions) > 1200
    for expression in expressions:
        fhirpath.compile(expression)


def _expression(type_name: str, key: str, path: str | None = None) -> str:
    element = structure(type_name).element(path or type_name)
    return next(constraint.expression for constraint in element.constraints if constraint.key == key)


UCUM = "http://unitsofmeasure.org"
CODE = {"coding": [{"system": "http://loinc.org", "code": "1-8"}]}
OBSERVATION = {"resourceType": "Observation", "status": "final", "code": CODE}
CONTAINED = {"resourceType": "Patient", "id": "p"}


@pytest.mark.parametrize(
    ("type_name", "key", "element", "kept"),
    [
        ("Period", "per-1", {"start": "2020-01-01", "end": "2020-01-02"}, True),
        ("Period", "per-1", {"start": "2020-01-02", "end": "2020-01-01"}, False),
        ("Period", "per-1", {"start": "2020-01-02T00:00:00+08:00", "end": "2020-01-01T23:00:00Z"}, True),
        ("Period", "per-1", {"end": "2020-01-01"}, True),
        ("Period", "per-1", {"_start": {"extension": [{"url": "u", "valueCode": "x"}]}, "end": "2020"}, True),
        ("Quantity", "qty-3", {"value": 1, "code": "kg"}, False),
        ("Quantity", "qty-3", {"value": 1, "code": "kg", "system": UCUM}, True),
        ("Age", "age-1", {"value": 0, "code": "a", "system": UCUM}, False),
        ("Age", "age-1", {"value": 3, "code": "a", "system": UCUM}, True),
        ("Range", "rng-2", {"low": {"value": 2}, "high": {"value": 1}}, False),
        ("Range", "rng-2", {"low": {"value": 1}, "high": {"value": 1}}, True),
        ("Extension", "ext-1", {"url": "u"}, False),
        ("Extension", "ext-1", {"url": "u", "valueBoolean": False}, True),
        ("Extension", "ext-1", {"url": "u", "valueCode": "x", "extension": [{"url": "v", "valueCode": "y"}]}, False),
        ("Identifier", "ele-1", {"id": "1"}, False),
        ("Identifier", "ele-1", {"value": "1"}, True),
        ("Attachment", "att-1", {"data": "AAAA"}, False),
        ("Observation", "obs-6", {**OBSERVATION, "valueString": "x", "dataAbsentReason": CODE}, False),
        ("Observation", "obs-7", {**OBSERVATION, "valueString": "x", "component": [{"code": CODE}]}, False),
        ("Observation", "obs-7", {**OBSERVATION, "component": [{"code": CODE}]}, True),
        ("Observation", "dom-2", {**OBSERVATION, "contained": [{**CONTAINED, "contained": [CONTAINED]}]}, False),
        ("Observation", "dom-3", {**OBSERVATION, "contained": [CONTAINED]}, False),
        ("Observation", "dom-3", {**OBSERVATION, "contained": [CONTAINED], "subject": {"reference": "#p"}}, True),
    ],
)
def test_invariants_decide_as_published(type_name: str, key: str, element: dict[str, Any], kept: bool) -> None:  # noqa: FBT001 - a table's column
    assert invariant(_expression(type_name, key), type_name)(element, element) is kept


@pytest.mark.parametrize(
    ("path", "key", "element", "kept"),
    [
        ("Patient.contact", "pat-1", {"gender": "male"}, False),
        ("Patient.contact", "pat-1", {"name": {"text": "Li"}}, True),
        ("Timing.repeat", "tim-9", {"offset": 5, "when": ["C"]}, False),
        ("Timing.repeat", "tim-9", {"offset": 5, "when": ["ACM"]}, True),
        ("Timing.repeat", "tim-1", {"duration": 5}, False),
        ("Questionnaire.item.enableWhen", "que-7", {"operator": "exists", "answerBoolean": True}, True),
        ("Questionnaire.item.enableWhen", "que-7", {"operator": "exists", "answerString": "x"}, False),
        ("Bundle.entry", "bdl-8", {"fullUrl": "http://h/Patient/1/_history/2"}, False),
        ("Condition.stage", "con-1", {"type": CODE}, False),
    ],
)
def test_invariants_of_backbone_elements(path: str, key: str, element: dict[str, Any], kept: bool) -> None:  # noqa: FBT001 - a table's column
    expression = _expression(path.partition(".")[0], key, path)
    assert invariant(expression, path)(element, {"resourceType": path.partition(".")[0]}) is kept


def test_a_contained_reference_is_sought_in_the_outermost_resource() -> None:
    keep = invariant(_expression("Reference", "ref-1"), "Reference")
    holder = {**OBSERVATION, "contained": [CONTAINED]}
    assert keep({"reference": "#p"}, CONTAINED, holder)
    assert not keep({"reference": "#q"}, CONTAINED, holder)


def test_an_element_path_and_its_type_mean_the_same_context() -> None:
    value = {"start": "2020-01-02", "end": "2020-01-01"}
    assert not invariant(_expression("Period", "per-1"), "Patient.identifier.period")(value, {})
