"""`kanglian import`: load FHIR files into the record of a running platform, for migration."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kanglian.commands.database import database_url
from kanglian.settings import Settings

if TYPE_CHECKING:
    from consent import Caller
    from ehr.bulk.jobs import BulkJob
    from ehr.store.jobs import Job, Worker
    from kanglian.bulk import BulkWork

NAME = "import"
HELP = "load FHIR Bundles and NDJSON files (gzip too) as the loader; bad lines are listed, the good ones go in"
_HEAD_START_US = 3_000_000
"""For this command to take its own job; after that the platform does it."""
_LOOK_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--custodian", help="organisation whose rows these become (default: platform)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Load the files; 1 where a line was refused. A run that is killed is brought to its end by the platform."""
    import uvloop

    from kanglian.children import collect_rarely

    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(arguments.files, arguments.custodian, settings))


async def _run(paths: list[Path], custodian: str | None, settings: Settings) -> int:
    import msgspec

    from ehr.bulk import jobs
    from ehr.bulk.import_request import ImportProgress
    from ehr.store.jobs import open_worker
    from kanglian.bulk import BulkWork, loader
    from kanglian.wiring import bulk_folder, record

    started = time.monotonic()
    url = database_url(settings)
    async with record(settings, url) as opened:
        work = BulkWork(opened.store, opened.consent, bulk_folder(settings))
        worker = await open_worker(url)
        try:
            identity = await _ask(work, paths, custodian, loader())
            bulk = await _required(work, identity)
            job = await worker.claim([jobs.KINDS["import"]], only=bulk.job)
            if job is not None:
                await _do(work, worker, job)
        except asyncio.CancelledError:
            await jobs.end(opened.store.pool, identity)
            raise
        finally:
            await worker.close()
        bulk = await _ended(work, identity)
        errors = _told_errors(work.folder / identity)
        await jobs.end(opened.store.pool, identity)
    print(file=sys.stderr)
    for text in [*errors, *([bulk.error] if bulk.error else [])]:
        print(text, file=sys.stderr)
    progress = msgspec.json.decode(bulk.progress, type=ImportProgress)
    seconds = time.monotonic() - started
    print(f"{progress.resources} resources in {seconds:.1f} s, {progress.refused} entries refused", file=sys.stderr)
    return 1 if progress.refused or bulk.state == "failed" else 0


async def _ask(work: "BulkWork", paths: list[Path], custodian: str | None, caller: "Caller") -> str:
    import msgspec

    from ehr.bulk import jobs
    from ehr.bulk.import_request import ImportRequest, ImportSource
    from ehr.store.clock import now_us

    sources = tuple(ImportSource(path.name, str(path.absolute())) for path in paths)
    request = {
        "address": f"import {' '.join(path.name for path in paths)}",
        "decision": "loader",
        "import": msgspec.to_builtins(ImportRequest(sources, custodian)),
    }
    return await jobs.ask(
        work.store.pool, "import", msgspec.to_builtins(caller), request, not_before_us=now_us() + _HEAD_START_US
    )


async def _required(work: "BulkWork", identity: str) -> "BulkJob":
    from ehr.bulk import jobs
    from ehr.errors import NotFound

    bulk = await jobs.find(work.store.pool, identity)
    if bulk is None:
        raise NotFound("the import was cancelled")
    return bulk


async def _ended(work: "BulkWork", identity: str) -> "BulkJob":
    """The job when it has ended, here or in the platform."""
    while True:
        bulk = await _required(work, identity)
        if bulk.state not in ("accepted", "running"):
            return bulk
        await asyncio.sleep(_LOOK_S)


async def _do(work: "BulkWork", worker: "Worker", job: "Job") -> None:
    from functools import partial

    from ehr.bulk import jobs
    from ehr.store.jobs import perform

    def told(progress: object) -> None:
        print(f"\r{getattr(progress, 'resources', 0)} resources", end="", file=sys.stderr, flush=True)

    await perform(worker, {jobs.KINDS["import"]: partial(work.import_job, told=told)}, job)


def _told_errors(folder: Path) -> list[str]:
    from ehr.bulk.importing import ERRORS

    path = folder / ERRORS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [issue["diagnostics"] for line in lines for issue in json.loads(line)["issue"]]
