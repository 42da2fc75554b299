"""What a hospital's machine client can open of people whom the hospital does not know (issue 4, section 6; attack 8).

A hospital is believed about whom it treats (of other hospitals' Patients about so many a day), who its Patients are and
which Consents it was given, of which a permit opens its own rows to others and nobody else's: decision record 0019.
Nothing else that it sends opens anything to anybody.
"""

from typing import Any

import pytest

from tests.consent.house import LI, MACHINE, WANG, ZHAO, House, consent, encounter, observation, patient, referral
from tests.consent.test_nobody_lets_himself_in import ATTEMPTS, PERMIT, VICTIM, _created, _victim

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]
BELIEVED = {"Encounter", "Patient with the same identity number"}
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


async def test_a_consent_that_a_hospital_files_opens_its_own_rows_to_others(house: House) -> None:
    one, here = "first-hospital.attested", "county-hospital.attested"
    await house.feed("first-hospital", patient(one), observation(f"{one}.o", one))
    await house.put(MACHINE, observation(here, one), observation(f"{here}-hiv", one, "75622-1"))
    given = consent(one, **PERMIT)
    (outcome,) = await house.put(MACHINE, given)
    assert await house.sees(ZHAO, f"Observation/{here}")
    for who, row in ((ZHAO, f"{here}-hiv"), (ZHAO, f"{one}.o"), (LI, f"{one}.o"), (MACHINE, f"{one}.o")):
        assert not await house.sees(who, f"Observation/{row}")
    await house.put(MACHINE, {**given, "id": outcome.resource_id, "status": "inactive"})
    assert not await house.sees(ZHAO, f"Observation/{here}")


async def test_a_hospital_is_believed_about_so_many_strangers_a_day(house: House) -> None:
    most = house.decisions.policy.strangers_a_day
    strangers = [f"first-hospital.s{n}" for n in range(most + 10)]
    await house.feed("first-hospital", *map(patient, strangers))

    async def seen() -> list[str]:
        return [one for one in strangers if await house.sees(ZHAO, f"Patient/{one}")]

    stays = [encounter(f"township-clinic.{one}", one) for one in strangers]
    await house.feed("township-clinic", *stays[:3], *stays[:3])
    assert await seen() == strangers[:3]
    await house.feed("township-clinic", *stays[3:])
    believed = await seen()
    assert len(believed) == most
    refused = [one for one in strangers if one not in believed]
    # naming them again, ending other stays and ids that nobody has (yet) give no room
    await house.feed("township-clinic", *(stay | {"status": "cancelled"} for stay in stays[:3]))
    await house.feed("township-clinic", *stays[3:], encounter("township-clinic.x", "first-hospital.not-yet"))
    await house.feed("first-hospital", patient("first-hospital.not-yet"))
    assert await seen() == [one for one in believed if one not in strangers[:3]]
    assert not await house.sees(ZHAO, "Patient/first-hospital.not-yet")
    # its own Patients are no strangers, whichever comes first; who was referred to it is none, and stays when he comes
    await house.feed("township-clinic", encounter("township-clinic.e", "township-clinic.own"))
    await house.feed("township-clinic", patient("township-clinic.own"), *stays[:3])
    assert await house.sees(ZHAO, "Patient/township-clinic.own")
    referred = refused[0]
    sent = referral("first-hospital.sent", referred, "township-clinic")
    await house.feed("first-hospital", encounter("first-hospital.sending", referred), sent)
    assert await seen() == sorted([*believed, referred], key=strangers.index)
    await house.feed("township-clinic", encounter(f"township-clinic.{referred}", referred))
    await house.feed("first-hospital", sent | {"status": "revoked"})
    assert await seen() == sorted([*believed, referred], key=strangers.index)


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
