"""Rules beyond structure: references, contained resources, Bundles, attachments, invariants."""

import time
import tracemalloc
from typing import Any

import pytest

from ehr import definitions
from ehr.validation import check
from ehr.validation.checkers import checker_of
from ehr.validation.invariants import HELD_ELSEWHERE

Resource = dict[str, Any]
ENTERED_IN_ERROR = "entered-in-error"


def patient(**members: Any) -> Resource:
    return {"resourceType": "Patient", **members}


def observation(**members: Any) -> Resource:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **members}


def subject(**reference: Any) -> Resource:
    return observation(subject=reference)


TAKEN: dict[str, Resource] = {
    "relative reference": subject(reference="Patient/1"),
    "versioned reference": subject(reference="Patient/1/_history/2"),
    "absolute reference": subject(reference="https://a.org/fhir/Patient/1"),
    "absolute reference of no known form": subject(reference="https://a.org/x/y"),
    "urn": subject(reference="urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
    "logical reference": subject(identifier={"value": "x"}),
    "display only": subject(display="x"),
    "reference with its type": subject(reference="Patient/1", type="Patient"),
    "reference to any type": {"resourceType": "Basic", "code": {"text": "x"}, "subject": {"reference": "Account/1"}},
    "bundle reference": {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "resource": patient()},
            {
                "fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239521",
                "resource": subject(reference="urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
            },
        ],
    },
    "contained referring to contained": patient(
        contained=[
            {"resourceType": "Organization", "id": "a", "partOf": {"reference": "#b"}, "name": "a"},
            {"resourceType": "Organization", "id": "b", "name": "b"},
        ],
        managingOrganization={"reference": "#a"},
    ),
    "period": patient(name=[{"family": "x", "period": {"start": "2020-01-01", "end": "2020-01-01"}}]),
    "period of different zones": patient(
        name=[{"family": "x", "period": {"start": "2020-01-01T10:00:00+08:00", "end": "2020-01-01T03:00:00Z"}}]
    ),
    "open period": patient(name=[{"family": "x", "period": {"start": "2020-01-01"}}]),
    "contact with a telecom": patient(contact=[{"telecom": [{"system": "phone", "value": "1"}]}]),
    "quantity with system and code": observation(
        valueQuantity={"value": 1, "system": "http://unitsofmeasure.org", "code": "mg"}
    ),
    "reference range": observation(referenceRange=[{"low": {"value": 1}}]),
    "component": observation(valueString="x", component=[{"code": {"text": "y"}, "valueString": "z"}]),
    "unnamed organization": {"resourceType": "Organization", "identifier": [{"value": "x"}]},
    "allergy": {
        "resourceType": "AllergyIntolerance",
        "patient": {"reference": "Patient/1"},
        "clinicalStatus": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}
            ]
        },
    },
    "search set": {"resourceType": "Bundle", "type": "searchset", "total": 0},
    "timing": {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/1"},
        "occurrenceTiming": {"repeat": {"frequency": 1, "period": 1, "periodUnit": "d"}},
    },
    "ratio": observation(valueRatio={"numerator": {"value": 1}, "denominator": {"value": 2}}),
    "risk without probability": {
        "resourceType": "RiskAssessment",
        "status": "final",
        "subject": {"reference": "Patient/1"},
        "prediction": [{"outcome": {"text": "x"}}],
    },
    "transaction entry without fullUrl": {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": patient(active=True), "request": {"method": "POST", "url": "Patient"}}],
    },
    "contained by canonical": {
        "resourceType": "QuestionnaireResponse",
        "status": "completed",
        "questionnaire": "#q",
        "contained": [{"resourceType": "Questionnaire", "id": "q", "status": "draft"}],
    },
    "contained by extension": patient(
        contained=[{"resourceType": "Practitioner", "id": "p"}],
        extension=[{"url": "http://a.org/x", "valueReference": {"reference": "#p"}}],
    ),
    "attachment": patient(
        photo=[{"contentType": "image/png", "data": "QUJD", "size": 3, "hash": "PAG9uybzWLqyfyZ5JKosmgP8/bg="}]
    ),
    "range": observation(valueRange={"low": {"value": 1}, "high": {"value": 2}}),
    "enable when exists": {
        "resourceType": "Questionnaire",
        "status": "draft",
        "item": [
            {"linkId": "1", "type": "boolean"},
            {
                "linkId": "2",
                "type": "string",
                "enableWhen": [{"question": "1", "operator": "exists", "answerBoolean": True}],
            },
        ],
    },
}

