"""Microseconds of CPU a resource that extracting index entries takes, hashing included, over the given Synthea bundles.

Run: `.venv/bin/python benchmarks/index_extraction.py [FOLDER OF BUNDLES]`. References between entries are written as
the store would have written them (Type/id), so that they count as references to own resources.
"""

import gzip
import json
import re
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

from ehr.indexing import Extractor
from ehr.keys import TermHasher

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "synthea"
BUNDLES = 10
GOAL_US = 25


def resources_of(path: Path) -> list[dict[str, Any]]:
    """The resources of a bundle, with resolved references."""
    text = gzip.decompress(path.read_bytes()).decode()
    entries = json.loads(text)["entry"]
    own = {entry["fullUrl"]: f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in entries}
    text = re.sub(r'"(urn:uuid:[^"]+)"', lambda match: f'"{own.get(match[1], match[1])}"', text)
    text = re.sub(r'"(\w+)\?identifier=[^"|]*\|([^"]*)"', r'"\1/\2"', text)
    return [entry["resource"] for entry in json.loads(text, parse_float=Decimal)["entry"]]


def main() -> None:
    """Print the mean of all resources and of each type, caches warm and cold."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    found = [resource for path in sorted(folder.rglob("*.gz"))[:BUNDLES] for resource in resources_of(path)]
    extractor = Extractor(TermHasher(b"a key of the benchmark"))
    for state in ("cold", "warm"):
        started = time.process_time()
        terms = sum(len(extractor.entries(resource["resourceType"], resource).terms) for resource in found)
        microseconds = (time.process_time() - started) / len(found) * 1e6
        print(f"{state}: {microseconds:.1f} us a resource, {terms / len(found):.1f} terms; goal {GOAL_US}")
    spent: Counter[str] = Counter()
    for resource in found:
        started = time.perf_counter()
        extractor.entries(resource["resourceType"], resource)
        spent[resource["resourceType"]] += round((time.perf_counter() - started) * 1e9)
    counts = Counter(resource["resourceType"] for resource in found)
    for resource_type, count in counts.most_common():
        print(f"{resource_type:24} {count:6} {spent[resource_type] / count / 1000:8.1f} us")


if __name__ == "__main__":
    main()
