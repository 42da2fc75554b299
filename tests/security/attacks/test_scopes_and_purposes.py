"""Attacks 17 and 18: what a token claims opens no more than its scopes, its holder's role and consent open together."""

import re

import pytest

from tests.security.attacks.conftest import Twins
from tests.security.attacks.tables import Case, cases
from tests.security.attacks.twins import leaked

pytestmark = pytest.mark.database
_ENTRY = re.compile(r'"fullUrl":"[^"]*/fhir/([A-Za-z]+/[^"]+)"')


@pytest.mark.parametrize("case", cases(17, 18), ids=lambda case: case.name)
def test_claims(twins: Twins, case: Case) -> None:
    answers = twins.full.answers(case.who, case.asks)
    first = answers[0]
    assert first.status_code in (case.status if isinstance(case.status, list) else [case.status]), first.text
    text = "".join(answer.text for answer in answers)
    if "entries" in case.more and first.status_code == 200:
        assert set(_ENTRY.findall(text)) == set(case.more["entries"])
    if "statuses" in case.more:
        assert [entry["response"]["status"] for entry in first.json()["entry"]] == case.more["statuses"]
    assert all(shown in text for shown in case.more.get("shows", ())), text
    assert not any(hidden in text for hidden in case.more.get("hides", ())), text
    twins.full.forget(answers)
    if not case.more.get("opens"):
        assert not leaked(text, set().union(*(ask.words for ask in case.asks)))
