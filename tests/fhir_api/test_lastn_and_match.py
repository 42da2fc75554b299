"""$lastn of Observations and $match of Patients over a real socket.

https://hl7.org/fhir/R4/observation-operation-lastn.html, https://hl7.org/fhir/R4/patient-operation-match.html
"""

from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
SYSTEM, GRADE = "urn:oid:2.16.156.10011.1.3", "http://hl7.org/fhir/StructureDefinition/match-grade"
NUMBER, OTHER_NUMBER = "110105198005200319", "110105194912310775"
LAB, VITAL = "laboratory", "vital-signs"
Json = dict[str, Any]
VALUES = [
    # id, patient, category, code, day
    ("n-1", "one", LAB, "2345-7", "2024-01-01"), ("n-2", "one", LAB, "2345-7", "2024-02-01"),
    ("n-3", "one", LAB, "2345-7", "2024-03-01"), ("n-4", "one", LAB, "718-7", "2024-01-05"),
    ("n-5", "one", VITAL, "8867-4", "2024-01-06"), ("n-6", "one", VITAL, "8867-4", "2024-01-07"),
    ("n-7", "two", LAB, "2345-7", "2025-01-01"), ("n-8", "one", LAB, "", "2024-01-01"),
    ("n-9", "one", LAB, "", "2024-01-02"),
]  # fmt: skip


def observation(identity: str, patient: str, category: str, code: str, day: str) -> Json:
    concept = {"coding": [{"system": "http://loinc.org", "code": code}]} if code else {"text": identity}
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation", "id": identity, "status": "final", "code": concept, "effectiveDateTime": day,
        "category": [{"coding": [{"system": system, "code": category}]}],
        "subject": {"reference": f"Patient/match-{patient}"},
    }  # fmt: skip


def patient(identity: str, **members: Any) -> Json:
    return {"resourceType": "Patient", "id": f"match-{identity}"} | members


def numbered(number: str = NUMBER) -> Json:
    return {"identifier": [{"system": SYSTEM, "value": number}]}


PEOPLE = [
    patient("one", **numbered(), name=[{"family": "王", "given": ["芳"]}], birthDate="1980-05-20", gender="male"),
    patient("two", **numbered(), name=[{"text": "Fang Wang"}], gender="male"),
    patient("three", **numbered(), birthDate="1981-01-01", gender="male"),
    patient("four", name=[{"text": "王芳"}], birthDate="1980-05-20", gender="male"),
    patient("five", **numbered(OTHER_NUMBER), name=[{"text": "王芳"}], birthDate="1980-05-20", gender="male"),
    patient("six", name=[{"text": "王芳"}], birthDate="1980-05-21", gender="male"),
    patient("seven", name=[{"family": "Zoë", "given": ["Ann"]}], birthDate="1990-01-01", gender="female"),
]


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    client = platform.client(client="loader")
    rows = [*PEOPLE, *(observation(*each) for each in VALUES)]
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}} for each in rows
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = client.post("/fhir", json=bundle, headers=FHIR)
    assert answer.status_code == 200, answer.text
    return client


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"n-3", "n-4", "n-6", "n-8", "n-9"}),
        ("&max=1&category=laboratory", {"n-3", "n-4", "n-8", "n-9"}),
        ("&max=2", {"n-2", "n-3", "n-4", "n-5", "n-6", "n-8", "n-9"}),
        ("&max=2&code=2345-7", {"n-2", "n-3"}),
        ("&max=99&code=http://loinc.org|2345-7,8867-4", {"n-1", "n-2", "n-3", "n-5", "n-6"}),
        ("&date=lt2024-02-01&code=2345-7", {"n-1"}),
        ("&code=none", set()),
    ],
)
def test_the_newest_of_each_code(loader: httpx.Client, query: str, found: set[str]) -> None:
    answer = loader.get(f"/fhir/Observation/$lastn?patient=Patient/match-one{query}")
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    ids = [entry["resource"]["id"] for entry in bundle.get("entry", ())]
    assert (set(ids), len(ids), bundle["total"]) == (found, len(found), len(found))
    if {"n-2", "n-3"} <= found:
        assert ids.index("n-3") + 1 == ids.index("n-2")
    pairs = [pair.partition("=")[::2] for pair in f"subject=Patient/match-one{query}".split("&")]
    parameters = [{"name": name, "valueString": value} for name, value in pairs]
    body = {"resourceType": "Parameters", "parameter": parameters}
    posted = loader.post("/fhir/Observation/$lastn", json=body, headers=FHIR).json()
    assert [entry["resource"]["id"] for entry in posted.get("entry", ())] == ids


