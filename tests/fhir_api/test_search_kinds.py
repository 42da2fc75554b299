"""Kinds of parameters at the door: distances of Locations, value sets by their address here, what a refusal names."""

from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database
FHIR = {"content-type": "application/fhir+json"}
DISTANCE = "http://hl7.org/fhir/StructureDefinition/location-distance"


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    client = platform.client(client="loader")
    rows: list[dict[str, Any]] = [
        {"resourceType": "Location", "id": "far", "position": {"latitude": 39.3434, "longitude": 117.3616}},
        {"resourceType": "Location", "id": "near", "position": {"latitude": 39.9042, "longitude": 116.4074}},
        {"resourceType": "CodeSystem", "id": "letters", "url": "urn:letters", "status": "active",
         "content": "complete", "concept": [{"code": "a", "concept": [{"code": "b"}]}]},
        {"resourceType": "ValueSet", "id": "a", "url": "http://sets/a", "status": "active", "compose": {
            "include": [{"system": "urn:letters", "filter": [{"property": "concept", "op": "is-a", "value": "a"}]}]}},
        {"resourceType": "Observation", "id": "b", "status": "final",
         "code": {"coding": [{"system": "urn:letters", "code": "b"}]}},
    ]  # fmt: skip
    for row in rows:
        answer = client.put(f"/fhir/{row['resourceType']}/{row['id']}", json=row, headers=FHIR)
        assert answer.status_code == 201, answer.text
    return client


def test_entries_say_how_far_they_are(loader: httpx.Client) -> None:
    bundle = loader.get("/fhir/Location", params={"near": "39.9042|116.4074|150|km,0|0|1|km"}).json()
    found = {entry["resource"]["id"]: entry["search"]["extension"] for entry in bundle["entry"]}
    assert found.keys() == {"near", "far"}
    amounts = {}
    for name, ((extension,)) in found.items():
        value = extension["valueDistance"]
        assert (extension["url"], value["code"], value["system"]) == (DISTANCE, "m", "http://unitsofmeasure.org")
        amounts[name] = value["value"]
    assert amounts["near"] == 0
    assert amounts["far"] == pytest.approx(102_797.5, abs=0.1)  # by the law of cosines
    plain = loader.get("/fhir/Location", params={"_id": "near"}).json()
    assert plain["entry"][0]["search"] == {"mode": "match"}
    # such a Bundle is a valid resource
    assert loader.post("/fhir/Bundle", json=bundle, headers=FHIR).status_code == 201


def test_value_sets_by_every_address(loader: httpx.Client, platform: Platform) -> None:
    for address in ("http://sets/a", "ValueSet/a", f"{platform.base_url}/fhir/ValueSet/a"):
        for client in (loader, platform.client(client="county-hospital")):
            answer = client.get("/fhir/Observation", params={"code:in": address, "_total": "accurate"})
            assert (answer.status_code, answer.json()["total"]) == (200, 1 if client is loader else 0), address
    answer = loader.get("/fhir/Observation", params={"code:below": "urn:letters|a"})
    assert [entry["resource"]["id"] for entry in answer.json()["entry"]] == ["b"]


def test_a_refusal_names_what_is_not_known(loader: httpx.Client) -> None:
    for name, value, named in (
        ("code:in", "http://sets/none", "http://sets/none"),
        ("code:below", "urn:none|a", "urn:none"),
        ("code-value-quantity", "x", "code-value-quantity: code$value-quantity"),
        ("identifier:of-type", "x", "identifier:of-type"),
    ):
        answer = loader.get("/fhir/Observation", params={name: value})
        assert answer.status_code == 400, answer.text
        assert named in answer.json()["issue"][0]["diagnostics"]
