"""Labels pass along references between hospitals only where nobody can misuse them (attack 8).

A reference is not checked, so a clinician may name any row: that must neither label another hospital's row nor tell
him, through somebody else's eyes, how the row that he cannot see is labelled.
"""

from typing import Any

import pytest

from consent import Caller
from tests.consent.house import LI, MACHINE, WANG, House, encounter, observation, patient

pytestmark = pytest.mark.database
F, C = "first-hospital.", "county-hospital."
IDENTITY = {
    "identifier": [{"system": "urn:oid:2.16.156.10011.1.3", "value": "11010519491231002X"}],
    "birthDate": "1949-12-31",
    "gender": "female",
}


def made(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource as a clinician posts it: without id."""
    return {name: value for name, value in resource.items() if name != "id"}


def report(identity: str, subject: str, result: str, text: str = "blood") -> dict[str, Any]:
    """A DiagnosticReport with one result."""
    return {
        "resourceType": "DiagnosticReport",
        "id": identity,
        "status": "final",
        "code": {"text": text},
        "subject": {"reference": f"Patient/{subject}"},
        "result": [{"reference": f"Observation/{result}"}],
    }


@pytest.mark.parametrize("who", [LI, MACHINE], ids=["clinician", "machine client"])
async def test_nobody_labels_a_row_of_another_hospital(house: House, who: Caller) -> None:
    victim, row = f"{F}labelled", f"{F}labelled.o"
    await house.feed("first-hospital", patient(victim), observation(row, victim))
    for subject in (victim, f"{C}somebody"):
        await house.tries(who, made(report("", subject, row, "HIV 抗体")))
        panel = observation("", subject, "75622-1", hasMember=[{"reference": f"Observation/{row}"}])
        await house.tries(who, made(panel))
    assert await house.labels(f"Observation/{row}") == set()
    await house.feed("township-clinic", encounter("township-clinic.labelled", victim))
    assert await house.sees(WANG, f"Observation/{row}")


async def test_nobody_labels_a_row_of_another_hospital_before_it_comes(house: House) -> None:
    victim, row = f"{F}later", f"{F}later.o"
    await house.tries(LI, made(report("", victim, row, "HIV 抗体")))
    await house.feed("county-hospital", report(f"{C}later.report", victim, row, "HIV 抗体"))
    await house.feed("first-hospital", patient(victim), observation(row, victim))
    assert await house.labels(f"Observation/{row}") == set()


@pytest.mark.parametrize("first", ["hidden", "referring"])
async def test_naming_a_strangers_row_tells_nothing_of_its_labels(house: House, first: str) -> None:
    stranger, own = f"{F}stranger-{first}", f"{C}own-{first}"
    hidden = observation(f"{stranger}.hiv", stranger, "75622-1")
    referring = report(f"{own}.report", own, f"{stranger}.hiv")
    await house.feed("county-hospital", patient(own))
    for each in (hidden, referring) if first == "hidden" else (referring, hidden):
        await house.feed("first-hospital" if each is hidden else "county-hospital", each)
    assert await house.labels(f"Observation/{stranger}.hiv") == {"HIV"}
    assert await house.labels(f"DiagnosticReport/{own}.report") == set()


@pytest.mark.parametrize("first", ["result", "report"])
async def test_about_one_person_labels_go_up_across_hospitals(house: House, first: str) -> None:
    here, there = f"{C}one-{first}", f"{F}one-{first}"
    await house.feed("first-hospital", patient(there, **IDENTITY))
    await house.feed("county-hospital", patient(here, **IDENTITY))
    result = observation(f"{there}.hiv", there, "75622-1")
    naming = report(f"{here}.report", here, f"{there}.hiv")
    for each in (result, naming) if first == "result" else (naming, result):
        await house.feed("first-hospital" if each is result else "county-hospital", each)
    assert await house.labels(f"DiagnosticReport/{here}.report") == {"HIV"}


async def test_many_strangers_references_keep_no_label_from_where_it_belongs(house: House) -> None:
    stranger, row = f"{F}crowd", f"{F}crowd.hiv"
    crowd = [report(f"{C}crowd.{number}", f"{C}crowd", row) for number in range(600)]
    await house.feed("county-hospital", *crowd)
    await house.feed("first-hospital", report(f"{F}crowd.report", stranger, row))
    await house.feed("first-hospital", observation(row, stranger, "75622-1"))
    assert await house.labels(f"DiagnosticReport/{F}crowd.report") == {"HIV"}
    waiting = await house.store.pool.fetchval("select count(*) from job where kind = 'consent.relabel'")
    assert waiting == 0, "a job that labels nothing would come back for ever"
