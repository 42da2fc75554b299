"""Whatever a clinician posts about a stranger changes nothing of what he sees; hidden looks like absent."""

import re
from typing import Any

import httpx
import pytest

from tests.flow.messages import Person, adt, result, somebody
from tests.flow.running import Running, resources

pytestmark = pytest.mark.flow
NOW = "2026-11-01T00:00:00Z"
SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


@pytest.fixture(scope="module")
def stranger(platform: Running) -> Person:
    """Somebody of first-hospital's, of whom dr.li of county-hospital knows the Patient's id."""
    one = somebody()
    platform.take_in(adt(one, "A01"), result(one))
    return one


def view(client: httpx.Client, person: Person) -> list[str]:
    """Everything that a caller gets about a person, as bytes, without times."""
    patient = f"Patient/{person.patient}"
    questions = (
        patient,
        f"Patient?_id={person.patient}",
        f"Patient?identifier={person.record}",
        f"Observation?patient={patient}",
        f"Observation?patient.identifier={person.record}&_total=accurate",
        f"Encounter?patient={patient}&_include=Encounter:patient",
        f"Patient?_has:Observation:patient:code=2823-3&_id={person.patient}",
        f"Provenance?target={patient}",
        f"{patient}/_history",
    )
    return [f"{a.status_code} {a.text}" for a in (client.get(question) for question in questions)]


def attempts(person: Person, observation: str) -> list[tuple[str, str, dict[str, Any]]]:
    """(method, path, body) of everything that a clinician might try."""
    patient = {"reference": f"Patient/{person.patient}"}
    li = {"reference": "Practitioner/dr.li"}
    county = {"reference": "Organization/county-hospital"}
    coded = {"coding": [{"system": "http://loinc.org", "code": "2823-3"}]}
    granted = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": patient,
        "dateTime": "2026-11-01T00:00:00Z",
        "policyRule": {"coding": [{"system": ACT, "code": "OPTIN"}]},
    }
    encounter = {"resourceType": "Encounter", "status": "in-progress", "class": {"system": ACT, "code": "IMP"},
                 "subject": patient, "serviceProvider": county}  # fmt: skip
    referral = {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": patient,
                "requester": li, "performer": [county], "code": coded}  # fmt: skip
    hidden = {"resourceType": "Observation", "id": observation, "status": "final", "code": coded, "subject": patient}
    agent = [{"who": li}]
    return [
        ("POST", "Encounter", encounter),
        ("POST", "ServiceRequest", referral),
        ("POST", "Consent", granted),
        ("POST", "CareTeam", {"resourceType": "CareTeam", "subject": patient, "participant": [{"member": li}]}),
        ("POST", "Group", {"resourceType": "Group", "type": "person", "actual": True, "member": [{"entity": patient}]}),
        ("POST", "Patient", {"resourceType": "Patient", "link": [{"other": patient, "type": "seealso"}]}),
        ("POST", "Provenance", {"resourceType": "Provenance", "target": [patient], "recorded": NOW, "agent": agent}),
        ("POST", "AuditEvent", {"resourceType": "AuditEvent", "type": {"code": "rest"}, "recorded": NOW,
                                "agent": [{"who": li, "requestor": True}], "source": {"observer": li}}),
        ("PUT", f"Observation/{observation}", hidden),
        ("PUT", f"Patient/{person.patient}", {"resourceType": "Patient", "id": person.patient, "active": True}),
        ("PUT", f"Patient?identifier={person.record}", {"resourceType": "Patient", "active": False}),
        ("DELETE", f"Observation/{observation}", {}),
        ("DELETE", f"Observation?patient=Patient/{person.patient}", {}),
    ]  # fmt: skip


def do(client: httpx.Client, method: str, path: str, body: dict[str, Any]) -> httpx.Response:
    return client.request(method, path, json=body) if body else client.request(method, path)


