"""What each interaction answers: statuses, headers, bodies (R4 http.html), over a real socket."""

import json
from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


@pytest.fixture(scope="module")
def patient(loader: httpx.Client) -> dict[str, Any]:
    body = b'{"resourceType":"Patient","name":[{"family":"\xe7\x8e\x8b","given":["\xe8\x8a\xb3"]}],"gender":"female"}'
    answer = loader.post("/fhir/Patient", content=body, headers=FHIR)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def created(loader: httpx.Client, **members: Any) -> httpx.Response:
    answer = loader.post("/fhir/Patient", json={"resourceType": "Patient"} | members, headers=FHIR)
    assert answer.status_code == 201, answer.text
    return answer


def is_outcome(answer: httpx.Response) -> bool:
    body = answer.json()
    return body["resourceType"] == "OperationOutcome" and bool(body["issue"][0]["diagnostics"])


def test_create_answers_the_resource_with_its_version(platform: Platform, loader: httpx.Client) -> None:
    answer = created(loader, active=True)
    body = answer.json()
    assert answer.headers["location"] == f"{platform.base_url}/fhir/Patient/{body['id']}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert answer.headers["last-modified"].endswith("GMT")
    assert body["meta"]["versionId"] == "1"
    assert loader.get(answer.headers["location"]).content == answer.content


