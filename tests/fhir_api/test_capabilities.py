"""The CapabilityStatement is walked: what it states answers, and what it does not state is refused.

https://hl7.org/fhir/R4/capabilitystatement.html
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ehr.definitions import RESOURCE_TYPES, search_parameter_of, search_parameters
from ehr.errors import BadSearch
from ehr.search import parse
from tests.fhir_api.conftest import Platform
from tests.smallest_resources import smallest

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
LEGAL = {
    "token": "urn:x|seven",
    "string": "seven",
    "date": "ge2019-07",
    "number": "gt0.5",
    "quantity": "lt7|http://unitsofmeasure.org|g",
    "uri": "http://example.org/seven",
    "special": "39.9|116.4|5|km",
}
ALWAYS = {"_id", "_lastUpdated", "_tag", "_security", "_profile", "_source"}


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


@pytest.fixture(scope="module")
def rest(platform: Platform) -> dict[str, Any]:
    statement = platform.anonymous().get("/fhir/metadata").json()
    assert (statement["fhirVersion"], statement["kind"], len(statement["rest"])) == ("4.0.1", "instance", 1)
    found: dict[str, Any] = statement["rest"][0]
    return found


def stated(rest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The entries of the types that are rows of the record."""
    yield from (entry for entry in rest["resource"] if entry["type"] != "AuditEvent")


def batched(loader: httpx.Client, urls: list[str]) -> list[dict[str, Any]]:
    """The answers to many GETs, sent in one batch."""
    entries = [{"request": {"method": "GET", "url": url}} for url in urls]
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    answer = loader.post("/fhir", json=bundle, headers=FHIR)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["entry"]
    assert len(found) == len(urls)
    return found


def value_of(parameter: dict[str, str], resource_type: str) -> str:
    if parameter["name"] in {"_id", "_list"}:
        return "seven"
    if parameter["name"] == "_filter":
        return "_id eq seven"
    if parameter["type"] == "composite":
        parts = search_parameters(resource_type)[parameter["name"]].components
        return "$".join(LEGAL.get(search_parameter_of(address).kind, "Patient/seven") for address, _ in parts)
    if parameter["type"] != "reference":
        return LEGAL[parameter["type"]]
    targets = search_parameters(resource_type)[parameter["name"]].targets
    return f"{targets[0] if targets and targets[0] != 'Resource' else 'Patient'}/seven"


def test_all_types_are_stated_with_their_profile(rest: dict[str, Any], loader: httpx.Client) -> None:
    types = [entry["type"] for entry in rest["resource"]]
    assert sorted(types) == sorted(set(RESOURCE_TYPES) - {"Parameters"})
    for entry in rest["resource"]:
        assert entry["profile"] == f"http://hl7.org/fhir/StructureDefinition/{entry['type']}"
    for name in ("Nonsense", "Resource", "DomainResource", "patient", "Parameters"):
        assert loader.get(f"/fhir/{name}").status_code == 404, name
    assert loader.get("/fhir/_history?_count=1").status_code == 200
    assert {entry["code"] for entry in rest["interaction"]} == {"transaction", "batch", "history-system"}
    assert "searchParam" not in rest
    for path in ("$export", "Patient/$export"):
        assert loader.get(f"/fhir/{path}").status_code == 202, path
    for path in ("Group/absent/$export", "Observation/$export", "Patient/absent/$export"):
        assert loader.get(f"/fhir/{path}").status_code == 404, path
    for method, path in (("GET", "/fhir?_lastUpdated=gt2000"), ("POST", "/fhir/_search")):
        assert loader.request(method, path).status_code in {404, 405}, path


