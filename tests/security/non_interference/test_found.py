"""What the comparison found, or would find, each as a case of its own."""

import json

import pytest

from consent import building, feed_write_scope
from ehr.access.classes import restamp
from ehr.errors import NotFound
from ehr.keys import row_key
from ehr.search import parse, search
from ehr.store import WriteOperation
from ehr.store.operations import PatientMerge
from tests.consent.house import LI, LOADER, NOTE, House, consent, encounter, observation, patient, resident
from tests.security.non_interference.resources import CONFIDENTIALITY, IDENTITY_NUMBER, identity_number, ref

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]
F = "first-hospital."
HIV, OTHER = "75622-1", "718-7"


def report(identity: str, subject: str, result: str, code: str = OTHER, **more: object) -> dict[str, object]:
    made = observation(identity, subject, code, **more)
    return made | {"resourceType": "DiagnosticReport", "result": [ref("Observation", result)]}


async def delete(house: House, name: str) -> None:
    operation = WriteOperation("delete", "Observation", name)
    await house.store.write(feed_write_scope("feed", "first-hospital"), [operation], NOTE)


async def test_a_corrected_result_stays_labelled_by_its_report(house: House) -> None:
    zhang, result = f"{F}corrected", f"{F}corrected.o"
    await house.feed("first-hospital", patient(zhang), observation(result, zhang, HIV))
    await house.feed("first-hospital", report(f"{zhang}.r", zhang, result, HIV))
    await house.feed("first-hospital", observation(result, zhang, OTHER))
    assert await house.labels(f"Observation/{result}") == {"HIV"}
    alone = f"{F}alone.o"
    await house.feed("first-hospital", observation(alone, zhang, HIV))
    await house.feed("first-hospital", observation(alone, zhang, OTHER))
    assert await house.labels(f"Observation/{alone}") == set(), "what its own code said goes with the code"


async def test_a_result_that_comes_back_stays_labelled_by_its_report(house: House) -> None:
    zhang, result = f"{F}returns", f"{F}returns.o"
    await house.feed("first-hospital", patient(zhang), observation(result, zhang, OTHER))
    await house.feed("first-hospital", report(f"{zhang}.r", zhang, result, HIV))
    await delete(house, result)
    await house.feed("first-hospital", observation(result, zhang, OTHER))
    assert await house.labels(f"Observation/{result}") == {"HIV"}


async def test_a_deleted_row_is_as_hidden_as_it_was(house: House) -> None:
    zhang, row = f"{F}gone", f"{F}gone.o"
    await house.feed("first-hospital", patient(zhang), observation(row, zhang, OTHER))
    deny = consent(zhang, base="OPTIN", provision=[{"type": "deny", "code": [f"loinc|{OTHER}"]}])
    await house.put(resident(zhang), deny)
    assert not await house.sees(LI, f"Observation/{row}")
    await delete(house, row)
    # Gone instead of NotFound would tell that there was something
    assert not await house.sees(LI, f"Observation/{row}")
    scope = await house.decisions.read_scope(LI, interaction="read")
    with pytest.raises(NotFound):
        await house.store.history(scope, "Observation", row, NOTE)


async def test_of_two_levels_the_higher_one_counts(house: House) -> None:
    zhang = f"{F}levels"
    low, high = ({"meta": {"security": [{"system": CONFIDENTIALITY, "code": code}]}} for code in "LR")
    await house.feed("first-hospital", patient(zhang), report(f"{zhang}.r", zhang, f"{zhang}.o", **low))
    provisions = [{"type": "permit", "label": ["V"]}, {"type": "deny", "label": ["N"]}]
    await house.put(resident(zhang), consent(zhang, base="OPTIN", provision=provisions))
    assert await house.sees(LI, f"DiagnosticReport/{zhang}.r")
    await house.feed("first-hospital", observation(f"{zhang}.o", zhang, **high))
    assert not await house.sees(LI, f"DiagnosticReport/{zhang}.r")


