import json
import uuid
from typing import Any

import pytest

from ehr import transaction
from ehr.bundle_entries import BundleEntry
from ehr.bundle_links import LinkRewriter, link_names, plain
from ehr.definitions import structure
from ehr.errors import Invalid, KanglianError, Malformed, MultipleMatches, NotFound, PreconditionFailed
from ehr.search import matcher
from ehr.store import Store
from ehr.validation import check
from tests.ehr.store.record_fixtures import NOTE, clinician, loader, read_scope

pytestmark = pytest.mark.database


@pytest.fixture(scope="module")
def standard(store: Store) -> Store:
    """The store with the real extractor, checker and search."""
    store._preparation._extractor = store.extractor
    store._preparation._check = check
    store._matching_keys = store._writer._matching_keys = matcher(store.extractor)
    return store


def entry(method: str, url: str, resource: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    full_url = more.pop("fullUrl", None)
    result: dict[str, Any] = {"request": {"method": method, "url": url, **more}}
    if resource is not None:
        result["resource"] = resource
    if full_url is not None:
        result["fullUrl"] = full_url
    return result


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> bytes:
    return json.dumps({"resourceType": "Bundle", "type": kind, "entry": list(entries)}).encode()


def patient(value: str = "", **more: Any) -> dict[str, Any]:
    identifier = {"identifier": [{"system": "urn:mrn", "value": value}]} if value else {}
    return {"resourceType": "Patient", **identifier, **more}


def observation(reference: str, **more: Any) -> dict[str, Any]:
    code = {"coding": [{"system": "http://loinc.org", "code": "4548-4"}]}
    return {"resourceType": "Observation", "status": "final", "code": code, "subject": {"reference": reference}, **more}


async def stored(store: Store, result: transaction.EntryResult) -> dict[str, Any]:
    assert result.outcome is not None
    found = await store.read(read_scope(), result.outcome.resource_type, result.outcome.resource_id, NOTE)
    value: dict[str, Any] = json.loads(found.body or b"")
    return value


async def test_links_between_entries_are_rewritten_wherever_they_stand(standard: Store) -> None:
    name = f"urn:uuid:{uuid.uuid4()}"
    div = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{name}">him</a> {name}</div>'
    results = await transaction.run(
        standard,
        clinician(),
        bundle(
            entry(
                "POST",
                "Observation",
                observation(
                    name,
                    text={"status": "generated", "div": div},
                    contained=[{"resourceType": "Specimen", "id": "s", "subject": {"reference": name}}],
                    specimen={"reference": "#s"},
                    extension=[{"url": "urn:x", "valueUri": name}],
                    note=[{"text": name}],
                ),
            ),
            entry("POST", "Patient", patient(), fullUrl=name),
        ),
        NOTE,
    )
    made = f"Patient/{results[1].outcome.resource_id}" if results[1].outcome else ""
    found = await stored(standard, results[0])
    assert found["subject"]["reference"] == found["contained"][0]["subject"]["reference"] == made
    assert found["extension"][0]["valueUri"] == made
    assert f'href="{made}"' in found["text"]["div"]
    assert found["text"]["div"].count(name) == 1
    assert found["note"][0]["text"] == name


async def test_relative_references_are_read_with_the_base_of_their_entry(standard: Store) -> None:
    base = "http://sender.example/fhir"
    results = await transaction.run(
        standard,
        clinician(),
        bundle(
            entry("POST", "Observation", observation("Patient/7"), fullUrl=f"{base}/Observation/1"),
            entry("POST", "Patient", patient(), fullUrl=f"{base}/Patient/7"),
        ),
        NOTE,
    )
    assert results[1].outcome is not None
    assert (await stored(standard, results[0]))["subject"]["reference"] == f"Patient/{results[1].outcome.resource_id}"


async def test_conditional_references_and_creates_find_what_is_there(standard: Store) -> None:
    sent = bundle(
        entry("POST", "Patient", patient("77"), fullUrl="urn:uuid:p", ifNoneExist="identifier=urn:mrn|77"),
        entry("POST", "Observation", observation("urn:uuid:p")),
    )
    first = await transaction.run(standard, loader(), sent, NOTE)
    second = await transaction.run(standard, loader(), sent, NOTE)
    assert [each.outcome.kind if each.outcome else "" for each in second] == ["matched", "created"]
    assert (await stored(standard, first[1]))["subject"] == (await stored(standard, second[1]))["subject"]
    third = await transaction.run(
        standard,
        loader(),
        bundle(
            entry("POST", "Observation", observation("Patient?identifier=urn:mrn|77")),
            entry("PUT", "Patient?identifier=urn:mrn|77", patient("77", active=True)),
        ),
        NOTE,
    )
    assert (await stored(standard, third[0]))["subject"] == (await stored(standard, first[1]))["subject"]
    assert third[1].outcome is not None
    assert third[1].outcome.version == 2


@pytest.mark.parametrize(
    ("entries", "error", "expression"),
    [
        ([entry("POST", "Patient", patient(gender="x"))], Invalid, "Bundle.entry[1].resource.gender"),
        ([entry("POST", "Observation", observation("Patient?identifier=none"))], Invalid, None),
        ([entry("PUT", "Patient/all-or-nothing", patient(id="all-or-nothing"))], Invalid, "Bundle.entry[1].fullUrl"),
        ([entry("PUT", "Patient/b", patient(id="b"), ifMatch='W/"9"')], PreconditionFailed, None),
        ([entry("PUT", "Patient/b", patient(id="c"))], Malformed, "Bundle.entry[1].resource.id"),
        ([entry("DELETE", "Patient/never-was")], NotFound, None),
        ([entry("PATCH", "Patient/b", {})], Invalid, "Bundle.entry[1].request.method"),
        ([entry("POST", "Nothing", {})], Invalid, "Bundle.entry[1].request.url"),
        ([entry("PUT", "Patient", patient())], Invalid, None),
        ([{"fullUrl": "x"}], Invalid, None),
    ],
)
async def test_a_transaction_is_all_or_nothing(
    standard: Store, entries: list[dict[str, Any]], error: type[KanglianError], expression: str | None
) -> None:
    first = entry("PUT", "Patient/all-or-nothing", patient(id="all-or-nothing"))
    with pytest.raises(error) as refused:
        await transaction.run(standard, loader(), bundle(first, *entries), NOTE)
    if expression is not None:
        assert refused.value.issues[0].expression == expression
    with pytest.raises(NotFound):
        await standard.read(read_scope(), "Patient", "all-or-nothing", NOTE)


async def test_deletes_come_first_and_gets_last(standard: Store) -> None:
    await transaction.run(standard, loader(), bundle(entry("PUT", "Patient/order", patient(id="order"))), NOTE)
    asked: list[str] = []

    async def fetch(each: BundleEntry) -> str:
        await standard.read(read_scope(), "Patient", each.url.rpartition("/")[2], NOTE)
        asked.append(f"{each.method} {each.url}")
        return "found"

    results = await transaction.run(
        standard,
        loader(),
        bundle(
            entry("GET", "Patient/order-2"),
            entry("HEAD", "Patient/order"),
            entry("PUT", "Patient/order-2", patient(id="order-2")),
            entry("DELETE", "Patient/order"),
        ),
        NOTE,
        fetch=fetch,
    )
    assert [each.method for each in results] == ["GET", "HEAD", "PUT", "DELETE"]
    assert asked == ["GET Patient/order-2"]
    assert results[0].fetched == "found"
    assert results[1].error is not None
    assert results[3].outcome is not None
    assert results[3].outcome.kind == "deleted"


async def test_entries_of_a_batch_stand_alone(standard: Store) -> None:
    results = await transaction.run(
        standard,
        loader(),
        bundle(
            entry("POST", "Patient", patient()),
            entry("POST", "Patient", patient(gender="x")),
            entry("DELETE", "Patient/none"),
            entry("GET", "Patient/none"),
            entry("BREW", "Coffee"),
            kind="batch",
        ),
        NOTE,
    )
    assert [each.error is None for each in results] == [True, False, False, False, False]
    assert results[0].outcome is not None


async def test_a_hidden_match_is_no_match(standard: Store) -> None:
    await transaction.run(standard, loader(), bundle(entry("POST", "Patient", patient("twin"))), NOTE)
    await transaction.run(standard, loader(), bundle(entry("POST", "Patient", patient("twin"))), NOTE)
    with pytest.raises(MultipleMatches):
        await transaction.run(
            standard,
            loader(),
            bundle(entry("POST", "Observation", observation("Patient?identifier=urn:mrn|twin"))),
            NOTE,
        )
    digits = b'{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Observation"},'
    digits += (
        b'"resource":' + json.dumps(observation("Patient/1")).encode()[:-1] + b',"valueQuantity":{"value":72.50}}}]}'
    )
    (result,) = await transaction.run(standard, loader(), digits, NOTE)
    assert result.outcome is not None
    assert b"72.50" in (result.outcome.body or b"")


@pytest.mark.parametrize(
    "data",
    [
        b'{"resourceType":"Bundle","type":"transaction","entry":[5]}',
        b'{"resourceType":"Bundle","type":"transaction","entry":{}}',
        b'{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"POST","url":"Patient"},"resource":{',
        b'{"resourceType":"Bundle","type":"transaction","type":"batch","entry":[]}',
        b'{"resourceType":"Bundle","type":"batch","entry":[],"entry":[{"request":{"method":"GET","url":"Patient"}}]}',
        b'{"resourceType":"Bundle","type":"searchset"}',
        b'{"resourceType":"Patient"}',
        b"[]",
    ],
)
async def test_what_is_no_bundle_is_refused(standard: Store, data: bytes) -> None:
    with pytest.raises((Invalid, Malformed)):
        await transaction.run(standard, loader(), data, NOTE)


async def test_a_resource_with_a_key_twice_is_refused(standard: Store) -> None:
    data = bundle(entry("POST", "Patient", patient(active=True))).replace(b'"active"', b'"active":false,"active"')
    with pytest.raises(Malformed):
        await transaction.run(standard, loader(), data, NOTE)


def test_escaped_links_are_read_as_they_are_meant() -> None:
    rewriter = LinkRewriter({"http://a/fhir/Patient/1": "Patient/2", "urn:uuid:1": "Patient/3"})
    resource = plain(rb'{"subject":{"reference":"http:\/\/a\/fhir\/Patient\/1"},"instantiatesUri":["urn:uuid:1","x"]}')
    rewritten = rewriter.rewrite(resource, None)
    assert rewritten == b'{"subject":{"reference":"Patient/2"},"instantiatesUri":["Patient/3","x"]}'
    text = rb'{"note":"\"reference\":\"urn:uuid:1\"","display":"urn:uuid:1"}'
    assert rewriter.rewrite(text, None) == text
    assert LinkRewriter({}).rewrite(text, None) == text


def test_the_names_of_links_are_those_of_the_definitions() -> None:
    named = {
        "Patient",
        "Observation",
        "Reference",
        "Attachment",
        "Provenance",
        "Composition",
        "RelatedArtifact",
        "Meta",
    }
    for type_name in named:
        for element in structure(type_name).elements:
            name = element.path.rpartition(".")[2]
            kinds = {each.code for each in element.types}
            if kinds <= {"uri", "url", "oid", "uuid", "canonical"} and kinds and name != "type":
                assert name in set(link_names())
