"""Thousands of mutated HL7 v2 messages: an answer each, valid resources, the same twice, nothing lost unsaid.

    python benchmarks/hl7v2_mutations.py [--number 3000] [--seed 1]

Prints each kind of fault once, with the seed that gives it again.
"""

import argparse
import random
import sys

from tests.hospital_adapters.hl7v2.mutations import faults_of, mutated, originals


def main() -> int:
    """Try the messages of so many seeds."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--number", type=int, default=3000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    texts = originals()
    seen: set[str] = set()
    for seed in range(chosen.seed, chosen.seed + chosen.number):
        data = mutated(random.Random(seed), texts)  # noqa: S311 - repeatable, not secret
        try:
            faults = faults_of(data)
        except Exception as error:  # noqa: BLE001 - what is looked for
            faults = [f"{type(error).__name__}: {error}"]
        for fault in faults:
            if fault not in seen:
                print(f"{seed}: {fault[:300]}", flush=True)
            seen.add(fault)
    print(f"{chosen.number} messages, {len(seen)} kinds of faults")
    return 1 if seen else 0


if __name__ == "__main__":
    sys.exit(main())