def test_numbers_keep_their_digits(loader: httpx.Client) -> None:
    body = (
        b'{"resourceType":"Observation","status":"final","code":{"text":"weight"},'
        b'"valueQuantity":{"value":72.50,"unit":"kg"}}'
    )
    answer = loader.post("/fhir/Observation", content=body, headers=FHIR)
    assert b'"value":72.50' in answer.content
    assert b"72.50" in loader.get(f"/fhir/Observation/{answer.json()['id']}?_pretty=true").content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_read(loader: httpx.Client, patient: dict[str, Any], method: str) -> None:
    answer = loader.request(method, f"/fhir/Patient/{patient['id']}")
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) > 50
    assert (answer.content == b"") == (method == "HEAD")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-none-match": 'W/"1"'}, 304),
        ({"if-none-match": '"1"'}, 304),
        ({"if-none-match": 'W/"7", W/"1"'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": 'W/"2"'}, 200),
        ({"if-none-match": "nonsense"}, 200),
        ({"if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
        ({"if-modified-since": "Fri, 01 Jan 2010 00:00:00 GMT"}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-modified-since": "Fri, 01 Jan 99999 00:00:00 GMT"}, 200),
        ({"if-none-match": 'W/"2"', "if-modified-since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 200),
    ],
    ids=str,
)
def test_conditional_read(loader: httpx.Client, patient: dict[str, Any], headers: dict[str, str], status: int) -> None:
    answer = loader.get(f"/fhir/Patient/{patient['id']}", headers=headers)
    assert answer.status_code == status
    assert answer.headers["etag"] == 'W/"1"'
    if status == 304:
        assert answer.content == b""


@pytest.mark.parametrize(
    ("accept", "query", "status"),
    [
        ("application/fhir+json", "", 200),
        ("application/json", "", 200),
        ("*/*", "", 200),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "", 200),
        ("application/fhir+json; fhirVersion=4.0", "", 200),
        ("application/fhir+json; fhirVersion=5.0", "", 406),
        ("application/fhir+xml", "", 406),
        ("text/turtle", "", 406),
        ("application/fhir+json;q=0", "", 406),
        ("x" * 5000, "", 406),
        ("application/fhir+xml", "?_format=json", 200),
        ("application/fhir+json", "?_format=xml", 406),
        ("*/*", "?_format=application/fhir%2Bjson", 200),
        ("*/*", "?_format=application/fhir+json", 200),
        ("*/*", "?_format=text/html", 406),
        ("*/*", "?_pretty=true", 200),
        ("*/*", "?_pretty=maybe", 400),
        ("*/*", "?_summary=true", 200),
        ("*/*", "?_summary=count", 400),
        ("*/*", "?_elements=gender", 200),
        ("*/*", "?name=x", 400),
        ("*/*", "?_format=%zz", 400),
    ],
)
def test_negotiation(loader: httpx.Client, patient: dict[str, Any], accept: str, query: str, status: int) -> None:
    answer = loader.get(f"/fhir/Patient/{patient['id']}{query}", headers={"accept": accept})
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.json()["id"] == patient["id"]
    else:
        assert is_outcome(answer)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/fhir+json", 201),
        ("application/json", 201),
        ("application/fhir+json; charset=utf-8", 201),
        ("application/fhir+json; charset=gb18030", 415),
        ("application/fhir+json; fhirVersion=3.0", 415),
        ("application/fhir+xml", 415),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/json, application/json", 415),
        (None, 415),
    ],
)
def test_content_types(loader: httpx.Client, content_type: str | None, status: int) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = loader.post("/fhir/Patient", content=b'{"resourceType":"Patient"}', headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("prefer", "empty", "kind"),
    [
        ("return=representation", False, "Patient"),
        ("return=minimal", True, ""),
        ("return=OperationOutcome", False, "OperationOutcome"),
        ("respond-async; return=minimal", True, ""),
        ("return=nonsense", False, "Patient"),
    ],
)
def test_prefer(loader: httpx.Client, prefer: str, *, empty: bool, kind: str) -> None:
    answer = loader.post("/fhir/Patient", json={"resourceType": "Patient"}, headers=FHIR | {"prefer": prefer})
    assert answer.status_code == 201
    assert (answer.content == b"") == empty
    if not empty:
        assert answer.json()["resourceType"] == kind
    assert answer.headers["etag"] == 'W/"1"'


def test_update_needs_the_version_that_if_match_names(loader: httpx.Client) -> None:
    body = created(loader).json()
    address = f"/fhir/Patient/{body['id']}"
    content = {"resourceType": "Patient", "id": body["id"], "active": True}
    assert loader.put(address, json=content, headers=FHIR | {"if-match": 'W/"9"'}).status_code == 412
    assert loader.put(address, json=content, headers=FHIR | {"if-match": 'W/"x"'}).status_code == 412
    assert loader.put(address, json=content, headers=FHIR | {"if-match": "1"}).status_code == 400
    assert loader.put(address, json=content, headers=FHIR | {"if-match": 'W/"1", W/"2"'}).status_code == 400
    assert loader.put(address, json=content, headers=FHIR | {"if-none-match": "*"}).status_code == 400
    answer = loader.put(address, json=content, headers=FHIR | {"if-match": 'W/"1"'})
    assert (answer.status_code, answer.headers["etag"]) == (200, 'W/"2"')
    assert loader.delete(address, headers={"if-match": 'W/"1"'}).status_code == 412
    assert loader.delete(address, headers={"if-match": 'W/"2"'}).status_code == 204


def test_the_id_of_the_address_is_the_id_of_the_body(loader: httpx.Client, patient: dict[str, Any]) -> None:
    for content in ({"resourceType": "Patient", "id": "other"}, {"resourceType": "Patient"}):
        answer = loader.put(f"/fhir/Patient/{patient['id']}", json=content, headers=FHIR)
        assert answer.status_code in {400, 422}
        assert is_outcome(answer)


def test_delete_then_read_then_history(loader: httpx.Client) -> None:
    body = created(loader).json()
    address = f"/fhir/Patient/{body['id']}"
    deleted = loader.delete(address)
    assert (deleted.status_code, deleted.content, deleted.headers["etag"]) == (204, b"", 'W/"2"')
    assert loader.delete(address).status_code == 204
    assert loader.get(address).status_code == 410
    assert loader.get(f"{address}/_history/2").status_code == 410
    assert loader.get(f"{address}/_history/1").status_code == 200
    for version in ("0", "3", "99999999999", "x", "-1", "1.0"):
        assert loader.get(f"{address}/_history/{version}").status_code == 404, version
    history = loader.get(f"{address}/_history").json()
    assert (history["type"], history["total"]) == ("history", 2)
    assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE", "POST"]
    assert "resource" not in history["entry"][0]


def test_history_pages(loader: httpx.Client) -> None:
    body = created(loader).json()
    address = f"/fhir/Patient/{body['id']}"
    for turn in range(4):
        content = {"resourceType": "Patient", "id": body["id"], "multipleBirthInteger": turn}
        assert loader.put(address, json=content, headers=FHIR).status_code == 200
    seen = []
    link: str | None = f"{address}/_history?_count=2"
    while link is not None:
        page = loader.get(link).json()
        seen += [entry["resource"]["meta"]["versionId"] for entry in page["entry"]]
        assert page["total"] == 5
        link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
    assert seen == ["5", "4", "3", "2", "1"]
    assert "entry" not in loader.get(f"{address}/_history?_since=2100-01-01").json()
    for query in ("_count=x", "_count=-1", "_since=soon", "_at=2020", "_count=1&_count=2"):
        assert loader.get(f"{address}/_history?{query}").status_code == 400, query


def test_conditional_create_update_delete(loader: httpx.Client) -> None:
    criteria = "identifier=http://example.org/id|c1"
    content = {"resourceType": "Patient", "identifier": [{"system": "http://example.org/id", "value": "c1"}]}
    first = loader.post("/fhir/Patient", json=content, headers=FHIR | {"if-none-exist": criteria})
    again = loader.post("/fhir/Patient", json=content, headers=FHIR | {"if-none-exist": criteria})
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    changed = loader.put(f"/fhir/Patient?{criteria}", json=content | {"active": True}, headers=FHIR)
    assert (changed.status_code, changed.json()["id"]) == (200, first.json()["id"])
    created(loader, identifier=content["identifier"])
    assert loader.put(f"/fhir/Patient?{criteria}", json=content, headers=FHIR).status_code == 412
    assert loader.delete(f"/fhir/Patient?{criteria}").status_code == 412
    assert loader.post("/fhir/Patient", json=content, headers=FHIR | {"if-none-exist": criteria}).status_code == 412
    assert loader.delete(f"/fhir/Patient/{first.json()['id']}").status_code == 204
    assert loader.delete(f"/fhir/Patient?{criteria}").status_code == 204
    assert loader.delete(f"/fhir/Patient?{criteria}").status_code == 204
    for answer in (
        loader.put("/fhir/Patient", json=content, headers=FHIR),
        loader.delete("/fhir/Patient"),
        loader.post("/fhir/Patient", json=content, headers=FHIR | {"if-none-exist": ""}),
        loader.post("/fhir/Patient", json=content, headers=FHIR | {"if-none-exist": "nonsense=1"}),
    ):
        assert answer.status_code == 400, answer.text


def test_search_by_get_and_by_post(platform: Platform, loader: httpx.Client) -> None:
    made = [created(loader, identifier=[{"value": f"page-{n}"}], active=True).json()["id"] for n in range(5)]
    wanted = "page-0,page-1,page-2,page-3,page-4"
    by_get = loader.get("/fhir/Patient", params={"identifier": wanted, "_count": "2", "_sort": "_id"})
    by_post = loader.post("/fhir/Patient/_search", data={"identifier": wanted, "_count": "2", "_sort": "_id"})
    assert by_get.status_code == by_post.status_code == 200, by_post.text
    assert by_get.json()["entry"] == by_post.json()["entry"]
    assert by_get.json()["total"] == 5
    seen: list[str] = []
    link: str | None = "/fhir/Patient?" + str(httpx.QueryParams({"identifier": wanted, "_count": "2"}))
    while link is not None:
        page = loader.get(link).json()
        assert {entry["search"]["mode"] for entry in page["entry"]} == {"match"}
        seen += [entry["resource"]["id"] for entry in page["entry"]]
        link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
    assert sorted(seen) == sorted(made)
    first = loader.get("/fhir/Patient", params={"identifier": wanted, "_count": "2"}).json()
    follow = next(each["url"] for each in first["link"] if each["relation"] == "next")
    assert loader.get(follow[:-4] + "AAAA").status_code in {400, 410}
    assert loader.get(follow + "&_page=x").status_code == 400
    assert loader.get(follow.replace("page-0", "page-1")).status_code in {400, 410}
    other = platform.client(client="loader", purpose="HTEST")
    assert other.get(follow).status_code in {400, 403, 410}
    assert "entry" not in loader.get("/fhir/Patient?identifier=none").json()
    assert loader.get("/fhir/Patient?identifier=none").json()["total"] == 0


def test_unknown_parameters_are_refused_unless_lenient(loader: httpx.Client) -> None:
    answer = loader.get("/fhir/Patient?nonsense=1")
    assert answer.status_code == 400
    assert "nonsense" in answer.text
    lenient = loader.get("/fhir/Patient?nonsense=1&_count=1", headers={"prefer": "handling=lenient"})
    assert lenient.status_code == 200
    assert lenient.json()["entry"][-1]["search"]["mode"] == "outcome"
    assert "nonsense" not in lenient.json()["link"][0]["url"]
    strict = loader.get("/fhir/Patient?nonsense=1", headers={"prefer": "handling=strict"})
    assert strict.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/fhir/Nonsense", 404, None),
        ("GET", "/fhir/Nonsense/1", 404, None),
        ("GET", "/fhir/patient/1", 404, None),
        ("GET", "/fhir/Parameters", 404, None),
        ("GET", "/fhir/Parameters/1", 404, None),
        ("DELETE", "/fhir/Parameters/1", 404, None),
        ("GET", "/fhir/Parameters/1/_history", 404, None),
        ("POST", "/fhir/Parameters/_search", 404, None),
        ("GET", "/fhir/Patient/$nothing", 404, None),
        ("GET", "/fhir/Patient/1/2", 404, None),
        ("GET", "/fhir/Patient/1/_history/1/2", 404, None),
        ("GET", "/fhir/Patient/a%2fb", 404, None),
        ("GET", "/fhir/Patient/..%2f..%2fetc", 404, None),
        ("GET", "/fhir/Patient/%zz", 404, None),
        ("GET", "/fhir/Patient/%ff", 404, None),
        ("GET", "/fhir/Patient/%00", 404, None),
        ("GET", "/fhir/Patient/" + "x" * 65, 404, None),
        ("GET", "/fhir//Patient/1", 404, None),
        ("GET", "/fhir/Patient/%E7%8E%8B", 404, None),
        ("GET", "/fhir/Patient/1;drop", 404, None),
        ("GET", "/fhir/Patient/absent", 404, None),
        ("GET", "/fhir", 405, "OPTIONS, POST"),
        ("DELETE", "/fhir", 405, "OPTIONS, POST"),
        ("PATCH", "/fhir/Patient/1/_history", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/fhir/Patient/1", 405, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("PUT", "/fhir/Patient/1/_history", 405, "GET, HEAD, OPTIONS"),
        ("GET", "/fhir/Patient/_search", 405, "OPTIONS, POST"),
        ("PUT", "/fhir/AuditEvent/1", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/fhir/AuditEvent", 405, "GET, HEAD, OPTIONS"),
        ("POST", "/fhir/metadata", 405, "GET, HEAD, OPTIONS"),
    ],
)
def test_addresses(loader: httpx.Client, method: str, path: str, status: int, allowed: str | None) -> None:
    answer = loader.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers.get("allow") == allowed
    assert is_outcome(answer)


def test_absent_answers_are_alike(loader: httpx.Client) -> None:
    first, second = loader.get("/fhir/Patient/absent-1"), loader.get("/fhir/Patient/absent-22")
    assert first.content == second.content
    names = {"date", "x-request-id"}
    assert {k: v for k, v in first.headers.items() if k not in names} == {
        k: v for k, v in second.headers.items() if k not in names
    }


def test_without_a_token_nothing_is_said(platform: Platform) -> None:
    anyone = platform.anonymous()
    answers = [
        anyone.get("/fhir/Patient/1"),
        anyone.get("/fhir/Nonsense"),
        anyone.post("/fhir", content=b"{"),
        anyone.get("/fhir/Patient", headers={"authorization": "Bearer a.b.c"}),
        anyone.get("/fhir/Patient", headers={"authorization": "Basic YTpi"}),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.content for answer in answers}) == 1
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)


