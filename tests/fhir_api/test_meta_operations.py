"""$meta, $meta-add and $meta-delete over a real socket (R4 resource-operations.html)."""

from typing import Any

import httpx
import pytest

from fhir_api.issuer.issuer import Grant
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
ACT, LEVEL = (
    "http://terminology.hl7.org/CodeSystem/v3-ActCode",
    "http://terminology.hl7.org/CodeSystem/v3-Confidentiality",
)
TAG = {"system": "urn:t", "code": "one"}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def meta(**members: Any) -> Json:
    return {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": members}]}


def held(answer: httpx.Response) -> Json:
    assert answer.status_code == 200, answer.text
    (parameter,) = answer.json()["parameter"]
    assert parameter["name"] == "return"
    found: Json = parameter["valueMeta"]
    return found


def put(loader: httpx.Client, name: str, **members: Any) -> str:
    body = {"resourceType": "Basic", "id": name, "code": {"text": "x"}} | ({"meta": members} if members else {})
    assert loader.put(f"/fhir/Basic/{name}", json=body, headers=FHIR).status_code in {200, 201}
    return f"/fhir/Basic/{name}"


def post(client: httpx.Client, address: str, body: Json, **headers: str) -> httpx.Response:
    return client.post(address, json=body, headers=FHIR | headers)


def test_what_is_there_is_shown(loader: httpx.Client) -> None:
    address = put(loader, "meta-shown", tag=[TAG], profile=["urn:p"], security=[{"system": ACT, "code": "HIV"}])
    for answer in (loader.get(f"{address}/$meta"), loader.post(f"{address}/$meta")):
        found = held(answer)
        assert found == loader.get(address).json()["meta"]
        assert (found["tag"], found["versionId"]) == ([TAG], "1")
    assert loader.get(f"{address}/$meta?x=1").status_code == 400
    assert loader.get("/fhir/Basic/meta-absent/$meta").status_code == 404


def test_adding_adds_what_is_missing(loader: httpx.Client) -> None:
    address = put(loader, "meta-added", tag=[TAG])
    more = {"system": "urn:t", "code": "two", "display": "Two"}
    label = {"system": ACT, "code": "PSY"}
    found = held(post(loader, f"{address}/$meta-add", meta(tag=[TAG | {"display": "x"}, more], security=[label])))
    assert (found["tag"], found["security"], found["versionId"]) == ([TAG, more], [label], "2")
    assert loader.get(address).json()["meta"] == found
    assert loader.get("/fhir/Basic?_tag=urn:t|two&_security=PSY").json()["total"] == 1
    late = post(loader, f"{address}/$meta-add", meta(tag=[more]), **{"if-match": 'W/"1"'})
    assert late.status_code == 412


def test_taking_away(loader: httpx.Client) -> None:
    label = {"system": LEVEL, "code": "R"}
    address = put(loader, "meta-gone", tag=[TAG], profile=["urn:p", "urn:q"], security=[label])
    found = held(
        post(loader, f"{address}/$meta-delete", meta(tag=[TAG | {"display": "x"}], profile=["urn:p", "urn:z"]))
    )
    assert (found.get("tag"), found["profile"], found["security"]) == (None, ["urn:q"], [label])
    assert "tag" not in loader.get(address).json()["meta"]


@pytest.mark.parametrize("who", ["loader", "first-hospital"])
@pytest.mark.parametrize(
    ("operation", "security"),
    [
        ("meta-delete", [{"system": ACT, "code": "HIV"}]),
        ("meta-delete", [{"system": LEVEL, "code": "R"}]),
        ("meta-delete", [{"code": "anything"}]),
        ("meta-add", [{"system": LEVEL, "code": "L"}]),
        ("meta-add", [{"system": LEVEL, "code": "U"}, {"system": ACT, "code": "HIV"}]),
    ],
)
def test_nobody_unlabels_a_row(
    platform: Platform, loader: httpx.Client, who: str, operation: str, security: list[Json]
) -> None:
    client = platform.client(client=who)
    labels = [{"system": ACT, "code": "HIV"}, {"system": LEVEL, "code": "R"}]
    body = {"resourceType": "Basic", "id": "first-hospital.kept", "code": {"text": "x"}, "meta": {"security": labels}}
    made = platform.client(client="first-hospital").put("/fhir/Basic/first-hospital.kept", json=body, headers=FHIR)
    assert made.status_code in {200, 201}, made.text
    for name in ("first-hospital.kept", "first-hospital.absent"):
        assert post(client, f"/fhir/Basic/{name}/${operation}", meta(security=security)).status_code == 403
    assert loader.get("/fhir/Basic/first-hospital.kept").json()["meta"]["security"] == labels


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"resourceType": "Parameters"}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueString": "x"}]}, 400),
        ({"resourceType": "Parameters", "parameter": [{"name": "other", "valueMeta": {}}]}, 400),
        ({"resourceType": "Basic"}, 400),
        (meta(tag="x"), 422),
        (meta(tag=[5]), 422),
        (meta(profile=[{}]), 422),
        (meta(tag=[{"code": 5}]), 422),
        (meta(profile=["not a canonical"]), 422),
        ([], 400),
    ],
)
def test_garbage(loader: httpx.Client, body: Any, status: int) -> None:
    address = put(loader, "meta-garbage")
    version = loader.get(address).headers["etag"]
    answer = post(loader, f"{address}/$meta-add", body)
    assert answer.status_code == status, answer.text
    assert loader.get(address).headers["etag"] == version


def test_hidden_is_absent_and_others_rows_stay(platform: Platform, loader: httpx.Client) -> None:
    put(loader, "meta-hidden", tag=[TAG])
    clinician = platform.client(account="dr.li")
    for operation, body in (("meta", None), ("meta-add", meta(tag=[TAG])), ("meta-delete", meta(tag=[TAG]))):
        answers = set()
        for name in ("meta-hidden", "meta-nowhere"):
            answer = clinician.post(f"/fhir/Basic/{name}/${operation}", json=body, headers=FHIR)
            answers.add((answer.status_code, answer.content))
        assert len(answers) == 1
        assert next(iter(answers))[0] == 404
    grant = Grant(platform.issuer.client("loader"), "loader", ("system/*.rs",), "HSYSADMIN")
    reader = platform.anonymous()
    reader.headers["authorization"] = f"Bearer {platform.issuer.access_token(grant)}"
    assert held(reader.get("/fhir/Basic/meta-hidden/$meta"))["tag"] == [TAG]
    assert post(reader, "/fhir/Basic/meta-hidden/$meta-add", meta(tag=[{"code": "x"}])).status_code == 403
    for method in ("GET", "PUT"):
        assert loader.request(method, "/fhir/Basic/meta-hidden/$meta-add").status_code == 405
