"""Attack 25: the FHIRPath of a patch is the sender's own, and takes bounded time."""

import time
from typing import Any

import pytest

from ehr.patch.errors import PatchRefused
from ehr.patch.fhirpath_patch import FhirPathPatch

LONGEST_S = 3.0
LONG = f"'{'a' * 40}!'"
PATIENT: dict[str, Any] = {"resourceType": "Patient", "active": True, "name": [{"family": f"a{n}"} for n in range(200)]}


def _deletion(path: str) -> FhirPathPatch:
    parts = [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": path}]
    return FhirPathPatch({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]})


@pytest.mark.parametrize(
    "path",
    [
        f"Patient.active.where({LONG}.matches('(a+)+$'))",
        f"Patient.active.where({LONG}.matchesFull('(a+)+$'))",
        f"Patient.active.where({LONG}.replaceMatches('(a+)+$', '') = '')",
        f"Patient.active.where({LONG}.`matches`('(a+)+$'))",
        f"Patient.name.where(given.exists({LONG}.matches('(a+)+$')) or {LONG}.matches('(a+)+$'))",
        f"Patient.name[iif({LONG}.matches('(a+)+$'), 1, 0)]",
        "Patient.active.where(%resource.name.where(%resource.name.where(%resource.name.exists()).exists()).exists())",
    ],
)
def test_paths_that_would_not_end_are_refused(path: str) -> None:
    started = time.process_time()
    with pytest.raises(PatchRefused):
        _deletion(path).apply(PATIENT)
    assert time.process_time() - started < LONGEST_S


def test_plain_paths_select() -> None:
    changed = _deletion("Patient.name.where(family = 'a7')").apply(PATIENT)
    assert len(changed["name"]) == 199
