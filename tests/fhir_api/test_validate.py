"""$validate at the door: levels, modes, profiles that are stored; nothing is written, and hidden reads as absent."""

from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
URL = "http://example.org/StructureDefinition/"
COLOURS = "http://example.org/ValueSet/colours"
Json = dict[str, Any]
PROFILE: Json = {
    "resourceType": "StructureDefinition",
    "id": "named-basic",
    "url": URL + "named-basic",
    "version": "2",
    "name": "NamedBasic",
    "status": "active",
    "kind": "resource",
    "abstract": False,
    "type": "Basic",
    "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Basic",
    "derivation": "constraint",
    "differential": {
        "element": [
            {"id": "Basic", "path": "Basic"},
            {"id": "Basic.code", "path": "Basic.code", "binding": {"strength": "required", "valueSet": COLOURS}},
            {"id": "Basic.author", "path": "Basic.author", "min": 1},
        ]
    },
}
VALUE_SET: Json = {
    "resourceType": "ValueSet",
    "id": "colours",
    "url": COLOURS,
    "status": "active",
    "compose": {"include": [{"system": "urn:colours", "concept": [{"code": "red"}]}]},
}


def basic(code: str = "red", **members: Any) -> Json:
    return {"resourceType": "Basic", "code": {"coding": [{"system": "urn:colours", "code": code}]}, **members}


AUTHOR = {"author": {"reference": "Practitioner/1"}}


def parameters(*given: tuple[str, Any]) -> Json:
    listed = [{"name": name, ("resource" if name == "resource" else "valueString"): value} for name, value in given]
    return {"resourceType": "Parameters", "parameter": listed}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    client = platform.client(client="loader")
    for each in (PROFILE, VALUE_SET, basic(id="validated", **AUTHOR), basic("green", id="first-hospital.other")):
        address = f"/fhir/{each['resourceType']}/{each['id']}"
        assert client.put(address, json=each, headers=FHIR).status_code in {200, 201}
    return client


def told(answer: httpx.Response) -> list[tuple[str, str, str | None]]:
    assert answer.status_code == 200, answer.text
    outcome = answer.json()
    assert outcome["resourceType"] == "OperationOutcome"
    return [
        (issue["severity"], issue["code"], issue.get("expression", [None])[0])
        for issue in outcome["issue"]
        if issue["severity"] != "information"
    ]


def post(client: httpx.Client, address: str, body: Any) -> httpx.Response:
    return client.post(f"/fhir/{address}", json=body, headers=FHIR)


def everything(client: httpx.Client) -> list[str]:
    entries = client.get("/fhir/_history?_count=200").json().get("entry", [])
    return [f"{entry['fullUrl']} {entry['response']['etag']}" for entry in entries]


def test_resources_and_parameters(loader: httpx.Client) -> None:
    assert told(post(loader, "Basic/$validate", basic())) == []
    assert post(loader, "Basic/$validate", basic()).json()["issue"][0]["severity"] == "information"
    assert told(post(loader, "Basic/$validate", {"resourceType": "Basic"})) == [("error", "required", "Basic.code")]
    wrong = parameters(("resource", basic(created="2020-13-01")))
    assert told(post(loader, "Basic/$validate", wrong)) == [("error", "value", "Basic.created")]
    assert told(post(loader, "Basic/$validate", {"resourceType": "Group"})) == [("error", "invalid", "resourceType")]


def test_stored_profiles(loader: httpx.Client) -> None:
    named = ("profile", URL + "named-basic")
    assert told(post(loader, "Basic/$validate", parameters(("resource", basic(**AUTHOR)), named))) == []
    both = [("error", "code-invalid", "Basic.code"), ("error", "required", "Basic.author")]
    assert told(post(loader, "Basic/$validate", parameters(("resource", basic("green")), named))) == both
    for canonical in (URL + "named-basic", URL + "named-basic|2"):
        assert told(post(loader, f"Basic/$validate?profile={canonical.replace('|', '%7C')}", basic("green"))) == both
        assert told(post(loader, "Basic/$validate", basic("green", meta={"profile": [canonical]}))) == both
    unknown = basic(meta={"profile": [URL + "named-basic|3"]})
    assert told(post(loader, "Basic/$validate", unknown)) == [("warning", "not-found", "Basic.meta.profile[0]")]
    answer = post(loader, f"Basic/$validate?profile={URL}nowhere", basic())
    assert told(answer) == [("error", "not-found", "Basic")]
    assert f"{URL}nowhere" in answer.text


def test_a_stored_resource(loader: httpx.Client) -> None:
    assert told(loader.get("/fhir/Basic/validated/$validate")) == []
    address = f"/fhir/Basic/first-hospital.other/$validate?mode=profile&profile={URL}named-basic"
    for answer in (loader.get(address), loader.post(address)):
        assert [issue[2] for issue in told(answer)] == ["Basic.code", "Basic.author"]
    assert loader.get("/fhir/Basic/nowhere/$validate").status_code == 404


