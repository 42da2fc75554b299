"""The whole platform under load, everything on: CPU seconds of server and all PostgreSQL processes, beside a limit.

    .venv/bin/python benchmarks/whole_platform.py [--only reads,crud,...] [--synthea ../shared/data/synthea]

Starts a platform of its own (fresh data directory, free ports), loads the given Synthea bundles as `loader`, then
measures; each figure is work per CPU second, its median of three rounds, beside "must" of the design's budget, as it is
and scaled by the calibration (raw ASGI without database, 13,700 answers a CPU second where the budgets were set). What
else the machine does makes a CPU second worth less, by half and more; so the calibration is repeated before and after
each work, and stands beside its figure. The raw results go to `benchmarks/results/`, from which `performance_page.py`
makes docs/performance.md.
"""

import argparse
import asyncio
import gzip
import json
import os
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from calibration import AS_THE_PLATFORM, BUDGETS_WERE_SET_AT, calibrate, calibrations
from load_client import Outcome, Request, run
from peer import Peer
from platform_process import Platform
from results import keep
from work import crud_requests, mllp_messages, search_requests

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """Work per CPU second of each round, and CPU microseconds a piece by kind of process."""

    rounds: list[float]
    us_each: dict[str, float]

    @property
    def median(self) -> float:
        """The round in the middle."""
        return statistics.median(self.rounds)


class Figures:
    """Collects rows and prints them as they come."""

    def __init__(self, answers: float) -> None:
        """`answers` is what the calibration gave last: raw ASGI answers a CPU second."""
        self.answers = answers
        self.rows: list[dict[str, object]] = []

    @property
    def scale(self) -> float:
        """The machine's speed of the moment over that of the budgets, by raw ASGI."""
        return self.answers / BUDGETS_WERE_SET_AT

    async def calibrate_again(self, first_row: int) -> None:
        """Note beside the rows from `first_row` on what the calibration gives around them."""
        (now,) = await calibrate(rounds=1)
        for row in self.rows[first_row:]:
            row["answers_beside"] = round((self.answers + now) / 2)
        print(f"    raw ASGI beside it: {self.answers:,.0f} before, {now:,.0f} after", flush=True)
        self.answers = now

    def measured(self, what: str, found: Measured, must: float, note: str) -> None:
        """Add what was measured in rounds."""
        self.add(what, found.median, must, "a CPU s", note)
        self.rows[-1] |= {"rounds": [round(each, 1) for each in found.rounds], "us_each": found.us_each}

    def add(self, what: str, value: float, must: float | None, unit: str, note: str = "") -> None:
        """Print a figure beside its budget, and beside the budget scaled by the calibration."""
        share = ""
        if must:
            share = f"{value / must:5.2f} of must {must:,.0f}"
            share += f", {value / (must * self.scale):.2f} of it scaled" if unit.endswith("CPU s") else ""
        print(f"{what:44} {value:12,.1f} {unit:12} {share:48} {note}", flush=True)
        row = {"what": what, "value": round(value, 2), "unit": unit, "must": must, "note": note}
        if must and unit.endswith("CPU s"):
            row |= {"share": round(value / must, 3), "share_scaled": round(value / (must * self.scale), 3)}
        self.rows.append(row)


async def measured(
    platform: Platform | Peer, rounds: Sequence[tuple[Callable[[], Awaitable[Outcome]], int]]
) -> tuple[Measured, Outcome]:
    """Do each round's work, of so many pieces; the last outcome beside the figures."""
    figures = []
    outcome = Outcome()
    parts = platform.parts_cpu_s()
    for work, amount in rounds:
        before = platform.cpu_s()
        outcome = await work()
        figures.append(amount / (platform.cpu_s() - before))
        if outcome.errors and isinstance(platform, Platform):
            raise SystemExit(f"{len(outcome.errors)} wrong answers, first: {outcome.errors[0]}")
    pieces = sum(amount for _, amount in rounds)
    spent = {kind: after - parts.get(kind, 0.0) for kind, after in platform.parts_cpu_s().items()}
    return Measured(figures, {kind: round(1e6 * cpu_s / pieces, 1) for kind, cpu_s in spent.items()}), outcome


