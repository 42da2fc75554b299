"""The conditions of one provision: actors, actions, purposes, kinds and codes of data, labels, periods."""

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any

from consent import dates
from consent.caller import PURPOSE_SYSTEM, PURPOSES
from consent.labels import ACT_CODE_SYSTEM, CONFIDENTIALITY_SYSTEM, LEVELS, SENSITIVITIES
from consent.persons import split_reference, types_of_kind
from consent.rules import Criteria
from ehr.errors import Issue

_T = "http://terminology.hl7.org/CodeSystem/"
ACTION_SYSTEM = _T + "consentaction"
RESOURCE_TYPE_SYSTEM = "http://hl7.org/fhir/resource-types"
LOINC = "http://loinc.org"
URI_SYSTEM = "urn:ietf:rfc:3986"

RECIPIENT_ROLES: dict[tuple[str, str], tuple[str, ...]] = {
    (_T + "v3-ParticipationType", "PRCP"): (),
    (_T + "v3-ParticipationType", "IRCP"): (),
    (_T + "v3-RoleClass", "PROV"): ("nurse", "physician"),
    (_T + "v3-RoleClass", "ASSIGNED"): (),
    (_T + "extra-security-role-type", "humanuser"): ("nurse", "officer", "physician", "privacy-officer", "researcher"),
    (_T + "practitioner-role", "doctor"): ("physician",),
    (_T + "practitioner-role", "nurse"): ("nurse",),
    (_T + "practitioner-role", "researcher"): ("researcher",),
}
CUSTODIAN_ROLE = (_T + "v3-ParticipationType", "CST")
_READ = frozenset(
    "id extension type period actor action securityLabel purpose class code dataPeriod provision".split()  # noqa: SIM905 - one line of names
)


def issue(path: str, reason: str) -> Issue:
    """A refusal at filing."""
    return Issue("error", "not-supported", f"{path}: {reason}", path)


def codings(concept: Any) -> Iterator[tuple[str, str, str]]:
    """(system, code, path below the concept) of a CodeableConcept."""
    found = concept.get("coding") if isinstance(concept, dict) else None
    for place, coding in enumerate(found if isinstance(found, list) else ()):
        if isinstance(coding, dict):
            yield str(coding.get("system") or ""), str(coding.get("code") or ""), f"coding[{place}]"