def test_validation_names_every_problem(loader: httpx.Client) -> None:
    answer = loader.post(
        "/fhir/Patient",
        json={"resourceType": "Patient", "gender": "x", "birthDate": "2020-02-30", "nonsense": 1},
        headers=FHIR,
    )
    assert answer.status_code == 422
    expressions = {issue.get("expression", [""])[0] for issue in answer.json()["issue"]}
    assert {"Patient.gender", "Patient.birthDate"} <= expressions


def test_parameters_are_checked_and_not_stored(loader: httpx.Client) -> None:
    good = {"resourceType": "Parameters", "parameter": [{"name": "a", "valueDecimal": 1.5}]}
    bad = {"resourceType": "Parameters", "parameter": [{"valueDate": "2020-02-30"}, {"name": "b", "resource": {}}]}
    for method, address in (("POST", "Parameters"), ("PUT", "Parameters"), ("PUT", "Parameters/1")):
        answer = loader.request(method, f"/fhir/{address}", json=good, headers=FHIR)
        (issue,) = answer.json()["issue"]
        assert (answer.status_code, issue["code"]) == (405, "not-supported")
        assert answer.headers["allow"] == ""
        assert "Parameters is checked, not stored" in issue["diagnostics"]
        answer = loader.request(method, f"/fhir/{address}", json=bad, headers=FHIR)
        assert answer.status_code == 422
        issues = answer.json()["issue"]
        assert {issue.get("expression", [""])[0] for issue in issues} >= {
            "Parameters.parameter[0].name", "Parameters.parameter[0].value", ""
        }  # fmt: skip
        assert "not stored" in issues[-1]["diagnostics"]
        other = loader.request(method, f"/fhir/{address}", json={"resourceType": "Patient"}, headers=FHIR)
        assert other.status_code == 422
        assert loader.request(method, f"/fhir/{address}", content=b"{", headers=FHIR).status_code == 400
    for kind in ("batch", "transaction"):
        for body, status in ((good, 405), (bad, 422)):
            entry = {"request": {"method": "POST", "url": "Parameters"}, "resource": body}
            bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
            answer = loader.post("/fhir", json=bundle, headers=FHIR)
            if kind == "batch":
                response = answer.json()["entry"][0]["response"]
                assert (answer.status_code, response["status"]) == (200, str(status))
                outcome = response["outcome"]
            else:
                assert answer.status_code == status
                outcome = answer.json()
            assert "Parameters is checked, not stored" in outcome["issue"][-1]["diagnostics"]


