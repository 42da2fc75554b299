"""Terms and rows of each kind of search parameter: https://hl7.org/fhir/R4/search.html."""

from decimal import Decimal
from typing import Any

import pytest

from ehr.definitions import RESOURCE_TYPES, search_parameters
from ehr.fhirpath import model
from ehr.indexing import (
    MAIN_DATE,
    ONE_DATE,
    ROW_COLUMNS,
    Extractor,
    IndexEntries,
    answering_terms,
    date_range,
    indexed_parameters,
)
from ehr.indexing.plan import KINDS, NotPlain, branches_of
from ehr.keys import TermHasher, canonical_number, parameter_number

HASHER = TermHasher(b"a key for tests of terms")
EXTRACTOR = Extractor(HASHER, base_url="https://own.example/fhir/")
LOINC = "http://loinc.org"
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation",
    "id": "o",
    "meta": {
        "profile": ["http://p.example/P|1.0"],
        "source": "urn:feed:1",
        "tag": [{"system": "urn:t", "code": "x"}],
        "security": [{"system": "urn:s", "code": "R"}],
    },
    "status": "final",
    "code": {"coding": [{"system": LOINC, "code": "4548-4", "display": "HbA1c"}, {"code": "A1C"}], "text": "Sugar"},
    "subject": {"reference": "Patient/p1"},
    "encounter": {"reference": "https://own.example/fhir/Encounter/e1/_history/2"},
    "performer": [
        {"reference": "urn:uuid:0a", "type": "Practitioner"},
        {"identifier": {"system": "urn:i", "value": "7"}},
    ],
    "effectiveDateTime": "2024-05-06T07:08:09+08:00",
    "valueQuantity": {"value": Decimal("6.50"), "unit": "percent", "system": "http://unitsofmeasure.org", "code": "%"},
}


def _term(code: str, kind: str, value: str, resource_type: str = "Observation") -> int:
    (term,) = answering_terms(HASHER, resource_type, code, kind, value)
    return term


def _of(resource: dict[str, Any]) -> IndexEntries:
    return EXTRACTOR.entries(resource["resourceType"], resource)


def _found_by(resource: dict[str, Any]) -> set[int]:
    """The terms that a row of the resource has or implies."""
    stored = set(_of(resource).terms)
    return stored | {implied for implied, term in EXTRACTOR.implied.unwritten if term in stored}


@pytest.mark.parametrize(
    ("code", "kind", "value"),
    [
        ("code", "token", "4548-4"),
        ("code", "token", f"{LOINC}|4548-4"),
        ("code", "token", f"{LOINC}|"),
        ("code", "token", "|A1C"),
        ("code", "token", "A1C"),
        ("code", "text", "hb"),
        ("code", "text", "suga"),
        ("code", "present", ""),
        ("status", "token", "final"),
        ("status", "token", "|final"),
        ("status", "token", "http://hl7.org/fhir/observation-status|final"),
        ("_tag", "token", "urn:t|x"),
        ("_security", "token", "urn:s|R"),
        ("_profile", "uri", "http://p.example/P|1.0"),
        ("_profile", "uri", "http://p.example/P"),
        ("_source", "uri", "urn:feed:1"),
        ("performer", "uri", "urn:uuid:0a"),
        ("performer", "identifier", "urn:i|7"),
        ("performer", "identifier", "7"),
        ("date", "present", ""),
        ("value-quantity", "present", ""),
    ],
)
def test_terms_of_an_observation(code: str, kind: str, value: str) -> None:
    assert _term(code, kind, value) in _found_by(OBSERVATION)


@pytest.mark.parametrize(
    ("code", "kind", "value"),
    [
        ("code", "token", "|4548-4"),
        ("code", "token", f"{LOINC}|A1C"),
        ("value-concept", "present", ""),
        ("patient", "uri", "Patient/p1"),
        ("_id", "token", "o"),
        ("_id", "present", ""),
    ],
)
def test_terms_that_are_not_there(code: str, kind: str, value: str) -> None:
    assert _term(code, kind, value) not in _found_by(OBSERVATION)


def test_references_to_own_resources_are_row_keys() -> None:
    terms = _of(OBSERVATION).terms
    assert HASHER.reference("Observation", "subject", "Patient", "p1") in terms
    assert HASHER.reference("Observation", "patient", "Patient", "p1") in terms
    assert HASHER.reference("Observation", "encounter", "Encounter", "e1") in terms
    group = {**OBSERVATION, "subject": {"reference": "Group/g"}}
    assert HASHER.reference("Observation", "subject", "Group", "g") in _found_by(group)
    assert _term("patient", "present", "") not in _found_by(group)


def test_one_address_says_different_things_beside_a_type_or_an_identifier() -> None:
    plain = {"reference": "urn:uuid:p"}
    typed = plain | {"type": "Patient"}
    identified = plain | {"identifier": {"value": "7"}}
    address = _term("patient", "uri", "urn:uuid:p")
    for _ in range(2):
        for subject, is_patient, has_number in ((plain, False, False), (typed, True, False), (identified, False, True)):
            terms = _of({"resourceType": "Observation", "subject": subject}).terms
            assert _term("subject", "uri", "urn:uuid:p") in terms
            assert (address in terms) is is_patient
            assert (_term("subject", "identifier", "7") in terms) is has_number


