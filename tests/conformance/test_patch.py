"""The patch suites of FHIR/fhir-test-cases: FHIRPath Patch of R4, R4B and R5 where the types are R4's, JSON Patch."""

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ehr.errors import KanglianError
from ehr.json_text import parse_value
from ehr.patch import FhirPathPatch, JsonPatch
from tests.conformance.xml_resources import FHIR, resource_of

DATA = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "fhir-patch"


def _fhirpath_cases() -> list[Any]:
    found = []
    for version in ("r4", "r4b", "r5"):
        path = DATA / version / "fhir-patch-tests.xml"
        cases = ET.parse(path).getroot().iter("case") if path.exists() else ()  # noqa: S314 - given test data
        found += [pytest.param(case, id=f"{version}: {case.get('name')}") for case in cases]
    return found


def _resource(case: ET.Element, name: str) -> dict[str, Any]:
    found = next(element for element in case.iter(name) if not element.tag.startswith(FHIR))
    return resource_of(found[0])


def _without_empty(value: Any) -> Any:
    """One case of R5 writes `<reference reference="...">`, which is no FHIR and reads as an empty object."""
    if isinstance(value, dict):
        kept = {key: _without_empty(below) for key, below in value.items()}
        return {key: below for key, below in kept.items() if below != {}}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("case", _fhirpath_cases())
def test_fhirpath_patch(case: ET.Element) -> None:
    given = _resource(case, "input")
    before = repr(given)
    patch = _resource(case, "diff")
    if case.find("error") is not None:
        with pytest.raises(KanglianError):
            FhirPathPatch(patch).apply(given)
    else:
        assert FhirPathPatch(patch).apply(given) == _without_empty(_resource(case, "output"))
    assert repr(given) == before


def _json_cases() -> list[Any]:
    path = DATA / "json-patch-tests.json"
    cases = parse_value(path.read_bytes()) if path.exists() else []
    return [pytest.param(case, id=case["comment"]) for case in cases]


@pytest.mark.parametrize("case", _json_cases())
def test_json_patch(case: dict[str, Any]) -> None:
    before = repr(case["doc"])
    if "error" in case:
        with pytest.raises(KanglianError):
            JsonPatch(case["patch"]).apply(case["doc"])
    else:
        assert JsonPatch(case["patch"]).apply(case["doc"]) == case["expected"]
    assert repr(case["doc"]) == before
