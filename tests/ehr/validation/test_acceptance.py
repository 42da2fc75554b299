"""What is accepted without a report has nothing to report, however it is changed; and what is usual is accepted."""

import copy
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from ehr.definitions import is_resource_type
from ehr.validation.resources import is_accepted, reported
from tests.ehr.validation.test_given_data import needs_synthea, samples_of_each_type

_CODING = {"system": "http://loinc.org", "code": "718-7", "display": "Haemoglobin"}
_RIGHT = {"coding": [_CODING], "text": "Haemoglobin"}
_OTHER_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, Decimal("1.50"), "", " ", "x", " x", "#x", "#", "urn:uuid:x", "2020-02-30"),
    *("http://a", "Patient/1", "Nothing/1", [], {}, [None], [{}], ["x"], {"id": "x"}, {"extension": []}),
    *({"reference": "#gone"}, {"reference": "Patient/1", "type": "Group"}, {"coding": [_CODING]}, "final", "active"),
    {"url": "x", "valueString": "y"},
    [{"url": "http://a", "valueString": "y"}],
)
_OTHER_NAMES = (
    *("id", "text", "extension", "contained", "meta", "value", "code", "status", "reference", "_status", "x"),
    *(
        "valueString",
        "effectiveDateTime",
        "effectivePeriod",
        "dataAbsentReason",
        "data",
        "size",
        "contentType",
        "system",
    ),
    *("multipleBirthInteger", "start", "end", "type", "identifier"),
)


def _observation(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": _RIGHT} | members


_USUAL: list[dict[str, Any]] = [
    _observation(valueQuantity={"value": Decimal("72.50"), "unit": "kg"}, subject={"reference": "Patient/1"}),
    _observation(identifier=[{"system": "urn:ietf:rfc:3986", "value": "urn:uuid:a"}], note=[{"text": "x"}]),
    _observation(extension=[{"url": "http://a/b", "extension": [{"url": "c", "valueCode": "d"}]}]),
    _observation(
        contained=[{"resourceType": "Patient", "id": "p", "active": True}],
        subject={"reference": "#p"},
        focus=[{"reference": "urn:uuid:0123"}, {"display": "somebody"}],
    ),
    _observation(
        text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'},
        effectivePeriod={"start": "2020-01-01T00:00:00Z", "end": "2020-02-01"},
        component=[{"code": {"text": "x"}, "valueInteger": 3}],
    ),
    {"resourceType": "Patient", "name": [{"given": ["a", "b"]}], "multipleBirthInteger": 2, "birthDate": "2020-02"},
    {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": {"contentType": "a/b", "data": "AAAA"}}],
    },
]


@pytest.mark.parametrize("resource", _USUAL)
def test_what_is_usual_is_accepted(resource: dict[str, Any]) -> None:
    assert reported(resource["resourceType"], resource) == []
    assert is_accepted(resource["resourceType"], resource)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each container within a JSON value with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _changed(resource: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    changed = copy.deepcopy(resource)
    for _ in range(chance.choice((1, 1, 1, 2))):
        container, key = chance.choice(list(_places(changed)))
        what = chance.randrange(4)
        if what == 0 and len(container) > 1:
            del container[key]
        elif what == 1 and isinstance(container, dict):
            container[chance.choice(_OTHER_NAMES)] = copy.deepcopy(chance.choice(_OTHER_VALUES))
        elif what == 2 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(chance.choice(_OTHER_VALUES))
    return changed


def _disagreements(resources: list[dict[str, Any]], amount: int) -> tuple[list[dict[str, Any]], int]:
    chance = random.Random(4)  # noqa: S311 - the same changes each run
    found, accepted = [], 0
    for _ in range(amount):
        changed = _changed(chance.choice(resources), chance)
        kind = str(changed.get("resourceType"))
        if is_resource_type(kind) and is_accepted(kind, changed):
            accepted += 1
            if reported(kind, changed):
                found.append(changed)
    return found, accepted


def test_what_is_accepted_has_no_problem_however_it_is_changed() -> None:
    found, accepted = _disagreements(_USUAL, 6000)
    assert found == []
    assert accepted > 500


@needs_synthea
def test_what_is_accepted_of_changed_records_has_no_problem() -> None:
    found, accepted = _disagreements(list(samples_of_each_type(2)), 1500)
    assert found == []
    assert accepted > 150


@pytest.mark.parametrize(
    "concept",
    [
        {"coding": [_CODING], "text": None},
        {"coding": [_CODING], "text": 1},
        {"coding": [_CODING], "text": ""},
        {"coding": [_CODING | {"userSelected": 1}]},
        {"coding": [_CODING | {"display": True}]},
        {"coding": [_CODING | {"code": " 718-7 "}]},
        {"coding": [_CODING | {"other": "x"}]},
        {"coding": [_CODING, "718-7"]},
        {"coding": [_CODING, {}]},
        {"coding": []},
        {"coding": _CODING},
        {"coding": [_CODING], "id": ""},
        {"coding": [_CODING], "_text": {}},
    ],
)
def test_wrong_concepts_are_not_accepted(concept: Any) -> None:
    assert not is_accepted("Observation", _observation(code=concept))
    assert reported("Observation", _observation(code=concept))


_STATUS = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"


@pytest.mark.parametrize(
    "wrong",
    [
        {
            "resourceType": "DocumentReference",
            "status": "current",
            "content": [{"attachment": {"contentType": "a/b", "data": "AAAA", "size": 9}}],
        },
        _observation(contained=[{"resourceType": "Practitioner", "id": "p"}], subject={"reference": "#p"}),
        _observation(subject={"reference": "Practitioner/1"}),
        {
            "resourceType": "AllergyIntolerance",
            "patient": {"reference": "Patient/1"},
            "clinicalStatus": {"coding": [{"system": _STATUS, "code": "nothing"}]},
        },
    ],
    ids=lambda wrong: wrong["resourceType"],
)
def test_what_a_type_asks_besides_is_asked(wrong: dict[str, Any]) -> None:
    assert reported(wrong["resourceType"], wrong)
    assert not is_accepted(wrong["resourceType"], wrong)
