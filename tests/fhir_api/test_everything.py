"""$everything and whole compartments over a real socket.

https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/compartmentdefinition.html
"""

from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
Json = dict[str, Any]
SYSTEM = "urn:oid:2.16.156.10011.1.3"
VERIFICATION = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
ONE, TWO, OTHER = "everything-one", "everything-two", "everything-other"
OF_ONE = {
    f"Patient/{ONE}", "Encounter/e-visit", "Observation/e-early", "Observation/e-late", "AllergyIntolerance/e-allergy",
    "RelatedPerson/e-mother", "Condition/e-asserted", "Communication/e-both",
}  # fmt: skip
NAMED_BY_ONE = {"Practitioner/e-doctor", "Organization/e-house", f"Patient/{OTHER}"}


def patient(identity: str, **members: Any) -> Json:
    return {"resourceType": "Patient", "id": identity, "name": [{"family": "E"}], "gender": "male"} | members


def about(kind: str, identity: str, holder: str, **members: Any) -> Json:
    return {"resourceType": kind, "id": identity, "subject": {"reference": f"Patient/{holder}"}} | members


def observation(identity: str, holder: str, day: str, **members: Any) -> Json:
    found = about("Observation", identity, holder, status="final", code={"text": "x"}, effectiveDateTime=day)
    return found | {"encounter": {"reference": "Encounter/e-visit"}} | members


