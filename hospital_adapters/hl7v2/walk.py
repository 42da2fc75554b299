"""From segment to segment: which resource each one fills, and what it belongs to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hospital_adapters.hl7v2 import identity
from hospital_adapters.hl7v2.draft import SNAPSHOT, STATED, Draft, complete
from hospital_adapters.hl7v2.elements import extension
from hospital_adapters.hl7v2.identity import Keys
from hospital_adapters.hl7v2.parse import Segment
from hospital_adapters.hl7v2.tables import code_maps, segment_tables

Resource = dict[str, Any]


@dataclass(slots=True)
class Walk:
    """Where the walk through a message stands."""

    draft: Draft
    event: str
    event_time: str
    is_result: bool
    person: Keys = ()
    patient: str = ""
    pid: Segment | None = None
    encounter: str = ""
    visit: Keys = ()
    orc: Segment | None = None
    obr: Segment | None = None
    request: str = ""
    provisional: bool = False
    """`request` says only what an ORC said, whose OBR may follow."""
    report: str = ""
    report_keys: Keys = ()
    specimen: str = ""
    coverage: str = ""
    observed: list[str] = field(default_factory=list)
    seen: dict[Keys, int] = field(default_factory=dict)
    last: str = ""
    added: str = ""
    """The resource that was put into the Bundle last; `last` is the one that notes belong to."""
    notes: list[tuple[str, Resource]] = field(default_factory=list)
    old_patients: list[str] = field(default_factory=list)

    def fill(self, table: str, segment: Segment, resource: Resource | None = None) -> Resource:
        """Apply a segment's table to a resource (a new one where none is given)."""
        target: Resource = {} if resource is None else resource
        segment_tables()[table].apply(segment, target, self.draft)
        return target

    def add(self, kind: str, content: Resource, *keys: str, weight: int | None = None) -> str:
        """Put a resource into the Bundle and remember it as the last one, to which notes belong."""
        self.last = self.added = self.draft.add({"resourceType": kind, **content}, *keys, weight=weight)
        return self.last

    def get(self, reference: str) -> Resource:
        """A resource of the Bundle."""
        return self.draft.resources[reference]

    @property
    def subject(self) -> Resource:
        """A reference to the patient."""
        return {"reference": self.patient}

    def person_weight(self) -> int:
        """What a result says about patient, visit and kin only creates what is missing."""
        return SNAPSHOT if self.is_result else STATED


def patient_segment(walk: Walk, segment: Segment) -> None:
    """PID: the patient; a new PID starts a new patient group."""
    keys = identity.patient_keys(segment)
    if keys is None:
        walk.draft.warnings.append(f"PID[{segment.sequence}] names nobody; its patient belongs to this message alone")
        keys = (*identity.message_keys(walk.draft.message), str(segment.sequence))
    content = walk.fill("PID[Patient]", segment)
    organisation = {"reference": f"Organization/{walk.draft.feed.organisation}"}
    content["managingOrganization"] = organisation
    if "deceasedDateTime" in content:
        content.pop("deceasedBoolean", None)
    walk.person, walk.pid, walk.encounter, walk.visit = keys, segment, "", ()
    walk.orc = walk.obr = None
    walk.request = walk.report = walk.specimen = walk.coverage = ""
    content.setdefault("active", True)
    walk.patient = walk.draft.patient = walk.add("Patient", content, *keys, weight=walk.person_weight())


def unknown_patient(walk: Walk) -> None:
    """A result without PID (HL7 allows it): a patient of whom nothing is known, belonging to this message alone."""
    walk.draft.warnings.append("the message has no PID; its patient belongs to this message alone")
    walk.person = identity.message_keys(walk.draft.message)
    organisation = {"reference": f"Organization/{walk.draft.feed.organisation}"}
    content = {"active": True, "managingOrganization": organisation}
    walk.patient = walk.draft.patient = walk.add("Patient", content, *walk.person, weight=walk.person_weight())


def demographic(walk: Walk, segment: Segment) -> None:
    """PD1: more about the patient."""
    complete(walk.get(walk.patient), walk.fill("PD1[Patient]", segment))


