"""Dates without a zone are the platform's at every door; absolute references to its own base are its own rows."""

import json
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec
import pytest

from ehr.definitions import structure
from ehr.search.person import names_holder
from tests.fhir_api.conftest import Platform, serving
from tests.smallest_resources import STORED, smallest

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
ZONE = ZoneInfo("America/Anchorage")  # nine hours behind UTC in winter
THERE, ELSEWHERE = "2020-01-14T23:30:00-09:00", "2020-01-14T08:00:00+08:00"
DAY = "2020-01-14"


@pytest.fixture(scope="module")
def platform(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with serving(database_url, tmp_path_factory.mktemp("keys"), zone=ZONE) as running:
        yield running


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def posted(loader: httpx.Client, resource: dict[str, Any]) -> str:
    answer = loader.post(f"/fhir/{resource['resourceType']}", json=resource, headers=FHIR)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def observation(moment: str, **more: Any) -> dict[str, Any]:
    head = {"resourceType": "Observation", "status": "final", "code": {"text": "zoned"}}
    return head | {"effectiveDateTime": moment} | more


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return sorted(entry["resource"]["id"] for entry in answer.json().get("entry", []))


@pytest.fixture(scope="module")
def dated(loader: httpx.Client) -> dict[str, str]:
    return {moment: posted(loader, observation(moment)) for moment in (THERE, ELSEWHERE, DAY)}


def test_searches_read_zoneless_dates_in_the_zone(loader: httpx.Client, dated: dict[str, str]) -> None:
    both = sorted([dated[THERE], dated[DAY]])
    assert ids(loader.get(f"/fhir/Observation?date={DAY}")) == both
    assert ids(loader.post("/fhir/Observation/_search", data={"date": DAY})) == both
    assert ids(loader.get(f"/fhir/Observation?date={DAY}T23:30")) == [dated[THERE]]
    assert ids(loader.get("/fhir/Observation?date=2020-01-15T08:30:00Z")) == [dated[THERE]]
    assert ids(loader.get("/fhir/Observation?date=lt2020-01-14&_elements=status")) == [dated[ELSEWHERE]]
    # the day that was indexed begins and ends in the zone too
    assert ids(loader.get(f"/fhir/Observation?date=sa{DAY}T08:59:59Z&date=eb2020-01-15T09:00:00Z")) == both


def test_conditions_of_writes_read_zoneless_dates_in_the_zone(loader: httpx.Client, dated: dict[str, str]) -> None:
    criteria = f"date={DAY}T23:30"
    created = loader.post("/fhir/Observation", json=observation(THERE), headers=FHIR | {"if-none-exist": criteria})
    assert (created.status_code, created.json()["id"]) == (200, dated[THERE])
    updated = loader.put(f"/fhir/Observation?{criteria}", json=observation(THERE), headers=FHIR)
    assert (updated.status_code, updated.json()["id"]) == (200, dated[THERE])
    assert loader.delete(f"/fhir/Observation?date={DAY}").status_code == 412
    for kind in ("batch", "transaction"):
        entries = [
            {"request": {"method": "GET", "url": f"Observation?{criteria}"}},
            {"request": {"method": "PUT", "url": f"Observation?{criteria}"}, "resource": observation(THERE)},
            {
                "request": {"method": "POST", "url": "Observation", "ifNoneExist": f"date=eb{DAY}"},
                "resource": observation(ELSEWHERE),
            },
        ]
        bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
        answer = loader.post("/fhir", content=json.dumps(bundle), headers=FHIR)
        assert answer.status_code == 200, answer.text
        found = answer.json()["entry"]
        assert [entry["response"]["status"] for entry in found] == ["200", "200", "200"], found
        assert found[0]["resource"]["entry"][0]["resource"]["id"] == found[1]["resource"]["id"] == dated[THERE]
        assert found[2]["resource"]["id"] == dated[ELSEWHERE]


def test_a_conditional_reference_reads_zoneless_dates_in_the_zone(loader: httpx.Client, dated: dict[str, str]) -> None:
    resource = observation(ELSEWHERE, derivedFrom=[{"reference": f"Observation?date={DAY}T23:30"}])
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "POST", "url": "Observation"}, "resource": resource}],
    }
    (entry,) = loader.post("/fhir", json=bundle, headers=FHIR).json()["entry"]
    assert entry["resource"]["derivedFrom"][0]["reference"] == f"Observation/{dated[THERE]}"
    assert loader.delete(f"/fhir/Observation/{entry['resource']['id']}").status_code == 204


def test_since_and_the_log_read_zoneless_dates_in_the_zone(
    platform: Platform, loader: httpx.Client, dated: dict[str, str]
) -> None:
    answer = loader.get(f"/fhir/Observation/{dated[DAY]}")
    moment = answer.json()["meta"]["lastUpdated"]
    local = _local(moment)
    address = f"/fhir/Observation/{dated[DAY]}/_history"
    assert len(loader.get(f"{address}?_since={local}").json()["entry"]) == 1
    assert "entry" not in loader.get(f"{address}?_since={_local(moment, later_by_minutes=2)}").json()
    auditor = platform.client(account="audit.lin")
    early = _local(moment, later_by_minutes=-120)
    assert auditor.get(f"/fhir/AuditEvent?date=lt{early}").json().get("entry") is None
    assert len(auditor.get(f"/fhir/AuditEvent?date=ge{early}&date=lt{early[:4]}-12-31").json()["entry"]) > 3


