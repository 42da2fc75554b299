"""Both ends of what lasts for a time, on the clock of the live record; labels past the bound; explanations."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from consent import spreading
from consent.spreading import RELABEL_JOB
from ehr.keys import row_key
from ehr.store.jobs import Job
from tests.consent.house import LI, WANG, House, caller, consent, encounter, observation, patient, resident

pytestmark = pytest.mark.database
F = "first-hospital."


async def person(house: House, name: str) -> str:
    await house.feed("first-hospital", patient(F + name), observation(f"{F}{name}.o", F + name))
    return F + name


async def until(moment: datetime) -> None:
    await asyncio.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.05)


async def test_a_consent_holds_from_its_start_to_its_end(house: House) -> None:
    zhang = await person(house, "period")
    start, end = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (1.2, 2.4))
    permit = {"type": "permit", "actor": ["Organization/county-hospital"]}
    period = {"start": start.isoformat(timespec="milliseconds"), "end": end.isoformat(timespec="milliseconds")}
    await house.put(resident(zhang), consent(zhang, base="preset", period=period, provision=[permit]))
    row = f"Observation/{zhang}.o"
    assert not await house.sees(LI, row)
    await until(start)
    assert await house.sees(LI, row)
    await until(end)
    assert not await house.sees(LI, row)


async def test_a_provision_holds_from_its_start_to_its_end(house: House) -> None:
    zhang = await person(house, "nested-period")
    start, end = (datetime.now(UTC) + timedelta(seconds=seconds) for seconds in (1.2, 2.4))
    period = {"start": start.isoformat(timespec="milliseconds"), "end": end.isoformat(timespec="milliseconds")}
    deny = {"type": "deny", "actor": ["Organization/county-hospital"], "period": period}
    await house.put(resident(zhang), consent(zhang, base="OPTIN", provision=[deny]))
    row = f"Observation/{zhang}.o"
    assert await house.sees(LI, row)
    await until(start)
    assert not await house.sees(LI, row)
    await until(end)
    assert await house.sees(LI, row)


async def test_reach_ends_days_after_the_encounter(house: House) -> None:
    zhang = await person(house, "reach-end")
    over = datetime.now(UTC) + timedelta(seconds=1)
    ended = over - timedelta(days=house.decisions.policy.days_after_encounter)
    stay = {
        **encounter("county-hospital.reach-end", zhang),
        "status": "finished",
        "period": {"start": "2020-01-01", "end": ended.isoformat(timespec="milliseconds")},
    }
    row = f"Observation/{zhang}.o"
    assert not await house.sees(LI, row)
    await house.feed("county-hospital", stay)
    assert await house.sees(LI, row)
    await until(over)
    assert not await house.sees(LI, row)


async def test_an_emergency_ends(house: House) -> None:
    zhang = await person(house, "emergency-end")
    breaking = caller("dr.short", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
    row = f"Observation/{zhang}.o"
    assert not await house.sees(breaking, row)
    assert await house.sees(breaking, f"Patient/{zhang}", (zhang,))
    assert await house.sees(breaking, row)
    over = datetime.now(UTC) + timedelta(seconds=0.5)
    await house.store.pool.execute(
        "update emergency set until = $1 where actor = 'dr.short'", int(over.timestamp() * 1e6)
    )
    assert await house.sees(breaking, row)
    await until(over)
    assert not await house.sees(breaking, row)


async def test_labels_reach_stored_rows_past_the_bound(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    zhang = await person(house, "bound")
    members = [
        {**observation(f"{zhang}.m{n}", zhang), "derivedFrom": [{"reference": f"Observation/{zhang}.source"}]}
        for n in range(9)
    ]
    later = [
        {**observation(f"{zhang}.l{n}", zhang), "derivedFrom": [{"reference": f"Observation/{zhang}.m{n}"}]}
        for n in range(9)
    ]
    await house.feed("first-hospital", *members, *later)
    monkeypatch.setattr(spreading, "LIMIT_ROWS", 3)
    await house.feed("first-hospital", observation(f"{zhang}.source", zhang, "75622-1"))
    names = [f"Observation/{each['id']}" for each in (*members, *later)]
    assert len([name for name in names if await house.labels(name)]) < len(names), "the rest waits for the job"
    handler = house.decisions.job_handlers()[RELABEL_JOB]
    for _ in range(50):
        rows = await house.store.pool.fetch(
            "delete from job where kind = $1 returning job, kind, payload::text as payload", RELABEL_JOB
        )
        if not rows:
            break
        for row in rows:
            await handler(_job(row["job"], row["payload"]))
    assert [await house.labels(name) for name in names] == [{"HIV"}] * len(names)


def _job(number: int, payload: str) -> Job:
    import msgspec  # noqa: PLC0415 - one use

    return Job(number, RELABEL_JOB, msgspec.json.decode(payload), 1)


async def test_explanations_name_rule_provision_consent_and_policy(house: House) -> None:
    zhang = await person(house, "explained")
    row = f"Observation/{zhang}.o"
    closed = await house.decisions.explain(LI, row)
    assert (closed.visible, closed.consent_id, closed.rule[0]) == (False, None, "6")
    assert "the preset closes it" in closed.text()
    own = await house.decisions.explain(WANG, row)
    assert (own.visible, own.rule[0]) == (True, "1")
    refusal = consent(zhang, base="OPTOUT", dateTime="2026-01-01")
    filed = (await house.put(resident(zhang), refusal))[0]
    await house.feed("county-hospital", encounter("county-hospital.explained", zhang))
    refused = await house.decisions.explain(LI, row)
    assert (refused.visible, refused.rule[0], refused.provision) == (False, "6", "Consent.policyRule")
    assert (refused.consent_id, refused.consent_version) == (filed.resource_id, 1)
    permit = {"type": "permit", "actor": ["Organization/county-hospital"]}
    given = (
        await house.put(resident(zhang), consent(zhang, base="preset", dateTime="2026-02-01", provision=[permit]))
    )[0]
    opened = await house.decisions.explain(LI, row)
    assert opened.visible
    lines = opened.text().splitlines()
    assert lines[1] == "rule: 4 the deepest matching provision decides"
    assert lines[2] == f"policy: cn-county, epoch {opened.epoch}, purpose TREAT"
    assert lines[3:5] == [
        f"consent: Consent/{given.resource_id} version 1",
        "provision: Consent.provision.provision[0]",
    ]
    breaking = caller("dr.li", "clinician", "county-hospital", purpose="BTG", reason="unconscious")
    await house.put(resident(zhang), {**consent(zhang, base="preset"), "id": given.resource_id, "status": "inactive"})
    assert await house.sees(breaking, f"Patient/{zhang}", (zhang,))
    assert (await house.decisions.explain(breaking, f"Patient/{zhang}")).rule == "7 break-glass"
    assert row_key("Patient", zhang)
