"""The whole platform under load, everything on: CPU seconds of server and all PostgreSQL processes, beside a limit.

    .venv/bin/python benchmarks/platform.py [--only reads,crud,...] [--synthea ../shared/data/synthea]

Starts a platform of its own (fresh data directory, free ports), loads the given Synthea bundles as `loader`, then
measures; each figure is work per CPU second, its median of three runs, beside "must" of the design's budget, as it is
and scaled by the calibration (raw ASGI without database, 13,700 answers a CPU second where the budgets were set).
"""

import argparse
import asyncio
import gzip
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from calibration import calibrate
from load_client import Outcome, Request, run
from platform_process import Platform
from work import crud_requests, mllp_messages, search_requests

ROUNDS = 3


class Figures:
    """Collects rows and prints them as they come."""

    def __init__(self, scale: float) -> None:
        """`scale` is this machine's calibration over the one of the budgets."""
        self.scale = scale
        self.rows: list[dict[str, object]] = []

    def add(self, what: str, value: float, must: float | None, unit: str, note: str = "") -> None:
        """Print a figure beside its budget, and beside the budget scaled by the calibration."""
        share = ""
        if must:
            share = f"{value / must:5.2f} of must {must:,.0f}"
            share += f", {value / (must * self.scale):.2f} of it scaled" if unit.endswith("CPU s") else ""
        print(f"{what:44} {value:12,.1f} {unit:12} {share:48} {note}", flush=True)
        self.rows.append({"what": what, "value": round(value, 2), "unit": unit, "must": must, "note": note})


async def measured(
    platform: Platform, work: Callable[[], "asyncio.Future[Outcome]"], amount: int
) -> tuple[float, Outcome]:
    """Work per CPU second, median of the rounds, and the last outcome."""
    figures = []
    outcome = Outcome()
    for _ in range(ROUNDS):
        before = platform.cpu_s()
        outcome = await work()
        figures.append(amount / (platform.cpu_s() - before))
        if outcome.errors:
            raise SystemExit(f"{len(outcome.errors)} wrong answers, first: {outcome.errors[0]}")
    return statistics.median(figures), outcome


def told(outcome: Outcome) -> str:
    """p50, p99 and the wall-clock rate."""
    return (
        f"p50 {outcome.median_ms:.1f} ms, p99 {outcome.percentile(0.99):.1f} ms, "
        f"{len(outcome.seconds) / outcome.wall_s:,.0f}/s wall"
    )


async def reads(platform: Platform, figures: Figures) -> None:
    """Audited reads by id as a clinician's organisation sees them, and as loader."""
    token = platform.token("loader")
    ids = await platform.ids("Observation", token, 1000)
    chance = random.Random(1)  # noqa: S311 - a reproducible sample
    for clients, must in ((16, 2500), (64, 3500)):
        requests = [Request("GET", f"/fhir/Observation/{chance.choice(ids)}") for _ in range(6000)]
        figure, outcome = await measured(platform, lambda r=requests, c=clients: run(platform.base, token, r, c), 6000)
        figures.add(f"reads by id, audited, {clients} clients", figure, must, "a CPU s", told(outcome))


async def crud(platform: Platform, figures: Figures) -> None:
    """Create, read, update, read, delete over nine resource types."""
    token = platform.token("loader")
    for clients, must in ((8, 700), (32, 1000), (128, 1400)):
        amount = 300
        total = 0

        async def round_of(clients: int = clients, amount: int = amount) -> Outcome:
            return await crud_requests(platform.base, token, amount, clients)

        figure, outcome = await measured(platform, round_of, amount * 5)
        total += len(outcome.seconds)
        figures.add(f"create-read-update-delete mix, {clients} clients", figure, must, "a CPU s", told(outcome))


