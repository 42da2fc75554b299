"""Resources of others: all given Synthea Bundles are valid, and so are the inputs of the FHIRPath tests."""

import copy
import gzip
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class as get_r4b_model_class

from ehr import json_text
from ehr.validation import check

SHARED_DATA = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
SYNTHEA = sorted((SHARED_DATA / "synthea").glob("*.json.gz"))
FHIRPATH = sorted((SHARED_DATA / "fhirpath").glob("*.json"))
needs_synthea = pytest.mark.skipif(not SYNTHEA, reason="the given Synthea Bundles are absent")


def bundle_of(path: Path) -> dict[str, Any]:
    return json_text.parse(gzip.decompress(path.read_bytes()))


def samples_of_each_type(count: int) -> Iterator[dict[str, Any]]:
    """The first `count` resources of each type in the given Bundles."""
    seen: dict[str, int] = {}
    for path in SYNTHEA[:12]:
        for entry in bundle_of(path)["entry"]:
            kind = entry["resource"]["resourceType"]
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= count:
                yield entry["resource"]


@needs_synthea
@pytest.mark.parametrize("path", SYNTHEA, ids=[path.name[:8] for path in SYNTHEA])
def test_given_bundles_are_valid(path: Path) -> None:
    assert check(bundle_of(path)) == []


@pytest.mark.parametrize("path", FHIRPATH, ids=[path.name for path in FHIRPATH])
def test_inputs_of_the_fhirpath_tests(path: Path) -> None:
    """Two of them break rules (a missing productOrService, an empty contained Organization), as HAPI says too."""
    broken = ("explanationofbenefit-example.json", "patient-container-example.json")
    assert bool(check(json_text.parse(path.read_bytes()))) == (path.name in broken)


@needs_synthea
def test_unknown_members_are_found_wherever_they_stand() -> None:
    chance = random.Random(4)  # noqa: S311 - a reproducible choice of places
    for resource in samples_of_each_type(3):
        changed = copy.deepcopy(resource)
        objects = list(objects_of(changed))
        chance.choice(objects)["notAnElement"] = "x"
        assert any("notAnElement" in (issue.expression or "") for issue in check(changed))


def objects_of(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for member in value.values():
            yield from objects_of(member)
    elif isinstance(value, list):
        for item in value:
            yield from objects_of(item)


@needs_synthea
def test_what_fhir_resources_refuses_is_refused() -> None:
    """A second opinion: members given the JSON type of another kind (R4B's models stand in for R4's)."""
    chance = random.Random(5)  # noqa: S311 - a reproducible choice of places
    refused = 0
    for resource in samples_of_each_type(6):
        if resource["resourceType"] not in ("Patient", "Observation", "Encounter", "Condition", "Procedure"):
            continue
        changed = copy.deepcopy(resource)
        target = chance.choice(list(objects_of(changed)))
        target[chance.choice([key for key in target if key != "resourceType"])] = {"notAnElement": 1}
        try:
            get_r4b_model_class(resource["resourceType"]).model_validate_json(json_text.encode(changed))
        except ValueError:
            refused += 1
            assert check(changed)
    assert refused > 5