def _local(instant: str, *, later_by_minutes: int = 0) -> str:
    from datetime import datetime, timedelta  # noqa: PLC0415 - here alone

    moment = datetime.fromisoformat(instant) + timedelta(minutes=later_by_minutes)
    return moment.astimezone(ZONE).strftime("%Y-%m-%dT%H:%M:%S")


def test_absolute_references_to_the_own_base_are_followed(platform: Platform, loader: httpx.Client) -> None:
    base = f"{platform.base_url}/fhir"
    body = {"resourceType": "Patient", "id": "absolute", "gender": "female"}
    assert loader.put("/fhir/Patient/absolute", json=body, headers=FHIR).status_code == 201
    own = posted(loader, observation(THERE, subject={"reference": f"{base}/Patient/absolute"}))
    version = posted(loader, observation(THERE, focus=[{"reference": f"{base}/Patient/absolute/_history/1"}]))
    other = posted(loader, observation(THERE, subject={"reference": "http://other.example/fhir/Patient/absolute"}))
    for value in ("absolute", "Patient/absolute", f"{base}/Patient/absolute"):
        assert ids(loader.get("/fhir/Observation", params={"subject": value})) == [own], value
    assert ids(loader.get("/fhir/Observation?subject=http://other.example/fhir/Patient/absolute")) == [other]
    for include in ("subject", "patient", "focus", "*"):
        wanted = version if include == "focus" else own
        found = loader.get(f"/fhir/Observation?_id={wanted}&_include=Observation:{include}")
        assert ids(found) == sorted([wanted, "absolute"]), include
    assert ids(loader.get("/fhir/Observation?subject:Patient.gender=female")) == [own]
    assert ids(loader.get("/fhir/Observation?patient._id=absolute")) == [own]
    assert ids(loader.get(f"/fhir/Patient?_has:Observation:subject:_id={own}")) == ["absolute"]
    assert ids(loader.get(f"/fhir/Patient?_has:Observation:focus:_id={version}")) == ["absolute"]
    assert ids(loader.get("/fhir/Patient?_id=absolute&_revinclude=Observation:subject")) == sorted([own, "absolute"])
    assert ids(loader.get(f"/fhir/Observation?_id={other}&_include=Observation:subject")) == [other]


FORMS = ("Patient/{}", "Patient/{}/_history/1", "{base}/Patient/{}", "{base}/Patient/{}/_history/1")
ABOUT_ONE = [(name, code) for name in STORED for code in ("patient", "subject") if names_holder(name, code)]


def test_a_person_is_found_in_whatever_form_it_is_named(platform: Platform, loader: httpx.Client) -> None:
    """Where a search goes by the row's holder, the holder must be whom the reference names, however it is written."""
    base = f"{platform.base_url}/fhir"
    body = {"resourceType": "Patient", "id": "formed"}
    assert loader.put("/fhir/Patient/formed", json=body, headers=FHIR).status_code == 201
    entries = []
    for name in sorted({name for name, _ in ABOUT_ONE}):
        element = "subject" if "subject" in {child.name for child in structure(name).children(name)} else "patient"
        for number, form in enumerate(FORMS):
            row = smallest(name) | {"id": f"formed-{number}", element: {"reference": form.format("formed", base=base)}}
            entries.append({"resource": row, "request": {"method": "PUT", "url": f"{name}/{row['id']}"}})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    content = msgspec.json.Encoder(decimal_format="number").encode(bundle)
    assert loader.post("/fhir", content=content, headers=FHIR).status_code == 200
    wanted = [f"formed-{number}" for number in range(len(FORMS))]
    asked: list[tuple[str, list[str]]] = []
    for name, code in ABOUT_ONE:
        typed = "patient" if code == "patient" else f"{code}:Patient"
        values = ("=formed", "=Patient/formed", f"={base}/Patient/formed", ":mdm=formed")
        asked += [(f"{name}?{code}{value}&_count=100", wanted) for value in values]
        asked.append((f"{name}?{typed}._id=formed&_count=100", wanted))
        asked.append((f"Patient?_id=formed&_revinclude={name}:{code}&_count=100", sorted([*wanted, "formed"])))
        asked.append((f"Patient?_has:{name}:{code}:_id=formed-3", ["formed"]))
        asked.append((f"{name}?_id=formed-1,formed-3&_include={name}:{code}", ["formed", "formed-1", "formed-3"]))
    batch = {"resourceType": "Bundle", "type": "batch"}
    answers = loader.post(
        "/fhir", json=batch | {"entry": [{"request": {"method": "GET", "url": url}} for url, _ in asked]}, headers=FHIR
    ).json()["entry"]
    for (url, expected), answer in zip(asked, answers, strict=True):
        found = [entry["resource"]["id"] for entry in answer["resource"].get("entry", [])]
        assert sorted(found) == expected, url
