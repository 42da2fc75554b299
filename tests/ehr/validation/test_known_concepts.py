"""What was found right once is skipped; what differs from it in anything that a rule reads is not."""

from typing import Any

import pytest

from ehr.validation import check

_CODING = {"system": "http://loinc.org", "code": "718-7", "display": "Haemoglobin"}
_TEXT = "Haemoglobin"


def _observation(*codes: Any) -> dict[str, Any]:
    category = [{"coding": [_CODING], "text": _TEXT}]
    return {"resourceType": "Observation", "status": "final", "code": codes[0], "category": [*codes[1:], *category]}


@pytest.mark.parametrize(
    "concept",
    [
        {"coding": [_CODING], "text": None},
        {"coding": [_CODING], "text": 1},
        {"coding": [_CODING], "text": ""},
        {"coding": [_CODING | {"userSelected": 1}]},
        {"coding": [_CODING | {"display": None}]},
        {"coding": [_CODING | {"display": True}]},
        {"coding": [_CODING | {"code": " 718-7 "}], "text": _TEXT},
        {"coding": [_CODING | {"other": "x"}], "text": _TEXT},
        {"coding": [_CODING | {"extension": []}], "text": _TEXT},
        {"coding": [_CODING, "718-7"], "text": _TEXT},
        {"coding": [_CODING, {}], "text": _TEXT},
        {"coding": [], "text": _TEXT},
        {"coding": _CODING, "text": _TEXT},
        {"coding": [_CODING], "text": _TEXT, "id": ""},
        {"coding": [_CODING], "other": _TEXT},
        {"coding": [_CODING], "_text": {}},
    ],
)
def test_a_wrong_concept_is_refused_after_a_right_one_alike(concept: Any) -> None:
    right = [
        {"coding": [_CODING], "text": _TEXT},
        {"coding": [_CODING]},
        {"coding": [_CODING | {"userSelected": True}]},
    ]
    for _ in range(2):
        for each in right:
            assert check(_observation(each, each)) == []
    for _ in range(2):
        assert check(_observation(concept)) != []
        assert check(_observation(right[0], concept)) != []


def test_the_problems_of_a_wrong_concept_are_named_each_time() -> None:
    wrong = _observation({"coding": [_CODING | {"code": ""}]})
    first = check(wrong)
    assert [issue.expression for issue in first] == ["Observation.code.coding[0].code"]
    assert check(wrong) == first
