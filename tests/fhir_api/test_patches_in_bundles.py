"""PATCH entries of batches and transactions (R4 http.html#transaction, http.html#patch)."""

import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform
from tests.fhir_api.test_bundles import Json, entry, observation, patient, put, sent, statuses
from tests.fhir_api.test_patch import operation, parameters

pytestmark = pytest.mark.database
BOTH = pytest.mark.parametrize("kind", ["batch", "transaction"])


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def binary(patch: Any, content_type: str = "application/json-patch+json") -> Json:
    data = b64encode(json.dumps(patch).encode()).decode()
    return {"resourceType": "Binary", "contentType": content_type, "data": data}


def replaced(value: Any, path: str = "/gender") -> Json:
    return binary([{"op": "add", "path": path, "value": value}])


def fhirpath(value: str) -> Json:
    return parameters(operation("replace", "Patient.birthDate", value={"valueDate": value}))


@BOTH
def test_each_form_changes_its_row(loader: httpx.Client, kind: str) -> None:
    for number in range(4):
        put(loader, patient(f"form-{kind}-{number}", id=f"form-{kind}-{number}", birthDate="1990-01-01"))
    address = f"Patient/form-{kind}-"
    answer = sent(
        loader,
        kind,
        entry("PATCH", f"{address}0", replaced("female")),
        entry("PATCH", f"{address}1", fhirpath("1991-02-03")),
        entry("PATCH", f"{address}2", binary(fhirpath("1992-02-03"), "application/fhir+json"), ifMatch='W/"1"'),
        entry("PATCH", f"Patient?identifier=urn:x|form-{kind}-3", replaced("male")),
    )
    assert statuses(answer) == ["200"] * 4
    entries = answer.json()["entry"]
    assert [each["response"]["etag"] for each in entries] == ['W/"2"'] * 4
    found = [loader.get(f"/fhir/{address}{number}").json() for number in range(4)]
    assert [each["resource"] for each in entries] == found
    assert (found[0]["gender"], found[1]["birthDate"]) == ("female", "1991-02-03")
    assert (found[2]["birthDate"], found[3]["gender"]) == ("1992-02-03", "male")


REFUSED: list[tuple[str, Json | None, str, dict[str, str]]] = [
    ("Patient/patched", replaced("nonsense"), "422", {}),
    ("Patient/patched", replaced("other", "/id"), "422", {}),
    ("Patient/patched", binary([{"op": "remove", "path": "/absent"}]), "422", {}),
    ("Patient/patched", binary({"gender": "male"}, "application/merge-patch+json"), "415", {}),
    ("Patient/patched", binary("<diff/>", "application/xml-patch+xml"), "415", {}),
    ("Patient/patched", {"resourceType": "Binary", "contentType": "application/json-patch+json"}, "422", {}),
    ("Patient/patched", {"resourceType": "Binary", "contentType": "text/plain", "data": "~"}, "422", {}),
    ("Patient/patched", patient(id="patched"), "400", {}),
    ("Patient/patched", None, "422", {}),
    ("Patient/patched", replaced("male"), "412", {"ifMatch": 'W/"7"'}),
    ("Patient/patched", replaced("male"), "422", {"ifNoneMatch": "*"}),
    ("Patient/absent-patched", replaced("male"), "404", {}),
    ("Patient?identifier=urn:x|absent-patched", replaced("male"), "404", {}),
    ("Patient?identifier=urn:x|patched-twice", replaced("male"), "412", {}),
    ("Patient", replaced("male"), "422", {}),
    ("Nonsense/patched", replaced("male"), "422", {}),
]


@BOTH
@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: f"{refused[0]} {refused[1]}"[:60])
def test_what_does_not_fit_is_refused(
    loader: httpx.Client, kind: str, refused: tuple[str, Json | None, str, dict[str, str]]
) -> None:
    url, resource, status, request_members = refused
    version = put(loader, patient("patched", id="patched")).headers["etag"]
    for number in (1, 2):
        put(loader, patient("patched-twice", id=f"patched-twice-{number}"))
    beside = entry("PUT", "Patient/patched-beside", patient(id="patched-beside"))
    loader.delete("/fhir/Patient/patched-beside")
    answer = sent(loader, kind, beside, entry("PATCH", url, resource, **request_members))
    if kind == "batch":
        assert statuses(answer)[1] == status
    else:
        assert str(answer.status_code) == status, answer.text
        assert loader.get("/fhir/Patient/patched-beside").status_code in {404, 410}, "all or nothing"
    assert loader.get("/fhir/Patient/patched").headers["etag"] == version


def test_a_patch_may_name_what_the_same_transaction_makes(loader: httpx.Client) -> None:
    put(loader, observation("Patient/x", id="patched-link"))
    made = "urn:uuid:00000000-0000-4000-8000-000000000077"
    answer = sent(
        loader,
        "transaction",
        entry("PATCH", "Observation/patched-link", replaced({"reference": made}, "/subject")),
        entry("POST", "Patient", patient(), made),
        entry("GET", "Observation/patched-link"),
    )
    assert statuses(answer) == ["200", "201", "200"]
    new = answer.json()["entry"][1]["resource"]["id"]
    assert loader.get("/fhir/Observation/patched-link").json()["subject"]["reference"] == f"Patient/{new}"
    assert answer.json()["entry"][2]["resource"]["subject"]["reference"] == f"Patient/{new}"


def test_two_writers_of_one_row_are_refused(loader: httpx.Client) -> None:
    put(loader, patient("patched-once", id="patched-once"))
    change = entry("PATCH", "Patient/patched-once", replaced("male"))
    for other in (
        entry("PUT", "Patient/patched-once", patient(id="patched-once")),
        entry("DELETE", "Patient/patched-once"),
        entry("PATCH", "Patient?identifier=urn:x|patched-once", replaced("female")),
        change,
    ):
        assert sent(loader, "transaction", change, other).status_code == 422
    assert loader.get("/fhir/Patient/patched-once").headers["etag"] == 'W/"1"'


@BOTH
def test_writers_at_once_lose_nothing(loader: httpx.Client, kind: str) -> None:
    busy = {"resourceType": "Basic", "id": f"busy-{kind}", "code": {"text": "x"}, "identifier": [{"value": "0"}]}
    put(loader, busy)

    def add(number: int) -> int:
        change = binary([{"op": "add", "path": "/identifier/-", "value": {"value": str(number)}}])
        for _ in range(20):
            answer = sent(loader, kind, entry("PATCH", f"Basic/busy-{kind}", change))
            ended = answer.status_code if kind == "transaction" else int(statuses(answer)[0])
            if ended not in {409, 412}:
                return ended
        return 409

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(add, range(1, 7))) == {200}
    values = {each["value"] for each in loader.get(f"/fhir/Basic/busy-{kind}").json()["identifier"]}
    assert values == set("0123456")


@BOTH
def test_hidden_is_absent(platform: Platform, loader: httpx.Client, kind: str) -> None:
    version = put(loader, patient("patched-hidden", id="patched-hidden")).headers["etag"]
    clinician = platform.client(account="dr.li")
    answers = []
    for name in ("patched-hidden", "patched-nowhere"):
        for url in (f"Patient/{name}", f"Patient?identifier=urn:x|{name}"):
            answer = sent(clinician, kind, entry("PATCH", url, replaced("male")))
            answers.append((answer.status_code, answer.content))
    assert len(set(answers)) == 1, answers
    assert loader.get("/fhir/Patient/patched-hidden").headers["etag"] == version
