"""What an expert asks of transactions, batches and conditional writes: https://hl7.org/fhir/R4/http.html."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

FHIR = {"content-type": "application/fhir+json"}
ONE, TWO = (f"urn:uuid:00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
Json = dict[str, Any]


@pytest.fixture(scope="module")
def loader(platform: Platform) -> httpx.Client:
    return platform.client(client="loader")


def patient(value: str | None = None, **members: Any) -> Json:
    identified = {} if value is None else {"identifier": [{"system": "urn:x", "value": value}]}
    return {"resourceType": "Patient"} | identified | members


def observation(reference: str, **members: Any) -> Json:
    head = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}}
    return head | {"subject": {"reference": reference}} | members


def entry(method: str, url: str, resource: Json | None = None, full_url: str | None = None, **request: str) -> Json:
    found: Json = {"request": {"method": method, "url": url} | request}
    found |= {} if resource is None else {"resource": resource}
    return found | ({} if full_url is None else {"fullUrl": full_url})


def sent(loader: httpx.Client, kind: str, *entries: Json, **headers: str) -> httpx.Response:
    bundle = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
    return loader.post("/fhir", json=bundle, headers=FHIR | headers)


def statuses(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["response"]["status"] for each in answer.json()["entry"]]


def put(loader: httpx.Client, resource: Json) -> httpx.Response:
    answer = loader.put(f"/fhir/{resource['resourceType']}/{resource['id']}", json=resource, headers=FHIR)
    assert answer.status_code in {200, 201}, answer.text
    return answer


def total(loader: httpx.Client, query: str) -> int:
    return int(loader.get(f"/fhir/{query}").json()["total"])


def test_a_wrong_id_is_400_everywhere(loader: httpx.Client) -> None:
    put(loader, patient("wrong-id", id="wrong-id"))
    for body in (patient(), patient(id="other"), patient(id=5)):
        for answer in (
            loader.put("/fhir/Patient/wrong-id", json=body, headers=FHIR),
            sent(loader, "transaction", entry("PUT", "Patient/wrong-id", body)),
        ):
            assert answer.status_code == 400, (body, answer.text)
        assert statuses(sent(loader, "batch", entry("PUT", "Patient/wrong-id", body))) == ["400"]
    other = patient("wrong-id", id="other")
    assert loader.put("/fhir/Patient?identifier=urn:x|wrong-id", json=other, headers=FHIR).status_code == 400
    conditional = entry("PUT", "Patient?identifier=urn:x|wrong-id", other)
    assert statuses(sent(loader, "batch", conditional)) == ["400"]
    refused = sent(loader, "transaction", conditional)
    assert refused.status_code == 400
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.id"]
    assert loader.get("/fhir/Patient/wrong-id").headers["etag"] == 'W/"1"'


@pytest.mark.parametrize("criteria", ["_count=1", "_sort=_id", "_format=json", "_summary=count", "_total=none"])
def test_conditions_that_name_nothing_are_refused(loader: httpx.Client, criteria: str) -> None:
    body = {"resourceType": "VerificationResult", "status": "attested"}
    only = loader.post("/fhir/VerificationResult", json=body, headers=FHIR)
    assert only.status_code == 201
    answers = [
        loader.delete(f"/fhir/VerificationResult?{criteria}"),
        loader.put(f"/fhir/VerificationResult?{criteria}", json=body, headers=FHIR),
        loader.post("/fhir/VerificationResult", json=body, headers=FHIR | {"if-none-exist": criteria}),
    ]
    assert {answer.status_code for answer in answers} == {400}
    entries = (
        entry("DELETE", f"VerificationResult?{criteria}"),
        entry("PUT", f"VerificationResult?{criteria}", body),
        entry("POST", "VerificationResult", body, ifNoneExist=criteria),
    )
    assert statuses(sent(loader, "batch", *entries)) == ["400"] * 3
    linked = {"resourceType": "Basic", "code": {"text": "x"}}
    linked["subject"] = {"reference": f"VerificationResult?{criteria}"}  # type: ignore[assignment]
    assert sent(loader, "transaction", entry("POST", "Basic", linked)).status_code in {400, 422}
    address = f"/fhir/VerificationResult/{only.json()['id']}"
    assert loader.get(address).content == only.content
    assert loader.delete(address).status_code == 204


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_reads_in_bundles_are_conditional_too(loader: httpx.Client, kind: str) -> None:
    put(loader, patient(id=f"conditional-{kind}"))
    url = f"Patient/conditional-{kind}"
    answer = sent(
        loader,
        kind,
        entry("GET", url, ifNoneMatch='W/"1"'),
        entry("GET", url, ifNoneMatch='W/"2"'),
        entry("GET", url, ifModifiedSince="2100-01-01T00:00:00Z"),
        entry("GET", url, ifModifiedSince="2001-01-01T00:00:00.000+08:00"),
        entry("GET", f"{url}/_history/1", ifNoneMatch='"1"'),
        entry("GET", url, ifModifiedSince="soon"),
        entry("HEAD", url),
    )
    assert statuses(answer) == ["304", "200", "304", "200", "304", "400", "200"]
    entries = answer.json()["entry"]
    assert ["resource" in each for each in entries] == [False, True, False, True, False, False, True]
    assert entries[0]["response"]["etag"] == 'W/"1"'
    for method, body in (("PUT", patient(id=f"conditional-{kind}")), ("DELETE", None)):
        refused = sent(loader, kind, entry(method, url, body, ifNoneMatch="*"))
        found = statuses(refused)[0] if kind == "batch" else str(refused.status_code)
        assert found == "422", refused.text
    assert loader.get(f"/fhir/{url}").headers["etag"] == 'W/"1"'


def test_if_match_of_any_version_asks_for_one(loader: httpx.Client) -> None:
    absent, there = patient(id="any-absent"), patient(id="any-there")
    put(loader, there)
    anything = {"if-match": "*"}
    assert loader.put("/fhir/Patient/any-absent", json=absent, headers=FHIR | anything).status_code == 412
    assert loader.put("/fhir/Patient/any-there", json=there, headers=FHIR | anything).status_code == 200
    assert statuses(sent(loader, "batch", entry("PUT", "Patient/any-absent", absent, ifMatch="*"))) == ["412"]
    assert statuses(sent(loader, "batch", entry("PUT", "Patient/any-there", there, ifMatch="*"))) == ["200"]
    patched = loader.patch(
        "/fhir/Patient/any-there",
        json=[{"op": "add", "path": "/active", "value": True}],
        headers={"content-type": "application/json-patch+json"} | anything,
    )
    assert patched.status_code == 200
    assert loader.delete("/fhir/Patient/any-there", headers=anything).status_code == 204
    assert loader.get("/fhir/Patient/any-absent").status_code == 404


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_bundles_answer_as_preferred(loader: httpx.Client, kind: str) -> None:
    put(loader, patient(id=f"preferred-{kind}"))
    entries = (entry("POST", "Patient", patient()), entry("DELETE", f"Patient/preferred-{kind}"))
    whole = sent(loader, kind, *entries, prefer="return=representation").json()["entry"]
    assert whole[0]["resource"]["resourceType"] == "Patient"
    assert "resource" not in whole[1]
    assert whole[1]["response"] == {"status": "204", "etag": 'W/"2"'}
    told = sent(loader, kind, *entries, prefer="return=OperationOutcome").json()["entry"]
    assert ["resource" in each for each in told] == [False, False]
    assert [each["response"]["outcome"]["resourceType"] for each in told] == ["OperationOutcome"] * 2
    least = sent(loader, kind, *entries, prefer="return=minimal").json()["entry"]
    assert [set(each) - {"fullUrl"} for each in least] == [{"response"}, {"response"}]
    assert "outcome" not in least[0]["response"]


def test_conditional_references_find_what_the_transaction_writes(loader: httpx.Client) -> None:
    """They are resolved last, after its deletions, creations and updates."""
    put(loader, patient("gone", id="was-gone"))
    put(loader, patient("before", id="renamed"))
    entries = [
        entry("POST", "Observation", observation("Patient?identifier=urn:x|created")),
        entry("POST", "Observation", observation("Patient?identifier=urn:x|after")),
        entry("POST", "Observation", observation("Patient?identifier=urn:x|put&gender=female")),
        entry("POST", "Observation", observation("Patient?_id=was-put")),
        entry("POST", "Patient", patient("created"), ONE),
        entry("PUT", "Patient/renamed", patient("after", id="renamed")),
        entry("PUT", "Patient/was-put", patient("put", id="was-put", gender="female")),
        entry("DELETE", "Patient/was-gone"),
    ]
    answer = sent(loader, "transaction", *entries)
    assert statuses(answer) == ["201"] * 5 + ["200", "201", "204"]
    found = answer.json()["entry"]
    assert [each["resource"]["subject"]["reference"] for each in found[:4]] == [
        f"Patient/{found[4]['resource']['id']}",
        "Patient/renamed",
        "Patient/was-put",
        "Patient/was-put",
    ]
    put(loader, patient("gone-too", id="was-gone-too"))

    def seeking(value: str) -> Json:
        return entry("POST", "Observation", observation(f"Patient?identifier=urn:x|{value}"))

    for refused in (
        [seeking("gone-too"), entry("DELETE", "Patient/was-gone-too")],
        [seeking("after"), entry("PUT", "Patient/renamed", patient("x", id="renamed"))],
        [seeking("nobody")],
        [seeking("nobody"), entry("POST", "Patient", patient("nobody", gender=5))],
    ):
        answer = sent(loader, "transaction", *refused)
        assert answer.status_code == 422, answer.text
    assert sent(loader, "transaction", entry("POST", "Patient", patient("after")), seeking("after")).status_code == 412
    assert loader.get("/fhir/Patient/was-gone-too").status_code == 200
    assert loader.get("/fhir/Patient/renamed").headers["etag"] == 'W/"2"'


def test_circles_and_orders_of_entries(loader: httpx.Client) -> None:
    entries = [
        entry("POST", "Observation", observation(TWO, derivedFrom=[{"reference": ONE}], note=[{"text": ONE}]), ONE),
        entry("POST", "Patient", patient("circle", link=[{"other": {"reference": TWO}, "type": "seealso"}]), TWO),
    ]
    for turn in (entries, entries[::-1]):
        answer = sent(loader, "transaction", *turn)
        assert statuses(answer) == ["201", "201"]
        made = {each["resource"]["resourceType"]: each["resource"] for each in answer.json()["entry"]}
        assert made["Observation"]["derivedFrom"][0]["reference"] == f"Observation/{made['Observation']['id']}"
        assert made["Observation"]["subject"]["reference"] == f"Patient/{made['Patient']['id']}"
        assert made["Patient"]["link"][0]["other"]["reference"] == f"Patient/{made['Patient']['id']}"
        assert made["Observation"]["note"][0]["text"] == ONE  # a text is no reference


def test_one_resource_stands_once_in_a_transaction(loader: httpx.Client) -> None:
    put(loader, patient("once", id="once"))
    same = "Patient?identifier=urn:x|once"
    again = patient("once", id="once")
    for entries in (
        [entry("PUT", "Patient/once", again), entry("PUT", "Patient/once", again)],
        [entry("PUT", "Patient/once", again), entry("DELETE", "Patient/once")],
        [entry("PUT", same, again), entry("PUT", "Patient/once", again)],
        [entry("DELETE", same), entry("PUT", "Patient/once", again)],
        [entry("DELETE", same), entry("DELETE", "Patient/once")],
    ):
        assert sent(loader, "transaction", *entries).status_code in {400, 422}, entries
    assert loader.get("/fhir/Patient/once").headers["etag"] == 'W/"1"'


def test_conditional_creates_at_once_make_one(loader: httpx.Client) -> None:
    def create(number: int) -> int:
        body = patient("at-once", active=bool(number % 2))
        if number % 3:
            headers = FHIR | {"if-none-exist": "identifier=urn:x|at-once"}
            return loader.post("/fhir/Patient", json=body, headers=headers).status_code
        kind = "batch" if number % 2 else "transaction"
        answer = sent(loader, kind, entry("POST", "Patient", body, ifNoneExist="identifier=urn:x|at-once"))
        return int(statuses(answer)[0]) if answer.status_code == 200 else answer.status_code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(create, range(24)))
    assert sorted(answers) == [200] * 23 + [201]
    assert total(loader, "Patient?identifier=urn:x|at-once") == 1


def test_updates_of_one_version_at_once_are_done_once(loader: httpx.Client) -> None:
    put(loader, patient(id="raced"))

    def update(number: int) -> int:
        body = patient(id="raced", multipleBirthInteger=number)
        return loader.put("/fhir/Patient/raced", json=body, headers=FHIR | {"if-match": 'W/"1"'}).status_code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(update, range(16)))
    assert sorted(answers) == [200] + [412] * 15
    assert loader.get("/fhir/Patient/raced").headers["etag"] == 'W/"2"'


def test_one_condition_in_several_entries_is_one_resource(loader: httpx.Client) -> None:
    doubled = "identifier=urn:x|doubled"
    first, second = (entry("POST", "Patient", patient("doubled"), url, ifNoneExist=doubled) for url in (ONE, TWO))
    linked = [entry("POST", "Observation", observation(url)) for url in (ONE, TWO)]
    for expected in (["201", "201", "201", "200"], ["201", "201", "200", "200"]):
        answer = sent(loader, "transaction", *linked, first, second)
        assert statuses(answer) == expected
        found = [each["resource"] for each in answer.json()["entry"]]
        assert found[2]["id"] == found[3]["id"]
        assert {each["subject"]["reference"] for each in found[:2]} == {f"Patient/{found[2]['id']}"}
    assert total(loader, f"Patient?{doubled}") == 1
    update = entry("PUT", "Patient?identifier=urn:x|neither", patient("neither"))
    create = entry("POST", "Patient", patient("neither"), ifNoneExist="identifier=urn:x|neither")
    for entries in ([update, update], [create, update], [update, entry("DELETE", "Patient?identifier=urn:x|neither")]):
        assert sent(loader, "transaction", *entries).status_code == 422
    assert total(loader, "Patient?identifier=urn:x|neither") == 0


@pytest.mark.parametrize("sort", ["_lastUpdated", "-_lastUpdated", "_id", "-birthdate,_id", "family"])
def test_pages_hold_while_others_write(loader: httpx.Client, sort: str) -> None:
    """No row twice, none missing that matched unchanged throughout."""
    tag = f"paged-{sort.replace(',', '.')}"
    people = [
        patient(f"{tag}-{n}", birthDate=f"19{50 + n % 9}-01-01", name=[{"family": f"F{n % 7}"}]) for n in range(40)
    ]
    made = sent(loader, "transaction", *(entry("POST", "Patient", each) for each in people)).json()["entry"]
    ids = [each["resource"]["id"] for each in made]
    wanted = ",".join(f"urn:x|{tag}-{n}" for n in range(60))
    link: str | None = "/fhir/Patient?" + str(httpx.QueryParams({"identifier": wanted, "_count": "7", "_sort": sort}))
    seen: list[str] = []
    changed: set[str] = set()
    turn = 0
    while link is not None:
        page = loader.get(link).json()
        seen += [each["resource"]["id"] for each in page["entry"]]
        new = patient(f"{tag}-{40 + turn}", birthDate="1940-01-01", name=[{"family": "A"}])
        touched, gone = ids[turn * 5 % 40], ids[(turn * 5 + 2) % 40]
        changed |= {touched, gone}
        loader.post("/fhir/Patient", json=new, headers=FHIR)
        moved = people[turn * 5 % 40] | {"id": touched, "birthDate": "2001-01-01", "name": [{"family": "Z"}]}
        loader.put(f"/fhir/Patient/{touched}", json=moved, headers=FHIR)
        loader.delete(f"/fhir/Patient/{gone}")
        link = next((each["url"] for each in page["link"] if each["relation"] == "next"), None)
        turn += 1
    assert turn > 4
    assert len(seen) == len(set(seen))
    assert set(ids) - changed <= set(seen)


def test_an_id_that_may_not_be_chosen_is_405_with_what_is_allowed(platform: Platform, loader: httpx.Client) -> None:
    put(loader, {"resourceType": "Basic", "id": "hidden-basic", "code": {"text": "x"}})
    clinician = platform.client(account="dr.li")
    answers = []
    for name in ("hidden-basic", "absent-basic"):
        body = {"resourceType": "Basic", "id": name, "code": {"text": "x"}}
        answer = clinician.put(f"/fhir/Basic/{name}", json=body, headers=FHIR)
        answers.append((answer.status_code, answer.headers["allow"], answer.content))
    assert answers[0] == answers[1]
    assert answers[0][:2] == (405, "DELETE, GET, HEAD, OPTIONS, PATCH")
