import pytest

from ehr import definitions


def test_all_resource_types_of_r4_are_there() -> None:
    assert len(definitions.RESOURCE_TYPES) == 146
    assert list(definitions.RESOURCE_TYPES) == sorted(definitions.RESOURCE_TYPES)
    assert {"Patient", "Parameters", "Binary", "Bundle"} <= set(definitions.RESOURCE_TYPES)
    assert not {"Resource", "DomainResource", "MetadataResource"} & set(definitions.RESOURCE_TYPES)


def test_type_numbers_and_names_are_inverse() -> None:
    assert definitions.type_number("Account") == 1
    assert [definitions.type_name(definitions.type_number(t)) for t in definitions.RESOURCE_TYPES] == list(
        definitions.RESOURCE_TYPES
    )
    with pytest.raises(IndexError):
        definitions.type_name(0)
    with pytest.raises(KeyError):
        definitions.type_number("Patients")


@pytest.mark.parametrize("name", definitions.type_names())
def test_every_structure_decodes(name: str) -> None:
    structure = definitions.structure(name)
    assert structure.root.path == (structure.base if structure.is_profile else name)
    for element in structure.elements[1:]:
        assert element.types or element.content_reference
        if element.content_reference:
            assert structure.element(element.content_reference)


def test_an_element_tells_what_the_definition_says() -> None:
    patient = definitions.structure("Patient")
    gender = patient.element("Patient.gender")
    assert (gender.min, gender.max, gender.summary, gender.repeats) == (0, 1, True, False)
    assert gender.binding == definitions.Binding("required", "http://hl7.org/fhir/ValueSet/administrative-gender")
    deceased = patient.element("Patient.deceased[x]")
    assert deceased.is_choice
    assert list(deceased.names) == ["deceasedBoolean", "deceasedDateTime"]
    targets = patient.element("Patient.generalPractitioner").types[0].targets
    assert targets == ("Organization", "Practitioner", "PractitionerRole")
    assert "pat-1" in [c.key for c in patient.element("Patient.contact").constraints]


def test_primitives_have_their_patterns() -> None:
    assert definitions.structure("id").element("id.value").types[0].regex == r"[A-Za-z0-9\-\.]{1,64}"
    assert definitions.structure("Element").element("Element.id").types[0].code == "string"


@pytest.mark.parametrize(
    ("value_set", "size"),
    [
        ("http://hl7.org/fhir/ValueSet/administrative-gender", 4),
        ("http://hl7.org/fhir/ValueSet/observation-status|4.0.1", 8),
        ("http://hl7.org/fhir/ValueSet/resource-types", 148),
        ("http://hl7.org/fhir/ValueSet/units-of-time", 7),
    ],
)
def test_required_code_sets_are_expanded(value_set: str, size: int) -> None:
    codes = definitions.codes_of(value_set)
    assert codes is not None
    assert len(codes) == size


def test_open_code_sets_are_not_enumerated() -> None:
    assert definitions.codes_of("http://hl7.org/fhir/ValueSet/mimetypes") is None


@pytest.mark.parametrize(
    ("resource_type", "code", "kind", "expression"),
    [
        ("Observation", "date", "date", "Observation.effective"),
        ("RiskAssessment", "date", "date", "(RiskAssessment.occurrence as dateTime)"),
        ("Patient", "deceased", "token", "Patient.deceased.exists() and Patient.deceased != false"),
        ("Patient", "email", "token", "Patient.telecom.where(system='email')"),
        ("Observation", "value-concept", "token", "(Observation.value as CodeableConcept)"),
        ("Condition", "patient", "reference", "Condition.subject.where(resolve() is Patient)"),
        ("Binary", "_lastUpdated", "date", "Resource.meta.lastUpdated"),
        ("Patient", "_text", "string", None),
        ("Bundle", "composition", "reference", "Bundle.entry[0].resource"),
    ],
)
def test_search_parameters_are_split_per_type(resource_type: str, code: str, kind: str, expression: str | None) -> None:
    parameter = definitions.search_parameters(resource_type)[code]
    assert (parameter.kind, parameter.expression) == (kind, expression)


def test_domain_resource_parameters_are_not_on_binary() -> None:
    assert "_text" not in definitions.search_parameters("Binary")


def test_composites_name_their_components() -> None:
    parameter = definitions.search_parameters("Observation")["code-value-quantity"]
    assert parameter.components[1][1] == "value.as(Quantity)"
    assert definitions.search_parameter_of(parameter.components[0][0]).code == "code"
