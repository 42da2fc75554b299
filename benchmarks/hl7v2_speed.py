"""CPU time of parsing and converting HL7 v2 messages, beside a calibration (JSON encoding of a fixed object).

Goals: 20,000 parsed messages a CPU-second; parse and convert of a typical ORU within 1.2 ms.

    python benchmarks/hl7v2_speed.py [FOLDER] [--rounds N]
"""

import argparse
import json
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import convert, warm_up
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.hl7v2.problems import ParseProblem

SHARED = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))


def cpu_seconds(work: Callable[[], object], rounds: int) -> float:
    """The median CPU time of one call, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    """Print messages a CPU-second for parsing, and milliseconds a message for each type."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", nargs="?", type=Path, default=SHARED / "hl7v2")
    arguments.add_argument("--rounds", type=int, default=9)
    chosen = arguments.parse_args()
    feed = Feed("first-hospital", "first-hospital", "hl7v2")
    contents = [path.read_bytes() for path in sorted(chosen.folder.rglob("*.hl7"))]
    warm_up()
    sample = {"resourceType": "Observation", "value": list(range(50))}
    calibration = cpu_seconds(lambda: [json.dumps(sample) for _ in range(20_000)], 3)
    print(f"calibration: {20_000 / calibration:,.0f} JSON encodings a CPU-second")
    spent = cpu_seconds(lambda: [parse(content) for content in contents], chosen.rounds)
    print(f"parse: {len(contents) / spent:,.0f} messages a CPU-second ({len(contents)} messages)")
    groups: dict[str, list[bytes]] = defaultdict(list)
    for content in contents:
        message = parse(content)
        if isinstance(message, Message) and not isinstance(convert(message, feed), ParseProblem):
            groups["^".join(message.kind)].append(content)
    print(f"{'type':12}{'messages':>9}{'bytes':>8}{'ms':>8}{'ms/kB':>8}")
    for kind, group in sorted(groups.items()):
        spent = cpu_seconds(lambda group=group: [_both(content, feed) for content in group], chosen.rounds)
        size = sum(map(len, group)) / len(group)
        each = 1000 * spent / len(group)
        print(f"{kind:12}{len(group):9}{size:8.0f}{each:8.2f}{1000 * each / size:8.2f}")


def _both(content: bytes, feed: Feed) -> None:
    message = parse(content)
    if isinstance(message, Message):
        convert(message, feed)


if __name__ == "__main__":
    main()
