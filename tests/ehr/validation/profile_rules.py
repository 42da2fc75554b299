"""Profiles of one rule each, with a resource that keeps it and one that breaks it."""

from typing import Any

Json = dict[str, Any]
BASE = "http://hl7.org/fhir/StructureDefinition/"
URL = "http://example.org/StructureDefinition/"
COLOURS = "http://example.org/ValueSet/colours"
LOINC = "http://loinc.org"


def profile(name: str, kind: str, *elements: Json, base: str = "", view: str = "differential") -> Json:
    return {
        "resourceType": "StructureDefinition",
        "url": URL + name,
        "name": name,
        "status": "draft",
        "kind": "resource",
        "abstract": False,
        "type": kind,
        "baseDefinition": base or BASE + kind,
        "derivation": "constraint",
        view: {"element": [{"id": kind, "path": kind}, *elements]},
    }


def at(identity: str, **said: Any) -> Json:
    path = ".".join(part.partition(":")[0] for part in identity.split("."))
    slice_name = identity.rpartition(".")[2].partition(":")[2]
    return {"id": identity, "path": path, **({"sliceName": slice_name} if slice_name else {}), **said}


def observation(**members: Any) -> Json:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **members}


def patient(**members: Any) -> Json:
    return {"resourceType": "Patient", **members}


def slicing(*discriminators: tuple[str, str], rules: str = "open", ordered: bool = False) -> Json:
    listed = [{"type": kind, "path": path} for kind, path in discriminators]
    return {"discriminator": listed, "rules": rules, "ordered": ordered}


def coded(*codes: str, system: str = LOINC) -> Json:
    return {"coding": [{"system": system, "code": code} for code in codes]}


def component(code: str, **more: Any) -> Json:
    return {"code": coded(code), **more}


_PRESSURE = (
    at("Observation.component", slicing=slicing(("pattern", "code"), rules="closed", ordered=True), min=2),
    at("Observation.component:systolic", min=1, max="1"),
    at("Observation.component:systolic.code", patternCodeableConcept=coded("8480-6")),
    at("Observation.component:systolic.value[x]", min=1, type=[{"code": "Quantity"}]),
    at("Observation.component:systolic.value[x].code", min=1, fixedCode="mm[Hg]"),
    at("Observation.component:diastolic", min=1, max="1"),
    at("Observation.component:diastolic.code", patternCodeableConcept=coded("8462-4")),
)
_MMHG = {"valueQuantity": {"value": 120, "code": "mm[Hg]", "system": "http://unitsofmeasure.org"}}
_HIGH, _LOW = component("8480-6", **_MMHG), component("8462-4")