def test_modes_write_nothing(loader: httpx.Client) -> None:
    before = everything(loader)
    create = parameters(("mode", "create"), ("resource", basic()))
    assert told(post(loader, "Basic/$validate", create)) == []
    update = parameters(("mode", "update"), ("resource", basic(id="validated")))
    assert told(post(loader, "Basic/validated/$validate", update)) == []
    assert told(post(loader, "Basic/$validate", update)) == []
    assert (
        told(post(loader, "Basic/new-one/$validate", parameters(("mode", "update"), ("resource", basic(id="new-one")))))
        == []
    )
    assert told(post(loader, "Basic/validated/$validate?mode=delete", None)) == []
    assert told(post(loader, "Basic/other/$validate", update)) == [("error", "invalid", "Resource.id")]
    assert told(post(loader, "Basic/$validate", parameters(("mode", "update"), ("resource", basic())))) == [
        ("error", "required", "Resource.id")
    ]
    broken = parameters(("mode", "create"), ("resource", {"resourceType": "Basic"}))
    assert told(post(loader, "Basic/$validate", broken)) == [("error", "required", "Basic.code")]
    assert everything(loader) == before
    assert loader.get("/fhir/Basic/new-one").status_code == 404


def test_what_may_not_be_written_is_said_as_for_the_write(platform: Platform, loader: httpx.Client) -> None:
    clinician = platform.client(account="dr.li")
    for resource_id in ("first-hospital.other", "nowhere"):
        body = basic(id=resource_id)
        written = clinician.put(f"/fhir/Basic/{resource_id}", json=body, headers=FHIR)
        assert written.status_code in {403, 405}
        update = parameters(("mode", "update"), ("resource", body))
        assert post(clinician, f"Basic/{resource_id}/$validate", update).json()["issue"] == written.json()["issue"]
        removed = clinician.delete(f"/fhir/Basic/{resource_id}")
        assert removed.status_code in {403, 404}
        tried = clinician.post(f"/fhir/Basic/{resource_id}/$validate?mode=delete")
        assert tried.json()["issue"] == removed.json()["issue"]
    assert loader.get("/fhir/Basic/first-hospital.other").status_code == 200


def test_hidden_is_absent(platform: Platform, loader: httpx.Client) -> None:
    hidden = {"resourceType": "Patient", "id": "county-hospital.validated"}
    assert loader.put("/fhir/Patient/county-hospital.validated", json=hidden, headers=FHIR).status_code == 201
    clinician = platform.client(account="dr.li")
    requests = [
        ("GET", "", None),
        ("POST", "?mode=delete", None),
        ("POST", "", parameters(("mode", "update"), ("resource", {"resourceType": "Patient", "id": "ID"}))),
    ]
    for method, query, body in requests:
        answers = set()
        for resource_id in ("county-hospital.validated", "county-hospital.nowhere"):
            if body is not None:
                body["parameter"][1]["resource"]["id"] = resource_id
            answer = clinician.request(method, f"/fhir/Patient/{resource_id}/$validate{query}", json=body, headers=FHIR)
            answers.add((answer.status_code, answer.content))
        assert len(answers) == 1, (method, query)
        assert b"error" in next(iter(answers))[1]


@pytest.mark.parametrize(
    ("method", "address", "body", "status"),
    [
        ("POST", "Basic/$validate", None, 400),
        ("GET", "Basic/$validate", None, 400),
        ("POST", "Basic/$validate", [], 400),
        ("POST", "Basic/$validate", parameters(("resource", 5)), 400),
        ("POST", "Basic/$validate", parameters(("resource", {}), ("resource", {})), 400),
        ("POST", "Basic/$validate?mode=guess", {"resourceType": "Basic"}, 400),
        ("POST", "Basic/$validate?mode=delete", {"resourceType": "Basic"}, 400),
        ("POST", "Basic/validated/$validate?mode=create", {"resourceType": "Basic"}, 400),
        ("POST", "Basic/validated/$validate?mode=update", None, 400),
        ("POST", "Basic/$validate?other=x", {"resourceType": "Basic"}, 400),
        ("POST", "Basic/$validate?profile=a&profile=b", {"resourceType": "Basic"}, 400),
        ("POST", "Basic/$validate", {"resourceType": "Basic", "meta": 5, "extension": [{"url": 7}, 8]}, 200),
        ("POST", "Basic/$validate?mode=create", {"resourceType": "Basic", "meta": {"profile": [5, {}]}}, 200),
        ("POST", "Basic/$validate?profile=%00", {"resourceType": "Basic"}, 400),
        ("PUT", "Basic/$validate", {"resourceType": "Basic"}, 405),
        ("POST", "AuditEvent/$validate", {"resourceType": "AuditEvent"}, 404),
    ],
)
def test_garbage(loader: httpx.Client, method: str, address: str, body: Any, status: int) -> None:
    answer = loader.request(method, f"/fhir/{address}", json=body, headers=FHIR)
    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_audited_before_the_answer(platform: Platform, loader: httpx.Client) -> None:
    auditor = platform.client(account="audit.lin")
    post(loader, "Basic/$validate?mode=create&profile=urn:audited-mark", basic())
    found = auditor.get("/fhir/AuditEvent?_count=5")
    assert found.status_code == 200, found.text
    assert "audited-mark" in found.text or "YXVkaXRlZC1tYXJr" in found.text
