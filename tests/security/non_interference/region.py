"""A random region from a seed: hospitals, people, rows, consents, merges, referrals, emergencies, deletions."""

import random
from typing import Any

from tests.consent.house import caller
from tests.security.non_interference.resources import LAB_CODES, LOINC, Json, Maker, coded, identity_number, ref
from tests.security.non_interference.story import (
    LOADER,
    BreakGlass,
    Delete,
    File,
    Merge,
    Review,
    Step,
    Unmerge,
    Write,
)

HOSPITALS = ("first-hospital", "county-hospital", "township-clinic")
WARD = "first-hospital-icu"
CLINICIANS = {"first-hospital": "dr.wang", "county-hospital": "dr.li", "township-clinic": "nurse.zhao", WARD: "dr.icu"}
BREAKERS = ("dr.li", "nurse.zhao")
_SIMPLE = (
    *("AllergyIntolerance", "Procedure", "Flag", "Specimen", "Coverage", "Communication", "Task"),
    *("MedicationRequest", "RiskAssessment", "Basic"),
)
_CONSENT_CODES = ("loinc|718-7", "loinc|75622-1", "loinc|34133-9", "icd10|B20", "icd10|I10")
_PERIODS = ({"start": "2015-01-01"}, {"start": "2090-01-01"}, {"end": "2016-01-01"}, {"end": "2090-06-15"})


def breaker(subject: str) -> Any:
    """The clinician who breaks the glass."""
    organisation = next(each for each, name in CLINICIANS.items() if name == subject)
    return caller(subject, "clinician", organisation, purpose="BTG", reason="unconscious")


