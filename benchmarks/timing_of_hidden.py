"""Whether an answer's time tells a hidden resource from one that is not there: interleaved pairs, medians, a rank test.

    .venv/bin/python benchmarks/timing_of_hidden.py [--pairs 10000] [--residents 20] [--rows 2000]

A clinician asks for rows of people whom he does not treat, and for ids of the same form that nobody has, in random
order within each pair, over one connection. For each kind of request: the medians, the median of the paired
differences, and the two-sided p of Wilcoxon's signed-rank test (normal approximation, ties corrected). Right is
p >= 0.001, or a median difference under 50 microseconds. With --rows, each of three hidden people has so many more rows
of his own hospital's, and only they are asked for: what an answer costs for each hidden row shows. CPU microseconds a
request, of all processes, are taken over runs of fifty requests of one kind, hidden and absent by turns.
"""

import argparse
import asyncio
import http.client
import json
import math
import random
import sys
import time
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
from platform_process import Platform

WARM_UP = 500
RUNS, A_RUN = 12, 50
_LETTERS = "0123456789abcdef"
KINDS = {
    "read": "Observation/{observation}",
    "read of a Patient": "Patient/{patient}",
    "vread": "Observation/{observation}/_history/1",
    "search by _id": "Observation?_id={observation}",
    "search by patient": "Observation?patient={patient}&_total=accurate",
    "chain": "Observation?patient._id={patient}",
}


class Asker:
    """One connection of one caller."""

    def __init__(self, platform: Platform, token: str) -> None:
        """Connect."""
        self.platform = platform
        address = urlsplit(platform.base)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
        self._headers = {"authorization": f"Bearer {token}"}

    def microseconds(self, path: str) -> tuple[float, bytes]:
        """How long the answer took, and what it was (status and length)."""
        started = time.perf_counter_ns()
        self._connection.request("GET", f"/fhir/{path}", headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        return (time.perf_counter_ns() - started) / 1_000, b"%d %d" % (answer.status, len(body))


def cpu_microseconds(asker: Asker, hidden: list[str], absent: list[str]) -> tuple[float, float]:
    """CPU of the whole platform a request: medians over runs of hidden and of absent requests by turns."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(RUNS):
        for paths, runs in zip((hidden, absent), found, strict=True):
            before = asker.platform.cpu_s()
            for number in range(A_RUN):
                asker.microseconds(paths[number % len(paths)])
            runs.append((asker.platform.cpu_s() - before) / A_RUN * 1e6)
    return float(np.median(found[0])), float(np.median(found[1]))


def quiet(values: np.ndarray) -> float:
    """What a patient attacker would compare: the time that one answer in twenty takes at most."""
    return float(np.quantile(values, 0.05))


def unknown(known: str, rng: random.Random) -> str:
    """An id of the same form and length that nobody has."""
    tail = "".join(rng.choice(_LETTERS) if letter.isalnum() else letter for letter in known[-12:])
    return known[:-12] + tail


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test by the normal approximation, zeros left out, ties corrected."""
    values = differences[differences != 0]
    order = np.argsort(np.abs(values), kind="stable")
    sizes = np.abs(values)[order]
    _, first, counts = np.unique(sizes, return_index=True, return_counts=True)
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(first + (counts + 1) / 2, counts)
    n, positive = len(values), float(ranks[values > 0].sum())
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((counts**3 - counts).sum()) / 48
    return math.erfc(abs(positive - n * (n + 1) / 4) / math.sqrt(variance) / math.sqrt(2)) if variance else 1.0


def measure(asker: Asker, kind: str, people: dict[str, list[str]], pairs: int, rng: random.Random) -> dict[str, object]:
    """Ask in pairs and compare."""
    address = KINDS[kind]
    known = [(patient, observation) for patient, found in people.items() for observation in found]
    # as many unknown ids as hidden ones, each asked as often: what is asked again may be quicker, and tells nothing
    nobody = {patient: unknown(patient, rng) for patient in people}
    every = [(patient, one, nobody[patient], unknown(one, rng)) for patient, one in known]
    hidden, absent = np.empty(pairs), np.empty(pairs)
    for number in range(-WARM_UP, pairs):
        patient, observation, other, nothing = rng.choice(every)
        paths = [
            address.format(patient=patient, observation=observation),
            address.format(patient=other, observation=nothing),
        ]
        turn = rng.random() < 0.5
        first, second = (asker.microseconds(path) for path in (paths if turn else paths[::-1]))
        if first[1] != second[1]:
            raise SystemExit(f"{kind}: the answers themselves differ: {first[1]!r} and {second[1]!r}")
        if number >= 0:
            hidden[number], absent[number] = (first[0], second[0]) if turn else (second[0], first[0])
    difference = hidden - absent
    p, middle = signed_rank_p(difference), float(np.median(difference))
    cpu = cpu_microseconds(
        asker,
        [address.format(patient=one, observation=row) for one, row, _, _ in every],
        [address.format(patient=one, observation=row) for _, _, one, row in every],
    )
    return {
        "request": kind,
        "pairs": pairs,
        "hidden_us": round(float(np.median(hidden)), 1),
        "absent_us": round(float(np.median(absent)), 1),
        "median_difference_us": round(middle, 2),
        "quiet_difference_us": round(quiet(hidden) - quiet(absent), 2),
        "hidden_cpu_us": round(cpu[0]),
        "absent_cpu_us": round(cpu[1]),
        "p": float(f"{p:.3g}"),
        "right": p >= 0.001 or abs(middle) < 50,
    }


def more_rows(platform: Platform, token: str, patient: str, rows: int) -> None:
    """Give a Patient of first-hospital so many results more."""
    result = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
        "subject": {"reference": f"Patient/{patient}"},
    }
    for _ in range(0, rows, 500):
        entries = [{"resource": result, "request": {"method": "POST", "url": "Observation"}}] * min(500, rows)
        body = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries}).encode()
        headers = {"authorization": f"Bearer {token}", "content-type": "application/fhir+json"}
        with urlopen(Request(f"{platform.base}/fhir", body, headers), timeout=120) as answer:
            answer.read()


