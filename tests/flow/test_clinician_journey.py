"""The clinician's journey: own hospital, another hospital, consent, withdrawal, break-glass."""

from typing import Any

import httpx
import pytest

from tests.flow.messages import Person, adt, result, somebody
from tests.flow.running import Running, resources, total

pytestmark = pytest.mark.flow

_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


@pytest.fixture
def person(platform: Running) -> Person:
    """Somebody with one result at first-hospital, unknown to everybody else."""
    one = somebody()
    platform.take_in(adt(one, "A01"), result(one))
    return one


def consent_to(organisation: str, patient: str, **members: Any) -> dict[str, Any]:
    """A Consent that lets an organisation treat with the record."""
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"system": f"{_TERMINOLOGY}/consentscope", "code": "patient-privacy"}]},
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-11-20T10:00:00+08:00",
        "policyRule": {"coding": [{"system": f"{_TERMINOLOGY}/v3-ActCode", "code": "OPTOUT"}]},
        "provision": {
            "provision": [
                {
                    "type": "permit",
                    "actor": [
                        {
                            "role": {"coding": [{"system": f"{_TERMINOLOGY}/v3-ParticipationType", "code": "PRCP"}]},
                            "reference": {"reference": f"Organization/{organisation}"},
                        }
                    ],
                    "purpose": [{"system": f"{_TERMINOLOGY}/v3-ActReason", "code": "TREAT"}],
                }
            ]
        },
        **members,
    }


def _seen(viewer: httpx.Client, person: Person) -> tuple[int, int, int]:
    """Results found by the record number, by the Patient's id, and the status of reading the Patient."""
    by_number = total(viewer.get("Observation", params={"patient.identifier": person.record}))
    by_id = total(viewer.get("Observation", params={"patient": person.patient, "_total": "accurate"}))
    return by_number, by_id, viewer.get(f"Patient/{person.patient}").status_code


def test_the_own_hospital_sees_and_another_does_not(platform: Running, person: Person) -> None:
    assert _seen(platform.client("dr.wang"), person) == (1, 1, 200)
    assert _seen(platform.client("dr.li"), person) == (0, 0, 404)
    assert _seen(platform.client("nurse.zhao"), person) == (0, 0, 404)


def test_consent_opens_and_withdrawal_closes_on_the_very_next_request(platform: Running, person: Person) -> None:
    resident, stranger, other = (
        platform.resident(person.patient),
        platform.client("dr.li"),
        platform.client("nurse.zhao"),
    )
    for _ in range(3):
        given = resident.post("Consent", json=consent_to("county-hospital", person.patient))
        assert given.status_code == 201, given.text
        assert _seen(stranger, person) == (1, 1, 200)
        assert _seen(other, person) == (0, 0, 404)
        withdrawn = resident.put(f"Consent/{given.json()['id']}", json={**given.json(), "status": "inactive"})
        assert withdrawn.status_code == 200, withdrawn.text
        assert _seen(stranger, person) == (0, 0, 404)
    assert _seen(platform.client("dr.wang"), person) == (1, 1, 200)


def test_a_deleted_consent_closes_as_well(platform: Running, person: Person) -> None:
    resident, stranger = platform.resident(person.patient), platform.client("dr.li")
    given = resident.post("Consent", json=consent_to("county-hospital", person.patient))
    assert _seen(stranger, person) == (1, 1, 200)
    assert resident.delete(f"Consent/{given.json()['id']}").status_code in {200, 204}
    assert _seen(stranger, person) == (0, 0, 404)


def test_break_glass_opens_one_person_with_notice_and_review(platform: Running, person: Person) -> None:
    neighbour = somebody()
    platform.take_in(adt(neighbour, "A01"), result(neighbour))
    emergency = platform.client("dr.li", "BTG", "unconscious after an accident")
    # requests that name nobody open nothing
    assert total(emergency.get("Observation", params={"patient.identifier": person.record})) == 0
    assert total(emergency.get("Patient", params={"identifier": person.record})) == 0
    # one person, by name
    assert total(emergency.get("Observation", params={"patient": person.patient})) == 1
    assert emergency.get(f"Patient/{person.patient}").status_code == 200
    assert _seen(platform.client("dr.li"), person) == (0, 0, 404), "the same clinician without an emergency"
    # two persons at once are refused or show nothing of the second
    both = emergency.get("Observation", params={"patient": f"{person.patient},{neighbour.patient}"})
    assert both.status_code >= 400 or neighbour.patient not in both.text.partition('"entry"')[2]
    assert _seen(platform.client("nurse.zhao"), person) == (0, 0, 404)

    notices = resources(platform.resident(person.patient).get("Communication"))
    assert ["unconscious after an accident" in str(notice["payload"]) for notice in notices] == [True]
    reviews = resources(platform.client("privacy.he").get("Task", params={"_count": "500"}))
    (review,) = [task for task in reviews if task["for"]["reference"] == f"Patient/{person.patient}"]
    assert "dr.li" in str(review)
    assert review["status"] == "requested"
    assert total(platform.client("dr.li").get("Task", params={"patient": person.patient})) == 0


def test_break_glass_is_refused_without_reason_or_to_others(platform: Running, person: Person) -> None:
    before = platform.last_audit()
    without = platform.client("dr.li", "BTG").get("Observation", params={"patient": person.patient})
    assert without.status_code == 403
    blank = platform.client("dr.li", "BTG", "   ").get(f"Patient/{person.patient}")
    assert blank.status_code == 403
    for account in ("researcher.chen", "officer.sun", "liu.yang", "admin"):
        refused = platform.client(account, "BTG", "curiosity").get(f"Patient/{person.patient}")
        assert refused.status_code in {403, 404}, (account, refused.text)
    assert _seen(platform.client("dr.li"), person) == (0, 0, 404)
    assert not resources(platform.resident(person.patient).get("Communication"))
    refused_rows = platform.audit(after=before, actor="dr.li", purpose_of_use="BTG")
    assert len(refused_rows) == 2
    assert all(row["outcome"] == 4 for row in refused_rows)
