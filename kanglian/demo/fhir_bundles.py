"""county-hospital's side of the demo: its records as FHIR R4 transaction bundles, one a resident."""

from collections.abc import Iterator
from typing import Any

from kanglian.demo.hl7_messages import IDENTITY_CARD
from kanglian.demo.region import CITY, COUNTY, DIAGNOSES, LABORATORY, PROVINCE, Measurement, Referral, Resident, Visit

_HOSPITAL = "county-hospital"
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CONFIRMED = {
    "clinicalStatus": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]
    },
    "verificationStatus": {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"}]
    },
}


def _identifier(resource_id: str) -> str:
    return f"{_HOSPITAL}.{resource_id}"


def _coded(system: str, code: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code, "display": text}], "text": text}


def _diagnosis(code: str) -> dict[str, Any]:
    return _coded("http://hl7.org/fhir/sid/icd-10", code, DIAGNOSES[code])


def _patient(resident: Resident) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": _identifier(resident.record_number("county-hospital")),
        "identifier": [
            {"system": f"urn:oid:{IDENTITY_CARD}", "value": resident.identity_number},
            {"system": "urn:kanglian:county-hospital:record", "value": resident.record_number("county-hospital")},
        ],
        "active": True,
        "name": [
            {
                "use": "official",
                "text": resident.family + resident.given,
                "family": resident.family,
                "given": [resident.given],
            }
        ],
        "telecom": [{"system": "phone", "value": resident.phone, "use": "mobile"}],
        "gender": resident.sex,
        "birthDate": resident.born.isoformat(),
        "address": [
            {
                "use": "home",
                "line": [resident.street, resident.township.name],
                "city": CITY,
                "district": COUNTY,
                "state": PROVINCE,
                "country": "CHN",
            }
        ],
        "managingOrganization": {"reference": f"Organization/{_HOSPITAL}"},
    }


def _encounter(visit: Visit, patient: dict[str, str]) -> dict[str, Any]:
    inpatient = visit.kind == "inpatient"
    encounter: dict[str, Any] = {
        "resourceType": "Encounter",
        "id": _identifier(visit.number),
        "status": "finished",
        "class": {"system": _ACT_CODE, "code": "IMP" if inpatient else "AMB"},
        "subject": patient,
        "period": {"start": visit.start.isoformat(), "end": visit.end.isoformat()},
        "reasonCode": [_diagnosis(code) for code in visit.diagnoses],
        "serviceProvider": {"reference": f"Organization/{_HOSPITAL}"},
    }
    if visit.kind == "follow-up":
        encounter["type"] = [_coded("http://snomed.info/sct", "390906007", "Follow-up encounter")]
    return encounter


def observation(resource_id: str, measurement: Measurement, patient: str, encounter: str) -> dict[str, Any]:
    """A numeric laboratory or vital-sign Observation; `patient` and `encounter` are literal references."""
    analyte = LABORATORY[measurement.interest]
    vital = measurement.interest in {"systolic", "diastolic"}
    category = "vital-signs" if vital else "laboratory"
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "category": [
            {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": category}]}
        ],
        "code": _coded("http://loinc.org", analyte.loinc, analyte.text),
        "subject": {"reference": patient},
        "encounter": {"reference": encounter},
        "effectiveDateTime": measurement.at.isoformat(),
        "valueQuantity": _quantity(measurement.value, analyte.unit),
        "performer": [{"reference": f"Organization/{_HOSPITAL}"}],
    }
    if analyte.low is not None and analyte.high is not None:
        resource["referenceRange"] = [
            {"low": _quantity(analyte.low, analyte.unit), "high": _quantity(analyte.high, analyte.unit)}
        ]
    return resource


def _quantity(value: str, unit: str) -> dict[str, Any]:
    number = float(value) if "." in value else int(value)
    return {"value": number, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}


def _referral(referral: Referral, patient: dict[str, str]) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "id": _identifier(referral.number),
        "status": "active",
        "intent": "order",
        "category": [_coded("http://snomed.info/sct", "3457005", "Patient referral")],
        "code": _coded("http://snomed.info/sct", "3457005", "Patient referral"),
        "subject": patient,
        "authoredOn": referral.at.isoformat(),
        "requester": {"reference": f"Organization/{_HOSPITAL}"},
        "performer": [{"reference": f"Organization/{referral.receiver}"}],
        "reasonCode": [_diagnosis(referral.diagnosis)],
    }


def _conditions(resident: Resident, patient: dict[str, str]) -> Iterator[dict[str, Any]]:
    for illness in resident.illnesses:
        yield {
            "resourceType": "Condition",
            "id": _identifier(f"{resident.record_number('county-hospital')}-{illness}"),
            **_CONFIRMED,
            "code": _diagnosis(illness),
            "subject": patient,
            "recordedDate": resident.visits[0].start.isoformat(),
        }


def bundles_of_county_hospital(people: list[Resident]) -> Iterator[dict[str, Any]]:
    """One transaction a resident: the patient and everything that happened at county-hospital."""
    for resident in people:
        visits = [visit for visit in resident.visits if visit.hospital == _HOSPITAL]
        referrals = [referral for referral in resident.referrals if referral.sender == _HOSPITAL]
        if not visits and not referrals:
            continue
        patient = {"reference": f"Patient/{_identifier(resident.record_number('county-hospital'))}"}
        resources = [_patient(resident), *_conditions(resident, patient)]
        for visit in visits:
            encounter = _encounter(visit, patient)
            resources.append(encounter)
            resources += [
                observation(f"{encounter['id']}-{m.interest}", m, patient["reference"], f"Encounter/{encounter['id']}")
                for m in visit.measurements
            ]
        resources += [_referral(referral, patient) for referral in referrals]
        yield {
            "resourceType": "Bundle",
            "type": "transaction",
            "entry": [
                {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
                for r in resources
            ],
        }
