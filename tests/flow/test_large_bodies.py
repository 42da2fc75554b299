"""A large Bundle keeps its worker busy for seconds; small reads are answered meanwhile, by the same worker too."""

import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.flow.running import Running

pytestmark = pytest.mark.flow
PARTS = 2_500
ENTRIES = 8
READERS = 4


def _observation() -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": "Patient/large"},
        "identifier": [{"system": "urn:large", "value": f"v{n}"} for n in range(2 * PARTS)],
        "component": [{"code": {"text": f"part {n}"}, "valueString": f"value {n}"} for n in range(PARTS)],
    }


def _waits_during(platform: Running, body: dict[str, Any], path: str) -> tuple[httpx.Response, float, list[float]]:
    """The answer to the body, how long it took, and how long each small read took meanwhile."""
    loader, data, found = platform.client("loader"), json.dumps(body).encode(), []

    def send() -> None:
        started = time.monotonic()
        content = {"content-type": "application/fhir+json"}
        found.append((loader.post(path, content=data, headers=content, timeout=120), time.monotonic() - started))

    # a connection stays with the worker that took it: of several one at least meets the busy one
    readers = [httpx.Client(base_url=loader.base_url, headers=loader.headers, timeout=120) for _ in range(READERS)]
    waits: list[float] = []
    try:
        for reader in readers:
            assert reader.get("Organization/first-hospital").status_code == 200
        sending = threading.Thread(target=send)
        sending.start()
        while sending.is_alive():
            for reader in readers:
                started = time.monotonic()
                assert reader.get("Organization/first-hospital").status_code == 200
                waits.append(time.monotonic() - started)
            time.sleep(0.01)
        sending.join()
    finally:
        for reader in readers:
            reader.close()
    ((answer, took),) = found
    return answer, took, waits


def test_small_reads_are_answered_while_a_large_bundle_is_written(platform: Running) -> None:
    entries = [{"resource": _observation(), "request": {"method": "POST", "url": "Observation"}}] * ENTRIES
    answer, took, waits = _waits_during(
        platform, {"resourceType": "Bundle", "type": "transaction", "entry": entries}, ""
    )
    assert answer.status_code == 200, answer.text[:1000]
    assert len(answer.json()["entry"]) == ENTRIES
    assert max(waits) < took / 4, (took, sorted(waits)[-5:])


def test_a_large_resource_is_refused_like_a_small_one(platform: Running) -> None:
    before = platform.last_audit()
    content = {"content-type": "application/fhir+json"}
    body = json.dumps(_observation() | {"status": "wrong", "issued": 1}).encode()
    answer = platform.client("loader").post("Observation", content=body, headers=content, timeout=120)
    assert answer.status_code in {400, 422}
    assert {"Observation.status", "Observation.issued"} <= {e for i in answer.json()["issue"] for e in i["expression"]}
    assert [row["outcome"] for row in platform.audit(after=before, interaction="create")] == [4]
