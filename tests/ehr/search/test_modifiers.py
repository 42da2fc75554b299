"""Which modifiers each kind of parameter takes, and that no other is taken: https://hl7.org/fhir/R4/search.html#modifiers."""

import pytest

from ehr.definitions import RESOURCE_TYPES, search_parameters
from ehr.errors import BadSearch
from ehr.search import parse

VALUES = {
    "token": "urn:s|c",
    "string": "words",
    "reference": "Patient/1",
    "date": "2020-01-01",
    "number": "1",
    "quantity": "1",
    "uri": "http://example.org",
}
OFFERED = {
    "token": {"missing", "not", "text", "of-type", "in", "not-in", "below", "above"},
    "string": {"missing", "exact", "contains"},
    "reference": {"missing", "identifier"},
    "date": {"missing"},
    "number": {"missing"},
    "quantity": {"missing"},
    "uri": {"missing", "below", "above"},
}
IDENTIFIERS = {"identifier", "group-identifier"}
NEITHER_CODED_NOR_IDENTIFIED = {"_id", "active", "deceased", "email", "phone", "telecom", "version"}
OF_MODIFIERS = {"missing": "true", "of-type": "urn:t|MR|1", "in": "http://x.org/set", "not-in": "ValueSet/1"}
ALL = (
    *("missing", "exact", "contains", "not", "text", "identifier", "mdm", "above", "below", "in", "not-in", "of-type"),
    *("iterate", "recurse", "code-text", "text-advanced", "nonsense", "Missing", "NOT", "", " ", "missing:missing"),
)
NEVER_MISSING = {"_id", "_lastUpdated"}


def taken(resource_type: str, name: str, value: str) -> bool:
    try:
        parse(resource_type, [(name, value)])
    except BadSearch:
        return False
    return True


@pytest.mark.parametrize("resource_type", ["Patient", "Observation", "Encounter", "RiskAssessment", "ValueSet", "Task"])
def test_each_kind_takes_its_modifiers_and_no_other(resource_type: str) -> None:
    for code, parameter in search_parameters(resource_type).items():
        if parameter.expression is None or parameter.kind not in OFFERED:
            continue
        patient = "Patient" in parameter.targets or "Resource" in parameter.targets
        offered = OFFERED[parameter.kind] | ({"mdm"} if parameter.kind == "reference" and patient else set())
        offered -= {"missing"} if code in NEVER_MISSING else set()
        if parameter.kind == "token":
            offered -= set() if code in IDENTIFIERS else {"of-type"}
            uncoded = code in IDENTIFIERS | NEITHER_CODED_NOR_IDENTIFIED
            offered -= {"in", "not-in", "above", "below"} if uncoded else set()
        for modifier in ALL:
            if code == "_id" and modifier in {"not", "text"}:
                continue
            value = OF_MODIFIERS.get(modifier, VALUES[parameter.kind])
            name = f"{code}:{modifier}"
            assert taken(resource_type, name, value) == (modifier in offered), f"{resource_type}?{name}"
        for wrong in ("1", "TRUE", "yes", "true,false"):
            assert not taken(resource_type, f"{code}:missing", wrong), code


def test_a_type_narrows_a_reference_to_its_targets() -> None:
    for resource_type in ("Observation", "Encounter", "Task", "Provenance"):
        for code, parameter in search_parameters(resource_type).items():
            for target in RESOURCE_TYPES if parameter.kind == "reference" else ():
                admitted = target in parameter.targets or "Resource" in parameter.targets or not parameter.targets
                if code == "patient":
                    admitted = target == "Patient"
                assert taken(resource_type, f"{code}:{target}", "1") == admitted, f"{resource_type}?{code}:{target}"
    for name in ("subject:Nonsense", "subject:Resource", "code:Patient", "date:Patient", "status:Patient"):
        assert not taken("Observation", name, "1"), name


def test_modifiers_stand_in_chains_and_reverse_chains_too() -> None:
    for name, value in (
        ("subject:Patient.name:exact", "x"),
        ("patient.gender:not", "male"),
        ("patient.birthdate:missing", "true"),
        ("patient.organization:identifier", "urn:s|1"),
        ("patient.organization.name:contains", "x"),
        ("_has:Observation:derived-from:subject.name:exact", "x"),
        ("_has:Observation:derived-from:_has:Observation:derived-from:code:not", "x"),
        ("patient._id", "1"),
        ("patient._lastUpdated", "gt2020"),
        ("_has:Observation:derived-from:code:text", "x"),
        ("_has:Observation:derived-from:code:in", "http://x.org/set"),
        ("patient.identifier:of-type", "urn:t|MR|1"),
        ("encounter.class:below", "urn:s|c"),
        ("_has:Observation:derived-from:status:not", "final"),
        ("_has:Observation:derived-from:_id", "1"),
        ("_has:Observation:derived-from:_lastUpdated", "gt2020"),
    ):
        assert taken("Observation", name, value), name
    for name, value in (
        ("subject:Patient.name:not", "x"),
        ("patient.gender:exact", "male"),
        ("patient.birthdate:missing", "perhaps"),
        ("patient:missing.name", "x"),
        ("patient.organization.name:not", "x"),
        ("patient.organization:missing.name", "x"),
        ("code.text", "x"),
        ("subject.name:contains:exact", "x"),
        ("_has:Observation:derived-from:code:exact", "x"),
        ("_has:Observation:derived-from:_has:Observation:derived-from:code:exact", "x"),
        ("_has:Observation:subject:code", "x"),
        ("_has:Observation", "x"),
        ("_has:Observation:derived-from", "x"),
        ("_has:Nonsense:subject:code", "x"),
        ("_has:AuditEvent:entity:action", "R"),
        ("_has", "x"),
        ("patient.", "x"),
        ("patient:.name", "x"),
        ("patient.name:", "x"),
        ("_has:Observation:derived-from:code:", "x"),
        (".name", "x"),
    ):
        assert not taken("Observation", name, value), name
