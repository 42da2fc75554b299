"""The label sets change: rows stored before are closed in doubt, read anew by jobs, and open or labelled afterwards."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import yaml

from consent import labels, relabelling, unlabelling
from consent.internal import feed_write_scope
from consent.labels import names_of
from ehr.access.relabelling import progress, read_label_state
from ehr.store import WriteOperation
from ehr.store.jobs import MOST_ATTEMPTS, open_worker
from tests.consent.house import LI, LOADER, NOTE, WANG, House, encounter, observation, patient, resident

pytestmark = pytest.mark.database
HAEMOGLOBIN, FERRITIN, PSYCHIATRIC = "718-7", "2276-4", "44261-6"


def _forget() -> None:
    for known in (labels.table, labels.sets_text, labels.spreads_of, labels._coding_mask, labels._text_mask):
        known.cache_clear()


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sets that a test may change; the platform reads it from then on."""
    copied = tmp_path / "labels.yaml"
    copied.write_text(labels.SETS.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(labels, "SETS", copied)
    yield copied
    monkeypatch.undo()
    _forget()


@pytest_asyncio.fixture(loop_scope="module")
async def connection(house: House, database_url: str) -> AsyncIterator[asyncpg.Connection]:  # noqa: ARG001 - a migrated database
    opened = await asyncpg.connect(database_url)
    yield opened
    await opened.close()


def _change(sets: Path, code: str, *, add: bool) -> None:
    data = yaml.safe_load(sets.read_text("utf-8"))
    codes = data["sensitivities"]["PSY"]["codes"]["loinc"]
    codes.append(code) if add else codes.remove(code)
    sets.write_text(yaml.safe_dump(data, allow_unicode=True), "utf-8")
    _forget()


async def _work(house: House, url: str) -> int:
    """Run the jobs that wait, and those that they leave; says how many."""
    worker = await open_worker(url)
    handlers = house.decisions.job_handlers()
    done = 0
    while (job := await worker.claim(list(handlers))) is not None:
        assert job.attempts < MOST_ATTEMPTS
        await handlers[job.kind](job)
        await worker.finish(job)
        done += 1
    await worker.close()
    await house.decisions.refresh()
    return done


async def _labels(connection: asyncpg.Connection, identity: str) -> list[str]:
    return names_of(await connection.fetchval("select labels from resource where id = $1", identity))


@pytest.mark.asyncio(loop_scope="module")
async def test_rows_are_read_anew_and_closed_in_doubt(
    house: House, connection: asyncpg.Connection, database_url: str, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relabelling, "_ROWS", 3)
    monkeypatch.setattr(relabelling, "_BATCHES", 1)
    await relabelling.begin(connection)
    await _work(house, database_url)
    p, o = "first-hospital.p", "first-hospital"
    await house.feed(o, patient(p), encounter(f"{o}.e", p))
    await house.put(LOADER, encounter("county-e", p, serviceProvider={"reference": "Organization/county-hospital"}))
    await house.feed("county-hospital", encounter("county-hospital.e", p))
    await house.feed(o, observation(f"{o}.past", p, HAEMOGLOBIN), observation(f"{o}.plain", p, "2345-7"))
    await house.feed(o, observation(f"{o}.past", p, "2345-7"))
    await house.feed(o, observation(f"{o}.blood", p, HAEMOGLOBIN), _report(f"{o}.report", p, f"{o}.blood", "58410-2"))
    await house.feed(o, observation(f"{o}.panel-result", p, "2345-7"))
    await house.feed(o, _report(f"{o}.panel", p, f"{o}.panel-result", HAEMOGLOBIN))
    await house.feed(o, _prescription(f"{o}.later", p, f"{o}.first"), _prescription(f"{o}.first", p, None))
    plain, blood = f"Observation/{o}.plain", f"Observation/{o}.blood"
    assert [await house.sees(LI, each) for each in (plain, blood)] == [True, True]

    _change(sets, HAEMOGLOBIN, add=True)
    assert await relabelling.begin(connection)
    assert (await progress(database_url) or ("", -1))[1] == 0
    assert [await house.sees(LI, each) for each in (plain, blood)] == [False, False], "closed in doubt"
    assert [await house.sees(WANG, each) for each in (plain, blood)] == [True, True], "its custodian's own"
    assert await house.sees(resident(p), blood)
    assert await house.sees(LOADER, blood)
    await house.feed(o, observation(f"{o}.new", p, "2345-7"))
    assert await _work(house, database_url) > 4

    assert await progress(database_url) is None
    for reference, seen in (
        (plain, True),
        (f"Observation/{o}.new", True),
        (blood, False),
        (f"DiagnosticReport/{o}.report", False),
        (f"DiagnosticReport/{o}.panel", False),
        (f"Observation/{o}.panel-result", False),
        (f"MedicationRequest/{o}.first", False),
        (f"MedicationRequest/{o}.later", False),
        (f"Observation/{o}.past", True),
    ):
        assert await house.sees(LI, reference) is seen, reference
    scope = await house.decisions.read_scope(LI, interaction="read")
    history = await house.store.history(scope, "Observation", f"{o}.past", NOTE)
    assert [version.version for version in history.versions] == [2], "the version that said it is closed"
    logged = "select count(*) from change_log c join resource r using (key) where r.id = $1 and c.operation = 'l'"
    assert await connection.fetchval(logged, f"{o}.blood") == 1, "readers of the change log hear of it"

    assert not await relabelling.begin(connection), "the same sets again"
    _change(sets, HAEMOGLOBIN, add=False)
    assert not await relabelling.begin(connection), "sets that only lost a code leave nothing in doubt"
    assert await _labels(connection, f"{o}.blood") == ["PSY"]
    assert await _work(house, database_url) == 1
    for name in ("blood", "report", "panel", "panel-result", "first", "later", "past"):
        assert await _labels(connection, f"{o}.{name}") == [], name
    await house.decisions.refresh()
    assert await house.sees(LI, blood)
    scope = await house.decisions.read_scope(LI, interaction="read")
    assert len((await house.store.history(scope, "Observation", f"{o}.past", NOTE)).versions) == 2
    assert await connection.fetchval(logged, f"{o}.blood") == 2


@pytest.mark.asyncio(loop_scope="module")
async def test_labels_that_something_else_gives_stay(
    house: House, connection: asyncpg.Connection, database_url: str, sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _change(sets, HAEMOGLOBIN, add=True)
    await relabelling.begin(connection)
    await _work(house, database_url)
    p, o = "first-hospital.kept", "first-hospital.k"
    await house.feed("first-hospital", patient(p))
    for name, *codes in (
        ("both", HAEMOGLOBIN, PSYCHIATRIC),
        ("dropped", HAEMOGLOBIN),
        ("corrected", PSYCHIATRIC, HAEMOGLOBIN),
        ("corrected-later", HAEMOGLOBIN, "2345-7", HAEMOGLOBIN),
        ("deleted", HAEMOGLOBIN),
        ("deleted-psychiatric", PSYCHIATRIC),
    ):
        for code in codes:
            await house.feed("first-hospital", observation(f"{o}-{name}", p, code))
        await house.feed("first-hospital", _report(f"{o}-{name}-report", p, f"{o}-{name}", "58410-2"))
        await house.feed("first-hospital", _report(f"{o}-{name}-again", p, f"{o}-{name}", "58410-2"))
    # said by a version that was corrected before anybody referred to it: nobody has it from there
    await house.feed("first-hospital", observation(f"{o}-early", p, HAEMOGLOBIN))
    await house.feed("first-hospital", _report(f"{o}-early-report", p, f"{o}-early", "58410-2"))
    await house.feed("first-hospital", _report(f"{o}-early-report", p, f"{o}-corrected", "58410-2"))
    await house.feed("first-hospital", _report(f"{o}-early-report", p, f"{o}-early", "58410-2"))
    gone = [WriteOperation("delete", "Observation", f"{o}-{name}") for name in ("deleted", "deleted-psychiatric")]
    await house.store.write(feed_write_scope("feed", "first-hospital"), gone, NOTE)
    before = dict(await connection.fetch("select id, labels from resource where id like $1", f"{o}-%"))
    assert "PSY" in names_of(before[f"{o}-dropped-report"])

    _change(sets, HAEMOGLOBIN, add=False)
    assert not await relabelling.begin(connection)
    taken, took = [], unlabelling.take_away

    async def met(*arguments: Any, **members: Any) -> bool:
        if not taken:  # a row comes after the labels were read: by it the result is psychiatric
            await house.feed("first-hospital", _report(f"{o}-came", p, f"{o}-dropped", PSYCHIATRIC))
        taken.append(await took(*arguments, **members))
        return bool(taken[-1])

    monkeypatch.setattr(unlabelling, "take_away", met)
    assert await _work(house, database_url) == 1
    assert taken == [False, True]
    found = dict(await connection.fetch("select id, labels from resource where id like $1", f"{o}-%"))
    kept = {name.removeprefix(f"{o}-") for name, labels in found.items() if "PSY" in names_of(labels)}
    assert kept == {
        *("both", "both-report", "both-again"),
        *("dropped", "dropped-report", "dropped-again", "came"),
        *("corrected-report", "corrected-again", "early-report"),
        *("deleted-psychiatric", "deleted-psychiatric-report", "deleted-psychiatric-again"),
    }
    past = "select id, version, labels from resource_history where id = $1 order by version"
    rows = await connection.fetch(past, f"{o}-corrected")
    assert [names_of(row["labels"]) for row in rows] == [["PSY"]]
    rows = await connection.fetch(past, f"{o}-corrected-later")
    assert [names_of(row["labels"]) for row in rows] == [[], []]


@pytest.mark.asyncio(loop_scope="module")
async def test_other_sets_in_mid_walk_begin_anew(
    house: House, connection: asyncpg.Connection, database_url: str, sets: Path
) -> None:
    await house.feed("first-hospital", patient("first-hospital.q"))
    await house.feed("first-hospital", observation("first-hospital.iron", "first-hospital.q", FERRITIN))
    _change(sets, "2345-7", add=True)
    assert await relabelling.begin(connection)
    _change(sets, FERRITIN, add=True)
    assert await relabelling.begin(connection)
    await _work(house, database_url)
    state = await read_label_state(connection)
    assert (state.in_doubt, state.sets) == (False, labels.sets_text())
    assert await _labels(connection, "first-hospital.iron") == ["PSY"]


def _report(identity: str, subject: str, result: str, code: str) -> dict[str, object]:
    return {
        "resourceType": "DiagnosticReport",
        "id": identity,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": f"Patient/{subject}"},
        "result": [{"reference": f"Observation/{result}"}],
    }


def _prescription(identity: str, subject: str, based_on: str | None) -> dict[str, object]:
    """Along MedicationRequest.basedOn there is no search parameter: only the referring row leads there."""
    coding = {"system": "http://loinc.org", "code": "2345-7" if based_on else HAEMOGLOBIN}
    return {
        "resourceType": "MedicationRequest",
        "id": identity,
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [coding]},
        "subject": {"reference": f"Patient/{subject}"},
        **({"basedOn": [{"reference": f"MedicationRequest/{based_on}"}]} if based_on else {}),
    }
