"""Stored bodies come back as they were packed, whichever threads pack and open at once."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

from ehr.store.bodies import NEWEST_DICTIONARY, open_body, opener, pack_body


def _bodies(seed: int) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311 - the same bodies each run
    return [
        json.dumps({"resourceType": "Observation", "note": [{"text": str(chance.random()) * 200}] * 20}).encode()
        for _ in range(40)
    ]


def _round(seed: int) -> bool:
    bodies = _bodies(seed)
    packed = [pack_body(body) for body in bodies]
    opened = opener(NEWEST_DICTIONARY)
    return [open_body(each, NEWEST_DICTIONARY) for each in packed] == bodies == [opened(each) for each in packed]


def test_threads_do_not_meet_in_a_body() -> None:
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(_round, range(40)))
