"""Consent and scopes as seen from outside: hidden equals absent, scopes cut, nobody lets himself in."""

import json
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fhir_api.issuer.issuer import Grant
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
VARYING = {"date", "x-request-id"}
ABSENT = "first-hospital.absent"


@dataclass
class People:
    """Who is in these tests, and what there is to see."""

    platform: Platform
    hospital: httpx.Client
    wang: httpx.Client
    li: httpx.Client
    zhang: httpx.Client
    patient_id: str
    observation_id: str

    def scoped(self, account: str, scope: str, purpose: str = "TREAT", reason: str | None = None) -> httpx.Client:
        """A client of an account whose token carries these scopes only."""
        holder = self.platform.issuer.account(account)
        grant = Grant(holder, "demo-app", tuple(scope.split()), purpose, reason)
        found = self.platform.anonymous()
        found.headers["authorization"] = f"Bearer {self.platform.issuer.access_token(grant)}"
        return found


@pytest.fixture(scope="module")
def people(platform: Platform) -> People:
    patient_id = "first-hospital.zhang-wei"
    (platform.keys_path / "demo-accounts.json").write_text(json.dumps({"zhang.wei": {"patient": patient_id}}))
    hospital = platform.client(client="first-hospital")
    subject = {"reference": f"Patient/{patient_id}"}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            entry("PUT", {"resourceType": "Patient", "id": patient_id, "identifier": [{"value": "canary-17"}]}),
            entry(
                "PUT",
                {
                    "resourceType": "Encounter",
                    "id": "first-hospital.visit",
                    "status": "in-progress",
                    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
                    "subject": subject,
                },
            ),
            entry(
                "PUT",
                {
                    "resourceType": "Observation",
                    "id": "first-hospital.observation",
                    "status": "final",
                    "code": {"text": "glucose"},
                    "subject": subject,
                },
            ),
        ],
    }
    answer = hospital.post("/fhir", json=bundle, headers=FHIR)
    assert answer.status_code == 200, answer.text
    return People(
        platform,
        hospital,
        platform.client(account="dr.wang"),
        platform.client(account="dr.li"),
        platform.client(account="zhang.wei"),
        patient_id,
        "first-hospital.observation",
    )


def entry(method: str, resource: dict[str, Any]) -> dict[str, Any]:
    address = f"{resource['resourceType']}/{resource['id']}" if method == "PUT" else resource["resourceType"]
    return {"resource": resource, "request": {"method": method, "url": address}}


