"""Exports by the worker over the real record: what changes meanwhile, who withdraws meanwhile, and kill -9."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from consent import Caller
from ehr.bulk import export, export_rows, jobs
from ehr.bulk.export import ExportProgress
from ehr.bulk.export_files import published
from ehr.bulk.export_request import ExportRequest, TypeFilter
from ehr.errors import KanglianError, NoRoom
from ehr.keys import row_key
from ehr.store import WriteOperation
from ehr.store.jobs import Job, open_worker, perform
from kanglian.bulk import BulkWork
from tests.consent.conftest import house
from tests.consent.house import LOADER, MACHINE, NOTE, House, consent, observation, patient, resident

__all__ = ["house"]
pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]
C = "county-hospital."
_Step = Callable[[int], Any]


class Stopped(BaseException):
    """As kill -9: nothing behind it runs."""


class Trial:
    """One export, batch by batch, with something done between the batches."""

    def __init__(self, house: House, url: str, folder: Path, who: Caller, asked: ExportRequest) -> None:
        self.house, self.url, self.who, self.asked = house, url, who, asked
        self.folder = folder
        self.work = BulkWork(house.store, house.decisions, folder)
        self.identity = ""

    async def ask(self) -> "Trial":
        request = {"address": "http://x/$export", "decision": "test", "export": msgspec.to_builtins(self.asked)}
        self.identity = await jobs.ask(self.house.store.pool, "export", msgspec.to_builtins(self.who), request)
        return self

    async def attempt(self, between: _Step | None = None) -> Job:
        """One attempt of a worker of its own; `between` is called before each decision with its number."""
        worker = await open_worker(self.url)
        await worker.give_back_orphans()
        job = await worker.claim([jobs.KINDS["export"]])
        assert job is not None
        asked = 0
        decide = self.house.decisions.export_scope

        async def counted(caller: Caller) -> Any:
            nonlocal asked
            asked += 1
            if between is not None:
                await between(asked)
            return await decide(caller)

        self.house.decisions.export_scope = counted  # type: ignore[method-assign]
        try:
            await perform(worker, self.work.handlers(), job)
        finally:
            del self.house.decisions.export_scope  # type: ignore[method-assign]
            await worker.close()
        return job

    async def found(self) -> jobs.BulkJob | None:
        return await jobs.find(self.house.store.pool, self.identity)

    async def lines(self) -> list[dict[str, Any]]:
        bulk = await self.found()
        assert bulk is not None
        assert bulk.state == "complete", bulk.error
        files = msgspec.json.decode(bulk.progress, type=ExportProgress).files
        folder = self.folder / self.identity
        assert {path.name for path in folder.iterdir()} >= {file.name for file in files if file.count}
        texts = [(folder / file.name).read_text() for file in published(files).values()]
        assert [text.count("\n") for text in texts] == [file.count for file in published(files).values()]
        return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_rows, "ROWS", 4)


async def people(house: House, name: str, count: int) -> list[str]:
    found = [f"{C}{name}{number}" for number in range(count)]
    for each in found:
        await house.feed("county-hospital", patient(each), observation(f"{each}.o", each))
    return found


def ids(lines: list[dict[str, Any]], prefix: str) -> list[str]:
    return sorted(line["id"] for line in lines if line["id"].startswith(prefix))


async def audited(house: House, identity: str) -> list[asyncpg.Record]:
    return list(
        await house.store.pool.fetch(
            "select holders, entry->>'client' as client from audit_row where entry->>'trace' = $1", identity
        )
    )


@pytest.mark.usefixtures("small_batches")
async def test_each_row_comes_once_and_each_person_is_audited_once(
    house: House, database_url: str, tmp_path: Path
) -> None:
    known = await people(house, "once", 9)
    trial = await Trial(
        house, database_url, tmp_path, MACHINE, ExportRequest("patient", ("Observation", "Patient"))
    ).ask()
    await trial.attempt()
    lines = await trial.lines()
    assert ids(lines, f"{C}once") == sorted([*known, *(f"{each}.o" for each in known)])
    rows = await audited(house, trial.identity)
    holders = [holder for row in rows for holder in row["holders"]]
    assert sorted(holders) == sorted({row_key("Patient", line["id"].removesuffix(".o")) for line in lines})
    assert {path.suffix for path in (tmp_path / trial.identity).iterdir()} == {".ndjson"}
    assert not await house.store.pool.fetchval("select count(*) from job where kind = 'bulk-export'")


@pytest.mark.usefixtures("small_batches")
async def test_rows_are_as_they_were_at_the_instant_whatever_changes_meanwhile(
    house: House, database_url: str, tmp_path: Path
) -> None:
    known = await people(house, "moved", 12)
    trial = await Trial(house, database_url, tmp_path, LOADER, ExportRequest("system", ("Observation",))).ask()

    async def between(number: int) -> None:
        if number != 4:  # some batches are read, some are not
            return
        for each in known:
            await house.put(LOADER, observation(f"{each}.o", each, code="789-8"))
        deleted = WriteOperation("delete", "Observation", f"{known[-1]}.o")
        await house.store.write(await house.decisions.write_scope(LOADER), [deleted], NOTE)
        await house.put(LOADER, observation(f"{C}moved-later", known[0]))

    await trial.attempt(between)
    lines = [line for line in await trial.lines() if line["id"].startswith(f"{C}moved")]
    assert ids(lines, C) == sorted(f"{each}.o" for each in known)
    assert {line["code"]["coding"][0]["code"] for line in lines} == {"718-7"}
    assert {line["meta"]["versionId"] for line in lines} == {"1"}


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("when", [2, 5, 8])
async def test_who_withdraws_meanwhile_is_in_no_file(
    house: House, database_url: str, tmp_path: Path, when: int
) -> None:
    name = f"withdraws{when}"
    known = await people(house, name, 8)
    trial = await Trial(
        house, database_url, tmp_path, MACHINE, ExportRequest("system", ("Patient", "Observation"))
    ).ask()
    deny = consent(known[0], base="OPTIN", provision=[{"type": "deny", "actor": ["Organization/county-hospital"]}])

    async def between(number: int) -> None:
        if number == when:
            await house.put(resident(known[0]), deny)

    await trial.attempt(between)
    lines = await trial.lines()
    assert ids(lines, f"{C}{name}") == sorted([*known[1:], *(f"{each}.o" for each in known[1:])])
    holders = {holder for row in await audited(house, trial.identity) for holder in row["holders"]}
    assert row_key("Patient", known[0]) not in holders
    assert {row_key("Patient", each) for each in known[1:]} <= holders


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("when", [3, 8])
async def test_a_killed_attempt_goes_on_where_it_was(
    house: House, database_url: str, tmp_path: Path, when: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"killed{when}"
    known = await people(house, name, 7)
    asked = ExportRequest("system", ("Patient", "Observation"))
    trial = await Trial(house, database_url, tmp_path, LOADER, asked).ask()
    appended: list[int] = []
    append = export.ExportFolder.append

    def counting(self: Any, resource_type: str, bodies: Any, keys: Any) -> None:
        append(self, resource_type, bodies, keys)
        appended.append(len(keys))

    async def die(number: int) -> None:
        if number == when:
            raise Stopped

    monkeypatch.setattr(export.ExportFolder, "append", counting)
    with pytest.raises(Stopped):
        await trial.attempt(die)
    # what a killed worker wrote behind its last progress
    for path in (tmp_path / trial.identity).glob("*.ndjson"):
        with path.open("ab") as file:
            file.write(b'{"resourceType":"half')
    written = sum(appended)
    await trial.attempt()
    lines = await trial.lines()
    assert ids(lines, f"{C}{name}") == sorted([*known, *(f"{each}.o" for each in known)])
    assert len({(line["resourceType"], line["id"]) for line in lines}) == len(lines)
    assert sum(appended) - written < len(lines), "it began anew"


@pytest.mark.usefixtures("small_batches")
async def test_a_cancelled_one_stops_and_leaves_no_file(house: House, database_url: str, tmp_path: Path) -> None:
    await people(house, "cancelled", 6)
    trial = await Trial(house, database_url, tmp_path, LOADER, ExportRequest("system", ("Patient",))).ask()

    async def between(number: int) -> None:
        if number == 3:
            await jobs.end(house.store.pool, trial.identity)

    await trial.attempt(between)
    assert await trial.found() is None
    assert not (tmp_path / trial.identity).exists()
    assert not await audited(house, trial.identity)


@pytest.mark.usefixtures("small_batches")
async def test_an_attempt_that_lost_its_claim_changes_nothing(house: House, database_url: str, tmp_path: Path) -> None:
    known = await people(house, "twice", 6)
    trial = await Trial(house, database_url, tmp_path, LOADER, ExportRequest("system", ("Patient",))).ask()

    async def between(number: int) -> None:
        if number == 3:  # as if the session of the first had broken: another claims the job, and does it
            await house.store.pool.execute("update job set state = 'waiting' where kind = 'bulk-export'")
            worker = await open_worker(database_url)
            job = await worker.claim([jobs.KINDS["export"]])
            await worker.close()
            assert job is not None
            assert job.attempts == 2

    await trial.attempt(between)
    bulk = await trial.found()
    assert bulk is not None
    assert bulk.state == "running"
    assert not await audited(house, trial.identity)
    await trial.attempt()
    assert ids(await trial.lines(), f"{C}twice") == known


async def test_a_full_disk_lets_the_job_wait(house: House, database_url: str, tmp_path: Path) -> None:
    known = await people(house, "full", 2)
    trial = await Trial(house, database_url, tmp_path, LOADER, ExportRequest("system", ("Patient",))).ask()
    has_room = house.store.has_room
    house.store.has_room = lambda: False
    with pytest.raises(NoRoom):
        await trial.attempt()
    house.store.has_room = has_room
    bulk = await trial.found()
    assert bulk is not None
    assert bulk.state == "running"
    await house.store.pool.execute("update job set not_before = 0")
    await trial.attempt()
    assert ids(await trial.lines(), f"{C}full") == known


async def test_filters_times_elements_and_people(house: House, database_url: str, tmp_path: Path) -> None:
    known = await people(house, "asked", 3)
    await house.feed("county-hospital", observation(f"{known[0]}.hb", known[0], code="hb"))

    async def exported(who: Caller = LOADER, **more: Any) -> list[dict[str, Any]]:
        asked = ExportRequest(**({"level": "system", "types": ("Observation", "Patient")} | more))
        trial = await Trial(house, database_url, tmp_path, who, asked).ask()
        await trial.attempt()
        return await trial.lines()

    found = await exported(filters=(TypeFilter("Observation", (("code", "hb"),)),))
    assert ids(found, f"{C}asked") == sorted([*known, f"{known[0]}.hb"])
    found = await exported(level="patient", patients=(known[1],))
    assert ids(found, "") == [known[1], f"{known[1]}.o"]
    (row,) = await exported(types=("Observation",), patients=(known[1],), level="group", elements=(("", ("status",)),))
    assert set(row) == {"resourceType", "id", "meta", "status", "code"}
    assert row["meta"]["tag"][0]["code"] == "SUBSETTED"
    moment = await house.store.pool.fetchval("select max(r.last_updated) from resource r where r.key is not null")
    assert not await exported(since_us=moment)
    assert len(await exported(since_us=moment - 1)) == 1
    assert f"{known[0]}.hb" not in ids(await exported(until_us=moment), C)
    other = Caller(
        "x", "first-hospital", "first-hospital", MACHINE.roles, None, None, "", None, MACHINE.scopes, "j", 9e12
    )
    assert not ids(await exported(other), C)


async def test_who_may_not_export_any_more_is_told(house: House, database_url: str, tmp_path: Path) -> None:
    nobody = Caller("p", "app", None, frozenset({"physician"}), None, None, "TREAT", None, ("system/*.rs",), "j", 9e12)
    trial = await Trial(house, database_url, tmp_path, nobody, ExportRequest("system", ("Patient",))).ask()
    await trial.attempt()
    bulk = await trial.found()
    assert bulk is not None
    assert bulk.state == "failed"
    assert "system/*.rs" in (bulk.error or "")
    with pytest.raises(KanglianError):
        house.decisions.export_types(nobody)


async def test_pending_writes_are_waited_for(house: House, database_url: str, tmp_path: Path) -> None:
    await people(house, "pending", 1)
    trial = await Trial(house, database_url, tmp_path, LOADER, ExportRequest("system", ("Patient",))).ask()
    other = await asyncpg.connect(database_url)
    writing = other.transaction()
    await writing.start()
    await other.execute("select pg_current_xact_id()")
    running = asyncio.create_task(trial.attempt())
    await asyncio.sleep(0.6)
    assert not running.done()
    bulk = await trial.found()
    assert bulk is not None
    assert bulk.state == "accepted"
    await writing.rollback()
    await asyncio.wait_for(running, 20)
    await other.close()
    assert ids(await trial.lines(), f"{C}pending")