def test_batch_and_transaction(platform: Platform, loader: httpx.Client) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:0b7c7d4e-0000-4000-8000-000000000001",
                "resource": {"resourceType": "Patient", "active": True},
                "request": {"method": "POST", "url": "Patient"},
            },
            {
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": {"reference": "urn:uuid:0b7c7d4e-0000-4000-8000-000000000001"},
                },
                "request": {"method": "POST", "url": "Observation"},
            },
        ],
    }
    for address in ("/fhir", "/fhir/"):
        answer = loader.post(address, json=bundle, headers=FHIR)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["type"] == "transaction-response"
        assert [entry["response"]["status"] for entry in body["entry"]] == ["201", "201"]
        patient_id = body["entry"][0]["resource"]["id"]
        assert body["entry"][1]["resource"]["subject"]["reference"] == f"Patient/{patient_id}"
        assert body["entry"][0]["response"]["location"].startswith(f"{platform.base_url}/fhir/Patient/")
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": f"Patient/{patient_id}"}},
            {"request": {"method": "GET", "url": f"Observation?subject=Patient/{patient_id}"}},
            {"request": {"method": "GET", "url": "Patient/absent"}},
            {"request": {"method": "GET", "url": "Patient?nonsense=1"}},
            {"request": {"method": "GET", "url": "metadata"}},
            {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient", "gender": "x"}},
            {"request": {"method": "POST", "url": "Patient"}, "resource": {"resourceType": "Patient"}},
        ],
    }
    answer = loader.post("/fhir", json=batch, headers=FHIR | {"prefer": "return=minimal"}).json()
    assert answer["type"] == "batch-response"
    statuses = [entry["response"]["status"] for entry in answer["entry"]]
    assert statuses == ["200", "200", "404", "400", "404", "422", "201"]
    assert answer["entry"][1]["resource"]["total"] == 1
    assert answer["entry"][5]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert "resource" not in answer["entry"][6]


