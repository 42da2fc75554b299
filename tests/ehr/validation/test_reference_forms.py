"""The forms of literal references: https://hl7.org/fhir/R4/references.html#literal."""

from typing import Any

import pytest

from ehr.validation import check

UUID = "8a7c3d4e-0000-4000-8000-0000000000ff"
LEGAL = (
    "Patient/1",
    "Patient/a.b-C",
    f"Patient/{'x' * 64}",
    "Patient/1/_history/2",
    "Group/1",
    "http://other.example/fhir/Patient/1",
    "https://other.example:8443/a/b/Patient/1/_history/2",
    "http://other.example/Patient/1#part",
    "http://example.org/anything?at=all#here",
    "https://example.org",
    "http://example.org/fhir/Patient?identifier=a|b",
    f"urn:uuid:{UUID}",
    f"urn:uuid:{UUID.upper()}",
    "urn:oid:1.2.840.1",
    "urn:uuid:1",
    "urn:oid:x.y",
)
ILLEGAL = (
    "Location2/1",
    "nonsense",
    "Patient",
    "Patient/",
    "Patient/a b",
    "Patient/a_b",
    "Patient/王",
    f"Patient/{'x' * 65}",
    "Patient/1/",
    "/Patient/1",
    "fhir/Patient/1",
    "../Patient/1",
    "patient/1",
    "Patient/1#part",
    "Patient/1/_history",
    "Patient/1/_history/",
    "Patient/1/2",
    "Patient/1|2",
    "Resource/1",
    "DomainResource/1",
    "Patient?identifier=a|b",
    "Patient?",
    "Nonsense?identifier=a",
    "urn:isbn:1",
    f"uuid:{UUID}",
    "http://",
    "http:Patient/1",
    "ftp://example.org/Patient/1",
    "mailto:somebody@example.org",
    "javascript:alert(1)",
    "Patient/1\nPatient/2",
    "#absent",
)


def observation(reference: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": reference},
    }


def bundle(kind: str, *resources: dict[str, Any], full_url: str | None = None) -> dict[str, Any]:
    entries: list[dict[str, Any]] = [{"resource": resource} for resource in resources]
    if kind in {"transaction", "batch"}:
        entries = [entry | {"request": {"method": "POST", "url": "Observation"}} for entry in entries]
    for number, entry in enumerate(entries):
        if kind == "collection":
            entry["fullUrl"] = full_url or f"urn:uuid:{UUID[:-1]}{number}"
            full_url = None
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


@pytest.mark.parametrize("reference", LEGAL)
def test_a_legal_reference_is_taken(reference: str) -> None:
    assert check(observation(reference)) == []


@pytest.mark.parametrize("reference", ILLEGAL)
def test_an_illegal_reference_is_named_once(reference: str) -> None:
    (issue,) = check(observation(reference))
    assert issue.expression == "Observation.subject.reference"
    assert issue.code == ("invariant" if reference == "#absent" else "value")


def test_references_are_checked_wherever_they_stand() -> None:
    bad = {"reference": "Location2/1"}
    note = {"authorReference": bad, "text": "x"}
    resource = {
        "resourceType": "Encounter",
        "status": "finished",
        "class": {"code": "AMB"},
        "contained": [observation("nonsense") | {"id": "o", "focus": [{"reference": "#"}]}],
        "location": [{"location": {"reference": "Location/1"}}, {"location": bad}],
        "identifier": [{"value": "1", "assigner": bad}],
        "extension": [{"url": "http://example.org/x", "valueReference": bad}],
        "modifierExtension": [
            {"url": "http://example.org/x", "extension": [{"url": "y", "valueAnnotation": note}]},
        ],
        "_status": {"extension": [{"url": "http://example.org/x", "valueReference": bad}]},
    }
    assert {issue.expression for issue in check(resource)} == {
        "Encounter.contained[0].subject.reference",
        "Encounter.location[1].location.reference",
        "Encounter.identifier[0].assigner.reference",
        "Encounter.extension[0].value.reference",
        "Encounter.modifierExtension[0].extension[0].value.author.reference",
        "Encounter.status.extension[0].value.reference",
    }


def test_conditional_references_stand_in_transactions_only() -> None:
    conditional = observation("Patient?identifier=a|b")
    assert check(bundle("transaction", conditional)) == []
    for kind in ("batch", "collection"):
        assert [issue.expression for issue in check(bundle(kind, conditional))] == [
            "Bundle.entry[0].resource.subject.reference"
        ]
    nested = bundle("transaction", bundle("collection", conditional))
    nested["entry"][0]["request"]["url"] = "Bundle"
    assert [issue.expression for issue in check(nested)] == [
        "Bundle.entry[0].resource.entry[0].resource.subject.reference"
    ]
    for reference in ("Medication?code=1", "Nonsense?code=1", "Patient?"):
        assert check(bundle("transaction", observation(reference))), reference


def test_a_full_url_of_the_bundle_is_a_reference() -> None:
    patient = {"resourceType": "Patient"}
    assert check(bundle("collection", patient, observation("urn:x:1"), full_url="urn:x:1")) == []
    assert check(bundle("collection", patient, observation("urn:x:2"), full_url="urn:x:1"))
    medication = {"resourceType": "Medication"}
    assert check(bundle("collection", medication, observation("urn:x:1"), full_url="urn:x:1"))


def test_a_reference_without_a_literal_is_taken() -> None:
    for subject in ({"identifier": {"value": "1"}}, {"display": "somebody"}, {"type": "Patient", "display": "x"}):
        assert check(observation("Patient/1") | {"subject": subject}) == []
    resource = observation("Patient/1") | {
        "subject": {"_reference": {"extension": [{"url": "http://a.org", "valueCode": "x"}]}}
    }
    assert check(resource) == []  # fmt: skip
