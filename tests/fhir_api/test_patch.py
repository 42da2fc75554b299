"""patch and conditional patch over a real socket (R4 http.html#patch)."""

import concurrent.futures
from typing import Any

import httpx
import pytest

from fhir_api.issuer.issuer import Grant
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

JSON_PATCH = {"content-type": "application/json-patch+json"}
FHIR = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def created(loader: httpx.Client, **members: Any) -> str:
    answer = loader.post("/fhir/Patient", json={"resourceType": "Patient"} | members, headers=FHIR)
    assert answer.status_code == 201, answer.text
    return f"/fhir/Patient/{answer.json()['id']}"


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    given = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}]
    for name, value in parts.items():
        part = (
            value if isinstance(value, dict) else {"valueString" if isinstance(value, str) else "valueInteger": value}
        )
        given.append({"name": name, **part})
    return {"name": "operation", "part": given}


def parameters(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(operations)}


def test_json_patch_changes_one_version_and_keeps_the_digits(loader: httpx.Client) -> None:
    body = (
        b'{"resourceType":"Observation","status":"preliminary","code":{"text":"weight"},'
        b'"valueQuantity":{"value":72.50,"unit":"kg"}}'
    )
    address = "/fhir/Observation/" + loader.post("/fhir/Observation", content=body, headers=FHIR).json()["id"]
    steps = [
        {"op": "test", "path": "/status", "value": "preliminary"},
        {"op": "replace", "path": "/status", "value": "final"},
    ]
    answer = loader.patch(address, json=steps, headers=JSON_PATCH | {"if-match": 'W/"1"'})
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"2"'
    assert b'"status":"final"' in answer.content
    assert b"72.50" in answer.content
    again = loader.patch(address, json=steps, headers=JSON_PATCH)
    assert (again.status_code, again.json()["issue"][0]["code"]) == (422, "processing")
    late = loader.patch(address, json=steps[1:], headers=JSON_PATCH | {"if-match": 'W/"1"'})
    assert late.status_code == 412
    assert loader.get(address).headers["etag"] == 'W/"2"'


def test_fhirpath_patch(loader: httpx.Client) -> None:
    address = created(loader, name=[{"family": "Old", "given": ["A", "B"]}], birthDate="1980-01-01")
    patch = parameters(
        operation("replace", "Patient.birthDate", value={"valueDate": "1981-02-03"}),
        operation("delete", "Patient.name[0].given[1]"),
        operation("insert", "Patient.name[0].given", index=0, value="Z"),
        operation("add", "Patient", name="active", value={"valueBoolean": True}),
    )
    answer = loader.patch(address, json=patch, headers=FHIR)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["birthDate"], found["name"][0]["given"], found["active"]) == ("1981-02-03", ["Z", "A"], True)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (JSON_PATCH, {"op": "add"}, 400),
        (JSON_PATCH, [{"op": "add", "path": "/gender"}], 400),
        (JSON_PATCH, [{"op": "add", "path": "gender", "value": "male"}], 400),
        (JSON_PATCH, [{"op": "remove", "path": "/nothing"}], 422),
        (JSON_PATCH, [{"op": "replace", "path": "/gender", "value": "both"}], 422),
        (JSON_PATCH, [{"op": "replace", "path": "/resourceType", "value": "Group"}], 422),
        (JSON_PATCH, [{"op": "replace", "path": "/id", "value": "other"}], 422),
        (JSON_PATCH, [{"op": "remove", "path": ""}], 422),
        (FHIR, {"resourceType": "Patient"}, 400),
        (FHIR, parameters(operation("grow", "Patient.name")), 400),
        (FHIR, parameters(operation("delete", "Patient.name +")), 422),
        (FHIR, parameters(operation("add", "Patient.name.where(use='old')", name="text", value="x")), 422),
        (FHIR, parameters(operation("add", "Patient", name="colour", value="blue")), 422),
        (FHIR, parameters(operation("replace", "Patient", value="x")), 422),
        ({"content-type": "application/merge-patch+json"}, {"gender": None}, 415),
        ({"content-type": "text/plain"}, [], 415),
    ],
    ids=str,
)
def test_what_does_not_fit_changes_nothing(
    loader: httpx.Client, headers: dict[str, str], body: object, status: int
) -> None:
    address = created(loader, gender="female", name=[{"text": "a"}])
    answer = loader.patch(address, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["issue"][0]["diagnostics"]
    assert loader.get(address).headers["etag"] == 'W/"1"'


def test_copies_do_not_grow_without_bound(loader: httpx.Client) -> None:
    address = created(loader, name=[{"text": "a"}])
    doubling = [{"op": "copy", "from": "/name", "path": "/name/-"} for _ in range(60)]
    assert loader.patch(address, json=doubling, headers=JSON_PATCH).status_code == 422


def test_conditional_patch(loader: httpx.Client) -> None:
    identifiers = [{"system": "urn:p", "value": "one"}]
    address = created(loader, identifier=identifiers)
    steps = [{"op": "add", "path": "/gender", "value": "other"}]

    def patched(query: str) -> int:
        return loader.patch(f"/fhir/Patient?{query}", json=steps, headers=JSON_PATCH).status_code

    assert patched("identifier=urn:p|one") == 200
    assert loader.get(address).json()["gender"] == "other"
    assert patched("identifier=urn:p|none") == 404
    created(loader, identifier=identifiers)
    assert patched("identifier=urn:p|one") == 412
    assert patched("") == 400


def test_many_at_once_lose_nothing(loader: httpx.Client, platform: Platform) -> None:
    address = created(loader, name=[{"text": "a"}])

    def add(number: int) -> int:
        steps = [{"op": "add", "path": "/name/-", "value": {"text": str(number)}}]
        return platform.client(client="loader").patch(address, json=steps, headers=JSON_PATCH).status_code

    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(add, range(6)))
    assert statuses == [200] * 6
    assert {name["text"] for name in loader.get(address).json()["name"]} == {"a", *map(str, range(6))}


def test_hidden_and_absent_are_patched_alike_and_reading_is_needed(platform: Platform, loader: httpx.Client) -> None:
    hidden = created(loader, gender="male")
    clinician = platform.client(account="dr.wang")
    steps = [{"op": "test", "path": "/gender", "value": "male"}, {"op": "remove", "path": "/gender"}]
    answers = [clinician.patch(each, json=steps, headers=JSON_PATCH) for each in (hidden, "/fhir/Patient/unknown")]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    grant = Grant(platform.issuer.account("dr.wang"), "kanglian", "user/Patient.u", "TREAT")
    blind = {"authorization": f"Bearer {platform.issuer.access_token(grant)}"} | JSON_PATCH
    assert platform.anonymous().patch(hidden, json=steps, headers=blind).status_code == 403
