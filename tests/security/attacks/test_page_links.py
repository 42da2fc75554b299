"""Attack 10: a page link is bound to caller, purpose and query, evaluated anew, and old after a day."""

import base64
from collections.abc import Callable

import httpx
import pytest

from ehr.search import limits
from tests.security.attacks.conftest import Twins
from tests.security.attacks.tables import table
from tests.security.attacks.twins import FHIR, Ask, Twin, leaked, next_link, people

pytestmark = pytest.mark.database
TABLE = table("10_page_links.yaml")
C, C_OWN = "first-hospital.c", "resident first-hospital.c"

ALTERED: dict[str, Callable[[str], str]] = {
    "first character": lambda token: ("A" if token[0] != "A" else "B") + token[1:],
    "last character": lambda token: token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1],
    "half": lambda token: token[: len(token) // 2],
    "empty": lambda _token: "",
    "doubled": lambda token: f"{token}&_page={token}",
    "zeros": lambda token: "A" * len(token),
    "long": lambda token: token + "A" * 7_000,
    "not base64": lambda token: "~" + token[1:],
    "not ASCII": lambda token: "%C3%A9" + token[1:],
    "one more criterion": lambda token: f"{token}&code=2345-7",
}


def _first(twin: Twin) -> str:
    link = next_link(Ask.read(TABLE["first"]).send(twin.client("dr.li")))
    assert link is not None
    return link


@pytest.mark.parametrize(
    "case",
    TABLE["cases"],
    ids=lambda case: f"10-{case.get('name') or case.get('altered') or case.get('later') or case['as']}",
)
def test_links(twins: Twins, monkeypatch: pytest.MonkeyPatch, case: dict[str, str | int | list[int]]) -> None:
    link = _first(twins.full)
    address, _, token = link.partition("_page=")
    altered = case.get("altered")
    if altered == "another type":
        link = link.replace("/Observation?", "/Condition?")
    elif altered == "another server's":
        link = _first(twins.absent).replace(twins.absent.platform.base_url, twins.full.platform.base_url)
    elif altered is not None:
        link = f"{address}_page={ALTERED[str(altered)](token)}"
    if case.get("later"):
        monkeypatch.setattr(limits, "LINK_AGE_S", -1)
    answer = twins.full.client(str(case["as"])).get(link)
    expected = case["status"] if isinstance(case["status"], list) else [case["status"]]
    assert answer.status_code in expected, answer.text
    assert not leaked(answer.text, set())
    hidden = case.get("hides", [])
    assert isinstance(hidden, list)
    assert not any(str(text) in answer.text for text in hidden)


def test_a_link_hides_nothing_in_its_text(twins: Twins) -> None:
    token = _first(twins.full).partition("_page=")[2]
    plain = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"hospital" not in plain
    assert not leaked(plain.decode("latin-1"), set())


def _consent(twins: Twins, status: str) -> httpx.Response:
    """C's consent to county-hospital, of this status."""
    client = twins.full.client(C_OWN)
    (entry,) = client.get("/fhir/Consent").json()["entry"]
    consent = entry["resource"]
    return client.put(f"/fhir/Consent/{consent['id']}", json=consent | {"status": status}, headers=FHIR)


def test_after_a_withdrawal_the_next_page_is_decided_anew(twins: Twins) -> None:
    """No row of the withdrawn person, no other row twice or left out."""
    li = twins.full.client("dr.li")
    whole = _walk(li, "/fhir/Observation?_count=1000&_sort=_id")
    of_c = [name for name in whole if name.startswith("Observation/first-hospital.c-")]
    assert of_c
    pages = [li.get("/fhir/Observation?_count=1&_sort=_id").json()]
    assert _consent(twins, "inactive").status_code == 200
    try:
        link = pages[0]["link"][1]["url"]
        rest = _walk(li, link)
    finally:
        assert _consent(twins, "active").status_code == 200
    first = [f"Observation/{entry['resource']['id']}" for entry in pages[0]["entry"]]
    assert first + rest == [name for name in whole if name not in of_c]


def _walk(client: httpx.Client, address: str | None) -> list[str]:
    """The names of all matches, page after page."""
    found: list[str] = []
    while address is not None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        found += [f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in answer.json().get("entry", ())]
        address = next_link(answer)
    return found


def test_history_links_follow_the_same_rules(twins: Twins) -> None:
    """A hidden row's history has no pages, whatever page is asked for."""
    assert any(step.get("hidden") for step in people()["steps"])
    for page in ("_count=1", "_count=1&_before=2", "_page=x", "_since=2020-01-01"):
        answers = [
            twin.client("dr.li").get(f"/fhir/Observation/first-hospital.canary-b-1/_history?{page}")
            for twin in (twins.full, twins.absent)
        ]
        assert len({(answer.status_code, answer.content) for answer in answers}) == 1
        assert answers[0].status_code in {400, 404, 410}
