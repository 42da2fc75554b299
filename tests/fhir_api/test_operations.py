"""Operations: each that is stated answers where it is stated, and each that answers is stated."""

from typing import Any

import httpx
import pytest

from ehr.definitions import RESOURCE_TYPES
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
Json = dict[str, Any]
BULK = {"export"}
STATED = {
    "Patient": {"everything", "match"},
    "Encounter": {"everything"},
    "Observation": {"lastn"},
}
EVERYWHERE = {"meta", "meta-add", "meta-delete", "validate"}
OF_SYSTEM: set[str] = set()


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


@pytest.fixture(scope="module")
def rest(platform: Platform) -> Json:
    found: Json = platform.anonymous().get("/fhir/metadata").json()["rest"][0]
    return found


def names(entry: Json) -> set[str]:
    return {each["name"] for each in entry.get("operation", ())} - BULK


def test_what_is_stated(rest: Json) -> None:
    assert names(rest) == OF_SYSTEM
    for entry in rest["resource"]:
        expected = STATED.get(entry["type"], set()) | (EVERYWHERE if entry["type"] != "AuditEvent" else set())
        assert names(entry) == expected, entry["type"]
    assert len(rest["compartment"]) == 5


def test_what_is_stated_answers_and_no_other(rest: Json, loader: httpx.Client) -> None:
    every = set().union(*map(names, [rest, *rest["resource"]]))
    stated = {entry["type"]: names(entry) for entry in rest["resource"]} | {"": names(rest)}
    for place in ("", "Patient", "Encounter", "Observation", "Basic", "AuditEvent", "Parameters"):
        for name in every:
            addresses = [f"/fhir/{place}/${name}", f"/fhir/{place}/absent/${name}"] if place else [f"/fhir/${name}"]
            offered = [loader.options(address).status_code == 204 for address in addresses]
            assert any(offered) is (name in stated.get(place, set())), (place, name)
    assert loader.get("/fhir/$nonsense").status_code == 404


def test_compartments_are_those_of_the_definitions(loader: httpx.Client) -> None:
    for centre in RESOURCE_TYPES:
        is_one = centre in {"Patient", "Encounter", "RelatedPerson", "Practitioner", "Device"}
        assert (loader.options(f"/fhir/{centre}/1/*").status_code == 204) is is_one, centre
