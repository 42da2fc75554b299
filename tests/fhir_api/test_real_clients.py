"""Clients as others publish them work unchanged: fhirpy and fhirclient.

https://github.com/beda-software/fhir-py, https://github.com/smart-on-fhir/client-py
"""

from typing import Any

import pytest
from fhirclient import client as smart
from fhirclient.models.bundle import Bundle, BundleEntry, BundleEntryRequest
from fhirclient.models.fhirreference import FHIRReference
from fhirclient.models.humanname import HumanName
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirpy import AsyncFHIRClient, SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

CODE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}


def token(platform: Platform) -> str:
    return platform.issuer.issue_token(client="loader")


@pytest.fixture(scope="module")
def fhirpy(platform: Platform) -> SyncFHIRClient:
    return SyncFHIRClient(f"{platform.base_url}/fhir", authorization=f"Bearer {token(platform)}")


@pytest.fixture(scope="module")
def fhirclient(platform: Platform) -> Any:
    app = smart.FHIRClient(settings={"app_id": "loader", "api_base": f"{platform.base_url}/fhir"})
    app.prepare()
    app.server.auth.access_token = token(platform)
    return app


def observations(fhirpy: SyncFHIRClient, patient: Any, number: int) -> None:
    for place in range(number):
        fhirpy.resource(
            "Observation",
            status="final",
            code=CODE,
            subject=patient.to_reference(),
            effectiveDateTime=f"2024-01-{place + 1:02}",
            valueQuantity={"value": 60 + place, "unit": "/min", "system": "http://unitsofmeasure.org", "code": "/min"},
        ).save()


def fhirpy_counting(fhirpy: SyncFHIRClient, patient: str) -> int:
    """Its count() sends a parameter of one server beside the standard one, which lenient handling passes over."""
    lenient = SyncFHIRClient(
        fhirpy.url, authorization=fhirpy.authorization, extra_headers={"prefer": "handling=lenient"}
    )
    found: int = lenient.resources("Observation").search(patient=patient).count()
    return found


def test_fhirpy(fhirpy: SyncFHIRClient) -> None:
    patient = fhirpy.resource("Patient", name=[{"family": "Fhirpy", "given": ["Ann"]}], birthDate="1980-05-20")
    patient.save()
    assert patient["meta"]["versionId"] == "1"
    patient["gender"] = "female"
    patient.save()
    again = fhirpy.reference("Patient", patient.id).to_resource()
    assert (again["gender"], again["meta"]["versionId"]) == ("female", "2")
    observations(fhirpy, patient, 5)
    rows = fhirpy.resources("Observation").search(patient=patient.id, date__ge="2024-01-02").sort("-date").limit(2)
    assert [row["effectiveDateTime"] for row in rows.fetch()] == ["2024-01-05", "2024-01-04"]
    assert len(rows.fetch_all()) == 4
    assert fhirpy_counting(fhirpy, patient.id) == 5
    found = fhirpy.resources("Patient").search(family="fhirpy").has("Observation", "patient", code="8867-4").first()
    assert found is not None
    assert found.id == patient.id
    with_patient = fhirpy.resources("Observation").search(patient=patient.id).include("Observation", "subject")
    shown = {entry.resource.resource_type for entry in with_patient.fetch_raw().entry}
    assert shown == {"Observation", "Patient"}
    everything = patient.execute("$everything", method="get")
    assert len(everything["entry"]) == 6
    fhirpy.resource("Observation", id=rows.first().id).delete()
    assert fhirpy_counting(fhirpy, patient.id) == 4


def test_fhirpy_hears_what_is_wrong(fhirpy: SyncFHIRClient) -> None:
    with pytest.raises(ResourceNotFound):
        fhirpy.reference("Patient", "absent").to_resource()
    with pytest.raises(OperationOutcome, match="nonsense"):
        fhirpy.resources("Patient").search(nonsense="x").fetch()
    with pytest.raises(OperationOutcome):
        fhirpy.resource("Patient", gender="nonsense").save()


async def test_fhirpy_asynchronous(platform: Platform) -> None:
    client = AsyncFHIRClient(f"{platform.base_url}/fhir", authorization=f"Bearer {token(platform)}")
    patient = client.resource("Patient", name=[{"text": "Async"}])
    await patient.save()
    patient["gender"] = "other"
    await patient.save()
    assert (await client.resources("Patient").search(_id=patient.id).first())["gender"] == "other"
    await patient.delete()
    assert await client.resources("Patient").search(_id=patient.id).fetch() == []


def test_fhirclient(fhirclient: Any) -> None:
    assert fhirclient.ready
    patient = Patient({"name": [{"family": "Smart", "given": ["Py"]}], "birthDate": "1970-01-02", "gender": "male"})
    made = patient.create(fhirclient.server)
    identity = made["id"] if isinstance(made, dict) else patient.id
    read = Patient.read(identity, fhirclient.server)
    assert (read.name[0].family, read.birthDate.isostring) == ("Smart", "1970-01-02")
    read.name.append(HumanName({"text": "Second"}))
    read.update(fhirclient.server)
    assert Patient.read(identity, fhirclient.server).meta.versionId == "2"
    observation = Observation({"status": "final", "code": CODE})
    observation.subject = FHIRReference({"reference": f"Patient/{identity}"})
    observation.create(fhirclient.server)
    search = Observation.where(struct={"subject": f"Patient/{identity}", "code": "8867-4"})
    assert [row.subject.reference for row in search.perform_resources_iter(fhirclient.server)] == [
        f"Patient/{identity}"
    ]
    named = Patient.where(struct={"family": "smart"})
    assert [row.id for row in named.perform_resources_iter(fhirclient.server)] == [identity]
    read.delete()
    assert list(named.perform_resources_iter(fhirclient.server)) == []


def test_a_transaction_of_fhirclient(fhirclient: Any) -> None:
    bundle = Bundle({"type": "transaction"})
    bundle.entry = []
    for family in ("One", "Two"):
        entry = BundleEntry()
        entry.resource = Patient({"name": [{"family": f"Bundle{family}"}]})
        entry.request = BundleEntryRequest({"method": "POST", "url": "Patient"})
        bundle.entry.append(entry)
    answer = fhirclient.server.post_json("", bundle.as_json())
    assert [each["response"]["status"] for each in answer.json()["entry"]] == ["201", "201"]