async def run(pairs: int, residents: int, seed: int, rows: int, kinds: list[str]) -> bool:
    """Start a platform, measure these kinds of requests, print a line each; whether all are right."""
    rng = random.Random(seed)  # noqa: S311 - which pairs are asked is no secret
    async with Platform.started(residents) as platform:
        loader, clinician = platform.token("loader"), platform.user_token("dr.li")
        seen = {str(one["id"]) for one in await platform.resources("/fhir/Patient?_count=1000", clinician)}
        people: dict[str, list[str]] = {}
        for one in await platform.resources("/fhir/Patient?_count=1000&_elements=id", loader):
            patient = str(one["id"])
            if patient.startswith("first-hospital.") and patient not in seen:
                found = await platform.resources(f"/fhir/Observation?patient={patient}&_elements=id&_count=50", loader)
                people[patient] = [str(each["id"]) for each in found]
        people = {patient: found for patient, found in people.items() if found}
        if rows:
            people = dict(list(people.items())[:3])
            hospital = platform.token("first-hospital")
            for patient in people:
                await asyncio.to_thread(more_rows, platform, hospital, patient, rows)
        await platform.settle()
        asker = Asker(platform, clinician)
        right = True
        for kind in kinds:
            result = await asyncio.to_thread(measure, asker, kind, people, pairs, rng)
            print(json.dumps(result), flush=True)
            right = right and bool(result["right"])
        return right


def main() -> None:
    """Measure; exit 1 where a time tells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--residents", type=int, default=20)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=KINDS, nargs="+", default=list(KINDS))
    arguments = parser.parse_args()
    asked = run(arguments.pairs, arguments.residents, arguments.seed, arguments.rows, arguments.only)
    sys.exit(0 if asyncio.run(asked) else 1)


if __name__ == "__main__":
    main()
