"""Attacks 1 to 9: whatever is asked, hidden rows answer as rows that were never there.

Each request goes to a server with the hidden rows and to one without them; status, headers and bodies must agree, page
after page, and nothing of the hidden rows may be in the answer. `loader`, who sees everything, shows that the hidden
rows have a part in the request: without that a case proves nothing.
"""

import pytest

from tests.security.attacks.conftest import Twins
from tests.security.attacks.tables import Case, cases
from tests.security.attacks.twins import LONGEST_WALK, Ask, Seen, leaked

pytestmark = pytest.mark.database
READS, WRITES = cases(1, 2, 3, 4, 5, 6, 26), cases(7, 8, 9)
_matters: dict[tuple[str, str], bool] = {}


def _compared(twins: Twins, case: Case) -> list[Seen]:
    """What the caller sees on both servers, which must be one and the same and hold no secret."""
    answers = twins.full.answers(case.who, case.asks)
    full = twins.full.seen(answers)
    brought = set().union(*(ask.words for ask in case.asks))
    for answer in answers:
        assert not leaked(answer.text + str(answer.headers), brought)
    assert full[0].status in _statuses(case), answers[0].text
    others = twins.absent.answers(case.who, case.asks)
    assert full == twins.absent.seen(others)
    twins.full.forget(answers)
    twins.absent.forget(others)
    return full


def _statuses(case: Case) -> list[int]:
    return case.status if isinstance(case.status, list) else [case.status]


@pytest.mark.parametrize("case", READS, ids=lambda case: case.name)
def test_reading(twins: Twins, case: Case) -> None:
    seen = _compared(twins, case)
    shown = "".join(each.body for each in seen)
    assert all(text in shown for text in case.more.get("shows", ())), shown
    if not case.more.get("unknown"):
        assert _hidden_rows_matter(twins, case.asks[0]), "the hidden rows have no part in this request"


def _hidden_rows_matter(twins: Twins, ask: Ask) -> bool:
    key = ask.method, ask.address
    if key not in _matters:
        sides = (twins.full, twins.absent)
        _matters[key] = any(
            len({str(twin.seen(twin.answers("loader", [ask], walk=walk))) for twin in sides}) > 1
            for walk in (0, LONGEST_WALK)
        )
    return _matters[key]


@pytest.mark.parametrize("case", WRITES, ids=lambda case: case.name)
def test_writing(twins: Twins, case: Case) -> None:
    _compared(twins, case)
    assert twins.hidden_rows() == twins.hidden_at_first, "a hidden row was changed"
