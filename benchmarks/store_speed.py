"""The store alone, in this process: what a CPU-second of Python and all of the server's PostgreSQL processes gives.

Usage: store_speed.py [--clients 16 64] [--seconds 4] [--synthea FOLDER]. It starts an embedded server of its own.
"""

import argparse
import asyncio
import gzip
import random
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import psutil

from ehr import transaction
from ehr.audit_note import AuditNote
from ehr.changes import Change
from ehr.definitions import RESOURCE_TYPES
from ehr.keys import row_key
from ehr.row_filter import Everything
from ehr.scopes import ReadScope, WriteScope
from ehr.store import Store, WriteOperation, migrate
from kanglian.embedded import EmbeddedPostgres

NOTE = AuditNote("R", "read", "dr.wang", "portal", "first-hospital", ("clinician",), "TREAT", None, "GET", "trace", "d")
READ = ReadScope(
    "dr.wang", "first-hospital", "TREAT", "all", Everything(), 1, 0, datetime(2100, 1, 1, tzinfo=UTC), "benchmark"
)
INTERNAL = replace(READ, internal=True)
LOADER = WriteScope(
    "loader",
    "platform",
    frozenset(RESOURCE_TYPES),
    id_prefix="",
    may_change_any_custodian=True,
    opens_reach=True,
    read=READ,
)


class AboutSubject:
    """Holder = the Patient that the resource is or names; labels and reach are not measured here."""

    types = frozenset({"Consent", "Encounter", "ServiceRequest"})

    async def in_transaction(self, _: asyncpg.Connection, changes: Sequence[Change]) -> None:
        """Fill in the holder."""
        for change in changes:
            resource = change.resource or change.previous or {}
            reference = (resource.get("subject") or resource.get("patient") or {}).get("reference", "")
            if change.resource_type == "Patient":
                change.access.holder = change.key
            elif reference.startswith("Patient/"):
                change.access.holder = row_key("Patient", reference.removeprefix("Patient/"))


class CpuMeter:
    """CPU seconds of this process and of every process of the PostgreSQL server."""

    def __init__(self, postmaster: int) -> None:
        """Take the process id of the postmaster."""
        self._postmaster = psutil.Process(postmaster)

    def read(self) -> tuple[float, float]:
        """(Python, PostgreSQL); children that ended count through the postmaster's own children times."""
        own = time.process_time()
        times = self._postmaster.cpu_times()
        server = times.user + times.system + times.children_user + times.children_system
        for child in self._postmaster.children(recursive=True):
            try:
                used = child.cpu_times()
            except psutil.NoSuchProcess:
                continue
            server += used.user + used.system
        return own, server


def observation(patient: str, number: int) -> bytes:
    """A laboratory result as hospitals send them."""
    return (
        b'{"resourceType":"Observation","status":"final","category":[{"coding":[{"system":'
        b'"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"coding":[{'
        b'"system":"http://loinc.org","code":"4548-4","display":"Hemoglobin A1c/Hemoglobin.total in Blood"}],"text":'
        b'"HbA1c"},"subject":{"reference":"Patient/%s"},"effectiveDateTime":"2025-%02d-11T09:30:00+08:00","valueQuantity":'
        b'{"value":%d.%d0,"unit":"%%","system":"http://unitsofmeasure.org","code":"%%"}}'
    ) % (patient.encode(), number % 12 + 1, 4 + number % 9, number % 10)


async def measure(
    name: str, meter: CpuMeter, clients: int, seconds: float, act: Callable[[random.Random], Awaitable[int]]
) -> None:
    """Run `act` in `clients` tasks for a while and print what was done a CPU-second; `act` says how many it did."""
    end = time.monotonic() + seconds
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        chance = random.Random(number)  # noqa: S311 - a repeatable load
        while time.monotonic() < end:
            count = await act(chance)  # before it is added: other clients add meanwhile
            done += count

    begun, wall = meter.read(), time.monotonic()
    await asyncio.gather(*(client(number) for number in range(clients)))
    own, server = (after - before for after, before in zip(meter.read(), begun, strict=True))
    took = time.monotonic() - wall
    print(
        f"{name:28} {clients:4} clients {done:7} done {done / (own + server):7.0f} a CPU-second "
        f"({done / took:6.0f}/s; us each: python {own / done * 1e6:4.0f}, PostgreSQL {server / done * 1e6:4.0f})"
    )


@asynccontextmanager
async def open_store() -> AsyncIterator[tuple[Store, CpuMeter, asyncpg.Connection]]:
    """A store on a fresh embedded server, gone in the end."""
    with tempfile.TemporaryDirectory(prefix="kanglian-speed-") as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            await migrate(server.url)
            keys = Path(folder) / "index.key"
            store = await Store.open(server.url, keys_path=keys, projections=[AboutSubject()])
            inside = await asyncpg.connect(server.url)
            yield store, CpuMeter(server.pid or 0), inside
            await inside.close()
            await store.close()
        finally:
            server.stop()