class CriteriaReader:
    """Reads provisions; problems are collected in `issues`."""

    def __init__(self, zone: tzinfo, issues: list[Issue]) -> None:
        """Take the Consent's zone and the list to collect problems in."""
        self._zone = zone
        self._issues = issues

    def _refuse(self, path: str, reason: str) -> None:
        self._issues.append(issue(path, reason))

    def read(self, provision: Mapping[str, Any], path: str, *, permit: bool | None) -> Criteria:
        """The conditions of one provision; `permit` is None for the root."""
        for name in provision:
            if name.removeprefix("_") not in _READ and name != "modifierExtension":
                self._refuse(f"{path}.{name}", "this condition cannot be honoured")
        actors, custodians = self._actors(provision, path)
        types, documents, profiles = self._classes(provision, path)
        level, sensitivities = self._labels(provision, path, permit=permit)
        return Criteria(
            actors=actors,
            custodians=custodians,
            actions=self._actions(provision, path, permit=permit),
            purposes=self._purposes(provision, path),
            types=types,
            documents=documents,
            profiles=profiles,
            codes=self._codes(provision, path),
            level=level,
            sensitivities=sensitivities,
            period=self.period(provision, path, "period"),
            data_period=self.period(provision, path, "dataPeriod"),
        )

    def period(self, provision: Mapping[str, Any], path: str, name: str) -> tuple[int, int] | None:
        """A period as half-open instants, None where absent."""
        if name not in provision:
            return None
        try:
            low, high = dates.period(provision[name], self._zone)
        except (ValueError, TypeError, OverflowError) as error:
            self._refuse(f"{path}.{name}", str(error))
            return None
        if low >= high:
            self._refuse(f"{path}.{name}", "the period ends before it starts")
        return low, high

    def _actors(
        self, provision: Mapping[str, Any], path: str
    ) -> tuple[tuple[tuple[str, str, tuple[str, ...]], ...] | None, tuple[str, ...] | None]:
        recipients: set[tuple[str, str, tuple[str, ...]]] = set()
        custodians: set[str] = set()
        for place, actor in enumerate(provision.get("actor", ())):
            where = f"{path}.actor[{place}]"
            reference = actor.get("reference")
            literal = reference.get("reference") if isinstance(reference, dict) else None
            named = split_reference(literal) if isinstance(literal, str) else None
            roles = [(system, code) for system, code, _ in codings(actor.get("role"))]
            if named is None or named[0] not in ("Organization", "Practitioner", "PractitionerRole"):
                self._refuse(
                    f"{where}.reference", "an actor must be an Organization, Practitioner or PractitionerRole here"
                )
            elif CUSTODIAN_ROLE in roles and named[0] == "Organization":
                custodians.add(named[1])
            elif known := [RECIPIENT_ROLES[role] for role in roles if role in RECIPIENT_ROLES]:
                recipients.add(
                    (named[0], named[1], () if () in known else tuple(sorted({r for k in known for r in k})))
                )
            else:
                self._refuse(f"{where}.role", "this role is not known; recipients are PRCP or IRCP, custodians CST")
        return tuple(sorted(recipients)) or None, tuple(sorted(custodians)) or None

    def _actions(self, provision: Mapping[str, Any], path: str, *, permit: bool | None) -> tuple[str, ...] | None:
        found: set[str] = set()
        for place, concept in enumerate(provision.get("action", ())):
            known = [code for system, code, _ in codings(concept) if system == ACTION_SYSTEM]
            if len(known) != 1 or known[0] not in ("collect", "access", "use", "disclose", "correct"):
                self._refuse(f"{path}.action[{place}]", "the action is not one of consentaction")
            elif known[0] in ("collect", "correct") and not permit:
                self._refuse(f"{path}.action[{place}]", "collecting and correcting are governed by law, not by consent")
            else:
                found.add(known[0])
        return tuple(sorted(found)) or None

    def _purposes(self, provision: Mapping[str, Any], path: str) -> tuple[str, ...] | None:
        found: set[str] = set()
        for place, coding in enumerate(provision.get("purpose", ())):
            if coding.get("system") != PURPOSE_SYSTEM or coding.get("code") not in PURPOSES:
                self._refuse(f"{path}.purpose[{place}]", "this purpose is not one that the platform tells apart")
            else:
                found.add(coding["code"])
        return tuple(sorted(found)) or None

    def _classes(
        self, provision: Mapping[str, Any], path: str
    ) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None, tuple[str, ...] | None]:
        types: set[str] = set()
        documents: set[str] = set()
        profiles: set[str] = set()
        for place, coding in enumerate(provision.get("class", ())):
            system, code = coding.get("system"), coding.get("code") or ""
            if system == RESOURCE_TYPE_SYSTEM and code in types_of_kind("personal"):
                types.add(code)
            elif system == LOINC and code:
                documents.add(f"{system}|{code}")
            elif system == URI_SYSTEM and code:
                profiles.add(code)
            else:
                self._refuse(
                    f"{path}.class[{place}]",
                    "a class must be a resource type about persons, a LOINC document code or the address of a profile",
                )
        return tuple(sorted(types)) or None, tuple(sorted(documents)) or None, tuple(sorted(profiles)) or None

    def _codes(self, provision: Mapping[str, Any], path: str) -> tuple[str, ...] | None:
        found: set[str] = set()
        for place, concept in enumerate(provision.get("code", ())):
            known = {f"{system}|{code}" for system, code, _ in codings(concept) if system and code}
            if not known:
                self._refuse(f"{path}.code[{place}]", "a code needs its system; text alone is not matched")
            found |= known
        return tuple(sorted(found)) or None

    def _labels(
        self, provision: Mapping[str, Any], path: str, *, permit: bool | None
    ) -> tuple[str | None, tuple[str, ...] | None]:
        levels: set[str] = set()
        sensitivities: set[str] = set()
        for place, coding in enumerate(provision.get("securityLabel", ())):
            system, code = coding.get("system"), coding.get("code")
            where = f"{path}.securityLabel[{place}]"
            if system == CONFIDENTIALITY_SYSTEM and code in LEVELS and permit is not None and levels <= {code}:
                levels.add(code)
            elif system == CONFIDENTIALITY_SYSTEM and code in LEVELS:
                self._refuse(where, "one level of confidentiality, in a provision that says permit or deny")
            elif system == ACT_CODE_SYSTEM and code in SENSITIVITIES:
                sensitivities.add(code)
            else:
                self._refuse(where, "this label is not one that rows are given")
        return next(iter(levels), None), tuple(sorted(sensitivities)) or None
