"""Searches that look among the rows of the people whom the caller sees find what the caller can read, and no more."""

import pytest

from consent import Caller
from consent.internal import feed_write_scope
from ehr.definitions import type_number
from ehr.row_filter import EVERYTHING
from ehr.search import parse, search
from ehr.search.leading import leading
from ehr.store import PatientMerge
from ehr.store.scope_sql import RenderedFilter
from tests.consent.house import (
    LI,
    LOADER,
    MACHINE,
    NOTE,
    WANG,
    ZHAO,
    House,
    caller,
    consent,
    encounter,
    observation,
    patient,
    referral,
    resident,
)

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]

TYPES = ("Patient", "Observation", "Encounter", "Consent", "Binary", "Group", "Organization")
BOTH = caller("both", "clinician resident", "township-clinic", patient="mine", scopes="user/*.rs patient/*.rs")
CALLERS = (LI, ZHAO, WANG, MACHINE, BOTH, resident("led-1"), caller("dr.new", "clinician", "new-hospital"))


async def _found(house: House, who: Caller, resource_type: str, **asked: str) -> list[str]:
    await house.decisions.refresh()
    scope = await house.decisions.read_scope(who, interaction="search", types=[resource_type])
    query = parse(resource_type, list({"_count": "1000", **asked}.items()))
    result = await search(house.store, scope, query, NOTE, link_key=b"l" * 32)
    assert result.total in (None, len(result.matches))
    return [f"{row.resource_type}/{row.resource_id}" for row in result.matches]


async def _compare(house: House) -> None:
    """Each caller's searches against its filter as it stands, row by row."""
    for who in CALLERS:
        for resource_type in TYPES:
            found = await _found(house, who, resource_type, _total="accurate")
            assert sorted(found) == await _visible(house, who, resource_type), (who.subject, resource_type)
        assert await _found(house, who, "Observation") == await _found(house, who, "Observation", _total="accurate")


async def _visible(house: House, who: Caller, resource_type: str) -> list[str]:
    scope = await house.decisions.read_scope(who, interaction="search", types=[resource_type])
    predicate = RenderedFilter(scope.row_filter, ("r",))
    rows = await house.store.pool.fetch(
        f"select r.id from resource r where {predicate.text} and not r.deleted"
        f" and r.type = {type_number(resource_type)}",
        *predicate.values,
    )
    return sorted(f"{resource_type}/{row['id']}" for row in rows)


async def test_searches_follow_everything_that_opens_and_closes(house: House) -> None:
    for number in range(1, 5):
        await house.feed("county-hospital", patient(f"county-hospital.led-{number}"))
        await house.put(LOADER, patient(f"led-{number}"), observation(f"led-o-{number}", f"led-{number}"))
    await house.put(LOADER, patient("mine"), observation("o-mine", "mine"))
    await _compare(house)
    # reach by an Encounter; own rows about another hospital's Patient; rows about nobody; rows about two people
    await house.feed("county-hospital", encounter("county-hospital.e1", "led-1"))
    await house.feed(
        "county-hospital",
        observation("county-hospital.o2", "led-2"),
        {k: v for k, v in observation("county-hospital.o0", "x").items() if k != "subject"},
        {"resourceType": "Group", "id": "county-hospital.g", "type": "person", "actual": True},
        observation("county-hospital.o12", "led-1", performer=[{"reference": "Patient/led-2"}]),
    )
    await _compare(house)
    # a referral opens the receiver's reach; consents open and close
    await house.feed("county-hospital", referral("county-hospital.r", "led-1", "township-clinic"))
    await house.put(LOADER, consent("led-3", base="OPTIN"), consent("led-2", base="OPTOUT"))
    await _compare(house)
    # a row changes its person: its hospital has none of the new one's rows yet
    await house.feed("county-hospital", observation("county-hospital.o2", "led-4"))
    # a Binary gets its person by the row that points to it
    await house.feed(
        "county-hospital", {"resourceType": "Binary", "id": "county-hospital.b", "contentType": "text/plain"}
    )
    await house.feed("county-hospital", _document("county-hospital.d", "led-3", "county-hospital.b"))
    await _compare(house)
    # a merge makes two Patients one person
    await house.feed("county-hospital", encounter("county-hospital.e5", "county-hospital.led-3"))
    merge = PatientMerge("county-hospital.led-3", "county-hospital.led-4", source="test")
    await house.store.write(feed_write_scope("feed", "county-hospital"), [], NOTE, merges=[merge])
    await _compare(house)
    await house.feed("county-hospital", encounter("county-hospital.e1", "led-1", status="entered-in-error"))
    await _compare(house)


def _document(identity: str, subject: str, binary: str) -> dict[str, object]:
    return {
        "resourceType": "DocumentReference",
        "id": identity,
        "status": "current",
        "subject": {"reference": f"Patient/{subject}"},
        "content": [{"attachment": {"url": f"Binary/{binary}"}}],
    }


async def test_they_are_led_by_people(house: House) -> None:
    scope = await house.decisions.read_scope(LI, interaction="search", types=["Observation"])
    pool = house.store.keyed_search_pool
    assert await leading(scope.row_filter, parse("Observation", []), pool) is not None
    # whom everybody sees, nobody leads to
    assert await leading(scope.row_filter, parse("Organization", []), pool) is None
    assert await leading(EVERYTHING, parse("Observation", []), pool) is None


async def test_each_row_has_its_pair(house: House) -> None:
    missing = await house.store.pool.fetch(
        "select r.id from resource r where (r.key is not null) and r.holder <> 0 and not exists"
        " (select 1 from kept_holder k where k.custodian = r.custodian and k.holder = r.holder)"
    )
    assert not missing