def test_no_term_twice() -> None:
    terms = _of(OBSERVATION).terms
    assert len(terms) == len(set(terms))


def test_rows_of_an_observation() -> None:
    found = _of(OBSERVATION)
    assert (found.at, found.until) == date_range("2024-05-06T07:08:09+08:00")
    assert found.dates == []
    quantities = {row[0]: row[1:] for row in found.quantities}
    in_base_units = canonical_number("Observation", "value-quantity")
    assert quantities.keys() == {parameter_number("Observation", "value-quantity"), in_base_units}
    amount = Decimal("0.065")
    assert quantities[in_base_units] == (0, _term("value-quantity", "unit", "1"), 0, amount, amount)
    assert quantities[parameter_number("Observation", "value-quantity")] == (
        _term("value-quantity", "token", "http://unitsofmeasure.org|%"),
        _term("value-quantity", "token", "%"),
        _term("value-quantity", "token", "percent"),
        Decimal("6.50"),
        Decimal("6.50"),
    )


PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "active": True,
    "name": [{"family": "Müller", "given": ["Änne", "B"], "text": "Änne B Müller"}, {"text": "张伟"}],
    "telecom": [{"system": "phone", "value": "138"}, {"system": "email", "value": "a@b.cn"}],
    "gender": "female",
    "birthDate": "1970-01",
    "address": [{"line": ["Hauptstr. 1"], "city": "Köln", "country": "DE"}],
    "identifier": [{"system": "urn:n", "value": "9", "type": {"text": "Chart"}}],
    "deceasedDateTime": "2020-01-01",
}


@pytest.mark.parametrize(
    ("code", "kind", "value", "there"),
    [
        ("name", "prefix", "mul", True),
        ("name", "prefix", "annebmulle", False),
        ("name", "prefix", "anne b muller", True),
        ("name", "exact", "Müller", True),
        ("name", "exact", "Muller", False),
        ("name", "gram", "ull", True),
        ("name", "prefix", "张", True),
        ("family", "prefix", "m", True),
        ("family", "prefix", "a", False),
        ("given", "exact", "Änne", True),
        ("address", "prefix", "hauptstr. 1", True),
        ("address-city", "prefix", "koln", True),
        ("address-city", "prefix", "haupt", False),
        ("phone", "token", "138", True),
        ("phone", "token", "a@b.cn", False),
        ("email", "token", "a@b.cn", True),
        ("telecom", "token", "138", True),
        ("active", "token", "true", True),
        ("deceased", "token", "true", True),
        ("gender", "token", "http://hl7.org/fhir/administrative-gender|female", True),
        ("identifier", "token", "urn:n|9", True),
        ("identifier", "token", "urn:n|", True),
        ("identifier", "token", "|9", False),
        ("identifier", "text", "ch", True),
    ],
)
def test_terms_of_a_patient(code: str, kind: str, value: str, there: bool) -> None:  # noqa: FBT001 - a table's column
    assert (_term(code, kind, value, "Patient") in _found_by(PATIENT)) is there


def test_dates_of_a_patient() -> None:
    assert set(_of(PATIENT).dates) == {
        (parameter_number("Patient", "birthdate"), *date_range("1970-01")),
        (parameter_number("Patient", "death-date"), *date_range("2020-01-01")),
    }


@pytest.mark.parametrize(
    ("resource", "code", "low", "high"),
    [
        (
            {"resourceType": "RiskAssessment", "prediction": [{"probabilityDecimal": Decimal("0.3")}]},
            "probability",
            "0.3",
            "0.3",
        ),
        (
            {"resourceType": "RiskAssessment", "prediction": [{"probabilityRange": {"low": {"value": 1}}}]},
            "probability",
            "1",
            "Infinity",
        ),
        ({"resourceType": "MolecularSequence", "variant": [{"start": 5, "end": 9}]}, "variant-start", "5", "5"),
    ],
)
def test_numbers(resource: dict[str, Any], code: str, low: str, high: str) -> None:
    number = parameter_number(resource["resourceType"], code)
    assert [row[1:] for row in _of(resource).numbers if row[0] == number] == [(Decimal(low), Decimal(high))]


UCUM = "http://unitsofmeasure.org"


