"""Who sees which row, read a second time from docs/consent.md and the design; nothing of `consent` or `ehr` is used.

The story of a region is replayed here as data; what a consent says is decided by `tests.consent.naive`. Whatever the
platform keeps for its decisions (labels, reach, classes, persons of rows) is worked out again, slowly, from the story.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

from tests.consent import cases, naive
from tests.security.non_interference.story import (
    LOADER,
    BreakGlass,
    Delete,
    File,
    Merge,
    Name,
    Review,
    Step,
    Unmerge,
    Write,
)

Json = dict[str, Any]
DIRECTORY = frozenset(
    [
        "Organization",
        "Practitioner",
        "PractitionerRole",
        "Location",
        "HealthcareService",
        "Endpoint",
        "Medication",
        "ValueSet",
    ]
)
CUSTODIAN_ONLY = frozenset({"List", "Group", "MessageHeader"})
INHERITS = {
    "Provenance": ("target",),
    "Basic": ("subject",),
    "Composition": ("subject",),
    "Binary": ("securityContext",),
    "QuestionnaireResponse": ("subject",),
    "Task": ("focus",),
    "Media": ("partOf",),
}
UP = {
    "DiagnosticReport": ("result", "basedOn", "specimen"),
    "Observation": ("hasMember", "derivedFrom", "basedOn", "specimen"),
    "ServiceRequest": ("basedOn",),
    "Procedure": ("basedOn", "reasonReference"),
    "Media": ("basedOn",),
    "Task": ("basedOn", "focus"),
    "CarePlan": ("basedOn",),
    "Composition": ("section.entry",),
    "DocumentReference": ("context.related", "relatesTo.target"),
    "Provenance": ("target",),
}
DOWN = {"DiagnosticReport": ("result",), "Observation": ("hasMember",)}
ATTACHING = frozenset({"DocumentReference", "Media", "DiagnosticReport", "Communication"})
SENSITIVE = {"75622-1": "HIV", "20507-0": "STD"}
SENSITIVE_PREFIXES = {"B20": "HIV", "A51": "STD", "F20": "PSY", "J05AE": "HIV"}
CODE = {
    "DocumentReference": "type",
    "Composition": "type",
    "FamilyMemberHistory": "condition.code",
    "Flag": "none of its search parameters",
    "MedicationRequest": "medicationCodeableConcept",
    "Specimen": "type",
}
DATE = {
    "Observation": "effectiveDateTime",
    "Condition": "onsetDateTime",
    "DiagnosticReport": "effectiveDateTime",
    "DocumentReference": "date",
    "Encounter": "period.start",
    "ServiceRequest": "authoredOn",
    "Composition": "date",
    "MedicationRequest": "authoredOn",
    "AllergyIntolerance": "recordedDate",
    "Procedure": "performedDateTime",
    "Appointment": "start",
    "FamilyMemberHistory": "date",
    "Provenance": "recorded",
    "Task": "authoredOn",
    "Communication": "sent",
    "RiskAssessment": "occurrenceDateTime",
    "Flag": "period.start",
}
LEVELS = "ULMNRV"
CLINICAL = frozenset(["TREAT", "ETREAT", "BTG", "CAREMGT", "COC", "HQUALIMP", "PATSFTY", "HPAYMT", "HOPERAT"])
RECORDS = frozenset(["HOPERAT", "TREAT", "HSYSADMIN", "RECORDMGT", "HPAYMT"])
ROLES: dict[str, tuple[str, frozenset[str], str]] = {
    # role: (purpose where the token names none, purposes it may have, what it sees)
    "clinician": ("TREAT", CLINICAL, "directory shared"),
    "nurse": ("TREAT", CLINICAL, "directory shared"),
    "resident": ("PATRQT", frozenset({"PATRQT"}), "directory own"),
    "researcher": ("HRESCH", frozenset({"HRESCH", "CLINTRCH"}), "directory"),
    "officer": ("PUBHLTH", frozenset({"PUBHLTH"}), "directory"),
    "privacy-officer": ("HCOMPL", frozenset({"HCOMPL", "HLEGAL", "HOPERAT"}), "directory consents reviews"),
    "auditor": ("HCOMPL", frozenset({"HCOMPL", "HLEGAL", "HOPERAT"}), "directory"),
    "operator": ("HSYSADMIN", frozenset({"HSYSADMIN", "HOPERAT"}), "directory"),
    "machine-client": ("HOPERAT", RECORDS, "directory kept"),
    "loader": ("HSYSADMIN", frozenset({"HSYSADMIN"}), "all"),
}
LETTERS = {"read": "r", "search": "s", "write": "rsud"}
_SCOPE = re.compile(r"(patient|user|system)/(\*|\w+)\.([cruds]+)(?:\?(.+))?")


def walk(value: Any) -> Iterator[Json]:
    """Every object inside a JSON value, itself included."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def at(resource: Json, path: str) -> list[Any]:
    """The values at a path of keys."""
    level: list[Any] = [resource]
    for name in path.split("."):
        found = [node[name] for node in level if isinstance(node, dict) and name in node]
        level = [item for value in found for item in (value if isinstance(value, list) else [value])]
    return level


