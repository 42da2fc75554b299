r"""How fast the machine is, second witness: libraries whose figures the design cites from where its budgets were set.

They are no dependencies of the platform, so this runs in an environment of its own:

    python3 -m venv /tmp/libraries
    /tmp/libraries/bin/pip install fhir.resources==8.3.0 hl7apy==1.3.5 hl7==0.4.5 zstandard==0.25.0 \
        uvicorn uvloop httptools psutil
    /tmp/libraries/bin/python benchmarks/library_speed.py

The calibration is repeated before and after, since both are slower where others use the machine.
"""

import asyncio
import gzip
import json
import logging
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hl7
import zstandard
from calibration import calibrate
from fhir.resources.R4B import get_fhir_model_class
from hl7apy.parser import parse_message
from results import keep

_ROOT = Path(__file__).resolve().parents[1]
_SHARED = _ROOT.parent / "shared" / "data"
_DICTIONARY = _ROOT / "ehr" / "store" / "dictionaries" / "1.zstd_dictionary"


def cpu_s(work: Callable[[], object], rounds: int = 3) -> float:
    """The median CPU time of one call."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def _resources() -> list[dict[str, Any]]:
    files = sorted((_SHARED / "synthea").glob("*.json.gz"))[:4]
    found = [entry["resource"] for path in files for entry in json.loads(gzip.decompress(path.read_bytes()))["entry"]]
    return found[:3000]


def _messages() -> list[str]:
    contents = [path.read_bytes() for path in sorted((_SHARED / "hl7v2").rglob("*.hl7"))]
    return [text.decode("utf-8", "replace").replace("\r\n", "\r").replace("\n", "\r") for text in contents]


def _readable(messages: list[str], parse: Callable[[str], object]) -> list[str]:
    found = []
    for message in messages:
        with suppress(Exception):
            parse(message)
            found.append(message)
    return found


def main() -> None:
    """Measure each beside the figure that the design cites, and keep the results."""
    logging.disable()
    (before,) = asyncio.run(calibrate(rounds=1))
    resources, messages = _resources(), _messages()
    packer_of = zstandard.ZstdCompressionDict(_DICTIONARY.read_bytes())
    pack = zstandard.ZstdCompressor(dict_data=packer_of, level=3).compress
    unpack = zstandard.ZstdDecompressor(dict_data=packer_of).decompress
    bodies = [pack(json.dumps(resource, separators=(",", ":")).encode()) for resource in resources]
    split = _readable(messages, hl7.parse)

    def modelled() -> object:
        return [get_fhir_model_class(each["resourceType"]).model_validate(each) for each in resources]

    rows = []

    def add(what: str, value: float, cited: float, unit: str, *, more_is_faster: bool) -> None:
        ratio = value / cited if more_is_faster else cited / value
        print(f"{what:36} {value:8.1f} {unit:12} cited {cited:8.1f}: this machine is {ratio:4.2f} times as fast")
        rows.append({"what": what, "value": value, "unit": unit, "cited": cited, "ratio": ratio})

    add("fhir.resources", 1e6 * cpu_s(modelled) / len(resources), 335, "us a resource", more_is_faster=False)
    add("python-hl7", len(split) / cpu_s(lambda: [hl7.parse(m) for m in split]), 369, "messages/s", more_is_faster=True)
    started = time.process_time()
    full = _readable(messages[:40], parse_message)
    add("hl7apy", len(full) / (time.process_time() - started), 15, "messages/s", more_is_faster=True)
    opened = 1e6 * cpu_s(lambda: [unpack(body) for body in bodies], 9) / len(bodies)
    add("zstd with dictionary, open", opened, 1.2, "us", more_is_faster=False)
    middle = statistics.median(float(row["ratio"]) for row in rows)
    print(f"median: {middle:.2f} times as fast as where the budgets were set")
    (after,) = asyncio.run(calibrate(rounds=1))
    print(f"raw ASGI answers a CPU second: {before:,.0f} before, {after:,.0f} after")
    keep("library_speed", {"rows": rows, "median_ratio": middle, "answers_beside": (before + after) / 2})


if __name__ == "__main__":
    main()