@pytest.mark.parametrize(
    ("resource", "code", "unit", "low", "high"),
    [
        (
            {"resourceType": "Condition", "onsetAge": {"value": 40, "code": "a", "system": UCUM}},
            "onset-age",
            f"{UCUM}|a",
            40,
            40,
        ),
        (
            {"resourceType": "Condition", "onsetRange": {"low": {"value": 3, "code": "a"}, "high": {"value": 5}}},
            "onset-age",
            "|a",
            3,
            5,
        ),
        (
            {"resourceType": "ChargeItem", "priceOverride": {"value": Decimal("1.5"), "currency": "CNY"}},
            "price-override",
            "urn:iso:std:iso:4217|CNY",
            "1.5",
            "1.5",
        ),
        (
            {"resourceType": "Observation", "valueQuantity": {"value": 5, "comparator": "<", "code": "g"}},
            "value-quantity",
            "|g",
            "-Infinity",
            5,
        ),
        (
            {
                "resourceType": "Observation",
                "valueSampledData": {
                    "origin": {"value": 10, "code": "mV"},
                    "factor": 2,
                    "data": "1 E -3 L",
                    "period": 1,
                },
            },
            "value-quantity",
            "|mV",
            4,
            12,
        ),
    ],
)
def test_quantities(resource: dict[str, Any], code: str, unit: str, low: Any, high: Any) -> None:
    kind = resource["resourceType"]
    rows = [row for row in _of(resource).quantities if row[0] == parameter_number(kind, code)]
    assert [(row[1], row[4], row[5]) for row in rows] == [
        (HASHER.term(kind, code, "token", unit), Decimal(low), Decimal(high))
    ]


def test_resources_inside_a_bundle_are_references() -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Composition", "id": "c"}}]}
    assert HASHER.reference("Bundle", "composition", "Composition", "c") in _of(bundle).terms


def test_a_condition_on_the_way_selects() -> None:
    artifacts = [{"type": "depends-on", "resource": "http://l/1"}, {"type": "successor", "resource": "http://l/2"}]
    terms = _of({"resourceType": "Library", "relatedArtifact": artifacts}).terms
    assert _term("depends-on", "uri", "http://l/1", "Library") in terms
    assert _term("depends-on", "uri", "http://l/2", "Library") not in terms


def test_texts_are_as_written() -> None:
    assert EXTRACTOR.texts("Observation", "code", OBSERVATION) == ["HbA1c", "Sugar"]
    assert EXTRACTOR.texts("Patient", "given", PATIENT) == ["Änne", "B"]
    assert EXTRACTOR.texts("Patient", "identifier", PATIENT) == ["Chart"]
    with pytest.raises(KeyError):
        EXTRACTOR.texts("Patient", "nothing", PATIENT)


def test_reference_values_name_own_resources() -> None:
    found = EXTRACTOR.reference_values("Observation", OBSERVATION)
    assert found["patient"] == [("Patient", "p1")]
    assert found["encounter"] == [("Encounter", "e1")]
    assert "performer" not in found


def test_tables_of_main_columns_name_parameters() -> None:
    for resource_type, code in MAIN_DATE.items():
        assert search_parameters(resource_type)[code].kind == "date"


def test_where_both_ends_stand_in_the_row_no_element_on_the_way_repeats() -> None:
    for resource_type in ONE_DATE:
        parameter = search_parameters(resource_type)[MAIN_DATE[resource_type]]
        branches = branches_of(resource_type, parameter.expression or "")
        ((_, name),) = {tuple(branch.element.split(".")) for branch in branches}
        assert all(len(branch.steps) == 1 for branch in branches)
        assert not model.children(resource_type)[name].many


def test_every_simple_parameter_of_r4_is_indexed() -> None:
    plain = 0
    for resource_type in RESOURCE_TYPES:
        indexed = {parameter.code for parameter in indexed_parameters(resource_type)}
        for code, parameter in search_parameters(resource_type).items():
            simple = (parameter.kind in KINDS or code == "near") and parameter.expression is not None
            assert (code in indexed) is (simple and code not in ROW_COLUMNS)
        for parameter in indexed_parameters(resource_type):
            try:
                branches = branches_of(resource_type, parameter.expression or "")
            except NotPlain:
                continue
            make = EXTRACTOR._leaf_maker(resource_type, parameter, EXTRACTOR.implied)
            assert any(make(parameter, branch) for branch in branches), (resource_type, parameter.code)
            plain += 1
    assert plain > 2190


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_an_empty_resource_of_each_type_has_no_entries(resource_type: str) -> None:
    found = EXTRACTOR.entries(resource_type, {"resourceType": resource_type})
    if resource_type == "Patient":  # deceased is always true or false
        deceased = {_term("deceased", kind, value, "Patient") for kind, value in DECEASED}
        found.terms, found.present = [t for t in found.terms if t not in deceased], found.present - deceased
    assert found == IndexEntries()


DECEASED = (("token", "false"), ("token", "|false"), ("present", ""))


def test_terms_of_one_parameter_are_the_hashers() -> None:
    assert HASHER.terms_of("Patient", "name")("exact", "张伟") == HASHER.term("Patient", "name", "exact", "张伟")


def test_sampled_data_counts_its_finite_points_only() -> None:
    def measured(data: str) -> list[tuple[Decimal, Decimal]]:
        sampled = {"origin": {"value": 1}, "period": 1, "dimensions": 1, "data": data}
        resource = {"resourceType": "Observation", "valueSampledData": sampled}
        return sorted({(low, high) for *_, low, high in EXTRACTOR.entries("Observation", resource).quantities})

    assert measured("E 2 U 4 L NaN Infinity -Infinity 1e400000 1e-400000") == [(Decimal(3), Decimal(5))]
    assert measured("NaN") == measured("E L") == []