def told(outcome: Outcome) -> str:
    """p50, p99, the wall-clock rate, and what a peer refused."""
    refused = f", {len(outcome.errors)} refused ({outcome.errors[0][:80]})" if outcome.errors else ""
    return (
        f"p50 {outcome.median_ms:.1f} ms, p99 {outcome.percentile(0.99):.1f} ms, "
        f"{len(outcome.seconds) / outcome.wall_s:,.0f}/s wall{refused}"
    )


async def reads(platform: Platform | Peer, figures: Figures) -> None:
    """Audited reads by id as a clinician's organisation sees them, and as loader."""
    token = platform.token("loader")
    ids = await platform.ids("Observation", token, 1000)
    chance = random.Random(1)  # noqa: S311 - a reproducible sample
    for clients, must in ((16, 2500), (64, 3500)):
        requests = [Request("GET", f"/fhir/Observation/{chance.choice(ids)}") for _ in range(6000)]
        found, outcome = await measured(
            platform, [(partial(run, platform.base, token, requests, clients), 6000)] * ROUNDS
        )
        figures.measured(f"reads by id, audited, {clients} clients", found, must, told(outcome))


async def crud(platform: Platform | Peer, figures: Figures) -> None:
    """Create, read, update, read, delete over nine resource types."""
    token = platform.token("loader")
    for clients, must in ((8, 700), (32, 1000), (128, 1400)):
        amount = 300
        work = partial(crud_requests, platform.base, token, amount, clients)
        found, outcome = await measured(platform, [(work, amount * 5)] * ROUNDS)
        figures.measured(f"create-read-update-delete mix, {clients} clients", found, must, told(outcome))


def _bundles(folder: Path) -> Iterator[tuple[str, bytes, int]]:
    for path in sorted(folder.glob("*.json.gz")):
        content = gzip.decompress(path.read_bytes())
        yield path.name, content, len(json.loads(content)["entry"])


async def transactions(platform: Platform | Peer, figures: Figures, folder: Path) -> None:
    """The given Synthea bundles, directory first, then the patients' transactions four at a time.

    `Prefer: return=minimal`, so that an answer holds ids and versions only, as the peers' answers do.
    """
    brief = (("Prefer", "return=minimal"),)
    token = platform.token("loader")
    bundles = list(_bundles(folder))
    first = [b for b in bundles if b[0].startswith("0-")]
    patients = [b for b in bundles if not b[0].startswith("0-")]
    outcome = await run(platform.base, token, [Request("POST", "/fhir", body) for _, body, _ in first], 1)
    if outcome.errors:
        raise SystemExit(f"a bundle was refused: {outcome.errors[0]}")
    rounds = []
    for start in range(ROUNDS):
        part = patients[start::ROUNDS]
        requests = [Request("POST", "/fhir", body, headers=brief) for _, body, _ in part]
        rounds.append((partial(run, platform.base, token, requests, 4), sum(n for _, _, n in part)))
    found, outcome = await measured(platform, rounds)
    figures.measured("transaction bundles, resources", found, 3500, told(outcome))


async def searches(platform: Platform | Peer, figures: Figures) -> None:
    """The mix of name, address, birth date, date, category, code + value, chain, _has, include, sort, total."""
    token = platform.token("loader")
    await platform.settle()
    requests = await search_requests(platform, token, 600)
    await run(platform.base, token, requests[:100], 8)
    work = partial(run, platform.base, token, requests, 16)
    found, outcome = await measured(platform, [(work, len(requests))] * ROUNDS)
    figures.measured("search mix, pages of 20, 16 clients", found, 700, told(outcome))
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
    bytes_a_resource, resources, relations = await platform.bytes_a_resource()
    figures.add("bytes a resource, all indexes, audit apart", bytes_a_resource, 1300, "bytes", f"{resources} resources")
    figures.rows[-1] |= {"relations": relations}


