"""What a search shows over a real socket: paths, filters, lists, includes, parts, lenient handling and pages."""

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
PEOPLE = 12


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def _web() -> list[dict[str, Any]]:
    """A chain of organisations, people of the last of them, their encounters and observations, and a list."""
    made: list[dict[str, Any]] = [
        {"resourceType": "Organization", "id": f"web-{n}", "name": f"Web {n}"}
        | ({"partOf": {"reference": f"Organization/web-{n - 1}"}} if n else {})
        for n in range(4)
    ]
    for n in range(PEOPLE):
        made += [
            {
                "resourceType": "Patient", "id": f"web-{n}", "birthDate": f"19{40 + n}-01-01", "gender": "other",
                "name": [{"family": f"Webb{n:02}", "given": ["Ann", "李"]}],
                "managingOrganization": {"reference": "Organization/web-3"},
            },
            {
                "resourceType": "Encounter", "id": f"web-{n}", "status": "finished", "class": {"code": "AMB"},
                "subject": {"reference": f"Patient/web-{n}"}, "type": [{"coding": [{"code": f"t{n % 3}"}]}],
            },
            {
                "resourceType": "Observation", "id": f"web-{n}", "status": "final", "code": {"text": "x"},
                "subject": {"reference": f"Patient/web-{n}"}, "encounter": {"reference": f"Encounter/web-{n}"},
            },
        ]  # fmt: skip
    items = [{"item": {"reference": f"Patient/web-{n}"}} for n in (3, 5)]
    return [*made, {"resourceType": "List", "id": "web", "status": "current", "mode": "working", "entry": items}]


