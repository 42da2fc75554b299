"""Imports and exports by the worker's own code: what a CPU-second of it and all of the server's PostgreSQL gives.

Usage: bulk_speed.py [--resources N] [--synthea FOLDER] [--profile]. It starts an embedded server of its own. The given
Synthea patients are written as NDJSON, again and again under fresh ids, until there are enough lines.
"""

import argparse
import asyncio
import cProfile
import gzip
import json
import pstats
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import uvloop
from store_speed import CpuMeter

from consent import Caller, Consent
from ehr.bulk import jobs
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.import_request import ImportRequest, ImportSource
from ehr.store import Store, migrate
from ehr.store.jobs import open_worker, perform
from kanglian.bulk import BulkWork, loader
from kanglian.children import collect_rarely
from kanglian.embedded import EmbeddedPostgres

_URN = re.compile(r'("reference": )"urn:uuid:([0-9a-f-]{36})"')
_CRITERIA = re.compile(r'"([A-Z][A-Za-z]+)\?identifier=[^"|]*\|([^"]*)"')
_COPY = """create temp table copied as select r.* from resource r where r.holder <> 0 and r.key is not null;
update copied set key = key # ({0}::bigint << 40), last_updated = last_updated + {0};
insert into resource select * from copied on conflict do nothing; drop table copied"""
HOSPITAL = Caller(
    "hospital", "hospital", "hospital", frozenset({"machine-client"}), None, None, "HOPERAT", None,
    ("system/*.cruds",), "j", 9e12,
)  # fmt: skip


def lines_of(folder: Path, count: int) -> Iterator[str]:
    """NDJSON lines of the given patients, at least so many."""
    bundles = [json.loads(gzip.decompress(path.read_bytes())) for path in sorted(folder.glob("*.json.gz"))]
    texts: list[str] = []
    for bundle in bundles:
        types = {
            entry["fullUrl"].removeprefix("urn:uuid:"): entry["resource"]["resourceType"] for entry in bundle["entry"]
        }
        for entry in bundle["entry"]:
            text = json.dumps(entry["resource"], ensure_ascii=False)
            text = _URN.sub(lambda found, types=types: f'{found[1]}"{types.get(found[2], "Basic")}/{found[2]}"', text)
            texts.append(_CRITERIA.sub(r'"\1/\2"', text))
    made = 0
    while made < count:
        salt = uuid.uuid4().hex[:8]
        for text in texts:
            yield re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", rf"{salt}\1", text)
        made += len(texts)


@asynccontextmanager
async def platform() -> AsyncIterator[tuple[BulkWork, str, CpuMeter]]:
    """A record with its decisions on a fresh embedded server, gone in the end."""
    with tempfile.TemporaryDirectory(prefix="kanglian-bulk-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = EmbeddedPostgres(folder)
        server.start()
        try:
            await migrate(server.url)
            consent = Consent("cn-county", base_url="http://127.0.0.1/fhir")
            store = await Store.open(server.url, keys_path=folder / "index.key", projections=consent.projections())
            await consent.open(store)
            yield BulkWork(store, consent, folder / "bulk"), server.url, CpuMeter(server.pid or 0)
            await store.close()
        finally:
            server.stop()


async def do(work: BulkWork, url: str, meter: CpuMeter, kind: jobs.Kind, *, who: Caller, request: object) -> None:
    """One bulk job, measured."""
    asked = {"address": kind, "decision": "benchmark", kind: msgspec.to_builtins(request)}
    identity = await jobs.ask(work.store.pool, kind, msgspec.to_builtins(who), asked)
    worker = await open_worker(url)
    job = await worker.claim([jobs.KINDS[kind]])
    assert job is not None
    begun = meter.read()
    await perform(worker, work.handlers(), job)
    own, server = (after - before for after, before in zip(meter.read(), begun, strict=True))
    await worker.close()
    bulk = await jobs.find(work.store.pool, identity)
    assert bulk is not None
    assert bulk.state == "complete", bulk.error
    errors = work.folder / identity / "errors.ndjson"
    for line in errors.read_text().splitlines()[:3] if errors.exists() else ():
        print(line[:300])
    progress: Any = msgspec.json.decode(bulk.progress)
    written = progress["files"] if kind == "export" else progress["sources"]
    done = sum(each["count"] if kind == "export" else each["resources"] for each in written)
    refused = sum(each.get("refused", 0) for each in written)
    print(
        f"{kind:7} by {who.client:9} {done:8} resources, {refused} refused: {done / (own + server):9,.0f} a CPU second"
        f" (us each: python {own / done * 1e6:6.1f}, PostgreSQL {server / done * 1e6:6.1f})"
    )


async def run(arguments: argparse.Namespace) -> None:
    """Import, then export as who sees everything and as the hospital that keeps the rows."""
    async with platform() as (work, url, meter):
        path = work.folder.parent / "lines.ndjson"
        path.write_text("\n".join(lines_of(Path(arguments.synthea), arguments.resources)))
        source = ImportSource(path.name, str(path))
        profile = cProfile.Profile()
        if arguments.profile:
            profile.enable()
        await do(work, url, meter, "import", who=loader(), request=ImportRequest((source,), "hospital"))
        profile.disable()
        if arguments.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        inside = await asyncpg.connect(url)
        for copy in range(arguments.copies):
            await inside.execute(_COPY.format(2**copy))
        await inside.execute("vacuum analyze")
        size = await inside.fetchval(
            "select sum(pg_total_relation_size(c.oid)) / (select count(*) from resource r where r.key is not null)"
            " from pg_class c where relname in ('resource', 'index_date', 'index_number', 'index_quantity')"
        )
        print(f"bytes a resource: {int(size)}")
        await inside.close()
        types = tuple(sorted(work.consent.export_types(loader())))
        profile = cProfile.Profile()
        for who in (loader(), HOSPITAL):
            if arguments.profile:
                profile.enable()
            await do(work, url, meter, "export", who=who, request=ExportRequest("system", types))
        profile.disable()
        if arguments.profile:
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--resources", type=int, default=40_000)
    parser.add_argument("--copies", type=int, default=0, help="of the rows that are exported, made inside the database")
    parser.add_argument("--synthea", default=str(Path(__file__).resolve().parents[2] / "shared" / "data" / "synthea"))
    parser.add_argument("--profile", action="store_true")
    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the worker does
        runner.run(run(parser.parse_args()))
