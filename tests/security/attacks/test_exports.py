"""Exports of a hospital: the same files, counts and progress whether the hidden rows are there or not."""

import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from tests.fhir_api.test_bulk_export import FHIR, completed, working
from tests.security.attacks.conftest import Twins
from tests.security.attacks.twins import Twin, leaked

pytestmark = pytest.mark.database
B = "first-hospital.b"
OF_HIDDEN = quote(f"Observation?subject=Patient/{B},Observation?subject:Patient._id={B},Patient?_id={B}")
PATHS = (
    "$export",
    "Patient/$export",
    f"$export?_type=Observation,Patient&_typeFilter={OF_HIDDEN}",
    f"$export?_type=Patient&_typeFilter={quote('Patient?_has:Observation:patient:code=2345-7')}",
    "Group/first-hospital.canary-group/$export",
    "Group/absent/$export",
)
_MADE = re.compile(r'"(lastUpdated|versionId)":"[^"]*"|[0-9a-f]{8}-[0-9a-f-]{27}')


def _taken(twin: Twin, path: str, body: Any = None) -> tuple[Any, ...]:
    """What a hospital can tell of an export: its answer, or its files, whatever the server made itself."""
    client = twin.client("county-hospital")
    answer = client.get(f"/fhir/{path}") if body is None else client.post(f"/fhir/{path}", json=body, headers=FHIR)
    if answer.status_code != 202:
        return answer.status_code, answer.text
    manifest = completed(client, answer.headers["content-location"])
    found = []
    for output in manifest["output"]:
        name = output["url"].partition("?")[0].rsplit("/", 1)[-1]
        lines = client.get(output["url"]).text.splitlines()
        found.append((output["type"], name, output["count"], sorted(_MADE.sub("", line) for line in lines)))
    return 200, found, json.dumps(manifest["error"])


def test_exports_are_alike_with_and_without_the_hidden_rows(twins: Twins) -> None:
    patient = {"name": "patient", "valueReference": {"reference": f"Patient/{B}"}}
    asked: list[tuple[str, Any]] = [(path, None) for path in PATHS]
    asked.append(("Patient/$export", {"resourceType": "Parameters", "parameter": [patient]}))
    with working(twins.full.platform, twins.full_database), working(twins.absent.platform, twins.absent_database):
        for path, body in asked:
            full, absent = (_taken(twin, path, body) for twin in (twins.full, twins.absent))
            assert full == absent, path
            assert not leaked(str(full), {B, "first-hospital.canary-group"}), path
        statuses = [_taken(twins.full, path)[0] for path in PATHS[-2:]]
    assert statuses == [404, 404]
