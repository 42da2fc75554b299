"""Structure: unknown elements, cardinality, the forms of JSON, choices, codes, resources within resources."""

from decimal import Decimal
from typing import Any

import pytest

from ehr.validation import check

Resource = dict[str, Any]
EXTENSION = {"url": "http://example.org/x", "valueString": "v"}
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">text</div>'


def patient(**members: Any) -> Resource:
    return {"resourceType": "Patient", **members}


def observation(**members: Any) -> Resource:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **members}


def condition(**members: Any) -> Resource:
    return {"resourceType": "Condition", "subject": {"reference": "Patient/1"}, **members}


def bundle(*entries: Any, kind: str = "collection", **members: Any) -> Resource:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries), **members}


ACTIVE = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]}

TAKEN: dict[str, Resource] = {
    "empty resource": patient(),
    "id and meta": patient(
        id="a.b-C", meta={"versionId": "1", "lastUpdated": "2020-01-01T00:00:00Z", "tag": [{"code": "x"}]}
    ),
    "extension of a primitive": patient(birthDate="1970-03-30", _birthDate={"extension": [EXTENSION]}),
    "extension instead of a value": patient(_birthDate={"extension": [EXTENSION]}),
    "id of a primitive": patient(birthDate="1970-03-30", _birthDate={"id": "b"}),
    "nulls aligned": patient(name=[{"given": ["a", None], "_given": [None, {"extension": [EXTENSION]}]}]),
    "shorter sibling array": patient(name=[{"given": ["a", "b"], "_given": [{"id": "x"}]}]),
    "array of extensions only": patient(name=[{"_given": [{"extension": [EXTENSION]}]}]),
    "required element by extension": {
        "resourceType": "Observation",
        "_status": {"extension": [EXTENSION]},
        "code": {"text": "x"},
    },
    "choice": observation(valueQuantity={"value": Decimal("72.50")}),
    "choice with extension": observation(valueString="a", _valueString={"extension": [EXTENSION]}),
    "choice by extension only": observation(_valueString={"extension": [EXTENSION]}),
    "modifier extension": patient(modifierExtension=[EXTENSION]),
    "nested extension": patient(
        extension=[{"url": "http://example.org/x", "extension": [{"url": "a", "valueCode": "b"}]}]
    ),
    "extension with extended value": patient(
        extension=[{"url": "http://example.org/x", "_valueString": {"extension": [EXTENSION]}}]
    ),
    "element id": patient(name=[{"id": "n1", "family": "x"}]),
    "code of a required binding": patient(gender="other"),
    "system outside of an extensible binding": patient(
        maritalStatus={"coding": [{"system": "http://a.org", "code": "z"}]}
    ),
    "concept of a required binding": condition(clinicalStatus=ACTIVE),
    "concept of a required binding beside another": condition(
        clinicalStatus={"coding": [{"system": "http://a.org", "code": "z"}, *ACTIVE["coding"]]}
    ),
    "language": patient(language="zh-CN"),
    "language with script": patient(language="zh-Hans-CN"),
    "narrative": patient(text={"status": "generated", "div": DIV}),
    "currency": {"resourceType": "Invoice", "status": "issued", "totalNet": {"value": 5, "currency": "CNY"}},
    "contained": patient(
        contained=[{"resourceType": "Organization", "id": "o", "name": "x"}], managingOrganization={"reference": "#o"}
    ),
    "contained that refers to its container": patient(
        contained=[
            {
                "resourceType": "Observation",
                "id": "o",
                "status": "final",
                "code": {"text": "x"},
                "subject": {"reference": "#"},
            }
        ]
    ),
    "bundle": bundle({"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "resource": patient()}),
    "transaction": bundle({"resource": patient(), "request": {"method": "POST", "url": "Patient"}}, kind="transaction"),
    "nested backbone by content reference": {
        "resourceType": "Questionnaire",
        "status": "draft",
        "item": [{"linkId": "1", "type": "group", "item": [{"linkId": "1.1", "type": "string", "maxLength": 5}]}],
    },
    "parameters of every kind": {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "a", "valueCodeableConcept": {"text": "x"}},
            {"name": "b", "resource": patient()},
            {"name": "c", "part": [{"name": "d", "valueBoolean": False}]},
        ],
    },
    "binary": {"resourceType": "Binary", "contentType": "application/pdf", "data": "QUJD"},
    "decimal without fraction": observation(valueQuantity={"value": 72}),
}