def merge(walk: Walk, segment: Segment) -> None:
    """MRG: the patient record that is no longer used, as sent, replaced by the one of PID."""
    keys = identity.patient_keys(segment, (1, 4, 2))
    if keys is None or keys == walk.person:
        walk.draft.warnings.append("MRG-1 names no other patient than PID-3; nothing is merged")
        return
    content = walk.fill("MRG[Patient]", segment)
    new = walk.subject
    content["active"] = False
    content["link"] = [{"other": new, "type": "replaced-by"}]
    old = walk.add("Patient", content, *keys)
    walk.old_patients.append(old)
    complete(walk.get(walk.patient), {"link": [{"other": {"reference": old}, "type": "replaces"}]})
    walk.last = walk.patient


def kin(walk: Walk, segment: Segment) -> None:
    """NK1: next of kin."""
    keys = identity.number(segment, 33) or identity.text_keys(segment, (2, 1), (2, 2), (3, 1), (13, 1))
    content = walk.fill("NK1[RelatedPerson]", segment)
    content["patient"] = walk.subject
    walk.add("RelatedPerson", content, *walk.person, "kin", *keys, weight=walk.person_weight())


def visit(walk: Walk, segment: Segment) -> None:
    """PV1: the encounter; its status follows from the event, PV1-45 and PV1-2."""
    walk.visit = identity.encounter_keys(segment, walk.pid, walk.person, walk.event_time)
    content = walk.fill("PV1[Encounter]", segment)
    content["status"] = _status(walk, segment)
    content.setdefault("class", {"system": "http://terminology.hl7.org/CodeSystem/v3-NullFlavor", "code": "UNK"})
    content["subject"] = walk.subject
    content["serviceProvider"] = {"reference": f"Organization/{walk.draft.feed.organisation}"}
    walk.encounter = walk.draft.encounter = walk.add("Encounter", content, *walk.visit, weight=walk.person_weight())


def _status(walk: Walk, segment: Segment) -> str:
    from_event = code_maps()["encounter-status"].get(walk.event) if not walk.is_result else None
    if from_event in ("cancelled", "finished"):
        return from_event
    if segment.peek(45):
        return "finished"
    if (segment.peek(2) or "").upper() == "P":
        return "planned"
    if from_event:
        return from_event
    return "in-progress" if segment.peek(44) else "unknown"


def visit_more(walk: Walk, segment: Segment) -> None:
    """PV2: more about the encounter."""
    if walk.encounter:
        complete(walk.get(walk.encounter), walk.fill("PV2[Encounter]", segment))


def related_group(walk: Walk, segment: Segment) -> None:
    """DRG: the diagnosis related group of the visit."""
    if walk.encounter:
        complete(walk.get(walk.encounter), walk.fill("DRG[Encounter]", segment))


def contact(walk: Walk, segment: Segment) -> None:
    """CTD: whom to ask about what the segment before it is about."""
    content = walk.fill("CTD[PractitionerRole]", segment)
    if not content:
        return
    last = walk.last
    keys = identity.text_keys(segment, (7, 1), (2, 1), (2, 2), (5, 1), (5, 4), (5, 12))
    reference = {"reference": walk.add("PractitionerRole", content, "contact", *walk.person, *keys)}
    walk.last = last
    walk.get(last).setdefault("extension", []).append(extension("participant", "Reference", reference))


def restriction(walk: Walk, segment: Segment) -> None:
    """ARV: an access restriction said of the patient, or of the visit once PV1 was read."""
    content = walk.fill("ARV[restriction]", segment)
    if content:
        content["url"] = "urn:kanglian:extension:access-restriction"
        target = walk.get(walk.encounter or walk.patient)
        target.setdefault("extension", []).append(content)


def role(walk: Walk, segment: Segment) -> None:
    """ROL, PRT: somebody takes part in what the segment before it is about."""
    content = walk.fill(f"{segment.name}[PractitionerRole]", segment)
    person = (content.get("practitioner") or content.get("organization") or {}).get("reference")
    if not content:
        return
    if person is None:
        person = "/".join(identity.text_keys(segment, (4, 1), (3, 1), (10, 1)))
    code = content["code"][0].get("coding", [{}])[0].get("code", "") if "code" in content else ""
    organisation = content.get("organization", {}).get("reference", "")
    last = walk.last
    reference = {"reference": walk.add("PractitionerRole", content, person, code, organisation)}
    walk.last = last
    _take_part(walk, last, reference)


