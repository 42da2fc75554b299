"""Attack 19: a withdrawal under a hundred readers: no read begun after its commit sees the row, and none fails."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from tests.security.attacks.conftest import Twins
from tests.security.attacks.twins import FHIR, people

pytestmark = pytest.mark.database
READERS = 100
HERE = "first-hospital.leaving"
ADDRESSES = (
    f"/fhir/Patient/{HERE}",
    f"/fhir/Observation/{HERE}.o",
    f"/fhir/Observation?patient={HERE}&_total=accurate",
    f"/fhir/Observation/{HERE}.o/_history",
    f"/fhir/Patient?_has:Observation:patient:code=2345-7&_id={HERE}",
)


def _consented(twins: Twins) -> dict[str, Any]:
    """A person with one result who lets county-hospital in; the Consent."""
    given = next(r for step in people()["steps"] for r in step["resources"] if r.get("resourceType") == "Consent")
    subject = {"reference": f"Patient/{HERE}"}
    observation = {
        "resourceType": "Observation",
        "id": f"{HERE}.o",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2345-7"}]},
        "subject": subject,
    }
    hospital = twins.full.client("first-hospital")
    for resource in ({"resourceType": "Patient", "id": HERE}, observation):
        address = f"/fhir/{resource['resourceType']}/{resource['id']}"
        assert hospital.put(address, json=resource, headers=FHIR).status_code in {200, 201}
    answer = twins.full.client(f"resident {HERE}").post(
        "/fhir/Consent", json=given | {"patient": subject}, headers=FHIR
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_no_read_begun_after_the_withdrawal_sees_the_row(twins: Twins) -> None:
    consent = _consented(twins)
    reader, owner = twins.full.client("dr.li"), twins.full.client(f"resident {HERE}")
    began_seen: list[float] = []
    statuses: set[int] = set()
    withdrawn: list[float] = []

    async def read(client: httpx.AsyncClient, number: int) -> None:
        address = ADDRESSES[number % len(ADDRESSES)]
        while not withdrawn or time.perf_counter() < withdrawn[0] + 0.3:
            began = time.perf_counter()
            answer = await client.get(address)
            statuses.add(answer.status_code)
            if answer.status_code == 200 and f'"id":"{HERE}' in answer.text:
                began_seen.append(began)

    async def withdraw(client: httpx.AsyncClient) -> None:
        await asyncio.sleep(0.5)
        answer = await client.put(
            f"/fhir/Consent/{consent['id']}",
            json=consent | {"status": "inactive"},
            headers=FHIR | {"authorization": owner.headers["authorization"]},
        )
        assert answer.status_code == 200, answer.text
        withdrawn.append(time.perf_counter())

    async def run() -> None:
        limits = httpx.Limits(max_connections=READERS + 1)
        headers = {"authorization": reader.headers["authorization"]}
        async with httpx.AsyncClient(
            base_url=twins.full.platform.base_url, headers=headers, limits=limits, timeout=30
        ) as client:
            await asyncio.gather(withdraw(client), *(read(client, number) for number in range(READERS)))

    asyncio.run(run())
    assert began_seen, "nobody saw the row before"
    assert max(began_seen) < withdrawn[0]
    assert statuses <= {200, 404}
