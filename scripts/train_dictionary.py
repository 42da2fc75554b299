"""Trains a zstd dictionary for stored bodies from FHIR Bundles (gzip or plain JSON) and prints what each level gives.

Usage: train_dictionary.py FOLDER OUT. A dictionary that rows name is never changed: train the next number instead.
"""

import gzip
import random
import sys
import time
from pathlib import Path

import msgspec
import zstandard

DICTIONARY_BYTES = 65_536
_MOST_SAMPLES = 6_000
_LONGEST_SAMPLE = 20_000


def samples(folder: Path) -> list[bytes]:
    """Every entry's resource of every Bundle under the folder, with id and meta as the store writes them."""
    found = []
    for path in sorted(folder.glob("*.json*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for entry in msgspec.json.decode(data).get("entry", []):
            resource = entry["resource"]
            meta = {**resource.get("meta", {}), "versionId": "1", "lastUpdated": "2026-01-01T00:00:00.000000Z"}
            head = {"resourceType": resource["resourceType"], "id": resource.get("id", ""), "meta": meta}
            found.append(msgspec.json.encode(head | {k: v for k, v in resource.items() if k not in head}))
    return found


def measure(dictionary: bytes, level: int, bodies: list[bytes]) -> str:
    """One line: ratio and microseconds of CPU per body at this level."""
    prepared = zstandard.ZstdCompressionDict(dictionary)
    prepared.precompute_compress(level=level)
    compressor = zstandard.ZstdCompressor(dict_data=prepared, level=level, write_checksum=False, write_dict_id=False)
    begun = time.process_time()
    packed = [compressor.compress(body) for body in bodies]
    took_us = (time.process_time() - begun) / len(bodies) * 1e6
    return f"level {level}: {sum(map(len, bodies)) / sum(map(len, packed)):.2f}x, {took_us:.1f} us to pack"


def main() -> None:
    """Train on two thirds of the resources, measure on the rest, write the dictionary."""
    bodies = samples(Path(sys.argv[1]))
    random.Random(1).shuffle(bodies)  # noqa: S311 - a repeatable choice of samples, nothing secret
    border = len(bodies) * 2 // 3
    learnt = [body for body in bodies[:border] if len(body) < _LONGEST_SAMPLE][:_MOST_SAMPLES]
    dictionary = zstandard.train_dictionary(DICTIONARY_BYTES, learnt, level=3).as_bytes()
    for level in (1, 3, 6, 9, 12, 15):
        print(measure(dictionary, level, bodies[border:][:3_000]))
    Path(sys.argv[2]).write_bytes(dictionary)


if __name__ == "__main__":
    main()
