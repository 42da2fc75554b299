"""Bulk jobs in the running platform: kill -9 of the worker of `serve`, and of `kanglian import`, in mid-job."""

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path

import asyncpg
import pytest

from kanglian.ownership import read_owner
from tests.flow.mid_job import held_exports
from tests.flow.running import CHECKOUT, KANGLIAN, Running, until

pytestmark = pytest.mark.flow


def database_url(platform: Running) -> str:
    return str(read_owner(platform.data_dir)["database_url"])


def test_an_export_outlives_its_worker(platform: Running) -> None:
    loader = platform.client("loader")

    async def in_mid_job() -> tuple[str, Path]:
        async with held_exports(database_url(platform)) as held:
            address = loader.get("$export?_type=Patient,Observation").headers["content-location"]
            await held.take()
            folder = platform.data_dir / "bulk" / address.rsplit("/", 1)[-1]
            until(lambda: any(path.stat().st_size for path in folder.glob("*.ndjson")), 30)
            killed = platform.pids()["bulk"]
            os.kill(killed, signal.SIGKILL)
            until(lambda: platform.pids().get("bulk", killed) != killed, 20)
            return address, folder

    address, folder = asyncio.run(in_mid_job())
    until(lambda: loader.get(address).status_code == 200, 60)
    lines = [
        json.loads(line)
        for output in loader.get(address).json()["output"]
        for line in loader.get(output["url"]).text.splitlines()
    ]
    assert len({(line["resourceType"], line["id"]) for line in lines}) == len(lines)
    for name in ("Patient", "Observation"):
        total = loader.get(f"{name}?_summary=count").json()["total"]
        assert sum(line["resourceType"] == name for line in lines) == total
    assert loader.delete(address).status_code == 202
    until(lambda: not folder.exists(), 20)


def test_an_import_that_is_killed_is_brought_to_its_end(platform: Running, tmp_path: Path) -> None:
    path = tmp_path / "killed.ndjson"
    basics = ({"resourceType": "Basic", "id": f"killed-{n}", "code": {"text": "x"}} for n in range(900))
    path.write_text("\n".join(json.dumps(each) for each in basics))
    loader = platform.client("loader")

    def total() -> int:
        return int(loader.get("Basic?_id=killed-1,killed-450,killed-899&_summary=count").json()["total"])

    async def in_mid_job() -> None:
        holding = await asyncpg.connect(database_url(platform))
        await holding.execute("begin; lock table change_log in access exclusive mode")  # nothing is written meanwhile
        command = subprocess.Popen(  # noqa: ASYNC220 - it starts in a moment
            [KANGLIAN, "import", str(path)], cwd=CHECKOUT, env=platform.environment, stderr=subprocess.PIPE
        )
        folder = platform.data_dir / "bulk"
        known = set(folder.glob("*"))
        until(lambda: list(set(folder.glob("*")) - known), 30)
        command.kill()
        command.communicate(timeout=20)
        await holding.close()

    asyncio.run(in_mid_job())
    until(lambda: total() == 3, 60)
    history = loader.get("Basic/killed-1/_history").json()
    assert history["total"] == 1, "written twice"
