"""The official definitions at their addresses, and the SMART configuration of a foreign issuer."""

from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ehr.definitions import RESOURCE_TYPES, search_parameters
from ehr.validation import check
from fhir_api.conformance import SHOWN_TYPES, definition, definition_names
from fhir_api.key_sets import RemoteKeySet
from fhir_api.smart_configuration import of_foreign_issuer
from tests.fhir_api.conftest import Platform
from tests.fhir_api.foreign_issuer import ForeignIssuer

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def test_each_kind_is_there() -> None:
    numbers = {kind: len(definition_names(kind)) for kind in SHOWN_TYPES}
    assert numbers["CompartmentDefinition"] == 5
    assert numbers["OperationDefinition"] == 46
    assert numbers["SearchParameter"] > 1_300
    assert set(RESOURCE_TYPES) | {"Quantity", "code", "DomainResource"} <= set(definition_names("StructureDefinition"))
    assert definition("Patient", "Patient") is None


def test_what_the_statement_names_is_readable(platform: Platform, loader: httpx.Client) -> None:
    rest = platform.anonymous().get("/fhir/metadata").json()["rest"][0]
    urls = {entry["profile"] for entry in rest["resource"]} | set(rest["compartment"])
    for entry in (rest, *rest["resource"]):
        urls |= {each["definition"] for each in entry.get("operation", ())}
        urls |= {each["definition"] for each in entry.get("searchParam", ()) if "definition" in each}
    official = sorted(url for url in urls if url.startswith("http://hl7.org/fhir/") and "/uv/" not in url)
    assert len(official) > 1_000
    for url in official[::90]:
        answer = loader.get(url.replace("http://hl7.org", ""))
        assert (answer.status_code, answer.json()["url"]) == (200, url)


def test_a_definition_is_whole_and_cut_as_others(loader: httpx.Client) -> None:
    found: dict[str, Any] = loader.get("/fhir/StructureDefinition/Patient").json()
    assert (found["type"], found["fhirVersion"], found["derivation"]) == ("Patient", "4.0.1", "specialization")
    assert {element["id"] for element in found["snapshot"]["element"]} >= {"Patient", "Patient.birthDate"}
    assert "text" not in found
    short = loader.get("/fhir/StructureDefinition/Patient?_elements=url").json()
    assert "snapshot" not in short
    code = search_parameters("Patient")["birthdate"].url.rpartition("/")[2]
    assert loader.get(f"/fhir/SearchParameter/{code}").json()["expression"]
    assert loader.get("/fhir/StructureDefinition/Nonsense").status_code == 404
    assert loader.get("/fhir/StructureDefinition/Patient/_history/1").status_code == 404


def test_they_are_found_by_their_canonical_address(loader: httpx.Client) -> None:
    url = "http://hl7.org/fhir/StructureDefinition/Patient"
    for asked in (url, f"{url}|4.0.1"):
        found = loader.get("/fhir/StructureDefinition", params={"url": asked}).json()
        assert (found["total"], found["entry"][0]["resource"]["url"]) == (1, url)
    for kind, asked in (
        ("ValueSet", url),
        ("StructureDefinition", f"{url}|5.0.0"),
        ("StructureDefinition", "x/Patient"),
    ):
        assert loader.get(f"/fhir/{kind}", params={"url": asked}).json()["total"] == 0
    own = {"resourceType": "CompartmentDefinition", "url": "http://hl7.org/fhir/CompartmentDefinition/device"}
    own |= {"name": "Own", "status": "draft", "code": "Device", "search": False}
    made = loader.post("/fhir/CompartmentDefinition", json=own, headers=FHIR)
    assert made.status_code == 201, made.text
    found = loader.get("/fhir/CompartmentDefinition", params={"url": own["url"]}).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [made.json()["id"]]


@pytest.mark.parametrize("kind", sorted(SHOWN_TYPES))
def test_they_are_valid_resources(kind: str) -> None:
    for name in definition_names(kind)[::40]:
        issues = check(msgspec.json.decode(definition(kind, name) or b""))
        assert not [issue for issue in issues if issue.severity == "error"], name


def test_a_stored_row_comes_before_the_official_one(loader: httpx.Client) -> None:
    own = loader.get("/fhir/OperationDefinition/Patient-match").json() | {"title": "Our own"}
    assert loader.put("/fhir/OperationDefinition/Patient-match", json=own, headers=FHIR).status_code == 201
    assert loader.get("/fhir/OperationDefinition/Patient-match").json()["title"] == "Our own"
    assert loader.delete("/fhir/OperationDefinition/Patient-match").status_code == 204
    assert loader.get("/fhir/OperationDefinition/Patient-match").status_code == 410


def test_reading_one_is_audited(platform: Platform, loader: httpx.Client) -> None:
    answer = loader.get("/fhir/CompartmentDefinition/patient")
    auditor = platform.client(account="audit.lin")
    trace = answer.headers["x-request-id"]
    found = auditor.get("/fhir/AuditEvent?_count=500").json()["entry"]
    assert any(trace in str(each["resource"]) and each["resource"]["outcome"] == "0" for each in found)


async def test_a_foreign_issuer_is_stated_as_it_states_itself(tmp_path: Path, platform: Platform) -> None:
    foreign = ForeignIssuer(tmp_path, platform.base_url)
    foreign.changed = {
        "authorization_endpoint": f"{foreign.address}/authorize",
        "token_endpoint": f"{foreign.address}/token",
        "code_challenge_methods_supported": ["plain", "S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "client_secret_basic"],
        "grant_types_supported": "nonsense",
        "revocation_endpoint": 5,
    }
    try:
        found = of_foreign_issuer(await RemoteKeySet(foreign.address).discovery())
    finally:
        foreign.server.shutdown()
        foreign.server.server_close()
    assert found["issuer"] == foreign.address
    assert found["token_endpoint"] == f"{foreign.address}/token"
    assert found["code_challenge_methods_supported"] == ["plain", "S256"]
    assert not found.keys() & {"grant_types_supported", "revocation_endpoint", "scopes_supported"}
    assert {"client-confidential-asymmetric", "launch-standalone", "permission-v2"} <= set(found["capabilities"])
    bare = of_foreign_issuer({"issuer": "x"})
    assert bare == {"issuer": "x", "capabilities": ["permission-patient", "permission-user", "permission-v2"]}