REFUSED: dict[str, tuple[Resource, str]] = {
    "unknown element": (patient(nickname="x"), "Patient.nickname"),
    "unknown element, nested": (patient(name=[{"first": "x"}]), "Patient.name[0].first"),
    "element of a later release": (observation(triggeredBy=[]), "Observation.triggeredBy"),
    "comments": (patient(fhir_comments=["x"]), "Patient.fhir_comments"),
    "resourceType in a data type": (
        patient(name=[{"resourceType": "HumanName", "family": "x"}]),
        "Patient.name[0].resourceType",
    ),
    "choice without type": (observation(value="x"), "Observation.value"),
    "choice of a type not allowed": (observation(valueDecimal=1), "Observation.valueDecimal"),
    "two choices": (observation(valueString="a", valueInteger=1), "Observation.value"),
    "two choices, one by extension": (
        observation(valueString="a", _valueInteger={"extension": [EXTENSION]}),
        "Observation.value",
    ),
    "missing": ({"resourceType": "Observation", "status": "final"}, "Observation.code"),
    "missing, nested": (patient(link=[{"type": "seealso"}]), "Patient.link[0].other"),
    "missing choice": (
        {
            "resourceType": "MedicationRequest",
            "status": "active",
            "intent": "order",
            "subject": {"reference": "Patient/1"},
        },
        "MedicationRequest.medication",
    ),
    "one where many": (patient(name={"family": "x"}), "Patient.name"),
    "many where one": (patient(gender=["male"]), "Patient.gender"),
    "many objects where one": (patient(maritalStatus=[{"text": "x"}]), "Patient.maritalStatus"),
    "text where an object": (patient(maritalStatus="M"), "Patient.maritalStatus"),
    "object where a text": (patient(gender={"value": "male"}), "Patient.gender"),
    "text in an array of objects": (patient(name=["x"]), "Patient.name[0]"),
    "object in an array of texts": (patient(name=[{"given": [{"a": "b"}]}]), "Patient.name[0].given[0]"),
    "array in an array": (patient(name=[{"given": [["a"]]}]), "Patient.name[0].given[0]"),
    "null property": (patient(gender=None), "Patient.gender"),
    "null object": (patient(maritalStatus=None), "Patient.maritalStatus"),
    "null array": (patient(name=None), "Patient.name"),
    "null in an array of objects": (patient(name=[None]), "Patient.name[0]"),
    "null without sibling": (patient(name=[{"given": ["a", None]}]), "Patient.name[0].given[1]"),
    "null beside null": (
        patient(name=[{"given": ["a", None], "_given": [{"id": "x"}, None]}]),
        "Patient.name[0].given[1]",
    ),
    "empty array": (patient(name=[]), "Patient.name"),
    "empty array of texts": (patient(name=[{"given": []}]), "Patient.name[0].given"),
    "empty object": (patient(maritalStatus={}), "Patient.maritalStatus"),
    "empty object in an array": (patient(name=[{}]), "Patient.name[0]"),
    "empty text": (patient(name=[{"family": ""}]), "Patient.name[0].family"),
    "only an id": (patient(name=[{"id": "x"}]), "Patient.name[0]"),
    "empty sibling": (patient(birthDate="2000", _birthDate={}), "Patient.birthDate"),
    "sibling with id alone and no value": (patient(_birthDate={"id": "x"}), "Patient.birthDate"),
    "sibling with a value": (patient(birthDate="2000", _birthDate={"value": "x"}), "Patient.birthDate.value"),
    "sibling array for one": (patient(birthDate="2000", _birthDate=[{"id": "x"}]), "Patient.birthDate"),
    "sibling object for many": (patient(name=[{"given": ["a"], "_given": {"id": "x"}}]), "Patient.name[0].given"),
    "sibling of an object": (patient(_name=[{"id": "x"}]), "Patient._name"),
    "extension without value": (patient(extension=[{"url": "http://example.org/x"}]), "Patient.extension[0]"),
    "extension with both": (
        patient(extension=[{"url": "http://a.org", "valueCode": "a", "extension": [EXTENSION]}]),
        "Patient.extension[0]",
    ),
    "extension without url": (patient(extension=[{"valueCode": "a"}]), "Patient.extension[0].url"),
    "extension with two values": (
        patient(extension=[{"url": "http://a.org", "valueCode": "a", "valueString": "b"}]),
        "Patient.extension[0].value",
    ),
    "extension of a type not allowed": (
        patient(extension=[{"url": "http://a.org", "valueXhtml": "a"}]),
        "Patient.extension[0].valueXhtml",
    ),
    "modifier extension in a data type": (
        patient(name=[{"modifierExtension": [EXTENSION], "family": "x"}]),
        "Patient.name[0].modifierExtension",
    ),
    "code outside": (patient(gender="Male"), "Patient.gender"),
    "code outside, nested": (patient(telecom=[{"system": "telefax", "value": "1"}]), "Patient.telecom[0].system"),
    "day of week": (
        {"resourceType": "PractitionerRole", "availableTime": [{"daysOfWeek": ["mon", "Tue"]}]},
        "PractitionerRole.availableTime[0].daysOfWeek[1]",
    ),
    "concept outside": (
        condition(clinicalStatus={"coding": [{"system": "http://a.org", "code": "active"}]}),
        "Condition.clinicalStatus",
    ),
    "concept without system": (condition(clinicalStatus={"coding": [{"code": "active"}]}), "Condition.clinicalStatus"),
    "concept with text alone": (condition(clinicalStatus={"text": "active"}), "Condition.clinicalStatus"),
    "language": (patient(language="english please"), "Patient.language"),
    "currency": (
        {"resourceType": "Invoice", "status": "issued", "totalNet": {"value": 5, "currency": "RMB"}},
        "Invoice.totalNet.currency",
    ),
    "concept with a system that is no text": (
        condition(clinicalStatus={"coding": [{"system": {}, "code": "active"}]}),
        "Condition.clinicalStatus",
    ),
    "extension with a relative url": (patient(extension=[{"url": "a", "valueCode": "b"}]), "Patient.extension[0].url"),
    "extension of a primitive with a relative url": (
        patient(_birthDate={"extension": [{"url": "a", "valueCode": "b"}]}),
        "Patient.birthDate.extension[0].url",
    ),
    "system of a coding with white space": (
        observation(code={"coding": [{"system": "a b", "code": "x"}]}),
        "Observation.code.coding[0].system",
    ),
    "relative system of an identifier": (
        patient(identifier=[{"system": "MR", "value": "x"}]),
        "Patient.identifier[0].system",
    ),
    "identifier that is no URI": (
        patient(identifier=[{"system": "urn:ietf:rfc:3986", "value": "x"}]),
        "Patient.identifier[0].value",
    ),
    "reference with white space": (observation(subject={"reference": "Patient/1 "}), "Observation.subject.reference"),
    "resource id": (patient(id="a_b"), "Patient.id"),
    "no resource type": ({"id": "x"}, "Resource.resourceType"),
    "unknown resource type": ({"resourceType": "Person2"}, "Resource.resourceType"),
    "abstract resource type": ({"resourceType": "DomainResource"}, "Resource.resourceType"),
    "data type as resource": ({"resourceType": "HumanName"}, "Resource.resourceType"),
    "contained without type": (patient(contained=[{"id": "a"}]), "Patient.contained[0].resourceType"),
    "contained without id": (
        patient(contained=[{"resourceType": "Basic", "code": {"text": "x"}}]),
        "Patient.contained[0].id",
    ),
    "contained twice the same id": (
        patient(
            contained=[{"resourceType": "Organization", "id": "o", "name": "x"}] * 2,
            managingOrganization={"reference": "#o"},
        ),
        "Patient.contained[1].id",
    ),
    "wrong inside of contained": (
        patient(
            contained=[{"resourceType": "Organization", "id": "o", "name": 5}], managingOrganization={"reference": "#o"}
        ),
        "Patient.contained[0].name",
    ),
    "wrong inside of a bundle": (
        bundle({"resource": patient(name=[{"given": ["a", 5]}])}),
        "Bundle.entry[0].resource.name[0].given[1]",
    ),
    "resource of a bundle is no object": (bundle({"resource": "x"}), "Bundle.entry[0].resource"),
    "wrong inside of parameters": (
        {"resourceType": "Parameters", "parameter": [{"name": "a", "resource": patient(gender="m")}]},
        "Parameters.parameter[0].resource.gender",
    ),
    "binary without content type": ({"resourceType": "Binary", "data": "QUJD"}, "Binary.contentType"),
    "boolean as text": (patient(active="true"), "Patient.active"),
    "date in a nested period": (patient(name=[{"period": {"start": "2020-02-30"}}]), "Patient.name[0].period.start"),
    "text where resources": (patient(contained="x"), "Patient.contained"),
}


