"""Every stored type through every interaction, and every simple search parameter with a value that it finds.

https://hl7.org/fhir/R4/http.html, https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from ehr.definitions import SearchParameter, search_parameters
from ehr.fhirpath import compile as compile_path
from tests.fhir_api.conftest import Platform
from tests.smallest_resources import STORED, smallest, with_values

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
_encode = msgspec.json.Encoder(decimal_format="number").encode
Held = list[tuple[SearchParameter, str, Any]]


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


@pytest.fixture(scope="module")
def auditor(platform: Platform) -> httpx.Client:
    return platform.client(account="audit.lin")


def bundled(loader: httpx.Client, kind: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers to many entries, a hundred in a Bundle."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(entries), 100):
        bundle = {"resourceType": "Bundle", "type": kind, "entry": entries[start : start + 100]}
        answer = loader.post("/fhir", content=_encode(bundle), headers=FHIR)
        assert answer.status_code == 200, answer.text
        found += answer.json()["entry"]
    return found


def entries_of(method: str, addresses: Iterable[str], resources: Iterable[Any] = ()) -> list[dict[str, Any]]:
    requests = [{"request": {"method": method, "url": address}} for address in addresses]
    return [r | {"resource": body} for r, body in zip(requests, resources, strict=True)] if resources else requests


def test_every_stored_type_through_every_interaction(loader: httpx.Client) -> None:
    sent = [msgspec.json.decode(_encode(smallest(name))) for name in STORED]
    made = bundled(loader, "transaction", entries_of("POST", STORED, sent))
    assert {each["response"]["status"] for each in made} == {"201"}
    first = [each["resource"] for each in made]
    for body, resource in zip(sent, first, strict=True):
        assert resource | {"id": "", "meta": ""} == body | {"id": "", "meta": ""}
    addresses = [f"{resource['resourceType']}/{resource['id']}" for resource in first]
    for address, resource in zip(addresses, first, strict=True):
        read = loader.get(f"/fhir/{address}")
        assert (read.status_code, read.headers["etag"], read.json()) == (200, 'W/"1"', resource)
    tagged = [resource | {"meta": {"tag": [{"code": "eight"}]}} for resource in first]
    changed = bundled(loader, "transaction", entries_of("PUT", addresses, tagged))
    assert {(each["response"]["status"], each["response"]["etag"]) for each in changed} == {("200", 'W/"2"')}
    second = [each["resource"] for each in changed]
    versions = bundled(loader, "batch", entries_of("GET", [f"{address}/_history/1" for address in addresses]))
    assert [each["resource"] for each in versions] == first
    searches = [f"{resource['resourceType']}?_id={resource['id']}&_tag=eight" for resource in first]
    found = bundled(loader, "batch", entries_of("GET", searches))
    assert [[entry["resource"] for entry in each["resource"]["entry"]] for each in found] == [[one] for one in second]
    deleted = bundled(loader, "transaction", entries_of("DELETE", addresses))
    assert {each["response"]["status"] for each in deleted} == {"204"}
    gone = bundled(loader, "batch", entries_of("GET", addresses))
    assert {each["response"]["status"] for each in gone} == {"410"}
    histories = bundled(loader, "batch", entries_of("GET", [f"{address}/_history" for address in addresses]))
    for each in histories:
        methods = [entry["request"]["method"] for entry in each["resource"]["entry"]]
        assert methods == ["DELETE", "PUT", "POST"]
    found = bundled(loader, "batch", entries_of("GET", searches))
    assert {each["resource"]["total"] for each in found} == {0}


def test_the_type_that_the_server_writes_is_read_and_searched(auditor: httpx.Client) -> None:
    auditor.get("/fhir/Patient/absent")
    found = auditor.get("/fhir/AuditEvent?_count=1").json()["entry"][0]["resource"]
    assert auditor.get(f"/fhir/AuditEvent/{found['id']}").json() == found
    for answer in (
        auditor.put(f"/fhir/AuditEvent/{found['id']}", json=found, headers=FHIR),
        auditor.post("/fhir/AuditEvent", json=found, headers=FHIR),
        auditor.delete(f"/fhir/AuditEvent/{found['id']}"),
    ):
        assert answer.status_code == 405


@pytest.fixture(scope="module")
def filled(loader: httpx.Client) -> list[tuple[dict[str, Any], Held]]:
    """One resource of each type with little in it, and those that hold a value for each path of each parameter."""
    rows: list[tuple[dict[str, Any], Held]] = []
    for name in STORED:
        for number, (resource, held) in enumerate([(smallest(name), []), *with_values(name)]):
            rows.append((resource | {"id": f"{name}-{number}"}, held))
    entries = [
        {"request": {"method": "PUT", "url": f"{row['resourceType']}/{row['id']}"}, "resource": row} for row, _ in rows
    ]
    answers = bundled(loader, "transaction", entries)
    assert {answer["response"]["status"] for answer in answers} == {"201"}
    return rows


def coded(value: Any) -> str:
    """A CodeableConcept, Coding or Identifier as system|code."""
    value = value["coding"][0] if "coding" in value else value
    return f"{value['system']}|{value.get('code') or value.get('value')}"


_TEXTS: dict[tuple[str, str], Callable[[Any], str]] = {
    ("token", "CodeableConcept"): coded,
    ("token", "Coding"): coded,
    ("token", "Identifier"): coded,
    ("token", "ContactPoint"): lambda value: str(value["value"]),
    ("token", "boolean"): lambda _: "true",
    ("string", "HumanName"): lambda _: "seven",
    ("string", "Address"): lambda _: "seven",
    ("string", "CodeableConcept"): lambda _: "seven",
    ("string", "Annotation"): lambda _: "seven",
    ("reference", "Reference"): lambda value: str(value["reference"]),
    ("date", "Timing"): lambda _: "2019-07-07",
    ("date", "Period"): lambda _: "2019-07-07",
    ("number", "Range"): lambda _: "ap7",
    ("quantity", "Range"): lambda _: "ap7",
    ("quantity", "SampledData"): lambda _: "ap7",
    ("quantity", "Money"): lambda value: f"{value['value']}|urn:iso:std:iso:4217|{value['currency']}",
}


def searched(parameter: SearchParameter, type_name: str, value: Any) -> str | None:
    """What finds a value by its parameter; None where a parameter of this kind selects nothing of the type."""
    text = _TEXTS.get((parameter.kind, type_name))
    if text is not None:
        return text(value)
    if parameter.kind == "quantity":
        return f"{value['value']}|{value['system']}|{value['code']}"
    if isinstance(value, dict) or (parameter.kind == "date" and type_name not in {"date", "dateTime", "instant"}):
        return None
    return str(value).replace("$", "\\$")


def asked(filled: list[tuple[dict[str, Any], Held]]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each resource with all that it is found by."""
    for row, held in filled:
        pairs = [
            pair
            for parameter, type_name, value in held
            if (text := searched(parameter, type_name, value)) is not None
            for pair in ((parameter.code, text), (f"{parameter.code}:missing", "false"))
        ]
        for start in range(0, len(pairs), 90):
            yield f"{row['resourceType']}/{row['id']}", list(dict.fromkeys(pairs[start : start + 90]))


