"""Which search parameter the columns `at` and `until` of a row stand for, by resource type.

`at` is the low end of the first value. Where a resource has one value at most, `until` is its high end, and the two
stand for the parameter's row in the table of dates.
"""

from collections.abc import Mapping

MAIN_DATE: Mapping[str, str] = {
    "AllergyIntolerance": "date",
    "Appointment": "date",
    "AuditEvent": "date",
    "CarePlan": "date",
    "CareTeam": "date",
    "Claim": "created",
    "ClinicalImpression": "date",
    "Communication": "sent",
    "Composition": "date",
    "Condition": "onset-date",
    "Consent": "date",
    "DeviceRequest": "authored-on",
    "DiagnosticReport": "date",
    "DocumentReference": "date",
    "Encounter": "date",
    "EpisodeOfCare": "date",
    "ExplanationOfBenefit": "created",
    "FamilyMemberHistory": "date",
    "Flag": "date",
    "Goal": "start-date",
    "ImagingStudy": "started",
    "Immunization": "date",
    "List": "date",
    "Media": "created",
    "MedicationAdministration": "effective-time",
    "MedicationDispense": "whenhandedover",
    "MedicationRequest": "authoredon",
    "MedicationStatement": "effective",
    "Observation": "date",
    "Procedure": "date",
    "Provenance": "recorded",
    "QuestionnaireResponse": "authored",
    "RiskAssessment": "date",
    "ServiceRequest": "authored",
    "Slot": "start",
    "Specimen": "collected",
    "Task": "authored-on",
}

ONE_DATE = frozenset(
    {
        "Claim",
        "Condition",
        "DiagnosticReport",
        "DocumentReference",
        "Encounter",
        "ExplanationOfBenefit",
        "Immunization",
        "MedicationAdministration",
        "MedicationRequest",
        "Observation",
        "Procedure",
    }
)
"""Types whose main date is one value at most; stored rows are as this table has it, so a change of it needs a step of
the schema (`ehr/store/migrations/versions/0013_ends_of_main_dates.py`)."""