@pytest.mark.parametrize(
    "query",
    ["code=2345-7", "patient=match-one&max=0", "patient=match-one&max=x", "patient=match-one&max=1&max=2",
     "patient=match-one&_sort=date", "patient=match-one&_include=Observation:subject", "patient=match-one&_count=1",
     "patient=match-one&nonsense=1", ""],
)  # fmt: skip
def test_what_lastn_does_not_take(loader: httpx.Client, query: str) -> None:
    assert loader.get(f"/fhir/Observation/$lastn?{query}").status_code == 400


def grades(client: httpx.Client, described: Json, **more: Json) -> dict[str, str]:
    parameters = [{"name": "resource", "resource": described}, *({"name": n, **value} for n, value in more.items())]
    body = {"resourceType": "Parameters", "parameter": parameters}
    answer = client.post("/fhir/Patient/$match", json=body, headers=FHIR)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = {}
    scores = []
    for entry in answer.json().get("entry", ()):
        (extension,) = entry["search"]["extension"]
        assert (extension["url"], entry["search"]["mode"]) == (GRADE, "match")
        found[entry["resource"]["id"].removeprefix("match-")] = extension["valueCode"]
        scores.append(entry["search"]["score"])
    assert scores == sorted(scores, reverse=True)
    return found


BORN = {"birthDate": "1980-05-20", "gender": "male"}


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (numbered() | BORN, {"one": "certain", "two": "certain", "three": "possible"}),
        (numbered(), {"one": "certain", "two": "certain", "three": "certain"}),
        (numbered(NUMBER.lower()) | BORN, {"one": "certain", "two": "certain", "three": "possible"}),
        (numbered(f"{NUMBER[:6]}-{NUMBER[6:14]}-{NUMBER[14:]}"), dict.fromkeys(("one", "two", "three"), "certain")),
        (BORN | {"name": [{"text": "王芳"}]}, {"one": "probable", "four": "probable", "five": "probable"}),
        (
            numbered() | BORN | {"name": [{"text": "王芳"}]},
            {"one": "certain", "two": "certain", "four": "probable", "three": "possible"},
        ),
        ({"name": [{"family": "ZOE", "given": ["ann"]}], "birthDate": "1990-01-01", "gender": "female"},
         {"seven": "probable"}),
        ({"name": [{"text": "王芳"}], "birthDate": "1980-05-20"}, {}),
        ({"name": [{"text": "王芳"}]}, {}),
        (numbered("110105198005200318"), {}),
        ({"identifier": [{"system": "urn:mrn", "value": NUMBER}]}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_grades(loader: httpx.Client, described: Json, expected: dict[str, str]) -> None:
    found = grades(loader, {"resourceType": "Patient"} | described)
    assert found == expected


def test_counts_and_certain_ones(loader: httpx.Client) -> None:
    described = {"resourceType": "Patient"} | numbered() | BORN
    assert len(grades(loader, described, count={"valueInteger": 1})) == 1
    assert grades(loader, described, onlyCertainMatches={"valueBoolean": True}) == {}, "two are certain"
    alone = {"resourceType": "Patient"} | numbered(OTHER_NUMBER)
    assert grades(loader, alone, onlyCertainMatches={"valueBoolean": True}) == {"five": "certain"}
    posted = loader.post("/fhir/Patient/$match", json=alone, headers=FHIR)
    assert [entry["resource"]["id"] for entry in posted.json()["entry"]] == ["match-five"]


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Parameters"},
        {"resourceType": "Observation"},
        {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": {"resourceType": "Basic"}}]},
        {"resourceType": "Parameters", "parameter": [{"name": "count", "valueInteger": 1}]},
        {"resourceType": "Parameters", "parameter": 5},
    ],
)
def test_what_match_does_not_take(loader: httpx.Client, body: Json) -> None:
    assert loader.post("/fhir/Patient/$match", json=body, headers=FHIR).status_code == 400


@pytest.mark.parametrize(
    "members",
    [
        {"identifier": "x"}, {"identifier": [5]}, {"identifier": [{"system": 5, "value": {}}]}, {"name": [[]]},
        {"name": [{"family": 5, "given": "x", "text": []}]},
        {"name": [{"text": "x"}], "birthDate": "soon", "gender": "male"},
        {"name": [{"text": "x"}], "birthDate": "1980-01-01", "gender": "a,b|c$"}, {"birthDate": 5, "gender": []},
    ],
)  # fmt: skip
def test_garbage_in_a_description(loader: httpx.Client, members: Json) -> None:
    answer = loader.post("/fhir/Patient/$match", json={"resourceType": "Patient"} | members, headers=FHIR)
    assert answer.status_code in {200, 400, 422}, answer.text
    assert answer.json().get("total", 0) == 0
