"""Nothing that a clinician or another hospital's client posts changes what he sees of a person he does not treat."""

from typing import Any

import pytest

from consent import Caller
from tests.consent.house import (
    LI,
    MACHINE,
    WANG,
    House,
    consent,
    encounter,
    observation,
    patient,
    referral,
    resident,
)

pytestmark = pytest.mark.database
VICTIM = "first-hospital.victim"
ROW = f"Observation/{VICTIM}.o"
ABOUT = {"subject": {"reference": f"Patient/{VICTIM}"}}
PERMIT = {"base": "OPTIN", "dateTime": "2030-01-01", "provision": [{"type": "permit"}]}

ATTEMPTS: list[tuple[str, Caller, list[dict[str, Any]]]] = [
    ("Encounter", LI, [encounter("", VICTIM)]),
    ("referral to himself", LI, [referral("", VICTIM, "county-hospital")]),
    ("Consent", LI, [consent(VICTIM, **PERMIT)]),
    ("Consent of the other hospital's client", MACHINE, [consent(VICTIM, **PERMIT)]),
    (
        "CareTeam",
        LI,
        [{"resourceType": "CareTeam", **ABOUT, "participant": [{"member": {"reference": "Practitioner/dr.li"}}]}],
    ),
    (
        "Group",
        LI,
        [
            {
                "resourceType": "Group",
                "type": "person",
                "actual": True,
                "member": [{"entity": {"reference": f"Patient/{VICTIM}"}}],
            }
        ],
    ),
    (
        "Patient.link",
        LI,
        [patient("", link=[{"other": {"reference": f"Patient/{VICTIM}"}, "type": "seealso"}])],
    ),
    (
        "Patient with the same identity number",
        LI,
        [
            patient(
                "",
                identifier=[{"system": "urn:oid:2.16.156.10011.1.3", "value": "11010519491231002X"}],
                birthDate="1949-12-31",
                gender="female",
            )
        ],
    ),
    (
        "Provenance",
        LI,
        [
            {
                "resourceType": "Provenance",
                "target": [{"reference": ROW}],
                "recorded": "2026-01-01T00:00:00Z",
                "agent": [{"who": {"reference": "Practitioner/dr.li"}}],
            }
        ],
    ),
    (
        "AuditEvent",
        LI,
        [
            {
                "resourceType": "AuditEvent",
                "type": {"code": "rest"},
                "recorded": "2026-01-01T00:00:00Z",
                "agent": [{"requestor": True}],
                "source": {"observer": {"display": "x"}},
            }
        ],
    ),
    ("the victim's own id", LI, [observation(f"{VICTIM}.o", "someone")]),
    ("the victim's Patient", LI, [patient(VICTIM)]),
    ("the victim's id by the other hospital's client", MACHINE, [observation(f"{VICTIM}.o", "someone")]),
    (
        "being part of the other hospital",
        MACHINE,
        [
            {
                "resourceType": "Organization",
                "id": "county-hospital",
                "name": "x",
                "partOf": {"reference": "Organization/first-hospital"},
            },
            {
                "resourceType": "Organization",
                "id": "county-hospital.part",
                "name": "x",
                "partOf": {"reference": "Organization/first-hospital"},
            },
        ],
    ),
    ("an Observation that names the victim", LI, [{k: v for k, v in observation("", VICTIM).items() if k != "id"}]),
]


def _created(resources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k != "id" or v} for each in resources]


async def _victim(house: House) -> None:
    identity = {"system": "urn:oid:2.16.156.10011.1.3", "value": "11010519491231002X"}
    await house.feed(
        "first-hospital",
        patient(VICTIM, identifier=[identity], birthDate="1949-12-31", gender="female"),
        observation(f"{VICTIM}.o", VICTIM),
        observation(f"{VICTIM}.hiv", VICTIM, "75622-1"),
    )


@pytest.mark.parametrize(("name", "who", "resources"), ATTEMPTS, ids=[name for name, _, _ in ATTEMPTS])
async def test_alone(house: House, name: str, who: Caller, resources: list[dict[str, Any]]) -> None:
    await _victim(house)
    await house.tries(who, *_created(resources))
    for reference in (ROW, f"Observation/{VICTIM}.hiv", f"Patient/{VICTIM}"):
        assert not await house.sees(LI, reference), name
        assert not await house.sees(MACHINE, reference), name
        assert await house.sees(WANG, reference), name
        assert await house.sees(resident(VICTIM), reference), name


async def test_all_of_them_in_one_transaction(house: House) -> None:
    await _victim(house)
    for who in (LI, MACHINE):
        await house.tries(who, *(each for _, _, resources in ATTEMPTS for each in _created(resources)))
    assert not await house.sees(LI, ROW)


async def test_a_strange_permit_for_a_part_does_not_reach_who_says_it_is_one(house: House) -> None:
    await _victim(house)
    part = next(resources for name, _, resources in ATTEMPTS if name.startswith("being part"))
    for each in part:
        await house.tries(MACHINE, each)
    given = consent(VICTIM, base="OPTOUT", provision=[{"type": "permit", "actor": ["Organization/first-hospital"]}])
    await house.put(resident(VICTIM), given)
    await house.decisions.refresh()
    assert not await house.sees(LI, ROW)