def targets(resource: Json, path: str) -> list[Name]:
    """The rows of this server that the references at a path name."""
    return [name for each in at(resource, path) if (name := _name(each.get("reference", ""))) is not None]


def _name(reference: str) -> Name | None:
    parts = reference.split("/")
    return (parts[0], parts[1]) if len(parts) == 2 and parts[0][:1].isupper() else None


def sensitivities(resource: Json) -> frozenset[str]:
    """What the codes of a resource say, those of what stands inside it too."""
    found = set()
    for node in walk(resource):
        code = node.get("code")
        if isinstance(code, str):
            found.update({SENSITIVE[code]} if code in SENSITIVE else ())
            found.update(label for prefix, label in SENSITIVE_PREFIXES.items() if code.startswith(prefix))
    return frozenset(found)


def level_of(resource: Json) -> str:
    """The highest level of confidentiality that the resource or what stands in it states."""
    stated = ["-"]
    for part in (
        resource,
        *resource.get("contained", ()),
        *(e["resource"] for e in resource.get("entry", ()) if "resource" in e),
    ):
        stated += [
            c["code"] for c in part.get("meta", {}).get("security", ()) if c["system"].endswith("v3-Confidentiality")
        ]
    return max(stated, key=LEVELS.find)


@dataclass(slots=True)
class Version:
    """One version: what it says of whom; of a deletion, what the version before it said."""

    resource: Json
    deleted: bool
    persons: frozenset[str]
    own: frozenset[str]
    level: str


@dataclass(slots=True)
class Row:
    """One row with its versions; labels that came from other rows hold for all of them."""

    custodian: str
    writer: str
    versions: list[Version] = field(default_factory=list)
    got: set[str] = field(default_factory=set)
    got_level: str = "-"
    review: bool = False

    @property
    def current(self) -> Version:
        return self.versions[-1]

    def level(self, version: Version) -> str:
        """The level that counts: the highest of its own and those that came."""
        found = max((version.level, self.got_level), key=LEVELS.find)
        return "N" if found == "-" else found

    def labels(self, version: Version) -> set[str]:
        """Sensitivities, its own and those that came."""
        return set(version.own) | self.got


@dataclass(frozen=True, slots=True)
class View:
    """How somebody looks: a caller, one kind of interaction, and whether his open emergencies count for it."""

    caller: Any
    interaction: str
    emergency: bool = False

    @property
    def role(self) -> str:
        return next(iter(sorted(self.caller.roles)))

    @property
    def purpose(self) -> str:
        return self.caller.purpose_of_use or ROLES[self.role][0]


