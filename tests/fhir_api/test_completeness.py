"""An answer about one person says which hospitals' feeds were silent or late (issue 5)."""

import asyncio
import time
from typing import Any

import asyncpg
import httpx
import pytest

from ehr.store import feed_clock
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
ONE, OTHER = "first-hospital.complete", "first-hospital.other"
SILENT, LATE, HEARD = 30 * 3600.0, 600.0, 60.0


@pytest.fixture(autouse=True)
def clocks_are_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_clock, "_REMEMBERED_S", -1.0)


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    first, county = platform.client(client="first-hospital"), platform.client(client="county-hospital")
    for name in (ONE, OTHER):
        put(first, {"resourceType": "Patient", "id": name})
        put(first, observation(f"{name}-1", name))
    put(county, observation("county-hospital.complete-1", ONE))
    return platform.client(client="loader")


def put(client: httpx.Client, body: dict[str, Any]) -> None:
    answer = client.put(f"/fhir/{body['resourceType']}/{body['id']}", json=body, headers=FHIR)
    assert answer.status_code in {200, 201}, answer.text


def observation(identity: str, patient: str) -> dict[str, Any]:
    head = {"resourceType": "Observation", "id": identity, "status": "final", "code": {"text": "x"}}
    return head | {"subject": {"reference": f"Patient/{patient}"}}


def hear(database_url: str, *heard: tuple[str, str, str, float]) -> None:
    """Put messages into an emptied inbox: feed, custodian, state, and how many seconds ago each came."""

    async def run() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("delete from inbox")
        for place, (feed, custodian, state, ago) in enumerate(heard):
            await connection.execute(
                "insert into inbox (feed, custodian, sender, control_id, content, trace, message_type, received_at,"
                " state, body) values ($1, $2, 's', $3, $4, 't', 'ADT', $5, $6, '')",
                feed, custodian, str(place), str(place).encode(), int((time.time() - ago) * 1_000_000), state,
            )  # fmt: skip
        await connection.close()

    asyncio.run(run())


def told(client: httpx.Client, address: str) -> list[str]:
    answer = client.get(f"/fhir/{address}")
    assert answer.status_code == 200, answer.text
    outcomes = [each for each in answer.json().get("entry", ()) if each["search"]["mode"] == "outcome"]
    assert len(outcomes) <= 1
    issues = [issue for each in outcomes for issue in each["resource"]["issue"]]
    assert all((issue["severity"], issue["code"]) == ("warning", "incomplete") for issue in issues)
    return [" ".join(issue["diagnostics"].split()[:6]) for issue in issues]


FIRST = "first-hospital: its feed lab sent nothing"
COUNTY = "county-hospital: its feed folder sent data"
TROUBLED = (
    ("lab", "first-hospital", "done", SILENT), ("folder", "county-hospital", "waiting", LATE),
    ("folder", "county-hospital", "done", HEARD), ("clinic", "township-clinic", "done", SILENT),
    ("ward", "first-hospital", "quarantined", HEARD),
)  # fmt: skip


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (f"Patient/{ONE}/$everything", [COUNTY, FIRST]),
        (f"Patient/{ONE}/$everything?_mdm=true", [COUNTY, FIRST]),
        (f"Patient/{ONE}/*", [COUNTY, FIRST]),
        (f"Patient/{ONE}/Observation", [COUNTY, FIRST]),
        (f"Observation?patient={ONE}", [COUNTY, FIRST]),
        (f"Observation?subject=Patient/{ONE}&code=nothing", [COUNTY, FIRST]),
        (f"Condition?patient:mdm=Patient/{ONE}", [COUNTY, FIRST]),
        (f"Patient?_id={ONE}", [COUNTY, FIRST]),
        (f"Observation?patient={OTHER}", [FIRST]),
        (f"Patient/{OTHER}/$everything", [FIRST]),
        (f"Observation?patient={ONE},{OTHER}", []),
        ("Observation?patient=absent", []),
        ("Observation", []),
        ("Patient/$everything", []),
        (f"Observation?patient={ONE}&_summary=count", []),
    ],
)
def test_what_is_told(database_url: str, loader: httpx.Client, address: str, expected: list[str]) -> None:
    hear(database_url, *TROUBLED)
    assert told(loader, address) == expected


def test_it_is_told_on_the_first_page_and_counts_as_no_match(database_url: str, loader: httpx.Client) -> None:
    hear(database_url, *TROUBLED)
    for address in (f"Observation?patient={ONE}&_count=1", f"Patient/{ONE}/$everything?_count=1"):
        first = loader.get(f"/fhir/{address}").json()
        assert first.get("total", 2) == 2
        assert len(first["entry"]) == 2
        following = next(link["url"] for link in first["link"] if link["relation"] == "next")
        assert all(each["search"]["mode"] != "outcome" for each in loader.get(following).json()["entry"])


def test_nothing_is_told_where_all_is_well(database_url: str, loader: httpx.Client) -> None:
    for heard in ((), (("lab", "first-hospital", "done", SILENT), ("lab", "first-hospital", "done", HEARD))):
        hear(database_url, *heard)
        assert told(loader, f"Patient/{ONE}/$everything") == []
    hear(database_url, ("lab", "first-hospital", "waiting", 10.0))
    assert told(loader, f"Patient/{ONE}/$everything") == []


def test_only_hospitals_of_whose_rows_the_caller_sees_some(
    database_url: str, platform: Platform, loader: httpx.Client
) -> None:
    hear(database_url, *TROUBLED)
    county = platform.client(client="county-hospital")
    assert told(loader, f"Observation?patient={ONE}") == [COUNTY, FIRST]
    assert told(county, f"Observation?patient={ONE}") == [COUNTY]
    assert told(county, f"Observation?patient={OTHER}") == []
    assert told(county, "Observation?patient=absent") == []
    assert told(platform.client(account="nurse.zhao"), f"Observation?patient={ONE}") == []
    assert county.get(f"/fhir/Patient/{ONE}/$everything").status_code == 404
