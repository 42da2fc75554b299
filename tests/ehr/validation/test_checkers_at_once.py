"""Large bodies and $validate are checked beside the event loop: what one thread is making, another never sees half."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ehr.validation import check, checkers

_RESOURCE = {
    "resourceType": "Patient",
    "name": [{"family": "a", "period": {"start": "2000"}}],
    "contact": [{"name": {"text": "a"}, "telecom": [{"system": "phone", "value": "1"}]}],
    "maritalStatus": {"coding": [{"system": "urn:a", "code": "b", "userSelected": True}]},
}


@pytest.fixture
def often_in_turn() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_in_turn")
def test_first_checks_at_once() -> None:
    for _ in range(5):
        checkers._checkers.clear()
        start = Barrier(4)

        def checked(start: Barrier = start) -> list[object]:
            start.wait()
            return [*check(_RESOURCE)]

        with ThreadPoolExecutor(4) as pool:
            found = [each.result() for each in [pool.submit(checked) for _ in range(4)]]
        assert found == [[], [], [], []]