def test_each_search_parameter_answers_and_no_other(rest: dict[str, Any], loader: httpx.Client) -> None:
    urls = []
    for entry in stated(rest):
        names = [parameter["name"] for parameter in entry["searchParam"]]
        assert set(names) >= ALWAYS - {"_source"}, entry["type"]
        assert len(names) == len(set(names))
        pairs = [(each["name"], value_of(each, entry["type"])) for each in entry["searchParam"]]
        urls.append(f"{entry['type']}?{httpx.QueryParams([*pairs, ('_summary', 'count')])}")
        for code in sorted({*search_parameters(entry["type"]), "nonsense", "_has", "_filter", "_list"} - set(names)):
            with pytest.raises(BadSearch):
                parse(entry["type"], [(code, "7")])
    for url, answer in zip(urls, batched(loader, urls), strict=True):
        assert answer["response"]["status"] == "200", (url, answer)
        assert answer["resource"]["total"] == 0, url


def test_each_include_and_revinclude_answers_and_no_other(rest: dict[str, Any], loader: httpx.Client) -> None:
    every = [
        f"{source}:{code}"
        for source in RESOURCE_TYPES
        for code, parameter in search_parameters(source).items()
        if parameter.kind == "reference"
    ]
    urls = []
    for number, entry in enumerate(stated(rest)):
        name = entry["type"]
        others = every[number % 7 :: 7]  # each parameter is tried on every seventh type
        forward, reverse = entry.get("searchInclude", []), entry.get("searchRevInclude", [])
        for parameter, offered in (("_include", forward), ("_revinclude", reverse)):
            for value in offered:
                assert parse(name, [(parameter, value)]).includes, (name, parameter, value)
            for value in {*others, "*", f"{name}:*", "Patient:nonsense", "AuditEvent:*"} - set(offered):
                with pytest.raises(BadSearch):
                    parse(name, [(parameter, value)])
        first = [("_include", value) for value in forward[:20]]
        last = [("_revinclude", value) for value in reverse[-10:]]
        if number % 4:
            continue
        urls += [f"{name}?{httpx.QueryParams([*pairs, ('_count', '1')])}" for pairs in (first, last) if pairs]
    for url, answer in zip(urls, batched(loader, urls), strict=True):
        assert answer["response"]["status"] == "200", (url, answer)


def test_what_the_text_states_answers(rest: dict[str, Any], loader: httpx.Client) -> None:
    text = rest["documentation"]
    samples = {
        "date": ("date", "2020"), "number": ("_lastUpdated", ""), "quantity": ("value-quantity", "5"),
        "reference": ("subject", "Patient/1"), "string": ("value-string", "x"), "token": ("code", "urn:x|y"),
        "uri": ("_profile", "http://x"),
    }  # fmt: skip
    tried = 0
    for kind, (code, value) in samples.items():
        modifiers = re.search(rf"{kind}: ((?::[a-z-]+ ?)+)", text)
        assert modifiers is not None, kind
        for modifier in modifiers[1].split() if value else ():
            given = {":missing": "true", ":of-type": "urn:x|MR|7"}.get(modifier, value)
            named = "identifier" if modifier == ":of-type" else code
            assert parse("Observation", [(f"{named}{modifier}", given)]).clauses, (code, modifier)
            tried += 1
    assert tried == 19
    for prefix in re.search(r"quantities: ([a-z ]+)\.", text)[1].split():  # type: ignore[index] # None fails as it should
        assert loader.get(f"/fhir/Observation?value-quantity={prefix}5&date={prefix}2020&_count=1").status_code == 200
    results = "_sort=date&_count=1&_include=*&_revinclude=Observation:focus&_summary=false&_elements=id&_total=none"
    assert {pair.partition("=")[0] for pair in results.split("&")} == set(re.findall(r"_(?!has|search)\w+", text))
    assert loader.get(f"/fhir/Observation?{results}&subject:Patient.active=true").status_code == 200