def test_no_attempt_changes_what_the_clinician_sees(platform: Running, stranger: Person) -> None:
    clinician = platform.client("dr.li")
    asked = {"patient": f"Patient/{stranger.patient}"}
    (observation,) = resources(platform.client("dr.wang").get("Observation", params=asked))
    before = view(clinician, stranger)
    own_before = view(platform.client("dr.wang"), stranger)
    listed = attempts(stranger, observation["id"])
    statuses = {f"{method} {path}": do(clinician, method, path, body).status_code for method, path, body in listed}
    posts = [(method, path, body) for method, path, body in listed if method == "POST"]
    for kind in ("batch", "transaction"):
        entries = [{"resource": body, "request": {"method": method, "url": path}} for method, path, body in posts]
        statuses[kind] = clinician.post("", json={"resourceType": "Bundle", "type": kind, "entry": entries}).status_code
    assert statuses["POST Consent"] == 403
    assert statuses["POST Provenance"] == 403
    assert statuses["POST AuditEvent"] in {403, 404, 405}
    assert statuses[f"PUT Observation/{observation['id']}"] == 405
    assert all(status < 500 for status in statuses.values()), statuses
    after = view(clinician, stranger)
    # what he wrote himself is his hospital's own; the stranger's rows stay as hidden as they were
    assert before[0] == after[0]
    assert _ids(before) == set()
    assert _ids(after) == set()
    assert view(platform.client("dr.wang"), stranger)[:4] == own_before[:4]


def _ids(answers: list[str]) -> set[str]:
    """Ids of first-hospital's resources in some answers."""
    return {found for text in answers for found in re.findall(r'"id":"(first-hospital\.[^"]*)"', text)}


HIDDEN_AND_ABSENT = [
    ("GET", "Observation/{}"),
    ("GET", "Observation/{}/_history"),
    ("GET", "Observation/{}/_history/1"),
    ("GET", "Observation?_id={}"),
    ("GET", "Observation?_id={}&_total=accurate"),
    ("GET", "Observation?_id={}&_summary=count"),
    ("HEAD", "Observation/{}"),
    ("PUT", "Observation/{}"),
    ("DELETE", "Observation/{}"),
    ("PUT", "Observation?_id={}"),
    ("DELETE", "Observation?_id={}"),
]


@pytest.mark.parametrize(("method", "path"), HIDDEN_AND_ABSENT)
@pytest.mark.parametrize("headers", [{}, {"if-match": 'W/"1"'}, {"if-none-match": 'W/"1"'}])
def test_hidden_and_absent_look_alike(
    platform: Running, stranger: Person, method: str, path: str, headers: dict[str, str]
) -> None:
    asked = {"patient": f"Patient/{stranger.patient}"}
    (observation,) = resources(platform.client("dr.wang").get("Observation", params=asked))
    hidden, absent = observation["id"], observation["id"][:-4] + "0000"
    clinician = platform.client("dr.li")
    answers = [_normal(_ask(clinician, method, path, one, headers), one) for one in (hidden, absent)]
    assert answers[0] == answers[1]


def _ask(client: httpx.Client, method: str, path: str, identity: str, headers: dict[str, str]) -> httpx.Response:
    body = {
        "resourceType": "Observation",
        "id": identity,
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": "Patient/x"},
    }
    target = path.format(identity)
    if method == "PUT":
        return client.put(
            target, json=body if "?" not in path else {k: v for k, v in body.items() if k != "id"}, headers=headers
        )
    return client.request(method, target, headers=headers)


def _normal(answer: httpx.Response, identity: str) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, text and headers with the id asked for, ids made, times and traces taken out."""

    def without(text: str) -> str:
        text = text.replace(identity, "ID")
        text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "MADE", text)
        return re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)

    left_out = {"date", "x-request-id", "last-modified"}
    headers = sorted((name, without(value)) for name, value in answer.headers.items() if name not in left_out)
    return answer.status_code, without(answer.text), headers