def _take_part(walk: Walk, target: str, reference: Resource) -> None:
    kind = target.partition("/")[0]
    resource = walk.get(target)
    if kind == "Encounter":
        resource.setdefault("participant", []).append({"individual": reference})
    elif kind == "Procedure":
        resource.setdefault("performer", []).append({"actor": reference})
    elif kind in ("Observation", "DiagnosticReport"):
        resource.setdefault("performer", []).append(reference)
    elif kind == "Patient":
        resource.setdefault("generalPractitioner", []).append(reference)
    else:
        resource.setdefault("extension", []).append(extension("participant", "Reference", reference))


def allergy(walk: Walk, segment: Segment) -> None:
    """AL1, IAM: an allergy."""
    content = walk.fill(f"{segment.name}[AllergyIntolerance]", segment)
    for reaction in content.get("reaction", []):
        unknown = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}
        reaction.setdefault("manifestation", [{"extension": [unknown]}])
    system = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"
    content["clinicalStatus"] = {"coding": [{"system": system, "code": "active"}]}
    content["patient"] = walk.subject
    keys = identity.text_keys(segment, (3, 1), (3, 2))
    walk.add("AllergyIntolerance", content, *walk.person, *keys)


def diagnosis(walk: Walk, segment: Segment) -> None:
    """DG1: a diagnosis, and its place in the encounter."""
    walk.draft.method = segment.peek(2) or ""
    content = walk.fill("DG1[Condition]", segment)
    content["subject"] = walk.subject
    system = "http://terminology.hl7.org/CodeSystem/condition-category"
    content["category"] = [{"coding": [{"system": system, "code": "encounter-diagnosis"}]}]
    if (segment.peek(21) or "").upper() == "D":
        status = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
        content["verificationStatus"] = {"coding": [{"system": status, "code": "entered-in-error"}]}
    if walk.encounter:
        content["encounter"] = {"reference": walk.encounter}
    keys = identity.entity(segment, 20) or (*walk.visit, *identity.text_keys(segment, (3, 1), (3, 2), (4, 1), (6, 1)))
    reference = walk.add("Condition", content, *walk.person, *keys)
    if walk.encounter:
        rank = segment.peek(15) or ""
        place: Resource = {"condition": {"reference": reference}}
        if rank.isdigit() and int(rank) > 0:
            place["rank"] = int(rank)
        complete(walk.get(walk.encounter), {"diagnosis": [place]})


def procedure(walk: Walk, segment: Segment) -> None:
    """PR1: a procedure."""
    walk.draft.method = segment.peek(2) or ""
    content = walk.fill("PR1[Procedure]", segment)
    content["status"] = "completed"
    content["subject"] = walk.subject
    if walk.encounter:
        content["encounter"] = {"reference": walk.encounter}
    keys = identity.entity(segment, 19) or (*walk.visit, *identity.text_keys(segment, (3, 1), (3, 2), (5, 1)))
    walk.add("Procedure", content, *walk.person, *keys)


def guarantor(walk: Walk, segment: Segment) -> None:
    """GT1: who pays; a RelatedPerson, named by the patient's Account."""
    content = walk.fill("GT1[RelatedPerson]", segment)
    content["patient"] = walk.subject
    keys = identity.number(segment, 2) or identity.text_keys(segment, (3, 1), (3, 2))
    party = walk.add("RelatedPerson", content, *walk.person, "guarantor", *keys, weight=walk.person_weight())
    numbered = bool(walk.pid and walk.pid.raw(18))
    account_keys = (identity.number(walk.pid, 18) if walk.pid else None) or ("patient", *walk.person)
    account: Resource = {"status": "active", "subject": [walk.subject], "guarantor": [{"party": {"reference": party}}]}
    if numbered:
        account["identifier"] = [i for i in walk.get(walk.patient).get("identifier", []) if _is_account(i)]
    last = walk.last
    walk.add("Account", account, *account_keys, weight=walk.person_weight())
    walk.last = last