async def hl7v2(platform: Platform, figures: Figures) -> None:
    """ORU and ADT messages: durable answers a second, then wire to committed record."""
    burst = 6000  # answers of a longer one leave as fast as messages are converted (hospital_adapters.mllp.pace)
    started = time.perf_counter()
    ordered = sorted(await platform.send_mllp(mllp_messages(burst, start=50_000), 8))
    acknowledged = burst / (time.perf_counter() - started)
    await platform.until_converted()

    async def convert(messages: list[bytes]) -> Outcome:
        await platform.send_mllp(messages, 8)
        await platform.until_converted()
        return Outcome()

    amount = 2000
    rounds = [(partial(convert, mllp_messages(amount, start=n * amount)), amount) for n in range(ROUNDS)]
    found, _ = await measured(platform, rounds)
    note = f"p50 {1000 * statistics.median(ordered):.1f} ms, p99 {1000 * ordered[int(len(ordered) * 0.99)]:.1f} ms"
    figures.add("MLLP durable acknowledgements of a burst", acknowledged, 1500, "a second", note)
    figures.measured("HL7 v2 messages, wire to committed record", found, 400, "8 connections")
    waits = await platform.send_mllp(mllp_messages(900, start=100_000), 8, rate_a_s=300)
    p99 = 1000 * sorted(waits)[int(len(waits) * 0.99)]
    figures.add("MLLP p99 at 300 messages a second", p99, None, "ms", "must 50 ms")


async def _measure_peer(
    arguments: argparse.Namespace, wanted: list[str], figures: Figures, calibrated: dict[str, list[float]]
) -> None:
    """What a peer can be asked, by the same requests; raw results are kept under a name of their own."""
    peer = Peer(arguments.peer, [int(pid) for pid in arguments.peer_pids.split(",")])
    if "transactions" in wanted:
        await transactions(peer, figures, arguments.synthea)
    for name, part in (("reads", reads), ("searches", searches), ("crud", crud)):
        if name in wanted:
            first_row = len(figures.rows)
            await part(peer, figures)
            await figures.calibrate_again(first_row)
    if not arguments.no_keep:
        raw = {"peer": arguments.peer, "calibrations": calibrated, "rows": figures.rows}
        print(f"kept: {keep('peer', raw | {'memory_bytes': peer.memory_bytes()})}")


async def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        default="transactions,reads,searches,crud,size,hl7v2",
        help="default: %(default)s; the others need transactions",
    )
    parser.add_argument(
        "--peer", default=os.environ.get("PEER"), help="measure the FHIR server at this address instead"
    )
    parser.add_argument("--peer-pids", default=os.environ.get("PEER_PIDS", ""), help="its process and its database's")
    parser.add_argument("--synthea", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "synthea")
    parser.add_argument("--no-keep", action="store_true", help="print only, write no file of raw results")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    found = await calibrations()
    for name, answers in found.items():
        print(f"calibration: {name:31} {statistics.median(answers):12,.1f} a CPU s", flush=True)
    figures = Figures(statistics.median(found[AS_THE_PLATFORM.name]))
    if arguments.peer:
        await _measure_peer(arguments, wanted, figures, found)
        return
    async with Platform.started() as platform:
        if arguments.synthea.is_dir() and "transactions" in wanted:
            await transactions(platform, figures, arguments.synthea)
            await figures.calibrate_again(0)
        for name, part in (("reads", reads), ("searches", searches), ("crud", crud), ("size", size), ("hl7v2", hl7v2)):
            if name in wanted:
                first_row = len(figures.rows)
                await part(platform, figures)
                await figures.calibrate_again(first_row)
        memory_bytes = platform.memory_bytes()
        print(f"memory of all processes: {memory_bytes / 1e6:,.0f} MB")
    if not arguments.no_keep:
        raw = {"calibrations": found, "rows": figures.rows, "memory_bytes": memory_bytes}
        print(f"kept: {keep('whole_platform', raw)}")


if __name__ == "__main__":
    asyncio.run(main())