@pytest.mark.parametrize("resource", TAKEN.values(), ids=TAKEN.keys())
def test_taken(resource: Resource) -> None:
    assert check(resource) == []


@pytest.mark.parametrize(("resource", "expression"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(resource: Resource, expression: str) -> None:
    issues = check(resource)
    assert expression in {issue.expression for issue in issues}
    assert {issue.severity for issue in issues} == {"error"}


def test_every_problem_is_reported_at_once() -> None:
    resource = patient(gender="m", birthDate="2023-02-30", nickname="x", name=[{"given": ["", None]}], active="yes")
    assert {issue.expression for issue in check(resource)} == {
        "Patient.gender",
        "Patient.birthDate",
        "Patient.nickname",
        "Patient.name[0].given[0]",
        "Patient.name[0].given[1]",
        "Patient.active",
    }


def test_issues_are_bounded() -> None:
    resource = patient(name=[{"family": 1} for _ in range(5000)])
    assert len(check(resource)) == 100


def test_what_is_no_object_is_refused() -> None:
    assert [issue.expression for issue in check([])] == ["Resource.resourceType"]  # type: ignore[arg-type] # on purpose


def _definition(**views: list[str]) -> dict[str, Any]:
    elements = {
        view: {"element": [{"id": name, "path": name, "min": 0, "max": "1", **_BASE} for name in names]}
        for view, names in views.items()
    }
    return {
        "resourceType": "StructureDefinition",
        "url": "http://example.org/StructureDefinition/thing",
        "name": "Thing",
        "status": "draft",
        "kind": "logical",
        "abstract": False,
        "type": "http://example.org/StructureDefinition/thing",
        "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Element",
        "derivation": "specialization",
        **elements,
    }


_BASE = {"definition": "x", "base": {"path": "Element", "min": 0, "max": "*"}}


def test_snapshot_and_differential_name_the_same_elements() -> None:
    assert check(_definition(snapshot=["thing", "thing.a"], differential=["thing", "thing.a"])) == []
    problems = check(_definition(snapshot=["thing"], differential=["thing", "thing.a", "thing.a"]))
    assert "StructureDefinition.differential.element[2].id" in [issue.expression for issue in problems]
    problems = check(_definition(snapshot=["thing", "thing.a", "thing.a"]))
    assert "StructureDefinition.snapshot.element[2].id" in [issue.expression for issue in problems]


def test_a_uri_as_identifier_has_a_scheme() -> None:
    def identified(value: str) -> dict[str, Any]:
        return {
            "resourceType": "Basic",
            "code": {"text": "x"},
            "identifier": [{"system": "urn:ietf:rfc:3986", "value": value}],
        }

    assert check(identified("urn:oid:37843577-95fb-4adb-84c0-8837188a7bf3")) == []
    assert check(identified("no scheme"))


def test_an_offset_may_go_with_several_meals() -> None:
    def timed(*when: str) -> dict[str, Any]:
        repeat = {"offset": 1, "when": list(when)}
        order = {"resourceType": "ServiceRequest", "status": "active", "intent": "order", "subject": {"display": "x"}}
        return order | {"occurrenceTiming": {"repeat": repeat}}

    assert check(timed("ACM", "AC")) == []
    assert check(timed("ACM", "C"))
    assert check(timed())
