"""Resources that messages bring again: checked once, indexed as the first time, forgotten in time."""

from typing import Any

import pytest

from consent.internal import feed_write_scope
from ehr import json_text
from ehr.errors import Invalid, Issue
from ehr.indexing import Extractor
from ehr.keys import TermHasher
from ehr.store.operations import OrderKey, WriteOperation
from ehr.store.preparation import Preparation
from ehr.store.repeated import Repeated
from ehr.validation import check

SCOPE = feed_write_scope("hospital", "hospital")


class Counted:
    """The check of resources, counted."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, resource: Any) -> list[Issue]:
        self.calls += 1
        return list(check(resource))


def patient(number: int, **more: Any) -> WriteOperation:
    resource = {"resourceType": "Patient", "id": f"hospital.{number}", "birthDate": "1970-01-01", **more}
    return WriteOperation(
        "update", "Patient", resource["id"], json_text.encode(resource), resource, order_key=OrderKey(1, "1")
    )


def test_what_comes_a_third_time_is_not_read_again() -> None:
    counted = Counted()
    preparation = Preparation(counted, Extractor(TermHasher(bytes(32))))
    first, *others = [preparation.prepare(SCOPE, patient(1)) for _ in range(5)]
    assert counted.calls == 2
    assert [each.entries for each in others] == [first.entries] * 4
    assert first.entries is not None
    changed = preparation.prepare(SCOPE, patient(1, gender="male"))
    assert counted.calls == 3
    assert changed.entries is not None
    assert changed.entries.terms != first.entries.terms


def test_what_is_wrong_is_refused_each_time() -> None:
    preparation = Preparation(check, Extractor(TermHasher(bytes(32))))
    for _ in range(4):
        with pytest.raises(Invalid):
            preparation.prepare(SCOPE, patient(1, gender="unheard of"))


def test_what_is_not_met_any_more_is_forgotten() -> None:
    counted = Counted()
    preparation = Preparation(counted, Extractor(TermHasher(bytes(32))))
    entries = preparation.prepare(SCOPE, patient(0)).entries
    assert entries is not None
    repeated = Repeated(most=3)
    bodies = [b"%d" % number for number in range(10)]
    for body in bodies * 2:
        repeated.met(body, entries)
    kept = [body for body in bodies if repeated.entries(body) is not None]
    assert 3 <= len(kept) <= 6
    assert bodies[-1] in kept
    assert bodies[0] not in kept
