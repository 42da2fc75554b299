"""$export at the door: kick-off, status, manifest, files, cancel, refusals (Bulk Data Access IG 2.0)."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from consent.service import Consent
from ehr.bulk import jobs
from ehr.store import Store
from ehr.store.jobs import run_jobs
from kanglian.bulk import BulkWork
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database
FHIR = {"content-type": "application/fhir+json"}


def _put(client: httpx.Client, resource: dict[str, Any]) -> None:
    answer = client.put(f"/fhir/{resource['resourceType']}/{resource['id']}", json=resource, headers=FHIR)
    assert answer.status_code in {200, 201}, answer.text


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    found = platform.client(client="loader")
    for name in ("a", "b", "c"):
        of = {"reference": f"Patient/{name}"}
        _put(found, {"resourceType": "Patient", "id": name, "birthDate": "1970-01-01", "gender": "female"})
        code = {"text": f"of {name} 心电图"}
        _put(found, {"resourceType": "Observation", "id": f"o-{name}", "status": "final", "code": code, "subject": of})
    _put(found, {"resourceType": "Practitioner", "id": "doctor"})
    members = [{"entity": {"reference": f"Patient/{name}"}} for name in ("a", "c")]
    members.append({"entity": {"reference": "Patient/b"}, "inactive": True})  # type: ignore[dict-item]
    _put(found, {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": members})
    return found


@contextmanager
def working(platform: Platform, database_url: str) -> Iterator[None]:
    """The worker of `serve`, over the same record."""
    stop, ready = threading.Event(), threading.Event()

    async def work() -> None:
        consent = Consent(base_url=f"{platform.base_url}/fhir")
        keys: Path = platform.keys_path
        store = await Store.open(
            database_url,
            keys_path=keys / "index.key",
            projections=consent.projections(),
            base_url=f"{platform.base_url}/fhir",
        )
        await consent.open(store)
        ending = asyncio.Event()
        handlers = BulkWork(store, consent, keys / "bulk", platform.import_addresses).handlers()
        running = asyncio.create_task(run_jobs(database_url, handlers, poll_s=0.05, stop=ending))
        ready.set()
        await asyncio.to_thread(stop.wait)
        ending.set()
        await running
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield
    stop.set()
    thread.join(30)


@pytest.fixture(scope="module")
def worker(platform: Platform, database_url: str) -> Iterator[None]:
    with working(platform, database_url):
        yield


def completed(client: httpx.Client, address: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while (answer := client.get(address)).status_code == 202:
        assert len(answer.headers["x-progress"]) <= 100
        assert int(answer.headers["retry-after"]) >= 1
        assert time.monotonic() < end
        time.sleep(0.05)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert "expires" in answer.headers
    found: dict[str, Any] = answer.json()
    return found


def exported(client: httpx.Client, path: str, body: dict[str, Any] | None = None) -> dict[str, list[dict[str, Any]]]:
    """Lines by type of an export from kick-off to files."""
    prefer = {"prefer": "respond-async", "accept": "application/fhir+json"}
    started = client.get(f"/fhir/{path}", headers=prefer) if body is None else client.post(
        f"/fhir/{path}", json=body, headers=prefer | FHIR
    )  # fmt: skip
    assert started.status_code == 202, started.text
    manifest = completed(client, started.headers["content-location"])
    assert manifest["requiresAccessToken"] is True
    assert manifest["request"].endswith(path)
    found: dict[str, list[dict[str, Any]]] = {}
    for output in manifest["output"]:
        answer = client.get(output["url"], headers={"accept": "application/fhir+ndjson"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+ndjson")
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert {line["resourceType"] for line in lines} == {output["type"]}
        assert len(lines) == output["count"]
        found.setdefault(output["type"], []).extend(lines)
    return found


def ids(found: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {line["id"] for lines in found.values() for line in lines}


@pytest.mark.usefixtures("worker")
def test_the_three_levels(loader: httpx.Client) -> None:
    system = exported(loader, "$export")
    assert ids(system) >= {"a", "b", "c", "o-a", "o-b", "o-c", "doctor", "g"}
    assert "AuditEvent" not in system
    assert system["Patient"][0] == loader.get(f"/fhir/Patient/{system['Patient'][0]['id']}").json()
    assert ids(exported(loader, "Patient/$export")) >= {"a", "b", "c", "o-a", "o-b", "o-c"}
    assert "Practitioner" not in exported(loader, "Patient/$export?_type=Practitioner,Patient")
    assert ids(exported(loader, "Group/g/$export")) == {"a", "c", "o-a", "o-c"}


@pytest.mark.usefixtures("worker")
def test_parameters_by_get_and_post(loader: httpx.Client) -> None:
    path = "$export?_type=Observation&_typeFilter=Observation%3Fsubject%3DPatient%2Fa,Observation%3F_id%3Do-b"
    assert ids(exported(loader, path)) == {"o-a", "o-b"}
    entries = [
        {"name": "_type", "valueString": "Observation,Patient"},
        {"name": "patient", "valueReference": {"reference": "Patient/c"}},
        {"name": "patient", "valueReference": {"reference": "Patient/nobody"}},
        {"name": "_elements", "valueString": "Patient.birthDate"},
        {"name": "_outputFormat", "valueCode": "application/fhir+ndjson"},
        {"name": "_since", "valueInstant": "2020-01-01T00:00:00Z"},
    ]
    found = exported(loader, "Patient/$export", {"resourceType": "Parameters", "parameter": entries})
    assert ids(found) == {"c", "o-c"}
    assert set(found["Patient"][0]) == {"resourceType", "id", "meta", "birthDate"}
    assert "code" in found["Observation"][0]
    assert exported(loader, "$export?_type=Patient&_since=2999-01-01T00:00:00Z") == {}
    assert exported(loader, "$export?_type=Patient&_until=2020-01-01T00:00:00%2B08:00") == {}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("_type=Nonsense", "Nonsense"),
        ("_type=", "_type"),
        ("_since=yesterday", "_since"),
        ("_since=2020&_since=2021", "_since"),
        ("_outputFormat=text/csv", "_outputFormat"),
        ("patient=Patient/a", "patient"),
        ("_typeFilter=Observation", "_typeFilter"),
        ("_typeFilter=Observation%3Fnonsense%3D1", "nonsense"),
        ("_typeFilter=Observation%3F_include%3D*", "_include"),
        ("_typeFilter=Patient%3Fname:contains%3Dzhang", "_typeFilter"),
        ("_type=Patient&_typeFilter=Observation%3Fcode%3D1", "_type"),
        ("_elements=Patient.nonsense", "nonsense"),
        ("nonsense=1", "nonsense"),
        ("_type=AuditEvent", "AuditEvent"),
    ],
)
def test_what_is_unknown_or_unusable_is_named(loader: httpx.Client, query: str, named: str) -> None:
    for path in ("$export", "Group/g/$export"):
        answer = loader.get(f"/fhir/{path}?{query}")
        assert answer.status_code == 400, answer.text
        assert named in answer.json()["issue"][0]["diagnostics"]
    lenient = loader.get(f"/fhir/$export?{query}", headers={"prefer": "handling=lenient"})
    assert lenient.status_code == (202 if query == "nonsense=1" else 400)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"resourceType":"Patient"}', b'{"resourceType":"Parameters","parameter":{}}',
     b'{"resourceType":"Parameters","parameter":[7]}', b'{"resourceType":"Parameters","parameter":[{"name":"_type"}]}',
     b'{"resourceType":"Parameters","parameter":[{"name":"_type","valueInteger":7}]}'],
)  # fmt: skip
def test_a_bad_body_is_refused(loader: httpx.Client, body: bytes) -> None:
    answer = loader.post("/fhir/$export", content=body, headers=FHIR)
    assert answer.status_code in {400, 422}, answer.text
    assert loader.post("/fhir/$export", content=body, headers={"content-type": "text/plain"}).status_code == 415


@pytest.mark.usefixtures("worker")
def test_files_come_packed_where_the_client_takes_it(loader: httpx.Client) -> None:
    started = loader.get("/fhir/$export?_type=Observation")
    (output,) = completed(loader, started.headers["content-location"])["output"]
    plain = loader.get(output["url"], headers={"accept-encoding": "identity"})
    assert int(plain.headers["content-length"]) == len(plain.content)
    head = loader.head(output["url"], headers={"accept-encoding": "identity"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (
        200, b"", plain.headers["content-length"],
    )  # fmt: skip
    with loader.stream("GET", output["url"], headers={"accept-encoding": "gzip"}) as packed:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(b"".join(packed.iter_raw())) == plain.content


@pytest.mark.usefixtures("worker")
def test_only_the_client_that_asked_reads_status_and_files(platform: Platform, loader: httpx.Client) -> None:
    address = loader.get("/fhir/$export?_type=Observation").headers["content-location"]
    url = completed(loader, address)["output"][0]["url"]
    other, nobody = platform.client(client="first-hospital"), platform.anonymous()
    absent = address[:-4] + "AAAA"
    for path in (address, url):
        assert nobody.get(path).status_code == 401
        assert other.get(path).json() == other.get(absent).json()
        assert other.get(path).status_code == 404
    assert other.delete(address).status_code == 404
    assert loader.get(url).status_code == 200
    for altered in (
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.partition("?")[0],
        url.replace("expires=", "expires=9"),
    ):
        assert loader.get(altered).status_code == 404
    for name in ("Observation.2.ndjson", "..%2Fpersons.list", "Observation.1.keys"):
        assert loader.get(url.replace("Observation.1.ndjson", name)).status_code == 404
    assert loader.post(address).status_code == 405
    assert loader.delete(address).status_code == 202
    assert loader.get(address).status_code == 404
    assert loader.get(url).status_code == 404
    assert loader.delete(address).status_code == 404


@pytest.mark.usefixtures("loader")
def test_who_may_ask(platform: Platform) -> None:
    for account in ("dr.wang", "zhang.wei", "admin", "researcher.chen"):
        for path in ("$export", "Patient/$export", "Group/g/$export"):
            assert platform.client(account=account).get(f"/fhir/{path}").status_code == 403, (account, path)
    assert platform.anonymous().get("/fhir/$export").status_code == 401
    hospital = platform.client(client="first-hospital")
    hidden, absent = hospital.get("/fhir/Group/g/$export"), hospital.get("/fhir/Group/absent/$export")
    assert (hidden.status_code, hidden.json()) == (absent.status_code, absent.json())
    assert hidden.status_code == 404


def test_no_client_asks_for_more_than_will_be_done(
    platform: Platform, loader: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "MOST_UNDER_WAY", 0)
    refused = loader.get("/fhir/$export")
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (400, "too-costly")
    monkeypatch.undo()
    county = platform.client(client="county-hospital")
    address = county.get("/fhir/$export").headers["content-location"]
    assert county.delete(address).status_code == 202


@pytest.mark.usefixtures("worker", "loader")
def test_a_hospital_takes_its_own_rows_and_the_directory(platform: Platform) -> None:
    hospital = platform.client(client="first-hospital")
    _put(hospital, {"resourceType": "Patient", "id": "first-hospital.own"})
    found = exported(hospital, "$export?_type=Patient,Observation,Practitioner,Group")
    assert ids(found) == {"first-hospital.own", "doctor"}


@pytest.mark.usefixtures("worker")
def test_the_resident_and_the_auditor_see_the_export_once(platform: Platform, loader: httpx.Client) -> None:
    auditor = platform.client(account="audit.lin")

    def events() -> list[str]:
        answer = auditor.get("/fhir/AuditEvent?patient=Patient/b&_count=100")
        return [json.dumps(entry) for entry in answer.json().get("entry", ())]

    before = events()
    exported(loader, "$export?_type=Observation,Patient")
    (event,) = [each for each in events() if each not in before]
    assert '"export"' in event
    exported(loader, "Patient/$export?_typeFilter=Observation%3Fsubject%3DPatient/a&_type=Observation")
    assert len(events()) == len(before) + 1, "nothing of b was in the second"