def seen(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """What a caller can tell of an answer."""
    headers = {name: value for name, value in answer.headers.items() if name not in VARYING}
    return answer.status_code, headers, answer.content


def test_own_hospital_sees_the_other_does_not(people: People) -> None:
    for address in (f"Patient/{people.patient_id}", f"Observation/{people.observation_id}"):
        assert people.wang.get(f"/fhir/{address}").status_code == 200
        assert people.zhang.get(f"/fhir/{address}").status_code == 200
        assert people.li.get(f"/fhir/{address}").status_code == 404
    found = people.zhang.get("/fhir/Patient").json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [people.patient_id]


@pytest.mark.parametrize(
    ("method", "address", "headers"),
    [
        ("GET", "Observation/{}", {}),
        ("HEAD", "Observation/{}", {}),
        ("GET", "Observation/{}/_history", {}),
        ("GET", "Observation/{}/_history/1", {}),
        ("GET", "Observation/{}", {"if-none-match": 'W/"1"'}),
        ("GET", "Observation/{}", {"if-none-match": "*"}),
        ("GET", "Observation/{}", {"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
        ("DELETE", "Observation/{}", {}),
        ("DELETE", "Observation/{}", {"if-match": 'W/"1"'}),
        ("DELETE", "Observation/{}", {"if-match": 'W/"9"'}),
        ("PUT", "Observation/{}", {}),
        ("PUT", "Observation/{}", {"if-match": 'W/"1"'}),
        ("PUT", "Observation/{}", {"if-match": 'W/"9"'}),
    ],
)
def test_hidden_and_absent_look_alike(people: People, method: str, address: str, headers: dict[str, str]) -> None:
    answers = []
    for resource_id in (people.observation_id, ABSENT):
        content = None
        if method == "PUT":
            content = json.dumps(
                {"resourceType": "Observation", "id": resource_id, "status": "final", "code": {"text": "x"},
                 "subject": {"reference": f"Patient/{people.patient_id}"}}
            ).encode()  # fmt: skip
        path = f"/fhir/{address.format(resource_id)}"
        answers.append(seen(people.li.request(method, path, headers=FHIR | headers, content=content)))
    assert answers[0] == answers[1]
    assert answers[0][0] in {404, 405, 412}


@pytest.mark.parametrize("query", ["_id={}", "_id={}&_summary=count", "_id={}&_total=accurate", "_id:not={}&_count=0"])
def test_hidden_and_absent_count_alike(people: People, query: str) -> None:
    answers = []
    for resource_id in (people.observation_id, ABSENT):
        answer = people.li.get("/fhir/Observation?" + query.format(resource_id))
        answers.append((answer.status_code, answer.text.replace(resource_id, "ID")))
    assert answers[0] == answers[1]


def test_conditional_writes_do_not_meet_hidden_rows(people: People) -> None:
    content = {"resourceType": "Patient", "identifier": [{"value": "canary-17"}]}
    other = people.platform.client(client="county-hospital")
    answer = other.post("/fhir/Patient", json=content, headers=FHIR | {"if-none-exist": "identifier=canary-17"})
    assert answer.status_code == 201, answer.text
    assert other.delete("/fhir/Patient?identifier=canary-17").status_code == 204
    assert people.wang.get(f"/fhir/Patient/{people.patient_id}").status_code == 200


@pytest.mark.parametrize(
    ("account", "scope", "allowed", "refused"),
    [
        ("dr.wang", "user/Patient.r", ["GET Patient"], ["GET Observation", "SEARCH Patient", "POST Observation"]),
        ("dr.wang", "user/*.s", ["SEARCH Patient"], ["GET Patient"]),
        ("dr.wang", "user/Observation.rs", ["GET Observation", "SEARCH Observation"], ["GET Patient"]),
        ("dr.wang", "openid fhirUser", [], ["GET Patient", "SEARCH Patient", "POST Observation"]),
        ("dr.wang", "user/Observation.rs user/Observation.c", ["POST Observation"], ["DELETE Observation"]),
        ("dr.wang", "patient/*.cruds", [], ["GET Patient", "POST Observation"]),
        ("zhang.wei", "patient/Observation.rs", ["GET Observation"], ["GET Patient", "POST Observation"]),
        ("dr.wang", "nonsense user/*.zz", [], ["GET Patient"]),
    ],
)
def test_scopes_cut_what_consent_allows(
    people: People, account: str, scope: str, allowed: list[str], refused: list[str]
) -> None:
    caller = people.scoped(account, scope, "PATRQT" if account == "zhang.wei" else "TREAT")
    statuses = {each: _tried(people, caller, each) for each in allowed + refused}
    assert {each: statuses[each] for each in allowed} == {each: 201 if "POST" in each else 200 for each in allowed}
    assert all(statuses[each] in {403, 404} for each in refused), statuses


def _tried(people: People, caller: httpx.Client, attempt: str) -> int:
    method, _, resource_type = attempt.partition(" ")
    ids = {"Patient": people.patient_id, "Observation": people.observation_id}
    match method:
        case "SEARCH":
            return caller.get(f"/fhir/{resource_type}?_id={ids[resource_type]}").status_code
        case "POST":
            content = {
                "resourceType": "Observation",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": f"Patient/{people.patient_id}"},
            }
            return caller.post("/fhir/Observation", json=content, headers=FHIR).status_code
        case _:
            return caller.request(method, f"/fhir/{resource_type}/{ids[resource_type]}").status_code


def test_scopes_hold_for_each_entry_of_a_batch(people: People) -> None:
    caller = people.scoped("dr.wang", "user/Observation.crs")
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": f"Patient/{people.patient_id}"},
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": f"Observation/{people.observation_id}"}},
            {"request": {"method": "GET", "url": f"Patient/{people.patient_id}"}},
            {"request": {"method": "GET", "url": "Patient?_id=x"}},
            {"request": {"method": "GET", "url": "Observation?_summary=count"}},
            {"request": {"method": "DELETE", "url": f"Observation/{people.observation_id}"}},
            {"request": {"method": "POST", "url": "Observation"}, "resource": observation},
            {
                "request": {"method": "POST", "url": "Condition"},
                "resource": observation | {"resourceType": "Condition"},
            },
        ],
    }
    answer = caller.post("/fhir", json=bundle, headers=FHIR)
    assert answer.status_code == 200, answer.text
    statuses = [entry["response"]["status"] for entry in answer.json()["entry"]]
    assert statuses[:6] == ["200", "403", "403", "200", "403", "201"]
    assert statuses[6] in {"403", "422"}
    assert people.wang.get(f"/fhir/Observation/{people.observation_id}").status_code == 200


def test_includes_reach_no_type_outside_the_scopes(people: People) -> None:
    caller = people.scoped("dr.wang", "user/Observation.rs")
    found = caller.get(f"/fhir/Observation?_id={people.observation_id}&_include=Observation:subject").json()
    assert [entry["resource"]["resourceType"] for entry in found["entry"]] == ["Observation"]
    whole = people.wang.get(f"/fhir/Observation?_id={people.observation_id}&_include=Observation:subject").json()
    assert len(whole["entry"]) == 2


def test_break_glass_opens_one_person(people: People) -> None:
    address = f"/fhir/Observation?patient=Patient/{people.patient_id}"
    without_reason = people.scoped("dr.li", "user/*.rs", "BTG")
    assert without_reason.get(address).status_code == 403
    resident = people.scoped("zhang.wei", "patient/*.rs", "BTG", "curious")
    assert resident.get(address).status_code in {403, 404}
    opened = people.scoped("dr.li", "user/*.rs", "BTG", "unconscious after an accident")
    assert opened.get("/fhir/Observation").json().get("total") == 0
    assert opened.get(address).json()["total"] >= 1
    assert opened.get(f"/fhir/Patient/{people.patient_id}").status_code == 200
    assert people.li.get(f"/fhir/Patient/{people.patient_id}").status_code == 404
    notices = people.zhang.get("/fhir/Communication").json()
    assert any("unconscious" in json.dumps(each, ensure_ascii=False) for each in notices.get("entry", []))


def test_the_resident_sees_who_looked_and_nobody_else_does(people: People) -> None:
    people.wang.get(f"/fhir/Patient/{people.patient_id}", headers={"x-request-id": "looked-at"})
    people.wang.get("/fhir/Patient?identifier=somebody-elses-number")
    mine = people.zhang.get(f"/fhir/AuditEvent?patient=Patient/{people.patient_id}").json()["entry"]
    shown = json.dumps(mine)
    assert "looked-at" in shown
    assert "somebody-elses-number" not in shown
    assert {entry["resource"]["entity"][0]["what"]["reference"] for entry in mine} == {f"Patient/{people.patient_id}"}
    assert "entry" not in people.zhang.get("/fhir/AuditEvent?patient=Patient/another").json()
    event = mine[0]["resource"]
    assert people.zhang.get(f"/fhir/AuditEvent/{event['id']}").json() == event
    for caller in (people.wang, people.li, people.hospital, people.platform.client(client="loader")):
        assert caller.get("/fhir/AuditEvent").status_code == 403
        assert caller.get(f"/fhir/AuditEvent/{event['id']}").status_code == 403
    other = people.platform.client(account="liu.yang")
    assert other.get(f"/fhir/AuditEvent/{event['id']}").status_code == 404
    assert other.get(f"/fhir/AuditEvent?patient=Patient/{people.patient_id}").json().get("entry") is None


@pytest.mark.parametrize("resource_type", ["AuditEvent", "Provenance"])
def test_the_servers_own_types_are_written_by_nobody(people: People, resource_type: str) -> None:
    for caller in (people.wang, people.hospital, people.zhang):
        content = {"resourceType": resource_type}
        assert caller.post(f"/fhir/{resource_type}", json=content, headers=FHIR).status_code in {403, 405}


def test_a_withdrawn_token_is_refused(people: People) -> None:
    caller = people.platform.client(account="dr.wang")
    token = caller.headers["authorization"].removeprefix("Bearer ")
    assert caller.get(f"/fhir/Patient/{people.patient_id}").status_code == 200
    people.platform.anonymous().post("/auth/revoke", data={"token": token})
    assert caller.get(f"/fhir/Patient/{people.patient_id}").status_code == 401


def test_policies_that_change_are_decided_anew(people: People) -> None:
    organisation = {"resourceType": "Organization", "id": "first-hospital", "name": "changed"}
    loader = people.platform.client(client="loader")
    for turn in range(3):
        people.wang.get(f"/fhir/Patient/{people.patient_id}")
        answer = loader.put(
            "/fhir/Organization/first-hospital", json=organisation | {"alias": [str(turn)]}, headers=FHIR
        )
        assert answer.status_code in {200, 201}, answer.text
        assert people.wang.get(f"/fhir/Patient/{people.patient_id}").status_code == 200
        assert people.wang.get("/fhir/Observation?_count=1").status_code == 200
        assert people.wang.get(f"/fhir/Patient/{people.patient_id}/_history").status_code == 200


def test_a_batch_that_changes_policies_runs_each_entry_once(people: People) -> None:
    loader = people.platform.client(client="loader")
    entries = []
    for number in range(20):
        organisation = {"resourceType": "Organization", "id": f"batch-{number}", "name": "x"}
        entries.append(entry("PUT", organisation))
        entries.append(
            entry(
                "POST",
                {"resourceType": "Patient", "identifier": [{"value": "once-in-a-batch"}, {"value": str(number)}]},
            )
        )
    answer = loader.post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": entries}, headers=FHIR)
    assert answer.status_code == 200, answer.text
    assert {each["response"]["status"] for each in answer.json()["entry"]} == {"201"}
    assert loader.get("/fhir/Patient?identifier=once-in-a-batch&_summary=count").json()["total"] == 20