class Oracle:
    """What is stored, and who sees it."""

    def __init__(self, preset: str) -> None:
        self.preset = preset
        self.rows: dict[Name, Row] = {}
        self._waiting: dict[Name, set[str]] = {}
        self._consents: dict[Name, tuple[str, Json, int]] = {}
        self._merges: dict[tuple[str, str], int] = {}
        self._reviewed: dict[str, int] = {}
        self._emergencies: set[tuple[str, str]] = set()
        self._clock = 0
        self._decided: dict[Any, bool] = {}

    # ---- the story ---------------------------------------------------------------------------------------------------

    def play(self, step: Step, made: Sequence[Json] = ()) -> None:
        """Take a step over; `made` are the resources as stored whose ids the server made."""
        self._clock += 1
        self._decided.clear()
        match step:
            case Write(writer=writer, resource=resource):
                self.put(writer, resource)
            case File(writer=writer, patient=patient):
                self.put(writer, made[0])
                filed_by = None if writer == "resident" else writer
                full = cases.consent(step.consent) | {"_filedBy": filed_by}
                self._consents["Consent", made[0]["id"]] = (patient, full, self._clock)
            case Delete(resource_type=resource_type, resource_id=identity):
                row = self.rows[resource_type, identity]
                last = row.current
                if not last.deleted:
                    row.versions.append(Version(last.resource, True, last.persons, last.own, last.level))  # noqa: FBT003
            case Merge(survivor=survivor, retired=retired):
                self._merges[survivor, retired] = self._clock
            case Unmerge(survivor=survivor, retired=retired):
                del self._merges[survivor, retired]
            case Review(patient=patient):
                self._reviewed |= dict.fromkeys(self.person(patient), self._clock)
            case BreakGlass(caller=caller, patient=patient):
                self._emergencies.add((caller.subject, patient))
                for resource in made:
                    self.put(LOADER, resource)
                    self.rows[resource["resourceType"], resource["id"]].review = resource["resourceType"] == "Task"

    def put(self, writer: str, resource: Json) -> None:
        """A version of a row."""
        name = (resource["resourceType"], resource["id"])
        row = self.rows.setdefault(name, Row("platform" if writer == LOADER else writer, writer))
        level = level_of(resource)
        before = row.current.level if row.versions else "-"
        if row.versions and not row.current.deleted and before in "RV":
            level = max((level, before), key=LEVELS.find)
        version = Version(resource, False, self._persons(name, resource, writer), sensitivities(resource), level)  # noqa: FBT003
        for past in row.versions:
            # a version counts by its own labels and those of the row since
            past.own |= version.own
            past.level = max(past.level, version.level, key=LEVELS.find) if version.level in "RV" else past.level
        row.versions.append(version)
        row.got |= self._waiting.pop(name, set())
        if name[0] == "Binary":
            for each in self._attaching(name):
                version.persons = version.persons or self.rows[each].current.persons
                self._take(row, self.rows[each])
        if name[0] in ATTACHING:
            self._adopted_by(row)
        self._spread(name)

    def _persons(self, name: Name, resource: Json, writer: str) -> frozenset[str]:
        if name[0] in CUSTODIAN_ONLY:
            return frozenset()
        named = [found for node in walk(resource) if (found := _name(str(node.get("reference", "")))) is not None]
        persons = {identity for kind, identity in named if kind == "Patient"}
        if name[0] == "Patient":
            persons.add(name[1])
        if name[0] == "Consent":
            return frozenset(persons)
        heirs = [each for path in INHERITS.get(name[0], ()) for each in targets(resource, path) if each[0] != "Patient"]
        if not persons and not heirs:
            heirs = [each for each in named if each[0] == "RelatedPerson"]
        for each in heirs:
            # feeds see what their hospital keeps
            if each in self.rows and (writer == LOADER or self.rows[each].custodian == self.rows[name].custodian):
                persons |= self.rows[each].current.persons
        return frozenset(persons)

    def _attaching(self, binary: Name) -> Iterator[Name]:
        for name, row in self.rows.items():
            keeps = row.custodian == self.rows[binary].custodian and name[0] in ATTACHING
            if keeps and not row.current.deleted and f"Binary/{binary[1]}" in _urls(row.current.resource):
                yield name

    def _adopted_by(self, row: Row) -> None:
        for url in _urls(row.current.resource):
            binary = self.rows.get(("Binary", url.removeprefix("Binary/")))
            if binary is not None and binary.custodian == row.custodian and not binary.current.persons:
                binary.current.persons = row.current.persons

    def _spread(self, start: Name) -> None:
        """Bring the labels of a row just written, and of those that refer to it, into agreement."""
        row, pending = self.rows[start], [start]
        for target in self._along(UP, start):
            if target in self.rows and self._shares(start, target):
                self._take(row, self.rows[target])
        for target in self._along(DOWN, start):
            said = set(row.current.own)
            if target not in self.rows:
                if target[1].startswith(f"{row.writer}."):
                    self._waiting.setdefault(target, set()).update(said)
            elif self.rows[target].custodian == row.custodian and not said <= self.rows[target].got:
                self.rows[target].got |= said
                pending.append(target)
        self._raise(pending)

    def _raise(self, pending: list[Name]) -> None:
        """Give the labels of rows to those that refer to them, and so on."""
        while pending:
            source = pending.pop()
            for name, each in self.rows.items():
                if (
                    source in self._along(UP, name)
                    and self._shares(name, source)
                    and self._take(each, self.rows[source])
                ):
                    pending.append(name)
                elif name[0] == "Binary" and source in self._attaching(name):
                    self._take(each, self.rows[source])

    def _along(self, edges: dict[str, tuple[str, ...]], name: Name) -> list[Name]:
        resource = self.rows[name].current.resource
        return [target for path in edges.get(name[0], ()) for target in targets(resource, path)]

    def _shares(self, one: Name, other: Name) -> bool:
        """Whether labels pass up from the other row: one custodian keeps both, or one person is in both."""
        mine, theirs = self.rows[one], self.rows[other]
        if mine.custodian == theirs.custodian:
            return True
        return any(self.person(each) & theirs.current.persons for each in mine.current.persons)

    @staticmethod
    def _take(row: Row, of: Row | None) -> bool:
        if of is None:
            return False
        level = of.level(of.current)
        labels = of.labels(of.current)
        higher = level in "RV" and LEVELS.find(level) > LEVELS.find(row.got_level)
        if labels <= row.got and not higher:
            return False
        row.got |= labels
        row.got_level = level if higher else row.got_level
        return True

    # ---- people ------------------------------------------------------------------------------------------------------

    def person(self, patient: str) -> frozenset[str]:
        """All Patients of the same person."""
        found, pending = {patient}, [patient]
        while pending:
            one = pending.pop()
            linked = {other for pair in self._merges for other in pair if one in pair}
            if number := self._number(one):
                linked |= {name[1] for name in self.rows if name[0] == "Patient" and self._number(name[1]) == number}
            pending += linked - found
            found |= linked
        return frozenset(found)

    def _number(self, patient: str) -> str | None:
        row = self.rows.get(("Patient", patient))
        found = [
            i["value"] for i in (row.current.resource["identifier"] if row else ()) if i["system"].startswith("urn:oid")
        ]
        return found[0] if found else None

    def _groups(self, person: frozenset[str]) -> list[list[Json]]:
        mine = [entry for name, entry in self._consents.items() if entry[0] in person and self._counts(name)]
        merged = [
            clock
            for (_, retired), clock in self._merges.items()
            if retired in person and clock > max((self._reviewed.get(each, 0) for each in person), default=0)
        ]
        if not merged or len(person) < 2:
            return [[consent for _, consent, _ in mine]]
        return [
            [consent for holder, consent, filed in mine if holder == each or filed > max(merged)]
            for each in sorted(person)
        ]

    def _counts(self, consent: Name) -> bool:
        return not self.rows[consent].current.deleted

    def opened_by(self, actor: str) -> list[str]:
        """Patients whose record an actor opened in an emergency."""
        return sorted(patient for who, patient in self._emergencies if who == actor)

    def is_open(self, actor: str, patient: str) -> bool:
        """Whether an actor has the record of this Patient's person open."""
        return any((actor, each) in self._emergencies for each in self.person(patient))

    # ---- reach -------------------------------------------------------------------------------------------------------

    def _treats(self, organisation: str, person: frozenset[str]) -> bool:
        return any(
            row.custodian == organisation and self._until(row.current.resource) > datetime.now(UTC)
            for row in self._living("Encounter")
            if row.writer != LOADER and targets(row.current.resource, "subject")[0][1] in person
        )

    @staticmethod
    def _until(encounter: Json) -> datetime:
        if encounter["status"] not in ("arrived", "in-progress", "finished"):
            return datetime.min.replace(tzinfo=UTC)
        if "end" not in encounter["period"]:
            return datetime.max.replace(tzinfo=UTC)
        return datetime.fromisoformat(encounter["period"]["end"]) + timedelta(days=90)

    def _living(self, resource_type: str) -> Iterator[Row]:
        for name, row in self.rows.items():
            if name[0] == resource_type and not row.current.deleted:
                yield row

    def reaches(self, organisation: str, person: frozenset[str]) -> bool:
        """Whether the organisation treats the person, or one that treats it referred the person to it."""
        if self._treats(organisation, person):
            return True
        for row in self._living("ServiceRequest"):
            request = row.current.resource
            if targets(request, "subject")[0][1] not in person or request["status"] != "active":
                continue
            if datetime.fromisoformat(request["authoredOn"]) + timedelta(days=90) < datetime.now(UTC):
                continue
            asked = {identity for kind, identity in targets(request, "performer") if kind == "Organization"}
            for kind, identity in targets(request, "performer"):
                if kind == "PractitionerRole":
                    asked.add(targets(self.rows[kind, identity].current.resource, "organization")[0][1])
            if organisation in asked and organisation != row.custodian and self._treats(row.custodian, person):
                return True
        return False

    # ---- decisions ---------------------------------------------------------------------------------------------------

    def sees(self, view: View, name: Name) -> bool:
        """Whether the row, deleted or not, is visible."""
        row = self.rows[name]
        return self._sees(view, name, row, row.current)

    def sees_version(self, view: View, name: Name, number: int) -> bool:
        """Whether a version is: by its own persons and labels, and those of the row now."""
        row = self.rows[name]
        return self._sees(view, name, row, row.current) and self._sees(view, name, row, row.versions[number - 1])

    def _sees(self, view: View, name: Name, row: Row, version: Version) -> bool:
        _, purposes, parts = ROLES[view.role]
        seen = [part for part in parts.split() if part == "directory" or view.purpose in purposes]
        return self._in_scope(view, name, row, version) and any(
            getattr(self, f"_part_{part}")(view, name, row, version) for part in seen
        )

    def _part_directory(self, _view: View, name: Name, _row: Row, version: Version) -> bool:
        return name[0] in DIRECTORY and not version.persons and not _hides_people(name, version.resource)

    def _part_all(self, _view: View, _name: Name, _row: Row, _version: Version) -> bool:
        return True

    def _part_consents(self, _view: View, name: Name, _row: Row, _version: Version) -> bool:
        return name[0] == "Consent"

    def _part_reviews(self, _view: View, _name: Name, row: Row, _version: Version) -> bool:
        return row.review

    def _part_own(self, view: View, name: Name, row: Row, version: Version) -> bool:
        if view.caller.patient is None or row.review or name[0] in CUSTODIAN_ONLY:
            return False
        return bool(version.persons) and version.persons <= self.person(view.caller.patient)

    def _part_kept(self, view: View, name: Name, row: Row, version: Version) -> bool:
        return self._clinical(view, name, row, version, shared=False)

    def _part_shared(self, view: View, name: Name, row: Row, version: Version) -> bool:
        return self._clinical(view, name, row, version, shared=True)

    def _clinical(self, view: View, name: Name, row: Row, version: Version, *, shared: bool) -> bool:
        own = row.custodian == view.caller.organisation
        if name[0] == "Consent":
            return own or self._is_named(view, version.resource, row)
        if row.review:
            return False
        if not version.persons:
            return own and view.purpose in naive.CUSTODIAN
        if not own and not shared:
            return False
        return all(self._allows(view, name, row, version, self.person(each)) for each in version.persons)

    def _is_named(self, view: View, consent: Json, row: Row) -> bool:
        named = {actor["reference"]["reference"] for node in walk(row.current.resource) for actor in _actors(node)}
        mine = {f"Organization/{each}" for each in self._organisations(view)}
        mine |= {f"Practitioner/{view.caller.subject}", f"PractitionerRole/role.{view.caller.subject}"}
        return not row.current.deleted and bool(named & mine) and bool(consent)

    def _organisations(self, view: View) -> list[str]:
        return [view.caller.organisation, *self._wholes(view.caller.organisation)]

    def _wholes(self, organisation: str) -> list[str]:
        row = self.rows.get(("Organization", organisation))
        return [name for _, name in (targets(row.current.resource, "partOf") if row else ())]

    def _allows(self, view: View, name: Name, row: Row, version: Version, person: frozenset[str]) -> bool:
        key = (view, name, id(version), person)
        if key not in self._decided:
            request = {
                "organisation": view.caller.organisation,
                "organisations": self._organisations(view),
                "practitioner": view.caller.subject,
                "practitioner_roles": [f"role.{view.caller.subject}"],
                "purpose": view.purpose,
                "action": "access",
                "now": datetime.now(UTC).isoformat(timespec="seconds"),
                "preset": self.preset,
                "reach": self.reaches(view.caller.organisation, person),
                "emergency": view.emergency and any(self.is_open(view.caller.subject, each) for each in person),
            }
            facts = self._facts(name, row, version)
            self._decided[key] = all(naive.visible(group, request, facts)[0] for group in self._groups(person))
        return self._decided[key]

    def _facts(self, name: Name, row: Row, version: Version) -> Json:
        resource = version.resource
        code = at(resource, CODE.get(name[0], "code") + ".coding")
        labels = sorted(row.labels(version)) + (["KEPT"] if _hides_people(name, resource) else [])
        return {
            "type": name[0],
            "custodian": row.custodian,
            "wholes": self._wholes(row.custodian),
            "labels": labels,
            "level": row.level(version),
            "profiles": at(resource, "meta.profile"),
            "date": _dated(next(iter(at(resource, DATE[name[0]])), None)) if name[0] in DATE else None,
        } | ({"code": f"{code[0].get('system')}|{code[0]['code']}"} if code else {})

    def _in_scope(self, view: View, name: Name, row: Row, version: Version) -> bool:
        """What the SMART scopes of the token leave open."""
        for scope in view.caller.scopes:
            found = _SCOPE.fullmatch(scope)
            if found is None or found[2] not in ("*", name[0]) or not set(found[3]) & set(LETTERS[view.interaction]):
                continue
            if found[1] == "patient" and not (
                self._part_own(view, name, row, version) or self._part_directory(view, name, row, version)
            ):
                continue
            if all(_has_token(version.resource, *pair) for pair in parse_qsl(found[4] or "")):
                return True
        return False


def _actors(node: Json) -> list[Json]:
    actors = node.get("actor", ())
    return [each for each in actors if isinstance(each, dict)] if isinstance(actors, list) else []


def _urls(resource: Json) -> set[str]:
    return {
        node["url"] for node in walk(resource) if isinstance(node.get("url"), str) and node["url"].startswith("Binary/")
    }


def _hides_people(name: Name, resource: Json) -> bool:
    return name[0] in DIRECTORY and any(each["resourceType"] not in DIRECTORY for each in resource.get("contained", ()))


def _dated(text: str | None) -> str | None:
    if text is None or "T" in text:
        return text and text.replace("Z", "+00:00")
    return f"{text}T00:00:00+08:00"


def _has_token(resource: Json, parameter: str, values: str) -> bool:
    codings = at(resource, f"{parameter}.coding")
    asked = values.split(",")
    return any(value in (c["code"], f"{c['system']}|{c['code']}") for c in codings for value in asked)
