"""Referrals to roles, before and after the Encounter they rest on; Binaries before and after their referrers."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.consent.house import LI, LOADER, WANG, ZHAO, House, encounter, observation, patient, referral, resident

pytestmark = pytest.mark.database
F = "first-hospital."


async def person(house: House, name: str) -> str:
    await house.feed("first-hospital", patient(F + name), observation(f"{F}{name}.o", F + name))
    return F + name


def role(identity: str, organisation: str) -> dict[str, Any]:
    """A PractitionerRole at an organisation."""
    return {
        "resourceType": "PractitionerRole",
        "id": identity,
        "practitioner": {"reference": "Practitioner/dr.li"},
        "organization": {"reference": f"Organization/{organisation}"},
    }


def to_role(identity: str, subject: str, asked: str) -> dict[str, Any]:
    """A referral to a PractitionerRole."""
    return {**referral(identity, subject, "x"), "performer": [{"reference": f"PractitionerRole/{asked}"}]}


async def test_a_referral_to_a_role_opens_its_organisation(house: House) -> None:
    zhang = await person(house, "role")
    await house.feed("first-hospital", encounter(f"{zhang}.e", zhang))
    await house.put(LOADER, role("li-at-county", "county-hospital"))
    await house.feed("first-hospital", to_role(f"{zhang}.r", zhang, "li-at-county"))
    assert await house.sees(LI, f"Observation/{zhang}.o")
    assert not await house.sees(ZHAO, f"Observation/{zhang}.o")


async def test_a_role_that_somebody_else_invents_opens_nothing(house: House) -> None:
    zhang = await person(house, "invented")
    await house.feed("first-hospital", encounter(f"{zhang}.e", zhang))
    await house.feed("township-clinic", role("township-clinic.false", "county-hospital"))
    await house.feed("first-hospital", to_role(f"{zhang}.r", zhang, "township-clinic.false"))
    assert not await house.sees(LI, f"Observation/{zhang}.o")
    assert not await house.sees(ZHAO, f"Observation/{zhang}.o")


async def test_a_role_in_the_same_transaction(house: House) -> None:
    zhang = await person(house, "together")
    own = role(f"{F}role", "county-hospital")
    await house.feed("first-hospital", encounter(f"{zhang}.e", zhang), own, to_role(f"{zhang}.r", zhang, f"{F}role"))
    assert await house.sees(LI, f"Observation/{zhang}.o")


@pytest.mark.parametrize("first", ["encounter", "referral"])
async def test_the_order_of_encounter_and_referral_changes_nothing(house: House, first: str) -> None:
    zhang = await person(house, f"order-{first}")
    row = f"Observation/{zhang}.o"
    stay = encounter(f"{zhang}.e", zhang)
    sent = referral(f"{zhang}.r", zhang, "county-hospital", authoredOn=datetime.now(UTC).isoformat())
    for each in (stay, sent) if first == "encounter" else (sent, stay):
        assert not await house.sees(LI, row)
        await house.feed("first-hospital", each)
    assert await house.sees(LI, row)
    await house.feed("first-hospital", {**stay, "status": "entered-in-error"})
    assert not await house.sees(LI, row), "what rested on an Encounter that never was falls with it"
    await house.feed("first-hospital", stay)
    assert await house.sees(LI, row)


@pytest.mark.parametrize("first", ["binary", "referrer"])
async def test_a_binary_is_about_whom_its_referrer_is(house: House, first: str) -> None:
    zhang = await person(house, f"binary-{first}")
    binary = {"resourceType": "Binary", "id": f"{zhang}.b", "contentType": "text/plain", "data": "SElW"}
    document = {
        "resourceType": "DocumentReference",
        "id": f"{zhang}.d",
        "status": "current",
        "subject": {"reference": f"Patient/{zhang}"},
        "content": [{"attachment": {"url": f"Binary/{zhang}.b"}}],
    }
    for each in (binary, document) if first == "binary" else (document, binary):
        await house.feed("first-hospital", each)
    name = f"Binary/{zhang}.b"
    assert await house.sees(WANG, name)
    assert await house.sees(resident(zhang), name)
    assert not await house.sees(LI, name)
    await house.feed("county-hospital", encounter(f"county-hospital.{first}", zhang))
    assert await house.sees(LI, name)
    await house.feed("first-hospital", {**binary, "contentType": "text/html"})
    assert await house.sees(resident(zhang), name), "kept by an update"
    await house.feed("first-hospital", {**document, "type": {"text": "HIV 抗体"}})
    assert await house.labels(name) == {"HIV"}
    assert not await house.sees(LI, name), "labelled as its referrer"


async def test_nobody_adopts_the_binary_of_another_hospital(house: House) -> None:
    zhang = await person(house, "foreign-binary")
    binary = {"resourceType": "Binary", "id": f"{zhang}.b", "contentType": "text/plain", "data": "SElW"}
    await house.feed("first-hospital", binary)
    document = {
        "resourceType": "DocumentReference",
        "id": "county-hospital.thief",
        "status": "current",
        "subject": {"reference": f"Patient/{zhang}"},
        "type": {"text": "HIV"},
        "content": [{"attachment": {"url": f"Binary/{zhang}.b"}}],
    }
    await house.feed("county-hospital", document)
    assert not await house.sees(LI, f"Binary/{zhang}.b")
    assert await house.labels(f"Binary/{zhang}.b") == set()