def test_each_interaction_answers_and_no_other(rest: dict[str, Any], loader: httpx.Client) -> None:
    for number, entry in enumerate(rest["resource"]):
        name = entry["type"]
        if number % 12 and name not in {"AuditEvent", "Provenance", "Patient"}:
            continue  # test_every_type.py runs all interactions on all types
        codes = {interaction["code"] for interaction in entry["interaction"]}
        sent = b"{" if "create" in codes else json.dumps(smallest(name) | {"id": "absent"}).encode()
        answers = {
            "search-type": loader.get(f"/fhir/{name}?_count=1"),
            "read": loader.get(f"/fhir/{name}/absent"),
            "vread": loader.get(f"/fhir/{name}/absent/_history/1"),
            "history-instance": loader.get(f"/fhir/{name}/absent/_history"),
            "create": loader.post(f"/fhir/{name}", content=sent, headers=FHIR),
            "update": loader.put(f"/fhir/{name}/absent", content=sent, headers=FHIR),
            "delete": loader.delete(f"/fhir/{name}/absent"),
            "patch": loader.patch(f"/fhir/{name}/absent", content=b"[]", headers=FHIR),
            "history-type": loader.get(f"/fhir/{name}/_history?_count=1"),
        }
        if name == "AuditEvent":  # shown to the resident and to the auditor only
            assert (codes, answers.pop("search-type").status_code) == ({"read", "search-type"}, 403)
            assert answers.pop("read").status_code == 403
            codes = set()
        offered = {
            "search-type": 200, "read": 404, "vread": 404, "history-instance": 404, "create": 400, "update": 400,
            "delete": 404, "patch": 400, "history-type": 200,
        }  # fmt: skip
        for code, answer in answers.items():
            refused = answer.status_code in {403, 404, 405}
            assert answer.status_code == offered[code] if code in codes else refused, (name, code, answer.text)
        assert entry["readHistory"] is ("vread" in codes)


def test_the_conditional_forms_that_are_stated_answer(rest: dict[str, Any], loader: httpx.Client) -> None:
    by_type = {entry["type"]: entry for entry in rest["resource"]}
    forms = {
        "conditionalCreate": True, "conditionalRead": "full-support", "conditionalUpdate": True,
        "conditionalDelete": "single", "updateCreate": True,
    }  # fmt: skip
    for name, entry in by_type.items():
        writes = "create" in {interaction["code"] for interaction in entry["interaction"]}
        assert {key: entry.get(key) for key in forms} == (forms if writes else dict.fromkeys(forms)), name
    for name in ("Basic", "Medication", "Endpoint"):
        body = smallest(name) | {"id": "walked"}
        made = loader.put(f"/fhir/{name}/walked", json=body, headers=FHIR)
        assert made.status_code == 201, made.text
        again = loader.post(f"/fhir/{name}", json=smallest(name), headers=FHIR | {"if-none-exist": "_id=walked"})
        assert (again.status_code, again.json()["id"]) == (200, "walked")
        updated = loader.put(f"/fhir/{name}?_id=walked", json=body, headers=FHIR)
        assert (updated.status_code, updated.json()["id"]) == (200, "walked")
        unchanged = loader.get(f"/fhir/{name}/walked", headers={"if-none-match": updated.headers["etag"]})
        assert unchanged.status_code == 304
        assert loader.delete(f"/fhir/{name}?_id=walked").status_code == 204
        assert loader.get(f"/fhir/{name}/walked").status_code == 410


def test_the_auditor_finds_what_is_stated_of_audit_events(rest: dict[str, Any], platform: Platform) -> None:
    auditor = platform.client(account="audit.lin")
    entry = next(each for each in rest["resource"] if each["type"] == "AuditEvent")
    values = {"patient": "Patient/seven", "date": "ge2019", "action": "R", "outcome": "0", "_id": "1-1"}
    assert {parameter["name"] for parameter in entry["searchParam"]} == set(values)
    assert auditor.get("/fhir/AuditEvent", params=values).status_code == 200
    for name in set(search_parameters("AuditEvent")) - set(values):
        assert auditor.get(f"/fhir/AuditEvent?{name}=x").status_code == 400, name
    assert "searchInclude" not in entry
    assert "searchRevInclude" not in entry


def test_the_statement_is_a_valid_resource(platform: Platform, loader: httpx.Client) -> None:
    statement = platform.anonymous().get("/fhir/metadata").json()
    checked = loader.post("/fhir/CapabilityStatement", content=json.dumps(statement), headers=FHIR)
    assert checked.status_code == 201, checked.text[:2000]
