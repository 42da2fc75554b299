"""The demo's directory: hospitals, clinicians and places, which every signed-in caller may read."""

from typing import Any

from kanglian.demo.region import CITY, COUNTY, HOSPITALS, PROVINCE, TOWNSHIPS, Hospital

HOSPITAL_LEVEL = "urn:kanglian:hospital-level"
_LEVEL_NAMES = {1: "一级医院", 2: "二级医院", 3: "三级医院"}
_PHYSICAL_TYPE = "http://terminology.hl7.org/CodeSystem/location-physical-type"

CLINICIANS = (
    ("dr.wang", "王", "建国", "first-hospital", "physician"),
    ("dr.li", "李", "敏", "county-hospital", "physician"),
    ("nurse.zhao", "赵", "丽", "township-clinic", "nurse"),
)
_ROLE_CODES = {"physician": ("158965000", "Medical practitioner"), "nurse": ("106292003", "Professional nurse")}


def _organisation(hospital: Hospital) -> dict[str, Any]:
    return {
        "resourceType": "Organization",
        "id": hospital.identifier,
        "active": True,
        "type": [
            {
                "coding": [
                    {"system": HOSPITAL_LEVEL, "code": str(hospital.rank), "display": _LEVEL_NAMES[hospital.rank]},
                    {"system": "http://terminology.hl7.org/CodeSystem/organization-type", "code": "prov"},
                ]
            }
        ],
        "name": hospital.name,
    }


def _site(hospital: Hospital) -> dict[str, Any]:
    return {
        "resourceType": "Location",
        "id": f"site-{hospital.identifier}",
        "status": "active",
        "name": hospital.name,
        "physicalType": {"coding": [{"system": _PHYSICAL_TYPE, "code": "si"}]},
        "position": {"longitude": hospital.longitude, "latitude": hospital.latitude},
        "managingOrganization": {"reference": f"Organization/{hospital.identifier}"},
    }


def _clinician(account: str, family: str, given: str, hospital: str, role: str) -> list[dict[str, Any]]:
    code, display = _ROLE_CODES[role]
    return [
        {
            "resourceType": "Practitioner",
            "id": account,
            "active": True,
            "name": [{"text": family + given, "family": family, "given": [given]}],
        },
        {
            "resourceType": "PractitionerRole",
            "id": account,
            "active": True,
            "practitioner": {"reference": f"Practitioner/{account}"},
            "organization": {"reference": f"Organization/{hospital}"},
            "code": [{"coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}]}],
        },
    ]


def directory_bundle() -> dict[str, Any]:
    """One transaction with the organisations, sites, townships and clinicians, for the loader to post first."""
    resources = [_organisation(hospital) for hospital in HOSPITALS]
    resources += [_site(hospital) for hospital in HOSPITALS]
    resources += [
        {
            "resourceType": "Location",
            "id": f"township-{township.code}",
            "status": "active",
            "name": township.name,
            "physicalType": {"coding": [{"system": _PHYSICAL_TYPE, "code": "area"}]},
            "address": {"district": COUNTY, "city": CITY, "state": PROVINCE},
            "position": {"longitude": township.longitude, "latitude": township.latitude},
        }
        for township in TOWNSHIPS
    ]
    for clinician in CLINICIANS:
        resources += _clinician(*clinician)
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}} for r in resources
        ],
    }