REFUSED: dict[str, tuple[Resource, str]] = {
    "sdf-8a": (
        {
            "resourceType": "StructureDefinition",
            "url": "http://a.org/x",
            "name": "X",
            "status": "draft",
            "kind": "resource",
            "abstract": False,
            "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "derivation": "constraint",
            "differential": {
                "element": [{"id": "Patient", "path": "Patient"}, {"id": "Person.name", "path": "Person.name"}]
            },
        },
        "StructureDefinition.differential",
    ),
    "sdf-8": (
        {
            "resourceType": "StructureDefinition",
            "url": "http://a.org/x",
            "name": "X",
            "status": "draft",
            "kind": "resource",
            "abstract": False,
            "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "derivation": "constraint",
            "snapshot": {"element": [{"id": "Person", "path": "Person"}]},
        },
        "StructureDefinition.snapshot",
    ),
    "ig-1": (
        {
            "resourceType": "ImplementationGuide",
            "url": "http://a.org/x",
            "name": "X",
            "status": "draft",
            "packageId": "a.b",
            "fhirVersion": ["4.0.1"],
            "definition": {"resource": [{"reference": {"reference": "Patient/1"}, "groupingId": "g"}]},
        },
        "ImplementationGuide.definition",
    ),
    "ig-2": (
        {
            "resourceType": "ImplementationGuide",
            "url": "http://a.org/x",
            "name": "X",
            "status": "draft",
            "packageId": "a.b",
            "fhirVersion": ["4.0.1"],
            "definition": {"resource": [{"reference": {"reference": "Patient/1"}, "fhirVersion": ["1.0.2"]}]},
        },
        "ImplementationGuide",
    ),
    "entry without fullUrl": (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": patient(active=True)}]},
        "Bundle.entry[0].fullUrl",
    ),
    "relative fullUrl": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "Patient/1", "resource": patient(id="1")}],
        },
        "Bundle.entry[0].fullUrl",
    ),
    "fullUrl of another id": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://a.org/Patient/2", "resource": patient(id="1")}],
        },
        "Bundle.entry[0].fullUrl",
    ),
    "fullUrl with an id of a resource without": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://a.org/Patient/2", "resource": patient(active=True)}],
        },
        "Bundle.entry[0].fullUrl",
    ),
    "two elements with one id": (
        patient(name=[{"id": "a", "family": "x"}, {"family": "y", "_family": {"id": "a"}}]),
        "Patient.name[1].family.id",
    ),
    "size of an attachment": (
        patient(photo=[{"contentType": "image/png", "data": "QUJD", "size": 4}]),
        "Patient.photo[0].size",
    ),
    "hash of an attachment": (
        patient(photo=[{"contentType": "image/png", "data": "QUJD", "hash": "QUJD"}]),
        "Patient.photo[0].hash",
    ),
    "dom-3 by display": (
        patient(
            contained=[{"resourceType": "Organization", "id": "a", "name": "x"}], managingOrganization={"display": "#a"}
        ),
        "Patient.contained[0]",
    ),
    "dom-3 to itself": (
        patient(contained=[{"resourceType": "Organization", "id": "a", "name": "x", "partOf": {"reference": "#a"}}]),
        "Patient.contained[0]",
    ),
    "tst-6": (
        {
            "resourceType": "TestScript",
            "url": "http://a.org/t",
            "name": "t",
            "status": "draft",
            "test": [{"action": [{"assert": {"warningOnly": True, "path": "x", "expression": "y"}}]}],
        },
        "TestScript.test[0].action[0].assert",
    ),
    "text alone for a code of an open value set": (
        {
            "resourceType": "EffectEvidenceSynthesis",
            "status": "draft",
            "population": {"reference": "EvidenceVariable/1"},
            "exposure": {"reference": "EvidenceVariable/1"},
            "exposureAlternative": {"reference": "EvidenceVariable/1"},
            "outcome": {"reference": "EvidenceVariable/1"},
            "effectEstimate": [{"unitOfMeasure": {"text": "mg"}}],
        },
        "EffectEvidenceSynthesis.effectEstimate[0].unitOfMeasure",
    ),
    "reference to another type": (subject(reference="Practitioner/1"), "Observation.subject"),
    "absolute reference to another type": (
        subject(reference="https://a.org/fhir/Practitioner/1"),
        "Observation.subject",
    ),
    "conditional reference to another type": (subject(reference="Practitioner?identifier=x"), "Observation.subject"),
    "reference of two types": (subject(reference="Patient/1", type="Group"), "Observation.subject"),
    "type that may not stand there": (subject(identifier={"value": "x"}, type="Practitioner"), "Observation.subject"),
    "unknown type": (subject(identifier={"value": "x"}, type="Person2"), "Observation.subject.type"),
    "reference into nothing": (subject(reference="#p"), "Observation.subject.reference"),
    "reference to oneself outside of contained": (subject(reference="#"), "Observation.subject.reference"),
    "contained of another type": (
        observation(contained=[{"resourceType": "Practitioner", "id": "p"}], subject={"reference": "#p"}),
        "Observation.subject",
    ),
    "bundle reference to another type": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {
                    "fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
                    "resource": {"resourceType": "Practitioner"},
                },
                {
                    "fullUrl": "urn:uuid:c757873d-ec9a-4326-a141-556f43239521",
                    "resource": subject(reference="urn:uuid:c757873d-ec9a-4326-a141-556f43239520"),
                },
            ],
        },
        "Bundle.entry[1].resource.subject",
    ),
    "dom-2": (
        patient(
            contained=[
                {
                    "resourceType": "Organization",
                    "id": "a",
                    "name": "x",
                    "contained": [{"resourceType": "Organization", "id": "b", "name": "y"}],
                    "partOf": {"reference": "#b"},
                }
            ],
            managingOrganization={"reference": "#a"},
        ),
        "Patient",
    ),
    "dom-3": (patient(contained=[{"resourceType": "Organization", "id": "a", "name": "x"}]), "Patient.contained[0]"),
    "dom-4": (
        patient(
            contained=[{"resourceType": "Organization", "id": "a", "name": "x", "meta": {"versionId": "1"}}],
            managingOrganization={"reference": "#a"},
        ),
        "Patient",
    ),
    "dom-5": (
        patient(
            contained=[{"resourceType": "Organization", "id": "a", "name": "x", "meta": {"security": [{"code": "R"}]}}],
            managingOrganization={"reference": "#a"},
        ),
        "Patient",
    ),
    "per-1": (
        patient(name=[{"family": "x", "period": {"start": "2020-01-02", "end": "2020-01-01"}}]),
        "Patient.name[0].period",
    ),
    "per-1 across zones": (
        patient(
            name=[{"family": "x", "period": {"start": "2020-01-01T10:00:00+08:00", "end": "2020-01-01T01:00:00Z"}}]
        ),
        "Patient.name[0].period",
    ),
    "pat-1": (patient(contact=[{"gender": "male"}]), "Patient.contact[0]"),
    "qty-3": (observation(valueQuantity={"value": 1, "code": "mg"}), "Observation.value"),
    "sqty-1": (
        observation(referenceRange=[{"low": {"value": 1, "comparator": "<"}}]),
        "Observation.referenceRange[0].low",
    ),
    "rng-2": (observation(valueRange={"low": {"value": 3}, "high": {"value": 2}}), "Observation.value"),
    "rat-1": (observation(valueRatio={"numerator": {"value": 1}}), "Observation.value"),
    "obs-3": (observation(referenceRange=[{"appliesTo": [{"text": "x"}]}]), "Observation.referenceRange[0]"),
    "obs-3 in a component": (
        observation(component=[{"code": {"text": "x"}, "referenceRange": [{"age": {"low": {"value": 1}}}]}]),
        "Observation.component[0].referenceRange[0]",
    ),
    "obs-6": (observation(valueString="x", dataAbsentReason={"text": "y"}), "Observation"),
    "obs-7": (
        {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": "http://a.org", "code": "a"}]},
            "valueString": "x",
            "component": [{"code": {"coding": [{"system": "http://a.org", "code": "a"}]}}],
        },
        "Observation",
    ),
    "att-1": (patient(photo=[{"data": "QUJD"}]), "Patient.photo[0]"),
    "cpt-2": (patient(telecom=[{"value": "1"}]), "Patient.telecom[0]"),
    "org-1": ({"resourceType": "Organization", "active": True}, "Organization"),
    "org-2": (
        {"resourceType": "Organization", "name": "x", "address": [{"use": "work"}, {"use": "home"}]},
        "Organization.address[1]",
    ),
    "org-3": ({"resourceType": "Organization", "name": "x", "telecom": [{"use": "home"}]}, "Organization.telecom[0]"),
    "ait-1": ({"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/1"}}, "AllergyIntolerance"),
    "con-4": (
        {"resourceType": "Condition", "subject": {"reference": "Patient/1"}, "abatementString": "x"},
        "Condition",
    ),
    "con-5": (
        {
            "resourceType": "Condition",
            "subject": {"reference": "Patient/1"},
            "clinicalStatus": {
                "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
            },
            "verificationStatus": {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": ENTERED_IN_ERROR}
                ]
            },
        },
        "Condition",
    ),
    "bdl-1": ({"resourceType": "Bundle", "type": "collection", "total": 1}, "Bundle"),
    "bdl-3": ({"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient()}]}, "Bundle"),
    "bdl-5": (
        {"resourceType": "Bundle", "type": "collection", "entry": [{"fullUrl": "http://a.org/Patient/1"}]},
        "Bundle.entry[0]",
    ),
    "bdl-7": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://a.org/Patient/1", "resource": patient(id="1")}] * 2,
        },
        "Bundle",
    ),
    "bdl-8": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "http://a.org/Patient/1/_history/1", "resource": patient(id="1")}],
        },
        "Bundle.entry[0]",
    ),
    "bdl-9": ({"resourceType": "Bundle", "type": "document", "timestamp": "2020-01-01T00:00:00Z"}, "Bundle"),
    "inv-1 of parameters": ({"resourceType": "Parameters", "parameter": [{"name": "x"}]}, "Parameters.parameter[0]"),
    "inv-1 of a task": (
        {
            "resourceType": "Task",
            "status": "draft",
            "intent": "order",
            "authoredOn": "2020-01-02",
            "lastModified": "2020-01-01",
        },
        "Task",
    ),
    "tim-2": (
        {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": {"reference": "Patient/1"},
            "occurrenceTiming": {"repeat": {"period": 1}},
        },
        "ServiceRequest.occurrence.repeat",
    ),
    "que-1": (
        {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": "1", "type": "group"}]},
        "Questionnaire.item[0]",
    ),
    "que-2": (
        {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": "1", "type": "string"}] * 2},
        "Questionnaire",
    ),
    "que-7": (
        {
            "resourceType": "Questionnaire",
            "status": "draft",
            "item": [
                {
                    "linkId": "2",
                    "type": "string",
                    "enableWhen": [{"question": "1", "operator": "exists", "answerInteger": 1}],
                }
            ],
        },
        "Questionnaire.item[0].enableWhen[0]",
    ),
    "ras-1": (
        {
            "resourceType": "RiskAssessment",
            "status": "final",
            "subject": {"reference": "Patient/1"},
            "prediction": [{"probabilityRange": {"low": {"value": 1}}}],
        },
        "RiskAssessment.prediction[0].probability",
    ),
    "ras-2": (
        {
            "resourceType": "RiskAssessment",
            "status": "final",
            "subject": {"reference": "Patient/1"},
            "prediction": [{"probabilityDecimal": 101}],
        },
        "RiskAssessment.prediction[0]",
    ),
    "age-1": (
        {"resourceType": "Condition", "subject": {"reference": "Patient/1"}, "onsetAge": {"value": 5}},
        "Condition.onset",
    ),
    "drt-1": (
        {
            "resourceType": "MedicationDispense",
            "status": "completed",
            "medicationCodeableConcept": {"text": "x"},
            "dosageInstruction": [
                {"timing": {"repeat": {"boundsDuration": {"value": 1, "code": "d", "system": "http://x.org"}}}}
            ],
        },
        "MedicationDispense.dosageInstruction[0].timing.repeat.bounds",
    ),
    "eld-3": (
        {
            "resourceType": "StructureDefinition",
            "url": "http://a.org/x",
            "name": "X",
            "status": "draft",
            "kind": "resource",
            "abstract": False,
            "type": "Patient",
            "baseDefinition": "http://hl7.org/fhir/StructureDefinition/Patient",
            "derivation": "constraint",
            "differential": {"element": [{"id": "Patient", "path": "Patient", "max": "many"}]},
        },
        "StructureDefinition.differential.element[0].max",
    ),
}


@pytest.mark.parametrize("resource", TAKEN.values(), ids=TAKEN.keys())
def test_taken(resource: Resource) -> None:
    assert check(resource) == []


@pytest.mark.parametrize(("resource", "expression"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(resource: Resource, expression: str) -> None:
    issues = check(resource)
    assert expression in {issue.expression for issue in issues}


@pytest.mark.parametrize("name", [n for n in REFUSED if "-" in n.split(" ")[0]])
def test_an_invariant_is_named(name: str) -> None:
    keys = {issue.diagnostics.partition(":")[0] for issue in check(REFUSED[name][0]) if issue.code == "invariant"}
    assert name.partition(" ")[0] in keys


@pytest.mark.parametrize("resource_type", definitions.RESOURCE_TYPES)
def test_every_invariant_of_severity_error_is_held(resource_type: str) -> None:
    """Compiling raises for an expression that cannot be read; here none may be left out either."""
    structure = definitions.structure(resource_type)
    for element in structure.elements:
        if element is not structure.root and {t.code for t in element.types} & {"BackboneElement", "Element"}:
            held = {rule.key for rule in checker_of(element.path).invariants}
        elif element is structure.root:
            held = {rule.key for rule in checker_of(resource_type).invariants}
        else:
            continue
        stated = {c.key for c in element.constraints if c.severity == "error"}
        assert stated - held <= HELD_ELSEWHERE.keys()


LARGE = {
    "components": observation(
        code={"coding": [{"system": "http://a.org", "code": str(number)} for number in range(5000)]},
        valueString="x",
        component=[{"code": {"coding": [{"code": str(number)}]}} for number in range(5000)],
    ),
    "contained": patient(
        contained=[{"resourceType": "Practitioner", "id": str(number)} for number in range(5000)],
        generalPractitioner=[{"reference": f"#{number}"} for number in range(5000)],
    ),
    "base64": {"resourceType": "Binary", "contentType": "image/png", "data": "QUJD" * 2_000_000},
    "code": patient(maritalStatus={"coding": [{"code": "a " * 1_000_000 + "a"}]}),
}


@pytest.mark.parametrize("resource", LARGE.values(), ids=LARGE.keys())
def test_cost_grows_with_size_only(resource: Resource) -> None:
    tracemalloc.start()
    started = time.process_time()
    assert check(resource) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - started < 5
    assert peak < 64 << 20
