"""DESIGN section 3 for real: from the wire to the record, the clinician's screen, the audit and the count."""

import re
import socket
import time

import httpx
import pytest

from tests.flow.messages import Person, adt, result, somebody
from tests.flow.running import Running, resources, total, until

pytestmark = pytest.mark.flow

_JSON = {"content-type": "application/json"}
TRACE = "HIS|first-hospital|POTASSIUM-OF-ONE-MESSAGE"


@pytest.fixture(scope="module")
def person(platform: Running) -> Person:
    """Somebody admitted to first-hospital, whose result then came over the wire."""
    one = somebody()
    platform.take_in(adt(one, "A01"))
    control = TRACE.rpartition("|")[2]
    with socket.create_connection(("127.0.0.1", platform.mllp_port), timeout=10) as wire:
        wire.sendall(b"\x0b" + result(one, value="4.20", control=control) + b"\x1c\r")
        acknowledgement = wire.recv(65_536)
        acknowledged = time.monotonic()
        kept = platform.rows("select state, trace from inbox where control_id = $1", control)
    assert f"MSA|AA|{control}".encode() in acknowledgement
    assert [row["trace"] for row in kept] == [TRACE], "acknowledged, yet not in the inbox"
    clinician = platform.client("dr.wang")
    until(lambda: total(clinician.get("Observation", params=_question(one))) == 1, 5)
    assert time.monotonic() - acknowledged < 5
    return one


def _question(person: Person) -> dict[str, str]:
    return {"patient.identifier": person.record, "code": "http://loinc.org|2823-3"}


def test_the_clinician_sees_the_result_as_it_was_sent(platform: Running, person: Person) -> None:
    answer = platform.client("dr.wang").get("Observation", params=_question(person))
    (observation,) = resources(answer)
    assert re.search(r'"value":4\.20[,}]', answer.text), "the digits of 4.20 are the laboratory's own"
    assert observation["valueQuantity"]["code"] == "mmol/L"
    bounds = observation["referenceRange"][0]
    assert (bounds["low"]["value"], bounds["high"]["value"]) == (3.5, 5.3)
    assert [coding["code"] for coding in observation["interpretation"][0]["coding"]] == ["N"]
    assert observation["status"] == "final"
    assert observation["subject"]["reference"] == f"Patient/{person.patient}"


def test_the_audit_row_says_who_looked_and_what_for(platform: Running, person: Person) -> None:
    before = platform.last_audit()
    answer = platform.client("dr.wang").get("Observation", params=_question(person))
    assert total(answer) == 1
    (entry,) = platform.audit(after=before, actor="dr.wang")
    assert entry["organisation"] == "first-hospital"
    assert entry["purpose_of_use"] == "TREAT"
    assert entry["outcome"] == 0
    assert person.record in entry["query"]
    assert len(entry["holders"]) == 1
    assert entry["decision"]


def test_the_resident_and_the_auditor_are_shown_it_and_nobody_else(platform: Running, person: Person) -> None:
    assert total(platform.client("dr.wang").get("Observation", params=_question(person))) == 1
    asked = {"patient": f"Patient/{person.patient}", "_count": "100"}
    for viewer in (platform.resident(person.patient), platform.client("audit.lin")):
        events = resources(viewer.get("AuditEvent", params=asked))
        looks = [event for event in events if _actor(event) == "dr.wang"]
        assert looks
        user = next(agent for agent in looks[0]["agent"] if agent["requestor"])
        assert user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
        assert any(agent["who"].get("reference") == "Organization/first-hospital" for agent in looks[0]["agent"])
        assert any(e["what"].get("reference") == f"Patient/{person.patient}" for e in looks[0]["entity"] if "what" in e)
    for name in ("dr.wang", "dr.li", "loader", "first-hospital", "privacy.he", "researcher.chen", "admin"):
        assert _shown_events(platform.client(name).get("AuditEvent", params=asked)) == 0, name
    assert _shown_events(platform.client("liu.yang").get("AuditEvent", params=asked)) == 0


def _shown_events(answer: httpx.Response) -> int:
    return 0 if answer.status_code in {403, 404} else len(resources(answer))


def _actor(event: dict[str, list[dict[str, dict[str, str]]]]) -> str:
    return next(agent["who"].get("display", "") for agent in event["agent"] if agent["requestor"])


def test_one_trace_id_runs_through_inbox_provenance_and_audit(platform: Running, person: Person) -> None:
    assert [row["state"] for row in platform.rows("select state from inbox where trace = $1", TRACE)] == ["done"]
    (entry,) = [entry for entry in platform.audit(trace=TRACE) if entry["interaction"] == "feed"]
    assert (entry["actor"], entry["organisation"]) == ("feed:first-hospital", "first-hospital")
    hospital = platform.client("first-hospital")
    (observation,) = resources(hospital.get("Observation", params=_question(person)))
    target = f"Observation/{observation['id']}"
    (provenance,) = resources(hospital.get("Provenance", params={"target": target}))
    assert "POTASSIUM-OF-ONE-MESSAGE" in str(provenance), "the message's control id is in its Provenance"


def test_the_result_is_counted_for_a_researcher_after_a_refresh(platform: Running) -> None:
    """Twelve people with a code of their own: shown rounded to five, of nobody in particular."""
    people = [somebody(born="19700101") for _ in range(12)]
    platform.send_all([adt(one, "A01"), result(one, code="88888-8^试验项目^LN")] for one in people)
    question = {
        "title": "people with the test item",
        "subject": "measurement",
        "where": {"code": ["http://loinc.org|88888-8"]},
        "project": "flow-tests",
    }
    address = f"{platform.base_url}/analytics/queries"
    plain = {"content-type": "application/json"}

    def counted() -> list[dict[str, object]]:
        answer = platform.client("researcher.chen").post(address, json=question, headers=plain)
        assert answer.status_code == 200, answer.text
        cells: list[dict[str, object]] = answer.json()["cells"]
        return [cell for cell in cells if cell["count"]]

    before = platform.last_audit()
    assert until(counted, 30, every_s=0.5) == [{"count": 10}]
    asked = platform.audit(after=before, actor="researcher.chen")
    assert asked[-1]["purpose_of_use"] == "HRESCH"
    assert "flow-tests" in str(asked[-1])
    assert platform.client("dr.wang").post(address, json=question, headers=plain).status_code == 403
    assert total(platform.client("researcher.chen").get("Observation", params={"code": "88888-8"})) == 0
