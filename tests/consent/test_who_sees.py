"""Decisions on stored rows: roles, consent and withdrawal, reach, several persons, emergencies, labels."""

from datetime import UTC, datetime, timedelta

import pytest

from consent import feed_write_scope
from consent.break_glass import named_patients
from ehr.access.classes import restamp
from ehr.errors import Forbidden, Invalid, TooCostly
from ehr.keys import row_key
from ehr.store import PatientMerge
from tests.consent.house import (
    HE,
    LI,
    LOADER,
    MACHINE,
    NOTE,
    OTHERS,
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

pytestmark = pytest.mark.database
F = "first-hospital."


async def person(house: House, name: str) -> str:
    await house.feed("first-hospital", patient(F + name), observation(f"{F}{name}.o", F + name))
    return F + name


async def test_roles(house: House) -> None:
    zhang = await person(house, "roles")
    row = f"Observation/{zhang}.o"
    assert await house.sees(WANG, row)
    assert await house.sees(LOADER, row)
    assert await house.sees(resident(zhang), row)
    assert await house.sees(resident(zhang), "Organization/first-hospital")
    for who in (LI, ZHAO, HE, MACHINE, *OTHERS.values()):
        assert not await house.sees(who, row), who.subject
        assert not await house.sees(who, f"Patient/{zhang}"), who.subject
    for who in (LI, HE, *OTHERS.values()):
        known = who.roles != {"unknown"}
        assert await house.sees(who, "Organization/first-hospital") is known, who.subject
    wrong_purpose = caller("dr.wang", "clinician", "first-hospital", purpose="HMARKT")
    assert not await house.sees(wrong_purpose, row)


async def test_consent_opens_and_withdrawal_closes_on_the_next_statement(house: House) -> None:
    zhang = await person(house, "withdraws")
    row, self = f"Observation/{zhang}.o", resident(zhang)
    given = consent(zhang, base="OPTOUT", dateTime="2026-01-01", provision=[
        {"type": "permit", "actor": ["Organization/county-hospital"], "purpose": ["TREAT"]}
    ])  # fmt: skip
    outcome = (await house.put(self, given))[0]
    assert await house.sees(LI, row)
    assert await house.sees(WANG, row)
    assert not await house.sees(ZHAO, row)
    for who, sees in ((self, True), (LI, True), (WANG, False), (ZHAO, False), (HE, True)):
        assert await house.sees(who, f"Consent/{outcome.resource_id}") is sees, who.subject
    explained = await house.decisions.explain(LI, row)
    assert (explained.consent_id, explained.provision) == (outcome.resource_id, "Consent.provision.provision[0]")
    await house.put(self, {**given, "id": outcome.resource_id, "status": "inactive"})
    assert not await house.sees(LI, row)
    assert await house.sees(WANG, row)


async def test_a_permit_over_the_preset_only_adds(house: House) -> None:
    zhang = await person(house, "adds")
    row, self = f"Observation/{zhang}.o", resident(zhang)
    await house.feed("township-clinic", encounter("township-clinic.adds", zhang))
    given = consent(zhang, base="preset", dateTime="2026-01-01", provision=[
        {"type": "permit", "actor": ["Organization/county-hospital"], "purpose": ["TREAT"]}
    ])  # fmt: skip
    assert not await house.sees(LI, row)
    await house.put(self, given)
    assert await house.sees(LI, row)
    assert await house.sees(ZHAO, row), "whoever treats the person keeps its reach"
    allowed = {holder: each for holder, _, each in await house.decisions.people_for_counts(house.store.pool)}
    assert allowed[row_key("Patient", zhang)], "nothing was refused"


async def test_residents_write_their_own_consents_only(house: House) -> None:
    zhang, liu = await person(house, "self"), await person(house, "other")
    with pytest.raises(Forbidden):
        await house.put(resident(zhang), consent(liu, base="OPTIN"))
    with pytest.raises(Forbidden):
        await house.put(resident(zhang), observation("x", zhang))
    with pytest.raises(Forbidden):
        await house.put(caller("r", "resident", patient=zhang, scopes="patient/*.rs"), consent(zhang, base="OPTIN"))


async def test_what_cannot_be_honoured_is_refused(house: House) -> None:
    zhang = await person(house, "refused")
    bad = consent(
        zhang,
        base="OPTIN",
        provision=[{"type": "deny", "data": [{"meaning": "instance", "reference": {"reference": "Observation/x"}}]}],
    )
    with pytest.raises(Invalid, match=r"provision\[0\].data"):
        await house.put(resident(zhang), bad)


async def test_reach_of_encounters(house: House) -> None:
    zhang = await person(house, "reach")
    row = f"Observation/{zhang}.o"
    await house.feed("first-hospital", observation(f"{zhang}.hiv", zhang, "75622-1"))
    now = datetime.now(UTC)
    stays = encounter("county-hospital.reach", zhang)
    await house.feed("county-hospital", stays)
    assert await house.sees(LI, row)
    assert not await house.sees(LI, f"Observation/{zhang}.hiv")
    for days, sees in ((89, True), (91, False)):
        period = {"start": "2020-01-01", "end": (now - timedelta(days=days)).isoformat()}
        await house.feed("county-hospital", {**stays, "status": "finished", "period": period})
        assert await house.sees(LI, row) is sees
    await house.feed("county-hospital", stays)
    assert await house.sees(LI, row)
    await house.feed("county-hospital", {**stays, "status": "entered-in-error"})
    assert not await house.sees(LI, row)


async def test_reach_of_referrals(house: House) -> None:
    zhang = await person(house, "referred")
    row = f"Observation/{zhang}.o"
    sent = referral("first-hospital.referral", zhang, "county-hospital", authoredOn=datetime.now(UTC).isoformat())
    await house.feed("first-hospital", sent)
    assert not await house.sees(LI, row), "the referring hospital has no Encounter"
    await house.feed("first-hospital", encounter("first-hospital.e", zhang))
    assert await house.sees(LI, row), "the Encounter opens what waited for it"
    await house.feed("first-hospital", {**sent, "priority": "urgent"})
    assert await house.sees(LI, row)
    onward = referral("county-hospital.onward", zhang, "township-clinic")
    await house.feed("county-hospital", onward)
    assert not await house.sees(ZHAO, row), "what a referral opened is not referred on"
    old = {**sent, "authoredOn": (datetime.now(UTC) - timedelta(days=91)).isoformat()}
    await house.feed("first-hospital", old)
    assert not await house.sees(LI, row)
    await house.feed("first-hospital", sent)
    await house.feed("first-hospital", {**sent, "status": "revoked"})
    assert not await house.sees(LI, row)


async def test_rows_about_several_persons(house: House) -> None:
    a, b = await person(house, "several-a"), await person(house, "several-b")
    row = observation(f"{F}both", a, focus=[{"reference": f"Patient/{b}"}])
    await house.feed("first-hospital", row)
    await house.feed("county-hospital", encounter("county-hospital.a", a))
    assert not await house.sees(LI, f"Observation/{F}both")
    assert not await house.sees(resident(a), f"Observation/{F}both")
    await house.feed("county-hospital", encounter("county-hospital.b", b))
    assert await house.sees(LI, f"Observation/{F}both")
    await house.put(resident(b), consent(b, base="OPTOUT"))
    assert not await house.sees(LI, f"Observation/{F}both")
    assert await house.sees(WANG, f"Observation/{F}both")


async def test_several_hospitals_patients_are_one_person(house: House) -> None:
    identity = {"system": "urn:oid:2.16.156.10011.1.3", "value": "11010519491231002X"}
    same = {"identifier": [identity], "birthDate": "1949-12-31", "gender": "female"}
    await house.feed("first-hospital", patient(f"{F}one", **same), observation(f"{F}one.o", f"{F}one"))
    here = "county-hospital.one"
    await house.feed("county-hospital", patient(here, **same), observation(f"{here}.o", here))
    assert await house.sees(resident(here), f"Observation/{F}one.o")
    assert not await house.sees(LI, f"Observation/{F}one.o")
    await house.feed("county-hospital", encounter("county-hospital.one.e", here))
    assert await house.sees(LI, f"Observation/{F}one.o"), "reach spans the person"
    deny = consent(here, base="OPTIN", provision=[{"type": "deny", "actor": ["Organization/first-hospital"]}])
    await house.put(resident(here), deny)
    assert not await house.sees(WANG, f"Observation/{F}one.o"), "an explicit deny that names the custodian"


async def test_after_a_merge_the_strictest_wins_until_reviewed(house: House) -> None:
    old, new = await person(house, "merge-old"), await person(house, "merge-new")
    await house.put(resident(new), consent(new, base="OPTIN", dateTime="2026-01-01"))
    assert await house.sees(LI, f"Observation/{new}.o")
    merge = PatientMerge(new, old, "a40")
    await house.store.write(feed_write_scope("feed", "first-hospital"), [], NOTE, merges=[merge])
    assert not await house.sees(LI, f"Observation/{new}.o")
    assert not await house.sees(LI, f"Observation/{old}.o")
    assert await house.sees(resident(new), f"Observation/{old}.o")
    assert (await house.decisions.one_person(old)).under_review
    await house.decisions.review_merge(new, NOTE)
    assert not (await house.decisions.one_person(old)).under_review
    assert await house.sees(LI, f"Observation/{new}.o")
    assert await house.sees(LI, f"Observation/{old}.o")
    await house.decisions.unmerge(old, new, NOTE)
    assert await house.sees(LI, f"Observation/{new}.o")
    assert not await house.sees(LI, f"Observation/{old}.o")


async def test_stamped_classes_follow(house: House) -> None:
    zhang = await person(house, "stamped")
    await house.put(resident(zhang), consent(zhang, base="OPTIN", dateTime="2026-01-01"))
    key = row_key("Patient", zhang)
    async with house.store.searching.acquire() as connection:
        assert key in await restamp(connection, [key])
        stamped = await connection.fetchval('select "class" from resource r where key = $1 and r.key is not null', key)
        assert stamped == await connection.fetchval('select "class" from person where person = $1', key)


async def test_who_is_counted(house: House) -> None:
    zhang, liu = await person(house, "counted"), await person(house, "refuses")
    await house.put(resident(liu), consent(liu, base="OPTOUT", dateTime="2026-01-01"))
    allowed = {holder: each for holder, _, each in await house.decisions.people_for_counts(house.store.pool)}
    assert allowed[row_key("Patient", zhang)]
    assert not allowed[row_key("Patient", liu)]


async def test_break_glass(house: House) -> None:
    zhang, liu = await person(house, "emergency"), await person(house, "bystander")
    await house.feed("first-hospital", observation(f"{zhang}.hiv", zhang, "75622-1"))
    breaking = caller("dr.li", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
    hidden = f"Observation/{zhang}.hiv"
    assert not await house.sees(breaking, hidden)
    assert await house.sees(breaking, f"Patient/{zhang}", (zhang,))
    assert await house.sees(breaking, hidden)
    assert not await house.sees(LI, hidden), "not for another purpose"
    assert not await house.sees(breaking, f"Observation/{liu}.o")
    assert not await house.sees(breaking, f"Observation/{liu}.o", (zhang, liu)), "two persons named"
    colleague = caller("dr.wu", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
    assert not await house.sees(colleague, hidden), "for one actor alone"
    rows = await house.store.pool.fetch(
        "select id, labels >> 60 & 1 as review from resource r where custodian = $1 and r.key is not null",
        -5335455493043636657,
    )
    review = next(row["id"] for row in rows if row["review"])
    notice = next(
        row["id"] for row in rows if not row["review"] and "hospital" not in row["id"] and "clinic" not in row["id"]
    )
    for who, sees in ((HE, True), (breaking, False), (resident(zhang), False), (WANG, False)):
        assert await house.sees(who, f"Task/{review}") is sees, who.subject
    assert await house.sees(resident(zhang), f"Communication/{notice}")
    for misuse in (
        caller("dr.li", "clinician", "county-hospital", purpose="BTG"),
        caller("admin", "operator", purpose="BTG", reason="curious"),
        caller("r", "resident", patient=zhang, purpose="BTG", reason="curious", scopes="patient/*.rs"),
    ):
        with pytest.raises(Forbidden):
            await house.sees(misuse, f"Patient/{zhang}", (zhang,))
    await house.put(resident(liu), consent(liu, base="OPTIN", provision=[{"type": "deny", "purpose": ["BTG"]}]))
    assert not await house.sees(breaking, f"Patient/{liu}", (liu,)), "a provision that denies it stands"
    restless = caller("dr.many", "clinician", "county-hospital", purpose="BTG", reason="x")
    for number in range(house.decisions.policy.break_glass_openings_a_day):
        name = await person(house, f"many{number}")
        assert await house.sees(restless, f"Patient/{name}", (name,))
    with pytest.raises(TooCostly):
        await house.sees(restless, f"Patient/{zhang}", (zhang,))


def test_whom_a_request_names() -> None:
    assert named_patients("Patient", "a", ()) == ("a",)
    assert named_patients("Observation", None, (("patient", "Patient/a"), ("code", "x"))) == ("a",)
    assert named_patients("Observation", None, (("patient", "a,b"),)) == ("a", "b")
    assert named_patients("Observation", "o", ()) == ()


@pytest.mark.parametrize("first", ["report", "result"])
async def test_labels_spread_whichever_comes_first(house: House, first: str) -> None:
    zhang = await person(house, f"spread-{first}")
    result = observation(f"{zhang}.hiv", zhang, "75622-1")
    report = {
        "resourceType": "DiagnosticReport",
        "id": f"{zhang}.report",
        "status": "final",
        "code": {"text": "blood"},
        "subject": {"reference": f"Patient/{zhang}"},
        "result": [{"reference": f"Observation/{zhang}.hiv"}],
    }
    document = {
        "resourceType": "DocumentReference",
        "id": f"{zhang}.document",
        "status": "current",
        "content": [{"attachment": {"title": "x"}}],
        "subject": {"reference": f"Patient/{zhang}"},
        "context": {"related": [{"reference": f"DiagnosticReport/{zhang}.report"}]},
    }
    for each in (document, report, result) if first == "report" else (result, report, document):
        await house.feed("first-hospital", each)
    for reference in (
        f"Observation/{zhang}.hiv",
        f"DiagnosticReport/{zhang}.report",
        f"DocumentReference/{zhang}.document",
    ):
        assert await house.labels(reference) == {"HIV"}, reference
    assert await house.labels(f"Observation/{zhang}.o") == set()


@pytest.mark.parametrize("first", ["report", "result"])
async def test_a_report_labels_its_results(house: House, first: str) -> None:
    zhang = await person(house, f"down-{first}")
    local = {"status": "final", "code": {"text": "结果"}, "subject": {"reference": f"Patient/{zhang}"}}
    result = {"resourceType": "Observation", "id": f"{zhang}.local", **local}
    report = {
        **local,
        "resourceType": "DiagnosticReport",
        "id": f"{zhang}.report",
        "code": {"text": "HIV 抗体"},
        "result": [{"reference": f"Observation/{zhang}.local"}],
    }
    for each in (report, result) if first == "report" else (result, report):
        await house.feed("first-hospital", each)
    assert await house.labels(f"Observation/{zhang}.local") == {"HIV"}
    await house.feed("first-hospital", {**result, "note": [{"text": "repeated"}]})
    assert await house.labels(f"Observation/{zhang}.local") == {"HIV"}, "kept by an update"


async def test_what_stands_inside_counts(house: House) -> None:
    zhang = await person(house, "inside")
    contained = {
        **observation("unused", zhang),
        "id": f"{zhang}.inside",
        "contained": [{**observation("c", zhang, "75622-1")}],
        "hasMember": [{"reference": "#c"}],
    }
    await house.feed("first-hospital", contained)
    assert await house.labels(f"Observation/{zhang}.inside") == {"HIV"}
    hiding = {
        "resourceType": "Organization",
        "id": "first-hospital.hiding",
        "name": "x",
        "contained": [{"resourceType": "Basic", "id": "c", "code": {"text": "x"}}],
        "extension": [{"url": "http://example.org/x", "valueReference": {"reference": "#c"}}],
    }
    await house.feed("first-hospital", hiding)
    assert not await house.sees(LI, "Organization/first-hospital.hiding")
    assert await house.sees(WANG, "Organization/first-hospital.hiding")


async def test_smart_scopes_are_intersected(house: House) -> None:
    zhang = await person(house, "smart")
    row = f"Observation/{zhang}.o"
    lab = {"category": [{"coding": [{"system": "http://x", "code": "laboratory"}]}]}
    await house.feed("first-hospital", observation(f"{zhang}.lab", zhang, **lab))

    def with_scopes(scopes: str) -> object:
        return caller("dr.wang", "clinician", "first-hospital", scopes=scopes)

    for scopes, sees in (
        ("user/Observation.rs", True),
        ("user/*.read", True),
        ("user/Observation.rs?category=laboratory", False),
        ("user/Observation.rs?unknown=x user/Patient.rs", False),
        ("patient/*.rs", False),
    ):
        assert await house.sees(with_scopes(scopes), row) is sees, scopes  # type: ignore[arg-type]
    assert await house.sees(with_scopes("user/Observation.rs?category=laboratory"), f"Observation/{zhang}.lab")  # type: ignore[arg-type]
    narrowed = with_scopes("user/Condition.rs")
    with pytest.raises(Forbidden):
        await house.decisions.read_scope(narrowed, interaction="read", types=["Observation"])  # type: ignore[arg-type]
    with pytest.raises(Forbidden):
        await house.put(with_scopes("user/*.rs"), observation("x", zhang))  # type: ignore[arg-type]


async def test_scopes_are_cached_until_something_changes(house: House) -> None:
    zhang = await person(house, "cached")
    first = await house.decisions.read_scope(LI, interaction="read")
    assert await house.decisions.read_scope(LI, interaction="read") is first
    short = consent(zhang, base="OPTIN", provision=[{"type": "deny", "code": ["loinc|1234-5"]}])
    await house.put(resident(zhang), short)
    await house.decisions.refresh()
    assert await house.decisions.read_scope(LI, interaction="read") is not first
    assert NOTE is not None
