"""Where `resource.holder` answers a reference parameter: the types whose subject is one single person.

For these types `consent` sets the holder to exactly the Patient that `patient` (or `subject`, where it is a Patient)
names, so that a search inside one person goes through the btree (holder, type, at) instead of GIN.
"""

from ehr.keys import row_key

_SUBJECT_TYPES = frozenset(
    {
        "CarePlan",
        "ClinicalImpression",
        "Condition",
        "DeviceRequest",
        "DiagnosticReport",
        "DocumentReference",
        "Encounter",
        "Goal",
        "ImagingStudy",
        "Media",
        "MedicationAdministration",
        "MedicationDispense",
        "MedicationRequest",
        "MedicationStatement",
        "Observation",
        "Procedure",
        "QuestionnaireResponse",
        "RiskAssessment",
        "ServiceRequest",
        "Specimen",
    }
)
_PATIENT_TYPES = frozenset({"AllergyIntolerance", "Claim", "ExplanationOfBenefit", "Immunization"})


def names_holder(resource_type: str, code: str) -> bool:
    """Whether a Patient named by this parameter is the row's holder."""
    if code == "patient":
        return resource_type in _SUBJECT_TYPES or resource_type in _PATIENT_TYPES
    return code == "subject" and resource_type in _SUBJECT_TYPES


def holders_of(targets: tuple[tuple[str, str], ...]) -> list[int] | None:
    """The row keys of Patients; None where a target is of another type."""
    if any(target_type != "Patient" for target_type, _ in targets):
        return None
    return [row_key(target_type, target_id) for target_type, target_id in targets]
