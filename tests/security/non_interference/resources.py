"""Resources of a small region: few values in many combinations, so that hidden and visible rows meet in each search."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

LOINC = "http://loinc.org"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
IDENTITY_NUMBER = "urn:oid:2.16.156.10011.1.3"
PROFILE = "http://example.org/lab"
LAB_CODES = ("718-7", "718-7", "4548-4", "34133-9", "75622-1", "20507-0")
DIAGNOSES = ("I10", "E11.9", "B20", "A51.0", "F20.0")
FAMILY = ("Zhang", "Li", "Wáng", "王", "Zhao Qian")
GIVEN = ("Wei", "Na", "Fang", "小明")
DAYS = ("2019-03-05", "2020-06-15", "2021-11-20")
WORDS = ("routine check", "抽血", "follow-up", "seen today")
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def identity_number(number: int) -> str:
    """A valid test identity number (GB 11643) of a woman born on 1949-12-31."""
    digits = f"11010519491231{number % 100:02d}{2}"
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True))
    return digits + "10X98765432"[total % 11]


def ref(resource_type: str, identity: str) -> Json:
    """A literal reference."""
    return {"reference": f"{resource_type}/{identity}"}


def days_ago(days: int) -> str:
    """An instant before now."""
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def coded(system: str, code: str, text: str | None = None) -> Json:
    """A CodeableConcept."""
    return {"coding": [{"system": system, "code": code}]} | ({"text": text} if text else {})


class Maker:
    """Makes resources of one region from one source of chance."""

    def __init__(self, rnd: random.Random) -> None:
        self.rnd = rnd

    def meta(self) -> Json:
        """Sometimes a tag, a profile or a level of confidentiality."""
        rnd, meta = self.rnd, {}
        if rnd.random() < 0.15:
            meta["tag"] = [{"system": "urn:tag", "code": rnd.choice("ab")}]
        if rnd.random() < 0.15:
            meta["profile"] = [PROFILE]
        if rnd.random() < 0.12:
            meta["security"] = [{"system": CONFIDENTIALITY, "code": rnd.choice("URVL")}]
        return {"meta": meta} if meta else {}

    def date(self) -> str:
        """One of few days, with or without a time."""
        day = self.rnd.choice(DAYS)
        return day if self.rnd.random() < 0.5 else f"{day}T08:00:00+08:00"

    def patient(self, identity: str, number: str | None, organisation: str) -> Json:
        """A source Patient of a hospital."""
        rnd = self.rnd
        return {
            "resourceType": "Patient",
            "id": identity,
            **self.meta(),
            "active": rnd.random() < 0.8,
            "identifier": [{"system": f"urn:{organisation}", "value": f"N{rnd.randrange(4)}"}]
            + ([{"system": IDENTITY_NUMBER, "value": number}] if number else []),
            "name": [{"family": rnd.choice(FAMILY), "given": [rnd.choice(GIVEN)]}],
            "telecom": [{"system": "phone", "value": f"1380000000{rnd.randrange(3)}"}],
            "gender": "female",
            "birthDate": "1949-12-31" if number else rnd.choice(DAYS),
            "address": [{"city": rnd.choice(("Ankang", "安康")), "district": rnd.choice(("Hanbin", "汉滨"))}],
            "managingOrganization": ref("Organization", organisation),
        }

    def observation(self, identity: str, patient: str) -> Json:
        """A result, perhaps of HIV or syphilis."""
        rnd = self.rnd
        made: Json = {
            "resourceType": "Observation",
            "id": identity,
            **self.meta(),
            "status": rnd.choice(("final", "amended")),
            "category": [coded("http://x", rnd.choice(("laboratory", "vital-signs")))],
            "code": coded(LOINC, rnd.choice(LAB_CODES), rnd.choice((None, "Hemoglobin"))),
            "subject": ref("Patient", patient),
        }
        if rnd.random() < 0.8:
            made["effectiveDateTime"] = self.date()
        if rnd.random() < 0.8:
            unit = {"unit": "g/L", "system": "http://unitsofmeasure.org", "code": "g/L"}
            made["valueQuantity"] = {"value": rnd.choice((5, 100, 131)), **unit}
        return made

    def condition(self, identity: str, patient: str) -> Json:
        """A diagnosis."""
        clinical = f"{_TERMINOLOGY}condition-clinical"
        return {
            "resourceType": "Condition",
            "id": identity,
            **self.meta(),
            "clinicalStatus": coded(clinical, self.rnd.choice(("active", "resolved"))),
            "code": coded(ICD10, self.rnd.choice(DIAGNOSES)),
            "subject": ref("Patient", patient),
            "onsetDateTime": self.date(),
        }

    def encounter(self, identity: str, patient: str, organisation: str) -> Json:
        """A stay: goes on, ended lately, ended long ago, planned or cancelled."""
        status, period = self.rnd.choice(
            (
                ("in-progress", {"start": days_ago(40)}),
                ("in-progress", {"start": days_ago(3)}),
                ("finished", {"start": days_ago(30), "end": days_ago(20)}),
                ("finished", {"start": days_ago(300), "end": days_ago(200)}),
                ("planned", {"start": days_ago(2)}),
                ("cancelled", {"start": days_ago(9)}),
            )
        )
        return {
            "resourceType": "Encounter",
            "id": identity,
            **self.meta(),
            "status": status,
            "class": {"system": f"{_TERMINOLOGY}v3-ActCode", "code": "IMP"},
            "subject": ref("Patient", patient),
            "period": period,
            "serviceProvider": ref("Organization", organisation),
        }

    def referral(self, identity: str, patient: str, receiver: Json) -> Json:
        """A referral to an organisation or a role: in force, over, or revoked."""
        return {
            "resourceType": "ServiceRequest",
            "id": identity,
            "status": self.rnd.choice(("active", "active", "active", "revoked")),
            "intent": "order",
            "code": coded(LOINC, self.rnd.choice(LAB_CODES)),
            "subject": ref("Patient", patient),
            "performer": [receiver],
            "authoredOn": days_ago(self.rnd.choice((2, 30, 120))),
        }

    def report(self, identity: str, patient: str, results: list[str]) -> Json:
        """A report of results."""
        return {
            "resourceType": "DiagnosticReport",
            "id": identity,
            **self.meta(),
            "status": "final",
            "code": coded(LOINC, self.rnd.choice(LAB_CODES)),
            "subject": ref("Patient", patient),
            "effectiveDateTime": self.date(),
            "result": [ref("Observation", each) for each in results],
        }

    def document(self, identity: str, patient: str, related: list[str], binary: str | None) -> Json:
        """A document about reports, its content in a Binary."""
        attachment = {"url": f"Binary/{binary}"} if binary else {"title": "paper"}
        made: Json = {
            "resourceType": "DocumentReference",
            "id": identity,
            **self.meta(),
            "status": "current",
            "type": coded(LOINC, "34133-9"),
            "subject": ref("Patient", patient),
            "date": f"{self.rnd.choice(DAYS)}T10:00:00Z",
            "content": [{"attachment": attachment}],
        }
        if related:
            made["context"] = {"related": [ref("DiagnosticReport", each) for each in related]}
        return made

    def binary(self, identity: str, context: Json | None) -> Json:
        """Bytes of a document."""
        made: Json = {"resourceType": "Binary", "id": identity, "contentType": "text/plain", "data": "aGVsbG8="}
        return made | ({"securityContext": context} if context else {})

    def composition(self, identity: str, patient: str, entries: list[Json]) -> Json:
        """A composition with entries."""
        return {
            "resourceType": "Composition",
            "id": identity,
            "status": "final",
            "type": coded(LOINC, "34133-9"),
            "subject": ref("Patient", patient),
            "date": self.date(),
            "author": [{"display": "somebody"}],
            "title": self.rnd.choice(WORDS),
            "section": [{"title": "results", "entry": entries}]
            if entries
            else [{"title": "none", "text": _narrative()}],
        }

    def appointment(self, identity: str, patients: list[str]) -> Json:
        """An appointment of several people."""
        return {
            "resourceType": "Appointment",
            "id": identity,
            **self.meta(),
            "status": "booked",
            "start": f"{self.rnd.choice(DAYS)}T08:00:00Z",
            "end": f"{DAYS[-1]}T20:00:00Z",
            "participant": [{"actor": ref("Patient", each), "status": "accepted"} for each in patients],
        }

    def related_person(self, identity: str, patient: str) -> Json:
        """A relative."""
        return {
            "resourceType": "RelatedPerson",
            "id": identity,
            "patient": ref("Patient", patient),
            "name": [{"family": self.rnd.choice(FAMILY)}],
        }

    def family_history(self, identity: str, patient: str, relative: str | None) -> Json:
        """An illness of a relative, who may be a Patient."""
        system = f"{_TERMINOLOGY}v3-RoleCode"
        made: Json = {
            "resourceType": "FamilyMemberHistory",
            "id": identity,
            "status": "completed",
            "patient": ref("Patient", patient),
            "relationship": coded(system, "MTH"),
            "date": self.date(),
            "condition": [{"code": coded(ICD10, self.rnd.choice(DIAGNOSES[:2]))}],
        }
        if relative:
            made["extension"] = [{"url": "http://example.org/relative", "valueReference": ref("Patient", relative)}]
        return made

    def simple(self, resource_type: str, identity: str, patient: str) -> Json:
        """One of the types that differ in little else."""
        code = coded(ICD10, self.rnd.choice(DIAGNOSES))
        common = {"resourceType": resource_type, "id": identity, **self.meta()}
        subject = ref("Patient", patient)
        bodies: dict[str, Json] = {
            "AllergyIntolerance": {
                "clinicalStatus": coded(f"{_TERMINOLOGY}allergyintolerance-clinical", "active"),
                "patient": subject,
                "code": code,
                "recordedDate": self.date(),
            },
            "Procedure": {"status": "completed", "subject": subject, "code": code, "performedDateTime": self.date()},
            "Flag": {"status": "active", "subject": subject, "code": code, "period": {"start": self.date()}},
            "Specimen": {"subject": subject, "type": coded("http://x", "blood")},
            "Coverage": {"status": "active", "beneficiary": subject, "payor": [ref("Organization", "first-hospital")]},
            "Communication": {"status": "completed", "subject": subject, "sent": f"{self.rnd.choice(DAYS)}T08:00:00Z"},
            "Task": {"status": "requested", "intent": "order", "for": subject, "authoredOn": self.date()},
            "MedicationRequest": {
                "status": "active",
                "intent": "order",
                "subject": subject,
                "medicationCodeableConcept": coded("http://www.whocc.no/atc", self.rnd.choice(("C09AA02", "J05AE08"))),
                "authoredOn": self.date(),
            },
            "RiskAssessment": {
                "status": "final",
                "subject": subject,
                "occurrenceDateTime": self.date(),
                "prediction": [{"probabilityDecimal": self.rnd.choice((0.2, 0.5))}],
            },
            "Basic": {"subject": subject, "code": coded("http://x", self.rnd.choice("ab"))},
        }
        return common | bodies[resource_type]

    def contained(self, identity: str, patient: str) -> Json:
        """An Observation with another one inside, whose code counts."""
        inner = {k: v for k, v in self.observation("c", patient).items() if k not in ("meta", "subject")}
        return self.observation(identity, patient) | {"contained": [inner], "hasMember": [{"reference": "#c"}]}

    def collection(self, identity: str, patients: list[str]) -> Json:
        """A Bundle kept as it is, with people inside."""
        entries = [
            {
                "fullUrl": f"http://elsewhere.org/Observation/e{place}",
                "resource": {k: v for k, v in self.observation(f"e{place}", each).items() if k != "meta"},
            }
            for place, each in enumerate(patients)
        ]
        return {"resourceType": "Bundle", "id": identity, "type": "collection", "entry": entries}

    def list_of(self, identity: str, items: list[Json]) -> Json:
        """A working list: its custodian's alone."""
        made: Json = {
            "resourceType": "List",
            "id": identity,
            "status": "current",
            "mode": "working",
            "date": self.date(),
        }
        return made | ({"entry": [{"item": each} for each in items]} if items else {})

    def group_of(self, identity: str, members: list[Json]) -> Json:
        """A group of people: its custodian's alone."""
        made: Json = {"resourceType": "Group", "id": identity, "type": "person", "actual": True}
        return made | ({"member": [{"entity": each} for each in members]} if members else {})

    def provenance(self, identity: str, targets: list[Json], organisation: str) -> Json:
        """Where rows come from."""
        return {
            "resourceType": "Provenance",
            "id": identity,
            "target": targets,
            "recorded": f"{self.rnd.choice(DAYS)}T08:00:00Z",
            "agent": [{"who": ref("Organization", organisation)}],
        }


def _narrative() -> Json:
    return {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">none</div>'}