def _is_account(identifier: Resource) -> bool:
    return any(coding.get("code") == "AN" for coding in identifier.get("type", {}).get("coding", []))


def insurance(walk: Walk, segment: Segment) -> None:
    """IN1: an insurance; the insured person becomes its policy holder."""
    holder = walk.fill("IN1[RelatedPerson]", segment)
    content = walk.fill("IN1[Coverage]", segment)
    content["status"] = "active"
    content["beneficiary"] = walk.subject
    content.setdefault("payor", [_payor(walk, segment)])
    keys = identity.text_keys(segment, (2, 1), (2, 2), (3, 1), (4, 1), (36, 1), (49, 1))
    if holder:
        holder["patient"] = walk.subject
        person = identity.text_keys(segment, (16, 1), (16, 2), (18, 1))
        reference = walk.add("RelatedPerson", holder, *walk.person, "insured", *person, weight=walk.person_weight())
        content["policyHolder"] = {"reference": reference}
    walk.coverage = walk.add("Coverage", content, *walk.person, *keys, weight=walk.person_weight())


def _payor(walk: Walk, segment: Segment) -> Resource:
    name = segment.peek(2, 2) or segment.peek(2) or segment.peek(3)
    return {"display": name} if name else walk.subject


def insurance_more(walk: Walk, segment: Segment) -> None:
    """IN2, IN3: more about the insurance before it."""
    if walk.coverage:
        complete(walk.get(walk.coverage), walk.fill(f"{segment.name}[Coverage]", segment))


def stated(table: str, *places: tuple[int, int]) -> Callable[[Walk, Segment], None]:
    """A handler for segments that make an Observation about the patient (ACC, DB1, PDA)."""

    def handle(walk: Walk, segment: Segment) -> None:
        content = walk.fill(table, segment)
        content["subject"] = walk.subject
        if walk.encounter:
            content["encounter"] = {"reference": walk.encounter}
        walk.add("Observation", content, *walk.person, *walk.visit, table, *identity.text_keys(segment, *places))

    return handle


def referral(walk: Walk, segment: Segment) -> None:
    """RF1: a referral."""
    content = walk.fill("RF1[ServiceRequest]", segment)
    content["subject"] = walk.subject
    if walk.encounter:
        content["encounter"] = {"reference": walk.encounter}
    named = 6 if segment.raw(6) else 11
    keys = identity.entity(segment, named) or identity.text_keys(segment, (7, 1), (9, 1), (10, 1))
    walk.add("ServiceRequest", content, *walk.person, "referral", *keys)


def note(walk: Walk, segment: Segment) -> None:
    """NTE: a comment on what the segment before it is about."""
    lines = [node.whole() for node in segment.repetitions(3)]
    text = "\n".join(line for line in lines if line)
    if not text or not walk.last:
        return
    content = walk.fill("NTE[Annotation]", segment)
    content["text"] = text
    target = walk.last
    if target.startswith("DiagnosticReport/") and walk.request:
        target = walk.request
    resource = walk.get(target)
    if target.partition("/")[0] in _WITH_NOTES:
        resource.setdefault("note", []).append(content)
    else:
        resource.setdefault("extension", []).append(extension("note", "Annotation", content))


_WITH_NOTES = frozenset({"Observation", "ServiceRequest", "Specimen", "AllergyIntolerance", "Condition", "Procedure"})


_HOMES = {
    **dict.fromkeys(("PID", "PD1"), "patient"),
    **dict.fromkeys(("PV1", "PV2", "DRG", "ARV"), "encounter"),
    **dict.fromkeys(("IN1", "IN2", "IN3"), "coverage"),
    **dict.fromkeys(("ORC", "TQ1"), "request"),
    **dict.fromkeys(("OBR", "CTI"), "report"),
    "NTE": "last",
}


def home_of(walk: Walk, segment: Segment) -> str:
    """The resource that tells what a segment said, once the segment has been handled."""
    if segment.name == "MRG":
        return (walk.old_patients[-1] if walk.old_patients else "") or walk.patient
    return getattr(walk, _HOMES.get(segment.name, "added")) or walk.patient