GENDER = "http://hl7.org/fhir/ValueSet/administrative-gender"
RULES: dict[str, tuple[Json, Json, Json, tuple[str, str]]] = {
    "cardinality: least": (
        profile("p", "Patient", at("Patient.birthDate", min=1)),
        patient(birthDate="2000"),
        patient(),
        ("required", "Patient.birthDate"),
    ),
    "cardinality: least, within a list": (
        profile("p", "Patient", at("Patient.name.family", min=1)),
        patient(name=[{"family": "a"}, {"family": "b"}]),
        patient(name=[{"family": "a"}, {"text": "b"}]),
        ("required", "Patient.name[1].family"),
    ),
    "cardinality: most": (
        profile("p", "Patient", at("Patient.name", max="1")),
        patient(name=[{"family": "a"}]),
        patient(name=[{"family": "a"}, {"family": "b"}]),
        ("structure", "Patient.name"),
    ),
    "cardinality: forbidden": (
        profile("p", "Patient", at("Patient.photo", max="0")),
        patient(),
        patient(photo=[{"title": "a"}]),
        ("structure", "Patient.photo"),
    ),
    "fixed primitive": (
        profile("p", "Observation", at("Observation.status", fixedCode="final")),
        observation(),
        observation(status="amended"),
        ("value", "Observation.status"),
    ),
    "fixed complex is the whole": (
        profile("p", "Observation", at("Observation.code", fixedCodeableConcept=coded("1-8"))),
        observation(code=coded("1-8")),
        observation(code={**coded("1-8"), "text": "more"}),
        ("value", "Observation.code"),
    ),
    "pattern lets more stand": (
        profile("p", "Observation", at("Observation.code", patternCodeableConcept=coded("1-8"))),
        observation(code={**coded("2-6", "1-8"), "text": "more"}),
        observation(code=coded("2-6")),
        ("value", "Observation.code"),
    ),
    "lowest and highest value": (
        profile("p", "Patient", at("Patient.multipleBirth[x]", minValueInteger=1, maxValueInteger=8)),
        patient(multipleBirthInteger=8),
        patient(multipleBirthInteger=9),
        ("value", "Patient.multipleBirth"),
    ),
    "highest date": (
        profile("p", "Patient", at("Patient.birthDate", maxValueDate="2020-01-01")),
        patient(birthDate="2020-01-01"),
        patient(birthDate="2020-01-02"),
        ("value", "Patient.birthDate"),
    ),
    "length": (
        profile("p", "Patient", at("Patient.name.family", maxLength=3)),
        patient(name=[{"family": "abc"}]),
        patient(name=[{"family": "abcd"}]),
        ("too-long", "Patient.name[0].family"),
    ),
    "types of a choice": (
        profile("p", "Observation", at("Observation.value[x]", type=[{"code": "Quantity"}, {"code": "string"}])),
        observation(valueString="a"),
        observation(valueBoolean=True),
        ("structure", "Observation.value"),
    ),
    "targets of references": (
        profile(
            "p",
            "Observation",
            at("Observation.subject", type=[{"code": "Reference", "targetProfile": [BASE + "Patient"]}]),
        ),
        observation(subject={"reference": "Patient/1"}),
        observation(subject={"reference": "Group/1"}),
        ("structure", "Observation.subject"),
    ),
    "SimpleQuantity": (
        profile(
            "p",
            "Observation",
            at("Observation.value[x]", type=[{"code": "Quantity", "profile": [BASE + "SimpleQuantity"]}]),
        ),
        observation(valueQuantity={"value": 1}),
        observation(valueQuantity={"value": 1, "comparator": "<"}),
        ("structure", "Observation.value.comparator"),
    ),
    "binding, stored": (
        profile("p", "Observation", at("Observation.code", binding={"strength": "required", "valueSet": COLOURS})),
        observation(code=coded("red", system="urn:colours")),
        observation(code=coded("red", system="urn:other")),
        ("code-invalid", "Observation.code"),
    ),
    "binding of a code": (
        profile("p", "Patient", at("Patient.language", binding={"strength": "required", "valueSet": COLOURS})),
        patient(language="red"),
        patient(language="blu"),
        ("code-invalid", "Patient.language"),
    ),
    "binding wants a code, not a text": (
        profile("p", "Observation", at("Observation.code", binding={"strength": "required", "valueSet": COLOURS})),
        observation(code=coded("blue", system="urn:colours")),
        observation(),
        ("code-invalid", "Observation.code"),
    ),
    "binding of R4's own": (
        profile(
            "p",
            "Patient",
            at("Patient.name.period.extension", max="0"),
            at("Patient.contact.gender", binding={"strength": "required", "valueSet": GENDER}),
            at("Patient.contact.name", min=1),
        ),
        patient(contact=[{"gender": "female", "name": {"text": "a"}}]),
        patient(contact=[{"gender": "female", "telecom": [{"system": "phone"}]}]),
        ("required", "Patient.contact[0].name"),
    ),
    "invariant of the resource": (
        profile(
            "p",
            "Patient",
            {
                "id": "Patient",
                "path": "Patient",
                "constraint": [
                    {
                        "key": "p-1",
                        "severity": "error",
                        "human": "a name",
                        "expression": "name.exists() or %resource.identifier.exists()",
                    }
                ],
            },
        ),
        patient(identifier=[{"value": "a"}]),
        patient(),
        ("invariant", "Patient"),
    ),
    "invariant of an element": (
        profile(
            "p",
            "Patient",
            at(
                "Patient.name",
                constraint=[
                    {"key": "p-2", "severity": "error", "human": "a", "expression": "family.exists() or text.exists()"}
                ],
            ),
        ),
        patient(name=[{"text": "a"}]),
        patient(name=[{"text": "a"}, {"given": ["a"]}]),
        ("invariant", "Patient.name[1]"),
    ),
    "invariant of a primitive": (
        profile(
            "p",
            "Patient",
            at(
                "Patient.birthDate",
                constraint=[
                    {"key": "p-3", "severity": "error", "human": "a", "expression": "toString().length() = 10"}
                ],
            ),
        ),
        patient(birthDate="2000-01-01"),
        patient(birthDate="2000"),
        ("invariant", "Patient.birthDate"),
    ),
    "slice by value": (
        profile(
            "p",
            "Patient",
            at("Patient.identifier", slicing=slicing(("value", "system"))),
            at("Patient.identifier:mrn", min=1),
            at("Patient.identifier:mrn.system", min=1, fixedUri="urn:mrn"),
        ),
        patient(identifier=[{"system": "urn:x"}, {"system": "urn:mrn"}]),
        patient(identifier=[{"system": "urn:x"}]),
        ("required", "Patient.identifier"),
    ),
    "slice by value, rules within": (
        profile(
            "p",
            "Patient",
            at("Patient.identifier", slicing=slicing(("value", "system"))),
            at("Patient.identifier:mrn.system", min=1, fixedUri="urn:mrn"),
            at("Patient.identifier:mrn.value", min=1),
        ),
        patient(identifier=[{"system": "urn:x"}, {"system": "urn:mrn", "value": "1"}]),
        patient(identifier=[{"system": "urn:x"}, {"system": "urn:mrn"}]),
        ("required", "Patient.identifier[1].value"),
    ),
    "slice by value deep within": (
        profile(
            "p",
            "Observation",
            at("Observation.category", slicing=slicing(("value", "coding.code"), ("value", "coding.system")), min=1),
            at("Observation.category:vital", min=1, max="1"),
            at("Observation.category:vital.coding", min=1),
            at("Observation.category:vital.coding.system", min=1, fixedUri="urn:cat"),
            at("Observation.category:vital.coding.code", min=1, fixedCode="vital-signs"),
        ),
        observation(category=[coded("x"), coded("vital-signs", system="urn:cat")]),
        observation(category=[coded("vital-signs", system="urn:other")]),
        ("required", "Observation.category"),
    ),
    "slices of which one says nothing by a discriminator": (
        profile(
            "p",
            "Observation",
            at("Observation.referenceRange", slicing=slicing(("pattern", "type"), ("pattern", "appliesTo"))),
            at("Observation.referenceRange:both", max="1"),
            at("Observation.referenceRange:both.type", min=1, patternCodeableConcept=coded("normal")),
            at("Observation.referenceRange:both.appliesTo", min=1, patternCodeableConcept=coded("2036-2")),
            at("Observation.referenceRange:one", min=1),
            at("Observation.referenceRange:one.type", min=1, patternCodeableConcept=coded("treatment")),
        ),
        observation(referenceRange=[{"text": "a", "type": coded("treatment")}]),
        observation(referenceRange=[{"text": "a", "type": coded("normal"), "appliesTo": [coded("2036-2")]}]),
        ("required", "Observation.referenceRange"),
    ),
    "slice by value set": (
        profile(
            "p",
            "Observation",
            at("Observation.category", slicing=slicing(("value", "$this"))),
            at("Observation.category:colour", min=1, binding={"strength": "required", "valueSet": COLOURS}),
        ),
        observation(category=[coded("red", system="urn:colours")]),
        observation(category=[coded("green", system="urn:colours")]),
        ("required", "Observation.category"),
    ),
    "slice by pattern, closed": (
        profile("p", "Observation", *_PRESSURE),
        observation(component=[_HIGH, _LOW]),
        observation(component=[_HIGH, _LOW, component("1-8")]),
        ("structure", "Observation.component[2]"),
    ),
    "slices in order": (
        profile("p", "Observation", *_PRESSURE),
        observation(component=[_HIGH, _LOW]),
        observation(component=[_LOW, _HIGH]),
        ("structure", "Observation.component"),
    ),
    "slices below which a choice has one type": (
        profile("p", "Observation", *_PRESSURE),
        observation(component=[_HIGH, _LOW]),
        observation(
            component=[
                component("8480-6", valueQuantity={"value": 1, "code": "kPa", "system": "http://unitsofmeasure.org"}),
                _LOW,
            ]
        ),
        ("value", "Observation.component[0].value.code"),
    ),
    "slice at most once": (
        profile("p", "Observation", *_PRESSURE),
        observation(component=[_HIGH, _LOW]),
        observation(component=[_HIGH, _HIGH, _LOW]),
        ("structure", "Observation.component"),
    ),
    "others at the end only": (
        profile(
            "p",
            "Patient",
            at("Patient.identifier", slicing=slicing(("value", "system"), rules="openAtEnd")),
            at("Patient.identifier:mrn.system", min=1, fixedUri="urn:mrn"),
        ),
        patient(identifier=[{"system": "urn:mrn"}, {"system": "urn:x"}]),
        patient(identifier=[{"system": "urn:x"}, {"system": "urn:mrn"}]),
        ("structure", "Patient.identifier[0]"),
    ),
    "slice by type": (
        profile(
            "p",
            "Observation",
            at("Observation.value[x]", slicing=slicing(("type", "$this"), rules="closed")),
            at("Observation.value[x]:valueQuantity", type=[{"code": "Quantity"}]),
            at("Observation.value[x]:valueQuantity.unit", min=1),
            at("Observation.value[x]:valueString", type=[{"code": "string"}]),
        ),
        observation(valueString="a"),
        observation(valueQuantity={"value": 1}),
        ("required", "Observation.value.unit"),
    ),
    "slice by type, closed": (
        profile(
            "p",
            "Observation",
            at("Observation.value[x]", slicing=slicing(("type", "$this"), rules="closed")),
            at("Observation.value[x]:valueQuantity", type=[{"code": "Quantity"}]),
        ),
        observation(valueQuantity={"value": 1}),
        observation(valueString="a"),
        ("structure", "Observation.value"),
    ),
    "slice by the short name of a type": (
        profile(
            "p",
            "Observation",
            {"id": "Observation.valueQuantity", "path": "Observation.valueQuantity"},
            {"path": "Observation.valueQuantity.unit", "min": 1},
        ),
        observation(valueQuantity={"value": 1, "unit": "g"}),
        observation(valueQuantity={"value": 1}),
        ("required", "Observation.value.unit"),
    ),
    "slice by type of the target": (
        profile(
            "p",
            "Observation",
            at("Observation.performer", slicing=slicing(("type", "resolve()"))),
            at(
                "Observation.performer:org",
                min=1,
                type=[{"code": "Reference", "targetProfile": [BASE + "Organization"]}],
            ),
        ),
        observation(performer=[{"reference": "Practitioner/1"}, {"reference": "Organization/1"}]),
        observation(performer=[{"reference": "Practitioner/1"}]),
        ("required", "Observation.performer"),
    ),
    "slice by existence": (
        profile(
            "p",
            "Patient",
            at("Patient.telecom", slicing=slicing(("exists", "period"))),
            at("Patient.telecom:old", max="1"),
            at("Patient.telecom:old.period", min=1),
            at("Patient.telecom:now", min=1),
            at("Patient.telecom:now.period", max="0"),
        ),
        patient(telecom=[{"rank": 1, "period": {"end": "2000"}}, {"rank": 2}]),
        patient(telecom=[{"rank": 1, "period": {"end": "2000"}}]),
        ("required", "Patient.telecom"),
    ),
    "slice of extensions by url": (
        profile(
            "p",
            "Patient",
            at("Patient.extension:race", min=1, type=[{"code": "Extension", "profile": [URL + "race"]}]),
        ),
        patient(extension=[{"url": URL + "race", "valueString": "a"}]),
        patient(extension=[{"url": URL + "other", "valueString": "a"}]),
        ("required", "Patient.extension"),
    ),
    "slice by a value in an extension": (
        profile(
            "p",
            "Patient",
            at("Patient.name", slicing=slicing(("value", f"extension('{URL}way').value"))),
            at("Patient.name:pinyin", min=1),
            at("Patient.name:pinyin.extension:way", min=1, type=[{"code": "Extension", "profile": [URL + "way"]}]),
            at("Patient.name:pinyin.extension:way.value[x]", fixedCode="SYL"),
        ),
        patient(name=[{"text": "a", "extension": [{"url": URL + "way", "valueCode": "SYL"}]}]),
        patient(name=[{"text": "a", "extension": [{"url": URL + "way", "valueCode": "IDE"}]}]),
        ("required", "Patient.name"),
    ),
    "entries by the type of their resource": (
        profile(
            "p",
            "Bundle",
            at("Bundle.entry", slicing=slicing(("type", "resource"), rules="closed")),
            at("Bundle.entry:patient", min=1, max="1"),
            at("Bundle.entry:patient.resource", type=[{"code": "Patient"}]),
        ),
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [{"fullUrl": "urn:oid:1.2.7", "resource": patient()}],
        },
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {"fullUrl": "urn:oid:1.2.7", "resource": patient()},
                {"fullUrl": "urn:oid:1.2.8", "resource": observation()},
            ],
        },
        ("structure", "Bundle.entry[1]"),
    ),
    "elements without ids": (
        profile(
            "p",
            "Patient",
            {"path": "Patient.identifier", "slicing": slicing(("value", "system"))},
            {"path": "Patient.identifier", "sliceName": "mrn", "min": 1},
            {"path": "Patient.identifier.system", "min": 1, "fixedUri": "urn:mrn"},
            {"path": "Patient.identifier.value", "min": 1},
        ),
        patient(identifier=[{"system": "urn:x"}, {"system": "urn:mrn", "value": "1"}]),
        patient(identifier=[{"system": "urn:mrn"}]),
        ("required", "Patient.identifier[0].value"),
    ),
    "a snapshot": (
        profile(
            "p",
            "Patient",
            at("Patient.id", type=[{"code": "http://hl7.org/fhirpath/System.String"}]),
            at("Patient.active", min=1, max="1", type=[{"code": "boolean"}]),
            view="snapshot",
        ),
        patient(id="a", active=True),
        patient(id="a"),
        ("required", "Patient.active"),
    ),
}
