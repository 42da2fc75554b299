"""Each type has a rule; presets name their law; labels and value sets are well formed; scopes are built here only."""

import ast
from pathlib import Path
from typing import Any

import pytest

from consent.caller import EDGES, PURPOSES, ROLES, covering
from consent.coded import IndexTerms
from consent.internal import READ_REASONS, internal_scope, internal_write_scope
from consent.labels import LABELLED, OWN_SHIFT, SENSITIVE, names_of, read_resource, table, with_level
from consent.persons import name_persons, type_rules
from consent.policy import preset, presets
from ehr.definitions import RESOURCE_TYPES, search_parameters
from ehr.indexing import Extractor
from ehr.keys import TermHasher

ROOT = Path(__file__).parents[2]
_CONCEPT = {"coding": [{"system": "urn:s", "code": "c"}]}
KINDS = {"directory", "personal", "custodian", "consent", "audit", "nobody"}


def test_every_type_has_a_rule() -> None:
    assert set(type_rules()) == set(RESOURCE_TYPES)
    assert len(type_rules()) == 146
    assert {rule.kind for rule in type_rules().values()} <= KINDS


def test_scopes_are_built_only_here() -> None:
    found = []
    for package in ("ehr", "fhir_api", "hospital_adapters", "analytics", "kanglian"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
                    if name in ("ReadScope", "WriteScope"):
                        found.append(f"{path}:{node.lineno}")
    assert found == []


def test_presets_name_their_law() -> None:
    assert presets() == ("cn-county", "cn-strict")
    for name in presets():
        assert all(law for _, _, law in preset(name).rules)
    with pytest.raises(ValueError, match="no consent policy"):
        preset("none")


def test_internal_scopes_are_a_closed_list() -> None:
    for reason in READ_REASONS:
        assert internal_scope(reason).internal
    with pytest.raises(ValueError, match="no internal reader"):
        internal_scope("curiosity")
    with pytest.raises(ValueError, match="no internal writer"):
        internal_write_scope("curiosity")


def test_purposes() -> None:
    assert covering("BTG", deny=False) == {"BTG", "ETREAT", "TREAT"}
    assert covering("BTG", deny=True) == {"BTG", "ETREAT"}
    assert {broader for broader, _ in EDGES.values()} <= PURPOSES
    assert all(role.default_purpose in role.purposes for role in ROLES.values())


def test_spreads_name_search_parameters() -> None:
    for spread in table().spreads:
        assert spread.parameter is None or search_parameters(spread.type)[spread.parameter].kind == "reference", spread


@pytest.mark.parametrize(
    ("resource", "labels"),
    [
        ({"code": {"coding": [{"system": "http://loinc.org", "code": "75622-1"}]}}, ["HIV"]),
        ({"code": {"coding": [{"system": "http://loinc.org", "code": "718-7"}]}}, []),
        ({"code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "B20.1"}]}}, ["HIV"]),
        ({"code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "F20.0"}]}}, ["PSY"]),
        ({"code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "A53.9"}]}}, ["STD"]),
        ({"code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": "I10"}]}}, []),
        (
            {"medicationCodeableConcept": {"coding": [{"system": "http://www.whocc.no/atc", "code": "J05AR02"}]}},
            ["HIV"],
        ),
        ({"code": {"text": "梅毒螺旋体抗体"}}, ["STD"]),
        ({"code": {"coding": [{"system": "urn:x:first-hospital", "code": "HIVAB"}]}}, ["HIV"]),
        ({"code": {"coding": [{"display": "HIV 1+2 Ab"}]}}, ["HIV"]),
        ({"code": {"text": "first aids kit"}}, []),
        ({"code": {"text": "AIDS"}}, ["HIV"]),
        (
            {
                "meta": {
                    "security": [
                        {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"},
                        {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"},
                        {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "SDV"},
                    ]
                }
            },
            ["V", "SDV"],
        ),
    ],
)
def test_labels(resource: dict[str, object], labels: list[str]) -> None:
    found = read_resource({"resourceType": "Observation", **resource}).labels
    assert names_of(found & ~(SENSITIVE << OWN_SHIFT)) == labels


def test_masks() -> None:
    assert with_level(0b11) == 0b10
    assert LABELLED < 2**63
    assert SENSITIVE << OWN_SHIFT < 2**60


@pytest.mark.parametrize(
    ("resource_type", "resource", "patients", "inherited"),
    [
        ("Patient", {}, ("x",), ()),
        ("Observation", {"subject": {"reference": "Patient/a"}, "focus": [{"reference": "Patient/b"}]}, ("a", "b"), ()),
        ("Observation", {"subject": {"reference": "Patient/a/_history/3"}}, ("a",), ()),
        ("Observation", {"subject": {"reference": "http://other.org/fhir/Patient/a"}}, (), ()),
        ("Observation", {"subject": {"reference": "https://here/fhir/Patient/a"}}, ("a",), ()),
        ("Encounter", {"subject": {"reference": "Group/g"}}, (), ()),
        ("Group", {"member": [{"entity": {"reference": "Patient/a"}}]}, (), ()),
        ("Provenance", {"target": [{"reference": "Patient/a"}]}, ("a",), ()),
        ("Provenance", {"target": [{"reference": "Observation/o"}]}, (), (("Observation", "o"),)),
        ("Bundle", {"entry": [{"resource": {"resourceType": "Patient", "id": "a"}}]}, ("a",), ()),
        ("Media", {"contained": [{"resourceType": "Flag", "subject": {"reference": "Patient/c"}}]}, ("c",), ()),
        ("Schedule", {"actor": [{"reference": "Patient/a"}]}, ("a",), ()),
        ("Binary", {"securityContext": {"reference": "DocumentReference/d"}}, (), (("DocumentReference", "d"),)),
        ("Observation", {"performer": [{"reference": "RelatedPerson/r"}]}, (), (("RelatedPerson", "r"),)),
    ],
)  # fmt: skip
def test_persons(
    resource_type: str, resource: dict[str, object], patients: tuple[str, ...], inherited: tuple[tuple[str, str], ...]
) -> None:
    full = {"resourceType": resource_type, **resource}
    naming = name_persons(resource_type, "x", full, read_resource(full), "https://here/fhir")
    assert (naming.patients, naming.inherited) == (patients, inherited)


@pytest.mark.parametrize(
    "place",
    [
        {"code": _CONCEPT},
        {"component": [{"code": _CONCEPT}]},
        {"valueCodeableConcept": _CONCEPT},
        {"component": [{"code": {"text": "x"}, "valueCodeableConcept": _CONCEPT}]},
    ],
)
def test_a_provision_by_code_finds_the_code_wherever_an_observation_has_it(place: dict[str, Any]) -> None:
    hasher = TermHasher(b"a key for tests of terms")
    terms = Extractor(hasher).entries("Observation", {"resourceType": "Observation", "status": "final", **place}).terms
    assert not IndexTerms(hasher).codes(["urn:s|c"]).isdisjoint(terms)
    assert IndexTerms(hasher).codes(["urn:s|other"]).isdisjoint(terms)
