"""Whatever the order and however many connections: the record ends the same (DESIGN 4.7).

A few orders over sockets; `tests/hospital_adapters/test_every_order.py` tries all of them.
"""

import json
import random
import re
from itertools import permutations
from typing import Any

import pytest

from tests.flow.messages import DAY, Person, adt, merge, result, somebody
from tests.flow.running import Running, resources

pytestmark = pytest.mark.flow

_TYPES = ("Patient", "Encounter", "Observation", "DiagnosticReport")
_SAMPLED = 2


def _life(person: Person) -> list[bytes]:
    """Admission, a correction of the name, a result and its correction, discharge."""
    return [
        adt(person, "A01", at=f"{DAY}080000+0800"),
        result(person, value="4.20", at=f"{DAY}091500+0800"),
        adt(person, "A08", at=f"{DAY}100000+0800", given="婧"),
        result(person, value="4.30", at=f"{DAY}103000+0800"),
        adt(person, "A03", at=f"{DAY}160000+0800", given="婧"),
    ]


def _merged_life(pair: tuple[Person, Person]) -> list[bytes]:
    """Two registrations of one person, each with a result, and the merge."""
    kept, retired = pair
    return [
        adt(kept, "A04", at=f"{DAY}080000+0800"),
        adt(retired, "A04", at=f"{DAY}081000+0800"),
        result(retired, at=f"{DAY}091500+0800"),
        merge(kept, retired, at=f"{DAY}120000+0800"),
        adt(kept, "A08", at=f"{DAY}130000+0800", given="婧"),
    ]


def _record(platform: Running, people: list[Person], viewer: str) -> dict[str, Any]:
    """What a caller sees of these people, in a form in which ids and record numbers are the people's places."""
    found: dict[str, Any] = {}
    client = platform.client(viewer)
    for person in people:
        for kind in _TYPES:
            name = "_id" if kind == "Patient" else "patient"
            for resource in resources(client.get(kind, params={name: person.patient, "_count": "100"})):
                for changing in ("versionId", "lastUpdated"):
                    resource["meta"].pop(changing)
                found[f"{kind}/{resource['id']}"] = resource
    text = json.dumps(found, ensure_ascii=False, sort_keys=True)
    for place, person in enumerate(people):
        text = text.replace(person.patient, f"patient-{place}").replace(person.record, f"record-{place}")
    return _without_own_ids(json.loads(text))


def _without_own_ids(found: dict[str, Any]) -> dict[str, Any]:
    """Ids of resources are hashes of the record numbers: name each resource by its content instead."""
    text = json.dumps(found, ensure_ascii=False, sort_keys=True)
    described = {}
    for address, resource in found.items():
        kind, _, identifier = address.partition("/")
        described[identifier] = f"{kind}-{_mark(resource)}"
    for identifier, name in described.items():
        text = text.replace(identifier, name)
    renamed: dict[str, Any] = json.loads(re.sub(r"first-hospital\.[0-9a-f]{22}", "another", text))
    return renamed


def _mark(resource: dict[str, Any]) -> str:
    marks = [identifier.get("value", "") for identifier in resource.get("identifier", ())]
    code = resource.get("code", {}).get("coding", [{}])[0].get("code", "")
    subject = resource.get("subject", {}).get("reference", "")
    return "-".join([*sorted(marks), code, subject.rpartition("/")[2]])


def _orders(number: int) -> list[tuple[int, ...]]:
    every = list(permutations(range(number)))
    return [every[0], every[-1], *random.Random(2026).sample(every[1:-1], _SAMPLED)]  # noqa: S311 - the same sample each run


def test_every_order_of_a_stay_ends_the_same(platform: Running) -> None:
    lives = [(order, somebody()) for order in _orders(5)]
    platform.send_all([[_life(person)[step] for step in order] for order, person in lives])
    platform.settled(20)
    records = [(order, _record(platform, [person], "dr.wang")) for order, person in lives]
    whole = records[0][1]
    assert sum(address.startswith("Observation") for address in whole) == 1
    assert '"value": 4.3' in json.dumps(whole)
    assert "婧" in json.dumps(whole, ensure_ascii=False)
    assert '"finished"' in json.dumps(whole)
    for order, record in records[1:]:
        assert record == whole, f"order {order}"


def test_every_order_of_a_merge_ends_the_same(platform: Running) -> None:
    lives = [(order, (somebody(), somebody())) for order in _orders(5)]
    platform.send_all([[_merged_life(pair)[step] for step in order] for order, pair in lives])
    platform.settled(20)
    records = [(order, _record(platform, list(pair), "dr.wang"), pair) for order, pair in lives]
    whole = records[0][1]
    assert '"replaced-by"' in json.dumps(whole)
    for order, record, (kept, retired) in records:
        assert record == whole, f"order {order}"
        own = resources(platform.resident(kept.patient).get("Patient"))
        assert {each["id"] for each in own} == {kept.patient, retired.patient}, f"order {order}"


def test_two_feeds_at_once_end_as_one_after_the_other(platform: Running) -> None:
    people = [somebody() for _ in range(7)]
    lives = [_life(person) for person in people]
    platform.take_in(*lives[0])
    registrations = [life[0::2] for life in lives[1:]]
    results = [life[1::2] for life in lives[1:]]
    platform.send_all([*reversed(results), *registrations])
    platform.settled(20)
    whole = _record(platform, [people[0]], "dr.wang")
    for person in people[1:]:
        assert _record(platform, [person], "dr.wang") == whole