async def load(store: Store, count: int) -> list[str]:
    """Write observations of a hundred patients; their ids."""
    ids: list[str] = []
    for start in range(0, count, 200):
        operations = [
            WriteOperation("create", "Observation", body=observation(f"p{n % 100}", n))
            for n in range(start, start + 200)
        ]
        ids += [outcome.resource_id for outcome in await store.write(LOADER, operations, NOTE)]
    return ids


async def crud(store: Store, ids: list[str], chance: random.Random) -> int:
    """Create, read, update, delete by turns."""
    number = chance.randrange(10_000)
    (made,) = await store.write(LOADER, [WriteOperation("create", "Observation", body=observation("p1", number))], NOTE)
    await store.read(READ, "Observation", ids[number % len(ids)], NOTE)
    body = observation("p1", number + 1).replace(b"{", b'{"id":"%s",' % made.resource_id.encode(), 1)
    await store.write(LOADER, [WriteOperation("update", "Observation", made.resource_id, body)], NOTE)
    await store.write(LOADER, [WriteOperation("delete", "Observation", made.resource_id)], NOTE)
    return 4


async def run(arguments: argparse.Namespace) -> None:
    """Measure reads, the mix and bundles."""
    async with open_store() as (store, meter, inside):
        ids = await load(store, 4_000)
        await inside.execute("vacuum analyze")

        async def read(chance: random.Random) -> int:
            await store.read(READ, "Observation", chance.choice(ids), NOTE)
            return 1

        async def unaudited(chance: random.Random) -> int:
            await store.read(INTERNAL, "Observation", chance.choice(ids), NOTE)
            return 1

        async def mix(chance: random.Random) -> int:
            return await crud(store, ids, chance)

        for clients in arguments.clients:
            await measure("read, audited", meter, clients, arguments.seconds, read)
            await measure("read, no audit row", meter, clients, arguments.seconds, unaudited)
        for clients in arguments.clients:
            await measure("create read update delete", meter, clients, arguments.seconds, mix)
        await bundles(store, meter, Path(arguments.synthea), arguments.bundles)
        await bytes_each(inside)


async def bundles(store: Store, meter: CpuMeter, folder: Path, count: int) -> None:
    """Transaction bundles of given patients, the shared practitioners and hospitals first."""
    files = sorted(folder.glob("*.json.gz"), key=lambda path: (not path.name.startswith("0-"), path.stat().st_size))
    for path in files[:2]:
        await transaction.run(store, LOADER, gzip.decompress(path.read_bytes()), NOTE)
    sent = [gzip.decompress(path.read_bytes()) for path in files[2 : 2 + count]]
    if not sent:
        return

    await _all_bundles(store, meter, sent[::2], 1)
    await _all_bundles(store, meter, sent[1::2], 4)


async def _all_bundles(store: Store, meter: CpuMeter, sent: list[bytes], clients: int) -> None:
    queue = list(sent)
    done = 0

    async def client() -> None:
        nonlocal done
        while queue:
            results = await transaction.run(store, LOADER, queue.pop(), NOTE)
            done += len(results)

    begun, wall = meter.read(), time.monotonic()
    await asyncio.gather(*(client() for _ in range(clients)))
    own, server = (after - before for after, before in zip(meter.read(), begun, strict=True))
    print(
        f"{'transaction bundles':28} {clients:4} clients {done:7} done {done / (own + server):7.0f} a CPU-second "
        f"({done / (time.monotonic() - wall):6.0f}/s; us each: python {own / done * 1e6:4.0f}, "
        f"PostgreSQL {server / done * 1e6:4.0f})"
    )


async def bytes_each(inside: asyncpg.Connection) -> None:
    """Bytes of tables and indexes for each current resource, audit apart."""
    await inside.execute("vacuum analyze")
    rows = await inside.fetch(
        "select c.relname, pg_total_relation_size(c.oid) as bytes, pg_indexes_size(c.oid) as indexes "
        "from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace order by 2 desc limit 9"
    )
    count = await inside.fetchval("select count(*) from resource where not deleted")
    for row in rows:
        each, indexes = row["bytes"] / count, row["indexes"] / count
        print(f"  {row['relname']:20} {each:7.0f} bytes a resource, {indexes:5.0f} of indexes")


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--synthea", default="../shared/data/synthea")
    parser.add_argument("--bundles", type=int, default=12)
    try:
        import uvloop  # noqa: PLC0415 - measured as it is served
    except ImportError:
        asyncio.run(run(parser.parse_args()))
    else:
        uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