def _bundles(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    for path in sorted(folder.glob("*.json.gz")):
        content = gzip.decompress(path.read_bytes())
        yield path.name, content, len(json.loads(content)["entry"])


async def transactions(platform: Platform, figures: Figures, folder: Path) -> None:
    """The given Synthea bundles, directory first, then the patients' transactions four at a time.

    `Prefer: return=minimal`, so that an answer holds ids and versions only, as the peers' answers do.
    """
    brief = (("Prefer", "return=minimal"),)
    token = platform.token("loader")
    bundles = list(_bundles(folder))
    first = [b for b in bundles if b[0].startswith("0-")]
    patients = [b for b in bundles if not b[0].startswith("0-")]
    outcome = await run(platform.base, token, [Request("POST", "/fhir", body) for _, body, _ in first], 1)
    before = platform.cpu_s()
    outcome = await run(
        platform.base, token, [Request("POST", "/fhir", body, headers=brief) for _, body, _ in patients], 4
    )
    if outcome.errors:
        raise SystemExit(f"a bundle was refused: {outcome.errors[0]}")
    amount = sum(n for _, _, n in patients)
    figures.add("transaction bundles, resources", amount / (platform.cpu_s() - before), 3500, "a CPU s", told(outcome))


async def searches(platform: Platform, figures: Figures) -> None:
    """The mix of name, address, birth date, date, category, code + value, chain, _has, include, sort, total."""
    token = platform.token("loader")
    await platform.settle()
    requests = await search_requests(platform, token, 600)
    await run(platform.base, token, requests[:100], 8)
    figure, outcome = await measured(platform, lambda: run(platform.base, token, requests, 16), len(requests))
    figures.add("search mix, pages of 20, 16 clients", figure, 700, "a CPU s", told(outcome))
    by_kind: dict[str, list[Request]] = {}
    for request in requests:
        by_kind.setdefault(dict(request.headers)["X-Kind"], []).append(request)
    for kind, listed in sorted(by_kind.items()):
        before = platform.cpu_s()
        outcome = await run(platform.base, token, listed, 8)
        spent = platform.cpu_s() - before
        print(f"    {kind:30} {1000 * spent / len(listed):8.2f} CPU ms each, p50 {outcome.median_ms:.1f} ms")


async def size(platform: Platform, figures: Figures) -> None:
    """Bytes of all tables and indexes but the audit's, a resource, after vacuum."""
    bytes_a_resource, resources = await platform.bytes_a_resource()
    figures.add("bytes a resource, all indexes, audit apart", bytes_a_resource, 1300, "bytes", f"{resources} resources")


async def hl7v2(platform: Platform, figures: Figures) -> None:
    """ORU and ADT messages: durable answers a second, then wire to committed record."""
    for connections, amount in ((8, 4000),):
        messages = mllp_messages(amount)
        before, started = platform.cpu_s(), time.perf_counter()
        waits = await platform.send_mllp(messages, connections)
        acknowledged = time.perf_counter() - started
        await platform.until_converted()
        spent = platform.cpu_s() - before
        ordered = sorted(waits)
        note = f"p50 {1000 * statistics.median(ordered):.1f} ms, p99 {1000 * ordered[int(len(ordered) * 0.99)]:.1f} ms"
        figures.add("MLLP durable acknowledgements", amount / acknowledged, 1500, "a second", note)
        figures.add("HL7 v2 messages, wire to committed record", amount / spent, 400, "a CPU s")
    waits = await platform.send_mllp(mllp_messages(900, start=100_000), 8, rate_a_s=300)
    p99 = 1000 * sorted(waits)[int(len(waits) * 0.99)]
    print(f"{'MLLP p99 at 300 messages a second':44} {p99:12,.1f} ms                   must 50 ms")


async def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        default="transactions,reads,searches,crud,size,hl7v2",
        help="default: %(default)s; the others need transactions",
    )
    parser.add_argument("--synthea", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "synthea")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    calibration = await calibrate()
    figures = Figures(calibration / 13_700)
    figures.add("calibration: raw ASGI, no database", calibration, None, "a CPU s")
    async with Platform.started() as platform:
        if arguments.synthea.is_dir() and "transactions" in wanted:
            await transactions(platform, figures, arguments.synthea)
        for name, part in (("reads", reads), ("searches", searches), ("crud", crud), ("size", size), ("hl7v2", hl7v2)):
            if name in wanted:
                await part(platform, figures)
        print(f"memory of all processes: {platform.memory_bytes() / 1e6:,.0f} MB")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures.rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