class Region:
    """The story of one seed, and the names that requests are made of."""

    def __init__(self, seed: int, *, patients: int = 3) -> None:
        """Make the steps.

        Args:
            seed: of everything.
            patients: of each hospital.
        """
        self.seed = seed
        self.rnd = random.Random(seed)  # noqa: S311 - test data
        self.maker = Maker(self.rnd)
        self.steps: list[Step] = []
        self.patients: list[tuple[str, str]] = []
        """(Patient id, its hospital)."""
        self._written: dict[str, list[tuple[str, str]]] = {}
        """type: (id, patient)."""
        self._number = 0
        self._directory()
        self._people(patients)
        for identity, hospital in self.patients:
            self._record(identity, hospital)
        self._shared_rows()
        self._corrected()
        self._consents()
        self._afterwards()

    def _name(self, organisation: str) -> str:
        self._number += 1
        return f"{organisation}.r{self._number}"

    def _write(self, writer: str, resource: Json, patient: str = "") -> str:
        self.steps.append(Write(writer, resource))
        self._written.setdefault(resource["resourceType"], []).append((resource["id"], patient))
        return str(resource["id"])

    def _of(self, resource_type: str, patient: str) -> list[str]:
        return [identity for identity, about in self._written.get(resource_type, ()) if about == patient]

    def _directory(self) -> None:
        for name in HOSPITALS:
            self._write(LOADER, {"resourceType": "Organization", "id": name, "name": name.replace("-", " ")})
        whole = ref("Organization", "first-hospital")
        self._write(LOADER, {"resourceType": "Organization", "id": WARD, "name": "icu", "partOf": whole})
        for organisation, subject in CLINICIANS.items():
            named = [{"family": subject}]
            self._write(LOADER, {"resourceType": "Practitioner", "id": subject, "name": named})
            role: Json = {"resourceType": "PractitionerRole", "id": f"role.{subject}"}
            who = {"practitioner": ref("Practitioner", subject), "organization": ref("Organization", organisation)}
            self._write(LOADER, role | who)
        self._write(LOADER, {"resourceType": "Location", "id": "ward-1", "name": "ward 1"})
        value_set = {"resourceType": "ValueSet", "id": "v", "url": "http://example.org/v", "status": "active"}
        self._write(LOADER, value_set)
        hiding: Json = {
            "resourceType": "Organization",
            "id": "county-hospital.hiding",
            "name": "hiding",
            "contained": [{"resourceType": "Basic", "id": "c", "code": {"text": "x"}}],
            "extension": [{"url": "http://example.org/x", "valueReference": {"reference": "#c"}}],
        }
        self._write("county-hospital", hiding)

    def _people(self, number: int) -> None:
        shared = [identity_number(n) for n in range(3)]
        for hospital in HOSPITALS:
            for place in range(number):
                identity = f"{hospital}.p{place}"
                same = shared[place] if place < len(shared) and self.rnd.random() < 0.6 else None
                patient = self.maker.patient(identity, same, hospital)
                if self.patients and self.rnd.random() < 0.15:
                    other = self.rnd.choice(self.patients)[0]
                    patient["link"] = [{"other": ref("Patient", other), "type": "seealso"}]
                self._write(hospital, patient, identity)
                self.patients.append((identity, hospital))

    def _record(self, patient: str, hospital: str) -> None:
        rnd, maker = self.rnd, self.maker
        for _ in range(rnd.randrange(1, 3)):
            treating = rnd.choice((hospital, *HOSPITALS))
            self._write(treating, maker.encounter(self._name(treating), patient, treating), patient)
        for _ in range(rnd.randrange(2, 5)):
            writer = rnd.choice((hospital, *HOSPITALS, WARD))
            self._write(writer, self._result(writer, patient), patient)
        writer = rnd.choice((hospital, *HOSPITALS))
        for resource_type in rnd.sample(_SIMPLE, rnd.randrange(2, 5)):
            self._write(writer, maker.simple(resource_type, self._name(writer), patient), patient)
        if rnd.random() < 0.7:
            self._write(writer, maker.condition(self._name(writer), patient), patient)
        if rnd.random() < 0.4:
            receiver = rnd.choice((*HOSPITALS, WARD))
            role = rnd.random() < 0.3
            asked = ref("PractitionerRole", f"role.{CLINICIANS[receiver]}") if role else ref("Organization", receiver)
            self._write(hospital, maker.referral(self._name(hospital), patient, asked), patient)
        self._documents(patient, writer)

    def _result(self, writer: str, patient: str) -> Json:
        rnd, name = self.rnd, self._name(writer)
        if rnd.random() < 0.12:
            return self.maker.contained(name, patient)
        made = self.maker.observation(name, patient)
        known = self._of("Observation", patient)
        if known and rnd.random() < 0.3:
            made[rnd.choice(("derivedFrom", "hasMember"))] = [ref("Observation", rnd.choice(known))]
        if (stays := self._of("Encounter", patient)) and rnd.random() < 0.4:
            made["encounter"] = ref("Encounter", rnd.choice(stays))
        if rnd.random() < 0.15:
            made["focus"] = [ref("Patient", rnd.choice(self.patients)[0])]
        if rnd.random() < 0.3:
            made["performer"] = [ref("Practitioner", rnd.choice(list(CLINICIANS.values())))]
        return made

    def _documents(self, patient: str, writer: str) -> None:
        rnd, maker = self.rnd, self.maker
        results = self._of("Observation", patient)
        reports: list[str] = []
        if rnd.random() < 0.7:
            chosen = rnd.sample(results, min(2, len(results)))
            reports.append(self._write(writer, maker.report(self._name(writer), patient, chosen), patient))
        if rnd.random() < 0.5:
            binary = self._name(writer)
            first = rnd.random() < 0.5
            context = rnd.choice((None, None, ref("Patient", patient)))
            if first:
                self._write(writer, maker.binary(binary, context), patient)
            self._write(writer, maker.document(self._name(writer), patient, reports, binary), patient)
            if not first:
                self._write(writer, maker.binary(binary, context), patient)
        if rnd.random() < 0.4:
            entries = [ref("Observation", each) for each in results[:1]]
            self._write(writer, maker.composition(self._name(writer), patient, entries), patient)
        if reports and rnd.random() < 0.6:
            targets = [ref("DiagnosticReport", each) for each in reports] + [ref("Observation", results[0])]
            self._write(writer, maker.provenance(self._name(writer), targets, writer), patient)
        if rnd.random() < 0.4:
            basic = {"resourceType": "Basic", "id": self._name(writer), "code": coded("http://x", "a")}
            self._write(writer, basic | {"subject": ref("Observation", results[0])}, patient)
        if rnd.random() < 0.4:
            task: Json = {"resourceType": "Task", "id": self._name(writer), "status": "requested", "intent": "order"}
            self._write(writer, task | {"focus": ref("Observation", results[-1])}, patient)

    def _shared_rows(self) -> None:
        rnd, maker = self.rnd, self.maker
        for hospital in HOSPITALS:
            names = [identity for identity, _ in self.patients]
            self._write(hospital, maker.appointment(self._name(hospital), rnd.sample(names, 2)))
            a, b = rnd.sample(names, 2)
            self._write(hospital, maker.related_person(self._name(hospital), a))
            self._write(hospital, maker.family_history(self._name(hospital), a, b if rnd.random() < 0.6 else None))
            self._write(hospital, maker.collection(self._name(hospital), rnd.sample(names, rnd.randrange(1, 3))))
            rows = [("Observation", each) for each, _ in rnd.sample(self._written["Observation"], 3)]
            items = [ref(*each) for each in rows] + [ref("Patient", rnd.choice(names))]
            self._write(hospital, maker.list_of(self._name(hospital), items))
            self._write(hospital, maker.group_of(self._name(hospital), [ref("Patient", each) for each in names[:3]]))
            relative = rnd.choice([each for each, _ in self._written["RelatedPerson"]])
            said = {"resourceType": "Communication", "id": self._name(hospital), "status": "completed"}
            self._write(hospital, said | {"sender": ref("RelatedPerson", relative)})
        nobody = {"resourceType": "Observation", "id": self._name("county-hospital"), "status": "final"}
        self._write("county-hospital", nobody | {"code": coded(LOINC, "718-7"), "subject": ref("Location", "ward-1")})

    def _corrected(self) -> None:
        """A result that no longer says itself what a report of the same hospital still says of it."""
        for patient, hospital in self.rnd.sample(self.patients, 2):
            result = self.maker.observation(self._name(hospital), patient)
            labelled = coded(LOINC, self.rnd.choice(("75622-1", "20507-0")))
            self._write(hospital, result | {"code": labelled}, patient)
            report = self.maker.report(self._name(hospital), patient, [result["id"]])
            self._write(hospital, report | {"code": labelled}, patient)
            self._write(hospital, result | {"code": coded(LOINC, "4548-4")}, patient)

    def _provision(self, depth: int) -> dict[str, Any]:
        rnd = self.rnd
        made: dict[str, Any] = {"type": rnd.choice(("permit", "deny"))}
        actors = [*(f"Organization/{each}" for each in (*HOSPITALS, WARD)), "CST Organization/first-hospital"]
        actors += ["Practitioner/dr.li", "PractitionerRole/role.nurse.zhao"]
        if rnd.random() < 0.6:
            made["actor"] = rnd.sample(actors, rnd.randrange(1, 3))
        kinds: dict[str, Any] = {
            "purpose": rnd.sample(("TREAT", "ETREAT", "BTG", "HOPERAT"), rnd.randrange(1, 3)),
            "action": ["access"],
            "class": rnd.sample(
                ("Observation", "Condition", "Encounter", "loinc|34133-9", "http://example.org/lab"), 2
            ),
            "code": rnd.sample(_CONSENT_CODES, 2),
            "label": rnd.choice((["HIV"], ["STD", "HIV"], ["R"], ["HIV", "R"], ["PSY"], ["N"])),
            "period": rnd.choice(_PERIODS),
            "dataPeriod": rnd.choice(({"start": "2020-01-01"}, {"end": "2020-06-14"})),
        }
        for name in rnd.sample(sorted(kinds), rnd.randrange(0, 3)):
            made[name] = kinds[name]
        if depth and rnd.random() < 0.4:
            made["provision"] = [self._provision(depth - 1)]
        return made

    def _consents(self) -> None:
        rnd = self.rnd
        for identity, hospital in self.patients:
            for place in range(rnd.choice((0, 0, 1, 1, 2))):
                base = rnd.choice(("OPTIN", "OPTOUT", "EMRGONLY", "preset", "preset"))
                short: dict[str, Any] = {"base": base, "dateTime": rnd.choice(("2021-01-01", "2022-02-01", ""))}
                if provisions := [self._provision(2) for _ in range(rnd.randrange(0, 4))]:
                    short["provision"] = provisions
                if rnd.random() < 0.15:
                    short["period"] = rnd.choice(_PERIODS)
                if rnd.random() < 0.1:
                    short["status"] = "inactive"
                by_hospital = rnd.random() < 0.2
                writer = hospital if by_hospital else "resident"
                self.steps.append(File(writer, identity, short, f"{hospital}.c{identity[-1]}{place}"))

    def _afterwards(self) -> None:
        rnd = self.rnd
        if rnd.random() < 0.8:
            hospital = rnd.choice(HOSPITALS)
            one, other = rnd.sample([each for each, of in self.patients if of == hospital], 2)
            self.steps.append(Merge(hospital, one, other))
            if rnd.random() < 0.3:
                self.steps.append(Unmerge(one, other))
            elif rnd.random() < 0.3:
                self.steps.append(Review(one))
        for subject in BREAKERS:
            for patient in rnd.sample([each for each, _ in self.patients], 2):
                self.steps.append(BreakGlass(breaker(subject), patient))
        self._changes()

    def _changes(self) -> None:
        """Later versions of some rows, other codes and persons among them; deletions; rows that come back."""
        rnd = self.rnd
        changeable = [
            step
            for step in self.steps
            if isinstance(step, Write) and step.resource["resourceType"] in ("Observation", "Condition", "Procedure")
        ]
        for step in rnd.sample(changeable, len(changeable) // 3):
            resource = dict(step.resource)
            if rnd.random() < 0.5:
                resource["code"] = coded(LOINC, rnd.choice(LAB_CODES))
            elif rnd.random() < 0.3:
                resource["subject"] = ref("Patient", rnd.choice(self.patients)[0])
            else:
                resource["note"] = [{"text": "again"}]
            self.steps.append(Write(step.writer, resource))
        every = [step for step in self.steps if isinstance(step, Write) and step.writer != LOADER]
        gone = [
            step for step in every if step.resource["resourceType"] not in ("Patient", "RelatedPerson", "Organization")
        ]
        for step in rnd.sample(gone, 8):
            self.steps.append(Delete(step.writer, step.resource["resourceType"], step.resource["id"]))
            if rnd.random() < 0.2:
                self.steps.append(step)
