"""One person at two hospitals: linked on a valid identity card number, merged by A40, consent following the person."""

from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import pytest

from kanglian.demo.region import identity_number
from tests.flow.messages import IDENTITY_CARD, adt, merge, result, somebody
from tests.flow.running import Running, resources, total
from tests.flow.test_clinician_journey import consent_to

pytestmark = pytest.mark.flow

_sequence = count(301)


def _number(born: date) -> str:
    """A valid number of a woman of the test area that no demo resident has."""
    return identity_number("330199", born, next(_sequence), "female")


def _at_county(platform: Running, name: str, number: str, born: str, sex: str = "female") -> str:
    """A Patient and one Observation from county-hospital's machine client; the Patient's id."""
    patient = f"county-hospital.{name}"
    subject = {"reference": f"Patient/{patient}"}
    resources: list[dict[str, Any]] = [
        {
            "resourceType": "Patient",
            "id": patient,
            "identifier": [{"system": f"urn:oid:{IDENTITY_CARD}", "value": number}],
            "gender": sex,
            "birthDate": born,
        },
        {
            "resourceType": "Observation",
            "id": f"{patient}-o",
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
            "subject": subject,
            "valueQuantity": {"value": 14.1},
        },
    ]
    entries = [
        {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
    ]
    answer = platform.client("county-hospital").post(
        "", json={"resourceType": "Bundle", "type": "transaction", "entry": entries}
    )
    assert answer.status_code == 200, answer.text
    return patient


def _hospitals(platform: Running, patient: str) -> set[str]:
    """Which hospitals' Observations the person's own token finds."""
    found = resources(platform.resident(patient).get("Observation", params={"_count": "200"}))
    return {one["id"].partition(".")[0] for one in found}


def test_the_same_identity_number_is_one_person(platform: Running) -> None:
    born = date(1980, 1, 1)
    number = _number(born)
    one = somebody(identity_number=number)
    platform.take_in(adt(one, "A01"), result(one))
    county = _at_county(platform, f"same-{one.record}", number, "1980-01-01")
    both = {"first-hospital", "county-hospital"}
    for patient in (one.patient, county):
        assert _hospitals(platform, patient) == both
        everything = platform.client("loader").get("Observation", params={"patient:mdm": f"Patient/{patient}"})
        assert {found["id"].partition(".")[0] for found in resources(everything)} == both
        literal = platform.client("loader").get("Observation", params={"patient": f"Patient/{patient}"})
        assert total(literal) == 1
    assert "link" not in platform.client("loader").get(f"Patient/{one.patient}").json(), "no link of ours is stored"


def test_consent_follows_the_person(platform: Running) -> None:
    number = _number(date(1980, 1, 1))
    one = somebody(identity_number=number)
    platform.take_in(adt(one, "A01"), result(one))
    county = _at_county(platform, f"follows-{one.record}", number, "1980-01-01")
    nurse = platform.client("nurse.zhao")
    given = platform.resident(county).post("Consent", json=consent_to("township-clinic", county))
    assert given.status_code == 201, given.text
    assert [nurse.get(f"Patient/{patient}").status_code for patient in (one.patient, county)] == [200, 200]
    withdrawn = platform.resident(county).put(
        f"Consent/{given.json()['id']}", json={**given.json(), "status": "inactive"}
    )
    assert withdrawn.status_code == 200, withdrawn.text
    assert [nurse.get(f"Patient/{patient}").status_code for patient in (one.patient, county)] == [404, 404]


@pytest.mark.parametrize("difference", ["check digit", "birth date", "sex"])
def test_what_does_not_agree_is_not_linked(platform: Running, difference: str) -> None:
    number = _number(date(1980, 1, 1))
    if difference == "check digit":
        number = number[:-1] + ("0" if number[-1] != "0" else "1")
    one = somebody(identity_number=number)
    platform.take_in(adt(one, "A01"), result(one))
    county = _at_county(
        platform,
        f"apart-{one.record}",
        number,
        "1980-01-02" if difference == "birth date" else "1980-01-01",
        "male" if difference == "sex" else "female",
    )
    assert _hospitals(platform, one.patient) == {"first-hospital"}
    assert _hospitals(platform, county) == {"county-hospital"}


def test_a40_makes_one_person_and_keeps_the_strictest_consent(platform: Running) -> None:
    kept, retired = somebody(), somebody()
    platform.take_in(adt(kept, "A01"), result(kept), adt(retired, "A01"), result(retired))
    given = platform.resident(kept.patient).post("Consent", json=consent_to("county-hospital", kept.patient))
    assert given.status_code == 201
    stranger = platform.client("dr.li")
    assert [stranger.get(f"Patient/{each.patient}").status_code for each in (kept, retired)] == [200, 404]
    platform.take_in(merge(kept, retired))
    own = resources(platform.resident(kept.patient).get("Observation"))
    assert {each["subject"]["reference"] for each in own} == {f"Patient/{kept.patient}", f"Patient/{retired.patient}"}
    old = platform.client("dr.wang").get(f"Patient/{retired.patient}").json()
    assert old["active"] is False
    assert old["link"][0] == {"other": {"reference": f"Patient/{kept.patient}"}, "type": "replaced-by"}
    assert stranger.get(f"Patient/{retired.patient}").status_code == 404, "nobody gave that record away"
    assert "not reviewed yet" in platform.run("people", "show", retired.patient).stdout
    assert platform.run("people", "review", retired.patient, "--reason", " ", ok=False).returncode == 1
    assert stranger.get(f"Patient/{retired.patient}").status_code == 404
    reviewed = platform.run("people", "review", retired.patient, "--reason", "same card, same photo").stdout
    assert f"merged {datetime.now(UTC):%Y-%m-%dT}" in reviewed
    assert "not reviewed yet" not in reviewed
    assert stranger.get(f"Patient/{retired.patient}").status_code == 200
    seen = resources(platform.resident(kept.patient).get("AuditEvent", params={"patient": kept.patient}))
    assert any("same card, same photo" in str(event) for event in seen)
    taken_back = platform.run("people", "unmerge", kept.patient, retired.patient, "--reason", "two sisters").stdout
    assert "one person, 1 Patient(s)" in taken_back
    found = [total(stranger.get("Observation", params={"patient": each.patient})) for each in (kept, retired)]
    assert found == [1, 0]
    again = platform.run("people", "unmerge", kept.patient, retired.patient, "--reason", "two sisters", ok=False)
    assert (again.returncode, "no such merge" in again.stderr) == (1, True)