@pytest.mark.parametrize("way", ["linked", "parted"])
async def test_the_stamps_of_rows_follow_their_persons(house: House, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(building, "BROAD_FROM_PERSONS", 0)
    # the holder with the lower key gives the person its number and keeps its class
    refusing, other = sorted((f"{F}{way}-a", f"{F}{way}-b"), key=lambda name: row_key("Patient", name))
    merge = PatientMerge(refusing, other, "a40")
    feed = feed_write_scope("feed", "first-hospital")
    number = {"system": IDENTITY_NUMBER, "value": identity_number(7)}
    same = {"identifier": [number], "birthDate": "1949-12-31", "gender": "female"} if way == "linked" else {}
    for name in (refusing, other):
        await house.feed("first-hospital", patient(name, **(same if name == refusing else {})))
        await house.feed("first-hospital", observation(f"{name}.o", name))
        await house.feed("county-hospital", encounter(f"county-hospital.{name}", name))
    if way == "parted":
        await house.store.write(feed, [], NOTE, merges=[merge])
        await house.decisions.review_merge(refusing, NOTE)
    await house.put(resident(refusing), consent(refusing, base="OPTOUT", dateTime="2026-01-01"))
    async with house.store.searching.acquire() as connection:
        while await restamp(connection):
            pass
        await house.decisions.refresh()
        assert await house.sees(LI, f"Observation/{other}.o") is (way == "linked")
        if way == "parted":
            async with connection.transaction():
                await house.store.people.unmerge(connection, row_key("Patient", refusing), row_key("Patient", other))
        else:
            await house.feed("first-hospital", patient(other, **same))
    await house.decisions.refresh()
    house.decisions._scopes.clear()
    assert await house.sees(LI, f"Observation/{other}.o") is (way == "parted")
    assert not await house.sees(LI, f"Observation/{refusing}.o")


@pytest.mark.parametrize("first", ["target", "provenance"])
async def test_a_provenance_is_labelled_as_its_targets(house: House, first: str) -> None:
    zhang, row = f"{F}told-{first}", f"{F}told-{first}.o"
    target = observation(row, zhang, HIV)
    provenance = {
        "resourceType": "Provenance",
        "id": f"{zhang}.provenance",
        "target": [ref("Observation", row)],
        "recorded": "2020-01-01T08:00:00Z",
        "agent": [{"who": ref("Patient", zhang)}],
    }
    await house.feed("first-hospital", patient(zhang))
    for each in (target, provenance) if first == "target" else (provenance, target):
        await house.feed("first-hospital", each)
    assert await house.labels(f"Provenance/{zhang}.provenance") == {"HIV"}
    await house.feed("county-hospital", encounter(f"county-hospital.{zhang}", zhang))
    assert not await house.sees(LI, f"Provenance/{zhang}.provenance")


async def test_included_rows_come_by_their_names(house: House) -> None:
    zhang = f"{F}order"
    await house.feed("first-hospital", patient(zhang), encounter(f"{zhang}.e", zhang))
    named = [observation(f"{zhang}.{number}", zhang, encounter=ref("Encounter", f"{zhang}.e")) for number in range(9)]
    await house.feed("first-hospital", *named, report(f"{zhang}.r", zhang, f"{zhang}.3"))
    pairs = [("_id", f"{zhang}.e"), ("_include", "Encounter:*"), ("_revinclude", "Observation:encounter")]
    scope = await house.decisions.read_scope(LOADER, interaction="search")
    found = await search(house.store, scope, parse("Encounter", pairs), NOTE, link_key=b"k" * 32)
    names = [(each.resource_type, each.resource_id) for each in found.includes]
    assert len(names) == 10
    assert names == sorted(names), "in no order in which a hidden row has a part"


async def test_naming_a_hidden_row_hides_nothing_of_ones_own(house: House) -> None:
    zhang, row = f"{F}named", f"{F}named.o"
    await house.feed("first-hospital", patient(zhang), observation(row, zhang))
    deny = consent(zhang, base="OPTIN", provision=[{"type": "deny", "actor": ["Organization/county-hospital"]}])
    await house.put(resident(zhang), deny)
    for name in (row, f"{F}absent"):
        task = {"resourceType": "Task", "status": "requested", "intent": "order", "focus": ref("Observation", name)}
        (outcome,) = await house.put(LI, task)
        assert await house.sees(LI, f"Task/{outcome.resource_id}"), name
    seen = f"{F}seen"
    await house.feed("first-hospital", patient(seen), observation(f"{seen}.o", seen))
    await house.feed("county-hospital", encounter(f"county-hospital.{seen}", seen))
    task["focus"] = ref("Observation", f"{seen}.o")
    (outcome,) = await house.put(LI, task)
    assert await house.sees(resident(seen), f"Task/{outcome.resource_id}"), "of a row that he sees, persons are taken"


async def test_pages_go_on_where_words_and_numbers_order_together(house: House) -> None:
    zhang = f"{F}sorted"
    values = [{"valueQuantity": {"value": number}, "code": {"text": text}} for number, text in ((1.5, "a"), (1.5, "b"))]
    rows = [observation(f"{zhang}.{place}", zhang) | value for place, value in enumerate(values)]
    operations = [WriteOperation("update", "Observation", row["id"], body=json.dumps(row).encode()) for row in rows]
    await house.store.write(feed_write_scope("feed", "first-hospital"), operations, NOTE)
    pairs = [("_id", f"{zhang}.0,{zhang}.1"), ("_sort", "value-quantity,-code"), ("_count", "1")]
    scope = await house.decisions.read_scope(LOADER, interaction="search")
    query = parse("Observation", pairs)
    first = await search(house.store, scope, query, NOTE, link_key=b"k" * 32)
    second = await search(house.store, scope, query, NOTE, link_key=b"k" * 32, cursor=first.next_cursor)
    assert [found.resource_id for page in (first, second) for found in page.matches] == [f"{zhang}.1", f"{zhang}.0"]
