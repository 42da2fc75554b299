"""Imports over the real record: bad lines told with their number, any order, kill -9 between any two waves."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consent import Caller
from ehr.bulk import importing, jobs
from ehr.bulk.import_request import ImportProgress, ImportRequest, ImportSource
from ehr.store.jobs import open_worker, perform
from kanglian.bulk import BulkWork
from tests.consent.conftest import house
from tests.consent.house import LOADER, MACHINE, WANG, House, observation, patient

__all__ = ["house"]
pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]


class Stopped(BaseException):
    """As kill -9: nothing behind it runs."""


@pytest.fixture(autouse=True)
def small_waves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "WAVE_LINES", 7)


class Trial:
    """One import and its attempts."""

    def __init__(self, house: House, url: str, folder: Path) -> None:
        self.house, self.url = house, url
        self.work = BulkWork(house.store, house.decisions, folder / "bulk")
        self.identity = ""

    async def ask(self, *paths: Path, who: Caller = LOADER, custodian: str | None = None) -> "Trial":
        sources = tuple(ImportSource(path.name, str(path)) for path in paths)
        request = {
            "address": "import",
            "decision": "test",
            "import": msgspec.to_builtins(ImportRequest(sources, custodian)),
        }
        self.identity = await jobs.ask(self.house.store.pool, "import", msgspec.to_builtins(who), request)
        return self

    async def attempt(self, told: Callable[[ImportProgress], None] = lambda _: None) -> None:
        worker = await open_worker(self.url)
        await worker.give_back_orphans()
        job = await worker.claim([jobs.KINDS["import"]])
        assert job is not None
        try:
            await perform(worker, {jobs.KINDS["import"]: lambda job: self.work.import_job(job, told)}, job)
        finally:
            await worker.close()

    async def ended(self) -> ImportProgress:
        bulk = await jobs.find(self.house.store.pool, self.identity)
        assert bulk is not None
        assert bulk.state == "complete", bulk.error
        return msgspec.json.decode(bulk.progress, type=ImportProgress)

    def errors(self) -> list[str]:
        path = self.work.folder / self.identity / importing.ERRORS
        outcomes = [json.loads(line) for line in path.read_text().splitlines()]
        assert {outcome["resourceType"] for outcome in outcomes} <= {"OperationOutcome"}
        return [issue["diagnostics"] for outcome in outcomes for issue in outcome["issue"]]


def ndjson(path: Path, lines: list[Any]) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    packed = gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode()
    path.write_bytes(packed)
    return path


async def stored(house: House, prefix: str) -> dict[str, int]:
    """Ids with their versions."""
    rows = await house.store.pool.fetch(
        "select r.id, r.version from resource r where r.id like $1 and not r.deleted and r.key is not null",
        f"{prefix}%",
    )
    return {row["id"]: row["version"] for row in rows}


async def test_bad_lines_are_told_and_the_others_are_in(house: House, database_url: str, tmp_path: Path) -> None:
    lines: list[Any] = [patient(f"bad{n}") for n in range(30)]
    lines[3] = '{"resourceType":"Patient","id":"bad3"'
    lines[4] = {**patient("bad4"), "colour": "blue"}
    lines[11] = {"resourceType": "Nonsense", "id": "bad11"}
    lines[12] = {"resourceType": "AuditEvent", "id": "bad12"}
    lines[13] = {**patient("bad13"), "id": "no id at all"}
    lines[14] = "[1, 2]"
    lines[20] = {"resourceType": "Observation", "id": "bad20", "status": "final"}
    lines[21] = ""
    lines[22] = '{"resourceType": "Patient", "id": 7}'
    lines[29] = {**patient("bad29"), "birthDate": "2020-02-31"}
    trial = await Trial(house, database_url, tmp_path).ask(ndjson(tmp_path / "some.ndjson.gz", lines))
    await trial.attempt()
    progress = await trial.ended()
    refused = {3, 4, 11, 12, 13, 14, 20, 22, 29}
    assert set(await stored(house, "bad")) == {f"bad{n}" for n in range(30) if n not in refused | {21}}
    assert (progress.resources, progress.refused) == (30 - len(refused) - 1, len(refused))
    told = trial.errors()
    assert {int(text.split(":")[1]) - 1 for text in told} == refused
    assert all(text.startswith("some.ndjson.gz:") for text in told)
    assert any("colour" in text for text in told)


async def test_what_is_imported_is_found_labelled_and_held_as_any_write(
    house: House, database_url: str, tmp_path: Path
) -> None:
    hiv = observation("like.hiv", "like", code="75622-1")
    path = ndjson(tmp_path / "a.ndjson", [patient("like"), observation("like.o", "like"), hiv])
    trial = await Trial(house, database_url, tmp_path).ask(path, custodian="first-hospital")
    await trial.attempt()
    await trial.ended()
    assert await house.sees(WANG, "Observation/like.o")
    rows = {
        row["id"]: row
        for row in await house.store.pool.fetch(
            "select r.* from resource r where r.id like 'like%' and r.key is not null"
        )
    }
    assert len({row["custodian"] for row in rows.values()}) == 1
    assert len({row["holder"] for row in rows.values()}) == 1
    assert rows["like.hiv"]["labels"]
    assert not rows["like.o"]["labels"]
    assert await house.store.pool.fetchval(
        "select count(*) from audit_row where entry->>'trace' = $1 and holders = $2",
        trial.identity,
        [rows["like"]["holder"]],
    )


@pytest.mark.parametrize("when", [1, 2, 4])
async def test_a_killed_attempt_goes_on_and_nothing_is_written_twice(
    house: House, database_url: str, tmp_path: Path, when: int
) -> None:
    name = f"kill{when}-"
    basic = {"resourceType": "Basic", "code": {"text": name}}
    post = {"method": "POST", "url": "Basic"}
    entries = [
        {"fullUrl": "urn:uuid:1", "resource": basic, "request": post},
        {"resource": {**basic, "subject": {"reference": "urn:uuid:1"}}, "request": post},
    ]
    lines: list[Any] = []
    for n in range(30):
        lines.append(patient(f"{name}{n}"))
        lines += [basic] if n % 5 == 0 else []
        lines += [{"resourceType": "Bundle", "type": "transaction", "entry": entries}] if n % 10 == 0 else []
    lines.insert(5, "nonsense")
    trial = await Trial(house, database_url, tmp_path).ask(ndjson(tmp_path / "k.ndjson", lines))
    waves = 0

    def die(_: ImportProgress) -> None:
        nonlocal waves
        waves += 1
        if waves == when:
            raise Stopped

    with pytest.raises(Stopped):
        await trial.attempt(die)
    # a worker that dies between its last write and its note of it has written more than it says
    await house.store.pool.execute(
        "update bulk_job set progress = jsonb_set(progress, '{sources,0,line}', to_jsonb($2::int)) where id = $1",
        trial.identity,
        max(0, (when - 1) * 7 - 4),
    )
    with (trial.work.folder / trial.identity / importing.ERRORS).open("ab") as file:
        file.write(b'{"half')
    await trial.attempt()
    await trial.ended()
    found = await stored(house, name)
    assert set(found) == {f"{name}{n}" for n in range(30)}
    assert set(found.values()) == {1}, "another version of the same"
    assert {text.split(":")[1] for text in trial.errors()} == {"6"}, trial.errors()
    made = await house.store.pool.fetch(
        "select count(*) as changes, count(distinct c.key) as rows from change_log c join resource r on r.key = c.key"
        " where r.key is not null and r.id ~ '^[0-9a-f]{8}-[0-9a-f]{4}-5'"
    )
    assert made[0]["changes"] == made[0]["rows"], "written twice"
    assert made[0]["rows"] % (6 + 3 * 2) == 0
    assert made[0]["rows"] > 0


async def test_files_that_name_each_other_come_in_any_order(house: House, database_url: str, tmp_path: Path) -> None:
    system = "urn:import"
    people = [
        {**patient(f"order{n}"), "managingOrganization": {"reference": f"Organization?identifier={system}|clinic"}}
        for n in range(3)
    ]
    lost = {**patient("order9"), "managingOrganization": {"reference": f"Organization?identifier={system}|nowhere"}}
    last = {
        "resourceType": "Organization",
        "id": "clinic",
        "identifier": [{"system": system, "value": "clinic"}],
        "name": "C",
    }
    trial = await Trial(house, database_url, tmp_path).ask(
        ndjson(tmp_path / "a.ndjson", [*people, lost]), tmp_path / "none.ndjson", ndjson(tmp_path / "z.ndjson", [last])
    )
    await trial.attempt()
    progress = await trial.ended()
    assert set(await stored(house, "order")) == {"order0", "order1", "order2"}
    assert (progress.resources, progress.refused) == (4, 2)
    told = trial.errors()
    assert any("none.ndjson: " in text and "No such file" in text for text in told)
    assert any(text.startswith("a.ndjson:4: ") and "nowhere" in text for text in told)


async def test_a_client_imports_only_what_it_may_write(house: House, database_url: str, tmp_path: Path) -> None:
    lines = [patient("county-hospital.mine"), patient("first-hospital.theirs"), patient("free")]
    trial = await Trial(house, database_url, tmp_path).ask(ndjson(tmp_path / "m.ndjson", lines), who=MACHINE)
    await trial.attempt()
    await trial.ended()
    assert set(await stored(house, "county-hospital.mine")) == {"county-hospital.mine"}
    assert not await stored(house, "first-hospital.theirs")
    assert {text.split(":")[1] for text in trial.errors()} == {"2", "3"}