def test_a_failed_transaction_leaves_nothing(loader: httpx.Client) -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "resource": {"resourceType": "Patient", "identifier": [{"value": "rolled-back"}]},
                "request": {"method": "POST", "url": "Patient"},
            },
            {"resource": {"resourceType": "Patient", "gender": "x"}, "request": {"method": "POST", "url": "Patient"}},
        ],
    }
    assert loader.post("/fhir", json=bundle, headers=FHIR).status_code == 422
    assert loader.get("/fhir/Patient?identifier=rolled-back").json()["total"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"resourceType":"Patient"}',
        b'{"resourceType":"Bundle"}',
        b'{"resourceType":"Bundle","type":"collection"}',
        b'{"resourceType":"Bundle","type":5}',
        b'{"resourceType":"Bundle","type":"batch","type":"transaction"}',
        b'{"resourceType":"Bundle","type":"batch","entry":{}}',
        b'{"resourceType":"Bundle","type":"transaction","entry":[5]}',
        b'{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET"}}]}',
    ],
)
def test_bundles_that_are_none(loader: httpx.Client, body: bytes) -> None:
    answer = loader.post("/fhir", content=body, headers=FHIR)
    assert answer.status_code in {400, 422}, answer.text
    assert is_outcome(answer)


def test_audit_events_are_valid_and_follow_every_answer(platform: Platform, loader: httpx.Client) -> None:
    trace = {"x-request-id": "trace-of-this-test"}
    body = created(loader).json()
    loader.get(f"/fhir/Patient/{body['id']}", headers=trace)
    loader.get("/fhir/Patient/absent", headers=trace)
    loader.get("/fhir/Patient?nonsense=1", headers=trace)
    loader.get("/fhir/Nonsense", headers=trace)
    loader.request("PATCH", f"/fhir/Patient/{body['id']}", headers=trace)
    loader.post("/fhir/Patient", content=b"{", headers=FHIR | trace)
    loader.post("/fhir/Patient", content=b"{", headers={"content-type": "text/plain"} | trace)
    auditor = platform.client(account="audit.lin")
    events = [entry["resource"] for entry in auditor.get("/fhir/AuditEvent?_count=100").json()["entry"]]
    ours = [event for event in events if "trace-of-this-test" in json.dumps(event)]
    assert sorted(event["outcome"] for event in ours) == ["0", "4", "4", "4", "4", "4", "4"]
    assert loader.get("/fhir/AuditEvent").status_code == 403
    assert auditor.get(f"/fhir/AuditEvent/{ours[0]['id']}").json() == ours[0]
    assert auditor.get(f"/fhir/AuditEvent?_id={ours[0]['id']}").json()["entry"][0]["resource"] == ours[0]
    about = auditor.get(f"/fhir/AuditEvent?patient=Patient/{body['id']}").json()["entry"]
    assert {entry["resource"]["entity"][0]["what"]["reference"] for entry in about} == {f"Patient/{body['id']}"}
    first = auditor.get("/fhir/AuditEvent?_count=3").json()
    link = next(each["url"] for each in first["link"] if each["relation"] == "next")
    assert auditor.get(link).status_code == 200
    for query in ("nonsense=1", "action=X", "outcome=5", "date=soon", "_count=x"):
        assert auditor.get(f"/fhir/AuditEvent?{query}").status_code == 400, query
    assert auditor.get("/fhir/AuditEvent?_page=x").status_code == 410
    from ehr.validation import check  # noqa: PLC0415 - needed here alone

    assert [issue for event in events for issue in check(event) if issue.severity in {"error", "fatal"}] == []


def test_pages_for_people_and_for_machines(platform: Platform) -> None:
    anyone = platform.anonymous()
    first = anyone.get("/")
    assert first.status_code == 200
    assert "dr.wang" in first.text
    assert "<script" not in first.text
    assert anyone.get("/health/live").json() == {"status": "live"}
    assert anyone.get("/health/ready").json() == {"status": "ready"}
    assert anyone.get("/docs").status_code == 200
    metrics = anyone.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'kanglian_http_requests_total{interaction="read",status="200"' in metrics.text
    assert "# TYPE kanglian_inbox_waiting_messages gauge" in metrics.text
    assert anyone.post("/analytics/queries", json={}).status_code == 404


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nonsense", 404), ("POST", "/health/live", 405)])
def test_cold_refusals_are_outcomes_too(platform: Platform, method: str, path: str, status: int) -> None:
    answer = platform.anonymous().request(method, path)
    assert answer.status_code == status
    assert is_outcome(answer)
