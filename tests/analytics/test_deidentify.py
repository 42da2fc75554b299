"""The columns of a resource: read directly or by FHIRPath, the same."""

import tomllib
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest

from analytics.deidentify import _reader
from ehr import fhirpath

ABSENT = {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]}
CODED = {"coding": [{"system": "s", "code": "c"}, {"code": "d", "display": "name"}], "text": "words"}
RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Patient", "id": "1", "gender": "male", "birthDate": "1970-01", "address": [{"line": ["x"]}, {}]},
    {"resourceType": "Patient", "_gender": ABSENT, "birthDate": "1970", "_birthDate": ABSENT, "address": [None, {}]},
    {"resourceType": "Patient"},
    {
        "resourceType": "Encounter",
        "class": {"system": "s", "code": "IMP", "_code": ABSENT},
        "type": [CODED, {"text": "t"}],
        "period": {"start": "2024-01-02", "_start": ABSENT},
        "serviceProvider": {"reference": "Organization/1"},
    },
    {"resourceType": "Encounter", "class": {"code": "AMB"}, "period": {"end": "2024"}, "type": []},
    {"resourceType": "Condition", "code": CODED, "recordedDate": "2024-02-03"},
    {"resourceType": "Condition", "code": {"text": "t"}, "_recordedDate": ABSENT},
    {
        "resourceType": "Observation",
        "code": CODED,
        "effectiveDateTime": "2024-01-02T03:04:05Z",
        "valueQuantity": {"value": Decimal("7.20"), "code": "mmol/L", "_code": ABSENT},
    },
    {"resourceType": "Observation", "effectivePeriod": {"start": "2024"}, "valueString": "7", "code": CODED},
    {"resourceType": "Observation", "effectiveInstant": "2024-01-02T03:04:05Z", "valueQuantity": {"unit": "m"}},
    {"resourceType": "ServiceRequest", "code": CODED, "requester": {"display": "d"}, "performer": [{"reference": "a"}]},
    {"resourceType": "Organization", "id": "o", "name": "n", "type": [CODED]},
    {
        "resourceType": "Location",
        "physicalType": CODED,
        "address": {"district": "d"},
        "position": {"latitude": Decimal("1.5")},
    },
]


@pytest.mark.parametrize("resource", RESOURCES)
def test_what_is_read_directly_is_what_fhirpath_gives(resource: dict[str, Any]) -> None:
    listed = tomllib.loads(files("analytics").joinpath("deidentify.toml").read_text(encoding="utf-8"))
    kind = resource["resourceType"]
    paths = [column["path"] for column in listed[kind].values()]
    compiled = [fhirpath.compile(path, context_type=kind) for path in paths]
    assert [repr(_reader(path, kind)(resource)) for path in paths] == [repr(each(resource)) for each in compiled]


def test_other_paths_are_left_to_fhirpath() -> None:
    path = "Patient.name.where(use = 'official').family"
    resource = {"resourceType": "Patient", "name": [{"use": "official", "family": "W"}, {"family": "L"}]}
    assert _reader(path, "Patient")(resource) == ["W"]
    assert _reader("Patient.name.family", "Patient")(resource) == ["W", "L"]