def record() -> list[Json]:
    same = {"identifier": [{"system": SYSTEM, "value": "110105198005200319"}], "birthDate": "1980-05-20"}
    doctor = {"reference": "Practitioner/e-doctor"}
    period = {"start": "2024-03-01", "end": "2024-03-20"}
    return [
        {"resourceType": "Organization", "id": "e-house", "name": "House"},
        {"resourceType": "Practitioner", "id": "e-doctor", "name": [{"family": "D"}]},
        {"resourceType": "Practitioner", "id": "e-nobody", "name": [{"family": "N"}]},
        patient(ONE, managingOrganization={"reference": "Organization/e-house"}, **same),
        patient(TWO, **same),
        patient(OTHER),
        about("Encounter", "e-visit", ONE, status="finished", period=period, **{"class": {"code": "AMB"}}),
        observation("e-early", ONE, "2024-03-01T08:00:00+08:00", performer=[doctor]),
        observation("e-late", ONE, "2024-03-10", focus=[{"reference": f"Patient/{OTHER}"}]),
        observation("e-second", TWO, "2024-03-11", performer=[doctor]),
        observation("e-other", OTHER, "2024-03-12"),
        {
            "resourceType": "AllergyIntolerance", "id": "e-allergy", "patient": {"reference": f"Patient/{ONE}"},
            "verificationStatus": {"coding": [{"system": VERIFICATION, "code": "entered-in-error"}]},
        },
        {"resourceType": "RelatedPerson", "id": "e-mother", "patient": {"reference": f"Patient/{ONE}"}},
        about("Condition", "e-asserted", OTHER, asserter={"reference": f"Patient/{ONE}"}),
        about("Communication", "e-both", OTHER, status="completed", recipient=[{"reference": f"Patient/{ONE}"}]),
        {"resourceType": "Group", "id": "e-cohort", "type": "person", "actual": True},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    client = platform.client(client="loader")
    entries = [
        {"resource": each, "request": {"method": "PUT", "url": f"{each['resourceType']}/{each['id']}"}}
        for each in record()
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    answer = client.post("/fhir", json=bundle, headers=FHIR)
    assert answer.status_code == 200, answer.text
    return client


def walked(client: httpx.Client, address: str) -> tuple[list[str], list[str], int]:
    """Matches and named rows of all pages in order, and the number of pages."""
    matches: list[str] = []
    named: list[str] = []
    pages, url = 0, address
    while url:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        assert bundle["type"] == "searchset"
        for entry in bundle.get("entry", ()):
            name = "/".join(entry["fullUrl"].rsplit("/", 2)[1:])
            assert name == f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
            (matches if entry["search"]["mode"] == "match" else named).append(name)
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        url, pages = links.get("next", ""), pages + 1
    return matches, named, pages


@pytest.mark.parametrize("count", ["", "?_count=1", "?_count=3", "?_count=8", "?_count=100000"])
def test_a_persons_rows_once_each_and_what_they_name(loader: httpx.Client, count: str) -> None:
    matches, named, pages = walked(loader, f"/fhir/Patient/{ONE}/$everything{count}")
    assert matches[0] == f"Patient/{ONE}"
    assert (len(matches), set(matches)) == (len(OF_ONE), OF_ONE)
    assert (len(named), set(named)) == (len(NAMED_BY_ONE), NAMED_BY_ONE)
    assert pages == {"?_count=1": 8, "?_count=3": 3}.get(count, 1)


def test_the_total_is_told_where_it_is_known(loader: httpx.Client) -> None:
    assert loader.get(f"/fhir/Patient/{ONE}/$everything").json()["total"] == len(OF_ONE)
    assert "total" not in loader.get(f"/fhir/Patient/{ONE}/$everything?_count=2").json()


@pytest.mark.parametrize(
    ("query", "matches", "named"),
    [
        ("_type=Observation", {"Observation/e-early", "Observation/e-late"}, set()),
        ("_type=Observation,Practitioner", {"Observation/e-early", "Observation/e-late"}, {"Practitioner/e-doctor"}),
        ("_type=Practitioner", set(), {"Practitioner/e-doctor"}),
        ("_type=Organization,Patient", {f"Patient/{ONE}"}, {"Organization/e-house", f"Patient/{OTHER}"}),
        ("_type=Group", set(), set()),
        ("_since=2999-01-01", set(), set()),
        ("_since=2000-01-01", OF_ONE, NAMED_BY_ONE),
        ("start=2024-03-02", OF_ONE - {"Observation/e-early", "Encounter/e-visit"}, NAMED_BY_ONE),
        ("end=2024-03-09", OF_ONE - {"Observation/e-late"}, NAMED_BY_ONE),
        ("end=2024-03-10", OF_ONE, NAMED_BY_ONE),
        ("start=2024-03-01&end=2024-03-01&_type=Observation", {"Observation/e-early"}, set()),
        ("_mdm=true", OF_ONE | {f"Patient/{TWO}", "Observation/e-second"}, NAMED_BY_ONE),
        ("_mdm=false", OF_ONE, NAMED_BY_ONE),
    ],
)
@pytest.mark.parametrize("paged", ["", "&_count=2"])
def test_restrictions(loader: httpx.Client, query: str, matches: set[str], named: set[str], paged: str) -> None:
    found = walked(loader, f"/fhir/Patient/{ONE}/$everything?{query}{paged}")
    if "start=2024-03-02" in query:
        matches, named = matches | {"Encounter/e-visit"} & set(found[0]), named - {"Practitioner/e-doctor"}
    assert (set(found[0]), set(found[1])) == (matches, named)
    assert len(found[0]) == len(matches)


def test_all_patients(loader: httpx.Client) -> None:
    everyone = walked(loader, "/fhir/Patient/$everything")
    expected = {f"{each['resourceType']}/{each['id']}" for each in record()}
    inside = expected - {"Organization/e-house", "Practitioner/e-doctor", "Practitioner/e-nobody", "Group/e-cohort"}
    assert (set(everyone[0]), len(everyone[0])) == (inside, len(inside))
    assert set(everyone[1]) == {"Organization/e-house", "Practitioner/e-doctor"}
    for count in (1, 2, 5):
        paged = walked(loader, f"/fhir/Patient/$everything?_count={count}")
        assert (paged[0], set(paged[1])) == (everyone[0], set(everyone[1]))
    few = walked(loader, "/fhir/Patient/$everything?_type=Patient&_count=1")
    assert set(few[0]) == {f"Patient/{name}" for name in (ONE, TWO, OTHER)}


def test_an_encounter(loader: httpx.Client) -> None:
    matches, named, _ = walked(loader, "/fhir/Encounter/e-visit/$everything?_count=2")
    rows = {"Encounter/e-visit", "Observation/e-early", "Observation/e-late", "Observation/e-second"}
    assert (matches[0], set(matches)) == ("Encounter/e-visit", rows | {"Observation/e-other"})
    assert set(named) == {"Practitioner/e-doctor", *(f"Patient/{name}" for name in (ONE, TWO, OTHER))}
    assert loader.get("/fhir/Encounter/e-visit/$everything?start=2020").status_code == 400


def test_by_post(loader: httpx.Client) -> None:
    def parameters(**values: Any) -> Json:
        return {"resourceType": "Parameters", "parameter": [{"name": n.split("__")[0], **v} for n, v in values.items()]}

    address = f"/fhir/Patient/{ONE}/$everything"
    asked = parameters(
        start={"valueDate": "2024-03-02"}, _count={"valueInteger": 1}, _type={"valueCode": "Observation"}
    )
    answer = loader.post(address, json=asked, headers=FHIR).json()
    assert [entry["resource"]["id"] for entry in answer["entry"]] == ["e-late"]
    two = parameters(_type={"valueCode": "Observation"}, _type__2={"valueCode": "Condition"})
    found = loader.post(address, json=two, headers=FHIR).json()["entry"]
    assert {entry["resource"]["resourceType"] for entry in found} == {"Observation", "Condition"}
    paged = loader.post(address, json=parameters(_count={"valueInteger": 3}), headers=FHIR).json()
    assert len(walked(loader, paged["link"][1]["url"])[0]) == len(OF_ONE) - 3
    assert loader.post(address).status_code == 200
    for body in ({"resourceType": "Parameters", "parameter": [{"name": "start"}]}, [], {"resourceType": "Patient"}):
        assert loader.post(address, json=body, headers=FHIR).status_code == 400, body
    assert loader.post(address, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_count=0", 400), ("_count=x", 400), ("_count=-1", 400), ("_type=Nonsense", 400), ("_type=", 400),
        ("start=soon", 400), ("end=2024-13-01", 400), ("_since=x", 400), ("_mdm=maybe", 400), ("name=x", 400),
        ("_count=1&_count=2", 400), ("_page=x", 410), ("_page=", 410), ("start=99999", 400),
    ],
)  # fmt: skip
def test_garbage(loader: httpx.Client, query: str, status: int) -> None:
    assert loader.get(f"/fhir/Patient/{ONE}/$everything?{query}").status_code == status


def test_absent_deleted_and_elsewhere(loader: httpx.Client) -> None:
    assert loader.get("/fhir/Patient/absent/$everything").status_code == 404
    loader.put("/fhir/Patient/e-gone", json=patient("e-gone"), headers=FHIR)
    loader.delete("/fhir/Patient/e-gone")
    assert loader.get("/fhir/Patient/e-gone/$everything").status_code == 410
    for address in ("Observation/e-late/$everything", "Encounter/$everything", "$everything", "Patient/x/$nothing"):
        assert loader.get(f"/fhir/{address}").status_code == 404, address
    refused = loader.delete(f"/fhir/Patient/{ONE}/$everything")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, OPTIONS, POST")


def test_links_hold_for_caller_and_question_alone(platform: Platform, loader: httpx.Client) -> None:
    link = loader.get(f"/fhir/Patient/{ONE}/$everything?_count=1").json()["link"][1]["url"]
    assert loader.get(link).status_code == 200
    for other in (link.replace("_count=1", "_count=2"), link.replace(ONE, OTHER), f"{link}&_type=Patient", link[:-3]):
        assert loader.get(other).status_code == 410, other
    assert platform.client(client="first-hospital").get(link).status_code == 410


def test_each_page_is_audited_once_with_everybody_on_it(platform: Platform, loader: httpx.Client) -> None:
    auditor = platform.client(account="audit.lin")

    def events() -> list[Json]:
        found = auditor.get("/fhir/AuditEvent?_count=500").json()["entry"]
        return [each["resource"] for each in found if "$everything" in str(each["resource"]["entity"])]

    before = len({event["id"].partition(".")[0] for event in events()})
    assert walked(loader, f"/fhir/Patient/{ONE}/$everything?_count=4")[2] == 2
    after = events()
    assert len({event["id"].partition(".")[0] for event in after}) == before + 2
    people = {
        entity["what"]["reference"]
        for event in after[:4]
        for entity in event["entity"]
        if "role" in entity and "what" in entity
    }
    assert {f"Patient/{ONE}", f"Patient/{OTHER}"} <= people


@pytest.mark.parametrize(
    "centre",
    ["Patient/everything-one", "Encounter/e-visit", "Practitioner/e-doctor", "RelatedPerson/e-mother", "Device/none"],
)
def test_whole_compartments(loader: httpx.Client, centre: str) -> None:
    matches, named, _ = walked(loader, f"/fhir/{centre}/*?_count=2")
    expected = {
        "Patient": OF_ONE, "Device": set(), "RelatedPerson": {"RelatedPerson/e-mother"},
        "Practitioner": {"Practitioner/e-doctor", "Observation/e-early", "Observation/e-second"},
        "Encounter": {"Encounter/e-visit"} | {f"Observation/e-{name}" for name in ("early", "late", "second", "other")},
    }[centre.partition("/")[0]]  # fmt: skip
    assert (set(matches), named) == (expected, [])


@pytest.mark.parametrize(
    ("address", "found"),
    [
        (f"Patient/{ONE}/Observation", {"e-early", "e-late"}),
        (f"Patient/{ONE}/Observation?date=2024-03-10", {"e-late"}),
        (f"Patient/{ONE}/Observation?performer=Practitioner/e-doctor&_sort=-date", {"e-early"}),
        (f"Patient/{ONE}/Condition", {"e-asserted"}),
        (f"Patient/{OTHER}/Condition", {"e-asserted"}),
        (f"Patient/{ONE}/Communication", {"e-both"}),
        (f"Patient/{ONE}/Patient", set()),
        ("Encounter/e-visit/Observation", {"e-early", "e-late", "e-second", "e-other"}),
        ("Encounter/e-visit/Encounter", {"e-visit"}),
        ("Encounter/e-visit/Encounter?status=planned", set()),
        ("Practitioner/e-doctor/Observation", {"e-early", "e-second"}),
        ("Practitioner/e-doctor/Practitioner", {"e-doctor"}),
        ("RelatedPerson/e-mother/RelatedPerson", {"e-mother"}),
        ("Device/none/Observation", set()),
        ("Patient/absent/Observation", set()),
    ],
)
def test_searches_in_a_compartment(loader: httpx.Client, address: str, found: set[str]) -> None:
    query = "&" if "?" in address else "?"
    assert {name.partition("/")[2] for name in walked(loader, f"/fhir/{address}{query}_count=1")[0]} == found
    assert loader.get(f"/fhir/{address}{query}_summary=count").json()["total"] == len(found)
    path, _, form = address.partition("?")
    headers = {"content-type": "application/x-www-form-urlencoded"}
    posted = loader.post(f"/fhir/{path}/_search", content=form, headers=headers).json()
    assert {entry["resource"]["id"] for entry in posted.get("entry", ())} == found
    assert posted["link"][0]["url"].startswith(f"{loader.base_url}/fhir/{path}".replace(" ", ""))


def test_page_links_of_a_compartment_stay_in_it(loader: httpx.Client) -> None:
    link = loader.get(f"/fhir/Patient/{ONE}/Observation?_count=1").json()["link"][1]["url"]
    assert loader.get(link).status_code == 200
    for other in (
        link.replace(ONE, OTHER),
        link.replace(f"Patient/{ONE}/", ""),
        link.replace(f"Patient/{ONE}", "Encounter/e-visit"),
    ):
        assert loader.get(other).status_code == 410, other


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"Patient/{ONE}/Organization", 404),
        (f"Patient/{ONE}/AuditEvent", 404),
        (f"Patient/{ONE}/Nonsense", 404),
        ("Organization/e-house/Patient", 404),
        ("Observation/e-late/*", 404),
        (f"Patient/{ONE}/Observation/1", 404),
        (f"Patient/{ONE}/Observation?nonsense=1", 400),
        (f"Patient/{ONE}/*?status=final", 400),
    ],
)
def test_what_is_no_compartment(loader: httpx.Client, address: str, status: int) -> None:
    assert loader.get(f"/fhir/{address}").status_code == status


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_inside_bundles(loader: httpx.Client, kind: str) -> None:
    urls = [
        f"Patient/{ONE}/$everything?_type=Observation", f"Patient/{ONE}/Observation", f"Patient/{ONE}/*",
        f"Observation/$lastn?patient={ONE}&max=9", f"Patient/{ONE}/$meta", "Patient/absent/$everything",
        "Patient/$export",
    ]  # fmt: skip
    entries = [{"request": {"method": "GET", "url": url}} for url in urls]
    bundle = {"resourceType": "Bundle", "type": kind, "entry": entries}
    answers = loader.post("/fhir", json=bundle, headers=FHIR).json()["entry"]
    assert [each["response"]["status"] for each in answers] == ["200"] * 5 + ["404", "400"]
    assert [each["resource"].get("total") for each in answers[:4]] == [2, 2, len(OF_ONE), 2]