@pytest.fixture(scope="module", autouse=True)
def _made(loader: httpx.Client) -> None:
    entries = [
        {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}} for one in _web()
    ]
    answer = loader.post("/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    assert answer.status_code == 200, answer.text


def asked(loader: httpx.Client, address: str, **headers: str) -> dict[str, Any]:
    answer = loader.get(f"/fhir/{address}", headers=headers)
    assert answer.status_code == 200, (address, answer.text)
    found: dict[str, Any] = answer.json()
    return found


def names(bundle: dict[str, Any], mode: str = "match") -> list[str]:
    entries = [entry for entry in bundle.get("entry", ()) if entry["search"]["mode"] == mode]
    return [f"{entry['resource']['resourceType']}/{entry['resource'].get('id')}" for entry in entries]


def people(*numbers: int) -> set[str]:
    return {f"Patient/web-{n}" for n in numbers}


@pytest.mark.parametrize(
    ("address", "numbers"),
    [
        ("Patient?organization.partof.partof.name=Web 1", range(PEOPLE)),
        ("Patient?organization:Organization.partof:Organization.name=Web 3", ()),
        ("Patient?_has:Observation:patient:encounter.type=t1", (1, 4, 7, 10)),
        ("Patient?_has:Observation:patient:_has:Provenance:target:_id=x", ()),
        ("Patient?_has:Encounter:patient:_has:Observation:encounter:_id=web-7", (7,)),
        ("Patient?_list=web", (3, 5)),
        ("Patient?_list=absent", ()),
        ('Patient?family:contains=webb&_filter=family eq "webb03" or birthdate eq 1944', (3, 4)),
        ("Patient?gender=other&_filter=not (birthdate lt 1950) and given eq 李", (10, 11)),
        ("Patient?_filter=organization[name eq \"web 3\"].partof.name co 'b' or family ew 05", (5,)),
        ("Patient?_filter=family sw Webb and _has:Encounter:patient:type eq t2", (2, 5, 8, 11)),
    ],
)
def test_paths_filters_and_lists(loader: httpx.Client, address: str, numbers: range | tuple[int, ...]) -> None:
    assert set(names(asked(loader, f"{address}&_count=50"))) == people(*numbers)
    kind, _, query = address.partition("?")
    posted = loader.post(f"/fhir/{kind}/_search", data=dict(parse_qsl(query)))
    assert set(names(posted.json())) == people(*numbers)


def test_an_observation_leads_through_its_patient_and_back(loader: httpx.Client) -> None:
    found = asked(loader, "Observation?patient._has:Encounter:subject:type=t0&_count=50")
    assert {name.partition("-")[2] for name in names(found)} == {"0", "3", "6", "9"}


@pytest.mark.parametrize(
    "query",
    ["_query=x", "_text=x", "_content=x", "_contained=true", "_containedType=container", "_list=$current-problems",
     "_filter=family gt x", "organization.partof.colour=x", "_has:Observation:patient:colour=x", "_score=1",
     ".".join(["organization", *["partof"] * 20, "name=x"]), "_sort=near", "_include:recurse=Patient:link"],
)  # fmt: skip
def test_what_is_not_offered_is_400_and_named(loader: httpx.Client, query: str) -> None:
    answer = loader.get(f"/fhir/Patient?{query}")
    assert answer.status_code == 400, answer.text
    name, _, value = query.partition("=")
    said = answer.json()["issue"][0]["diagnostics"]
    assert any(part in said for part in (name[:80], name.rpartition(".")[2], value)), said


def test_includes_go_on_with_iterate(loader: httpx.Client) -> None:
    once = "Observation?_id=web-2&_include=Observation:subject&_include=Patient:organization"
    assert loader.get(f"/fhir/{once}").status_code == 400
    once = "Observation?_id=web-2&_include=Observation:subject&_include:iterate=Patient:organization"
    assert names(asked(loader, once), "include") == ["Organization/web-3", "Patient/web-2"]
    all_the_way = f"{once}&_include:iterate=Organization:partof"
    assert set(names(asked(loader, all_the_way), "include")) == {
        "Patient/web-2", *(f"Organization/web-{n}" for n in range(4)),
    }  # fmt: skip
    back = "Organization?_id=web-3&_revinclude=Patient:organization:Organization&_revinclude:iterate=*"
    found = names(asked(loader, back), "include")
    assert len(found) == len(set(found)) == 3 * PEOPLE + 1


def test_lenient_handling_reports_and_leaves_out(loader: httpx.Client) -> None:
    query = "Patient?_id=web-1&colour=red&_sort=shoe&_filter=shoe eq 5&_has:Shoe:x:y=z"
    assert loader.get(f"/fhir/{query}").status_code == 400
    assert loader.get(f"/fhir/{query}", headers={"prefer": "handling=strict"}).status_code == 400
    found = asked(loader, query, prefer="handling=lenient")
    assert names(found) == ["Patient/web-1"]
    assert parse_qsl(urlsplit(found["link"][0]["url"]).query) == [("_id", "web-1")]
    (outcome,) = [entry["resource"] for entry in found["entry"] if entry["search"]["mode"] == "outcome"]
    said = [issue["diagnostics"] for issue in outcome["issue"]]
    assert [issue["severity"] for issue in outcome["issue"]] == ["warning"] * 4
    for named, text in zip(("colour", "shoe", "_filter", "_has:Shoe"), said, strict=True):
        assert named in text


def test_parts_of_resources(loader: httpx.Client) -> None:
    def shown(more: str) -> dict[str, Any]:
        (entry,) = asked(loader, f"Patient?_id=web-1{more}")["entry"]
        found: dict[str, Any] = entry["resource"]
        return found

    whole = shown("")
    assert shown("&_summary=false") == whole
    assert "tag" not in whole["meta"]
    for more in ("_summary=true", "_summary=text", "_summary=data", "_elements=name", "_elements=Patient.name,gender"):
        tags = shown(f"&{more}")["meta"]["tag"]
        assert [tag["code"] for tag in tags] == ["SUBSETTED"], more
    assert set(shown("&_elements=name")) == {"resourceType", "id", "meta", "name"}
    for more in ("_summary=count", "_count=0"):
        bundle = asked(loader, f"Patient?gender=other&family:contains=webb&{more}")
        assert (bundle["total"], bundle.get("entry")) == (PEOPLE, None)


def test_pages_are_a_snapshot_and_say_so(loader: httpx.Client) -> None:
    found = asked(loader, "Patient?family:contains=webb&_count=5&_sort=-birthdate")
    assert [tag["code"] for tag in found["meta"]["tag"]] == ["snapshot"]
    bundle = asked(loader, "Encounter?subject:Patient.family=webb&_count=5")
    seen = names(bundle)
    late = next(f"Encounter/web-{n}" for n in range(PEOPLE) if f"Encounter/web-{n}" not in seen)
    resource = loader.get(f"/fhir/{late}").json() | {"status": "cancelled"}
    assert loader.put(f"/fhir/{late}", json=resource, headers=FHIR).status_code == 200
    while (following := [link["url"] for link in bundle["link"] if link["relation"] == "next"]) != []:
        assert [tag["code"] for tag in bundle["meta"]["tag"]] == ["snapshot"]
        bundle = loader.get(following[0]).json()
        assert bundle["total"] == PEOPLE
        seen += names(bundle)
    assert "meta" not in bundle
    assert sorted(seen) == sorted(f"Encounter/web-{n}" for n in range(PEOPLE))


def test_a_page_link_is_for_one_caller_and_one_query(platform: Platform, loader: httpx.Client) -> None:
    bundle = asked(loader, "Encounter?subject:Patient.family=webb&_count=5")
    (following,) = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
    other = platform.client(account="dr.wang")
    assert other.get(following).status_code == 410
    assert loader.get(following.replace("webb", "web")).status_code == 410
    assert loader.get(following[:-3] + "abc").status_code == 410
    assert loader.get(following).status_code == 200
