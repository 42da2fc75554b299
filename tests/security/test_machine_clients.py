"""What a hospital's machine client can open of people whom the hospital does not know (issue 4, section 6; attack 8).

A hospital is believed about whom it treats, who its Patients are and which Consents it was given: its Encounter opens
reach to itself, a Patient with a person's identity number is that person's, a Consent that it files opens to others.
Nothing else that it sends opens anything to anybody.
"""

from typing import Any

import pytest

from tests.consent.house import LI, MACHINE, WANG, ZHAO, House, encounter, observation, patient, referral
from tests.consent.test_nobody_lets_himself_in import ATTEMPTS, VICTIM, _created, _victim

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]
BELIEVED = {
    "Encounter",
    "Patient with the same identity number",
    "Consent",
    "Consent of the other hospital's client",
}
ROWS = (f"Observation/{VICTIM}.o", f"Observation/{VICTIM}.hiv", f"Patient/{VICTIM}")


async def _closed(house: House) -> None:
    for row in ROWS:
        assert not await house.sees(LI, row)
        assert not await house.sees(MACHINE, row)
        assert not await house.sees(ZHAO, row)
        assert await house.sees(WANG, row)


@pytest.mark.parametrize(
    ("name", "resources"),
    [(name, found) for name, _, found in ATTEMPTS if name not in BELIEVED],
    ids=lambda v: str(v)[:40],
)
async def test_no_other_row_of_a_machine_client_opens_anything(
    house: House, name: str, resources: list[dict[str, Any]]
) -> None:
    await _victim(house)
    await house.tries(MACHINE, *_created(resources))
    for each in _created(resources):
        await house.tries(MACHINE, {**each, "id": f"county-hospital.{name.replace(' ', '-')}"})
    await _closed(house)


async def test_a_referral_without_an_encounter_opens_nothing_to_anybody(house: House) -> None:
    await _victim(house)
    await house.put(MACHINE, referral("county-hospital.onward", VICTIM, "township-clinic"))
    await house.put(MACHINE, referral("county-hospital.inward", VICTIM, "county-hospital"))
    await _closed(house)


@pytest.mark.parametrize("status", ["planned", "cancelled", "entered-in-error", "unknown"])
async def test_an_encounter_that_is_no_presence_opens_nothing(house: House, status: str) -> None:
    await _victim(house)
    await house.put(MACHINE, encounter(f"county-hospital.{status}", VICTIM, status=status))
    await _closed(house)


async def test_a_hospital_is_believed_about_whom_it_treats(house: House) -> None:
    await _victim(house)
    stays = encounter("county-hospital.stay", VICTIM)
    await house.put(MACHINE, stays)
    assert await house.sees(LI, ROWS[0])
    assert not await house.sees(LI, ROWS[1]), "labelled rows stay closed"
    assert not await house.sees(MACHINE, ROWS[0]), "the client itself reads its own hospital's rows only"
    await house.put(MACHINE, {**stays, "status": "entered-in-error"})
    await _closed(house)


async def test_a_consent_that_a_hospital_files_opens_nothing_to_itself(house: House) -> None:
    await _victim(house)
    given = next(resources for name, _, resources in ATTEMPTS if name == "Consent")[0]
    (outcome,) = await house.put(MACHINE, given)
    for row in ROWS:
        assert not await house.sees(LI, row)
        assert not await house.sees(MACHINE, row)
    assert await house.sees(ZHAO, ROWS[0]), "to others it counts: docs/consent.md, whose Consent counts"
    assert not await house.sees(ZHAO, ROWS[1])
    await house.put(MACHINE, {**given, "id": outcome.resource_id, "status": "inactive"})
    await _closed(house)


async def test_claiming_a_strangers_identity_number_opens_nothing_by_itself(house: House) -> None:
    await _victim(house)
    claim = next(resources for name, _, resources in ATTEMPTS if name == "Patient with the same identity number")
    here = "county-hospital.claimed"
    await house.put(MACHINE, {**claim[0], "id": here}, observation(f"{here}.o", here))
    await _closed(house)
    assert await house.sees(LI, f"Observation/{here}.o")
    await house.put(MACHINE, {**patient(here)})
    await house.put(MACHINE, encounter("county-hospital.claimed-stay", here))
    assert not await house.sees(LI, ROWS[0]), "the claim is gone, and so is the person"
