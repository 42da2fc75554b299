"""history of a type and of the system over a real socket (R4 http.html#history)."""

import time
from typing import Any

import httpx
import pytest

from fhir_api.issuer.issuer import Grant
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


@pytest.fixture(scope="module")
def made(loader: httpx.Client) -> list[str]:
    """Three Basics: the first written three times, the second deleted, then the third; versions as they were made."""
    addresses = [f"Basic/history-{number}" for number in (1, 2, 3)]

    def put(address: str, text: str) -> None:
        body = {"resourceType": "Basic", "id": address.partition("/")[2], "code": {"text": text}}
        assert loader.put(f"/fhir/{address}", json=body, headers=FHIR).status_code in {200, 201}

    for text in ("a", "b"):
        put(addresses[0], text)
    put(addresses[1], "x")
    assert loader.delete(f"/fhir/{addresses[1]}").status_code == 204
    put(addresses[0], "c")
    put(addresses[2], "y")
    return [f"{addresses[number]}|{version}" for number, version in ((0, 1), (0, 2), (1, 1), (1, 2), (0, 3), (2, 1))]


def shown(client: httpx.Client, address: str) -> list[str]:
    """The versions of all pages, in their order."""
    found: list[str] = []
    url: str | None = address
    while url is not None:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        bundle: dict[str, Any] = answer.json()
        assert bundle["type"] == "history"
        for entry in bundle.get("entry", ()):
            version = entry["response"]["etag"].strip('W/"')
            found.append(f"{entry['fullUrl'].partition('/fhir/')[2]}|{version}")
        url = next((link["url"] for link in bundle.get("link", ()) if link["relation"] == "next"), None)
    return found


@pytest.mark.parametrize("count", [1, 2, 5, 50])
@pytest.mark.parametrize("address", ["/fhir/Basic/_history", "/fhir/_history"])
def test_every_version_once_newest_first(loader: httpx.Client, made: list[str], address: str, count: int) -> None:
    found = [each for each in shown(loader, f"{address}?_count={count}") if each.startswith("Basic/history-")]
    assert found == made[::-1]
    again = [
        each
        for each in shown(loader, f"{address}?_count={count}&_sort=_lastUpdated")
        if each.startswith("Basic/history-")
    ]
    assert again == made


def test_deletions_are_entries_without_resource(loader: httpx.Client, made: list[str]) -> None:
    entries = loader.get("/fhir/Basic/_history").json()["entry"]
    gone = [entry for entry in entries if entry["request"]["method"] == "DELETE"]
    assert [f"{entry['request']['url']}|2" for entry in gone] == [made[3]]
    assert "resource" not in gone[0]


def moment(loader: httpx.Client, version: str) -> str:
    address, _, number = version.partition("|")
    for entry in loader.get(f"/fhir/{address}/_history").json()["entry"]:
        if entry["response"]["etag"] == f'W/"{number}"':
            return str(entry["response"]["lastModified"])
    raise AssertionError(version)


def test_since_and_at(loader: httpx.Client, made: list[str]) -> None:
    since = moment(loader, made[3])
    assert shown(loader, f"/fhir/Basic/_history?_since={since}") == made[:2:-1]
    instant = loader.get("/fhir/Basic/history-1/_history/3").json()["meta"]["lastUpdated"]
    assert shown(loader, f"/fhir/Basic/_history?_at={instant}") == [made[4], made[3]]
    instant = loader.get("/fhir/Basic/history-1/_history/2").json()["meta"]["lastUpdated"]
    assert shown(loader, f"/fhir/Basic/_history?_at={instant}") == [made[1]]
    assert shown(loader, "/fhir/Basic/_history?_at=2001") == []
    assert shown(loader, f"/fhir/Basic/_history?_at={time.localtime().tm_year + 1}") == [made[5], made[4], made[3]]


@pytest.mark.parametrize(
    "query", ["_sort=date", "_count=x", "_since=yesterday", "_at=noon", "name=x", "_count=1&_count=2", "_before=1"]
)
def test_what_is_not_offered_is_refused(loader: httpx.Client, query: str) -> None:
    for address in ("/fhir/Basic/_history", "/fhir/_history"):
        assert loader.get(f"{address}?{query}").status_code == 400, query


def test_pages_are_bound_to_caller_and_question(platform: Platform, loader: httpx.Client, made: list[str]) -> None:
    assert made
    page = loader.get("/fhir/Basic/_history?_count=1").json()
    link = next(link["url"] for link in page["link"] if link["relation"] == "next")
    assert loader.get(link).status_code == 200
    assert platform.client(client="first-hospital").get(link).status_code == 410
    assert loader.get(link.replace("/Basic/_history", "/_history")).status_code == 410
    assert loader.get(link.replace("_count=1", "_count=2")).status_code == 410


def test_only_what_the_caller_sees(platform: Platform, loader: httpx.Client, made: list[str]) -> None:
    own = {"resourceType": "Basic", "id": "first-hospital.seen", "code": {"text": "own"}}
    hospital = platform.client(client="first-hospital")
    assert hospital.put("/fhir/Basic/first-hospital.seen", json=own, headers=FHIR).status_code == 201
    assert shown(hospital, "/fhir/Basic/_history") == ["Basic/first-hospital.seen|1"]
    assert set(made) < set(shown(loader, "/fhir/Basic/_history"))
    assert [each for each in shown(hospital, "/fhir/_history") if "Basic" in each] == ["Basic/first-hospital.seen|1"]


def test_scopes_cut_the_history_and_it_needs_search(platform: Platform, made: list[str]) -> None:
    assert made

    def asked(scope: str, address: str) -> httpx.Response:
        grant = Grant(platform.issuer.account("dr.wang"), "kanglian", (scope,), "TREAT")
        bearer = {"authorization": f"Bearer {platform.issuer.access_token(grant)}"}
        return platform.anonymous().get(address, headers=bearer)

    assert asked("user/Basic.r", "/fhir/Basic/_history").status_code == 403
    assert asked("user/Basic.s", "/fhir/Patient/_history").status_code == 403
    assert asked("user/Basic.s", "/fhir/Basic/_history").status_code == 200
    entries = asked("user/Organization.s", "/fhir/_history").json().get("entry", ())
    assert {entry["fullUrl"].split("/")[-2] for entry in entries} <= {"Organization"}


def test_the_servers_own_types_have_none(loader: httpx.Client) -> None:
    assert loader.get("/fhir/AuditEvent/_history").status_code == 404
    assert loader.post("/fhir/Basic/_history", json={}, headers=FHIR).status_code == 405