def found_names(answer: dict[str, Any]) -> set[str]:
    assert answer["response"]["status"] == "200", answer
    entries = answer["resource"].get("entry", [])
    return {f"{entry['resource']['resourceType']}/{entry['resource']['id']}" for entry in entries}


def test_every_parameter_finds_every_value_it_selects(
    loader: httpx.Client, filled: list[tuple[dict[str, Any], Held]]
) -> None:
    queries = list(asked(filled))
    assert sum(len(pairs) for _, pairs in queries) > 4000
    tried = {(name.partition("/")[0], code) for name, pairs in queries for code, _ in pairs if ":" not in code}
    simple = {
        (name, code)
        for name in STORED
        for code, parameter in search_parameters(name).items()
        if parameter.kind not in {"composite", "special"} and parameter.expression is not None
    }
    assert {code for _, code in simple - tried} <= {"_id", "_lastUpdated", "composition", "message", "name", "deceased"}
    answers = bundled(loader, "batch", [get(name, [*pairs, ("_count", "500")]) for name, pairs in queries])
    missed = [pairs for (name, pairs), answer in zip(queries, answers, strict=True) if name not in found_names(answer)]
    if missed:  # say which parameter it was
        name, pairs = next(q for q, a in zip(queries, answers, strict=True) if q[0] not in found_names(a))
        alone = bundled(loader, "batch", [get(name, [pair, ("_count", "500")]) for pair in pairs])
        pytest.fail(f"{name}: {[p for p, a in zip(pairs, alone, strict=True) if name not in found_names(a)]}")


def get(name: str, pairs: list[tuple[str, str]]) -> dict[str, Any]:
    return {"request": {"method": "GET", "url": f"{name.partition('/')[0]}?{httpx.QueryParams(pairs)}"}}


def test_what_a_resource_does_not_have_is_missing(
    loader: httpx.Client, filled: list[tuple[dict[str, Any], Held]]
) -> None:
    bare = {row["resourceType"]: row for row, held in filled if not held}
    queries = []
    for name, row in bare.items():
        absent = [
            code
            for code, parameter in search_parameters(name).items()
            if parameter.kind not in {"composite", "special"}
            and parameter.expression is not None
            and not code.startswith("_")
            and not compile_path(parameter.expression, context_type=name)(row)
        ]
        queries.append((f"{name}/{row['id']}", [(f"{code}:missing", "true") for code in absent[:90]]))
    answers = bundled(loader, "batch", [get(name, [*pairs, ("_count", "500")]) for name, pairs in queries])
    for (name, pairs), answer in zip(queries, answers, strict=True):
        assert name in found_names(answer), (name, pairs)
    opposite = [
        get(name, [("_id", name.partition("/")[2]), (pairs[0][0], "false")]) for name, pairs in queries if pairs
    ]
    for answer in bundled(loader, "batch", opposite):
        assert found_names(answer) == set()


def test_expressions_that_are_no_paths(loader: httpx.Client) -> None:
    for resource, query in (
        ({"resourceType": "InsurancePlan", "name": "Seventh plan", "alias": ["Heavenly"]}, "name=heav&name=seventh"),
        ({"resourceType": "Patient", "deceasedBoolean": True, "active": True}, "deceased=true&active=true"),
        ({"resourceType": "Patient", "deceasedDateTime": "2019", "active": False}, "deceased=true&active=false"),
    ):
        name = resource["resourceType"]
        made = loader.post(f"/fhir/{name}", json=resource, headers=FHIR).json()["id"]
        found = loader.get(f"/fhir/{name}?{query}&_count=100").json()
        assert made in {entry["resource"]["id"] for entry in found["entry"]}, query
