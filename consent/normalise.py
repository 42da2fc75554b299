"""Reading a Consent of the base R4 dialect; what cannot be read or honoured is refused with its element and reason.

https://hl7.org/fhir/R4/consent.html; the reading of ambiguous places is in `docs/consent.md`.
"""

from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Any

from consent import dates
from consent.caller import PURPOSE_SYSTEM, PURPOSES
from consent.criteria import CriteriaReader, codings, issue
from consent.labels import ACT_CODE_SYSTEM
from consent.persons import split_reference
from consent.rules import PATIENT_PRIVACY, RESEARCH, Criteria, NormalConsent, Rule
from ehr.errors import Issue

SCOPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/consentscope"
BASES = {"OPTIN": "permit", "OPTINR": "permit", "OPTOUT": "deny", "OPTOUTE": "deny", "EMRGONLY": "deny"}
BASE_SYSTEM = "urn:kanglian:base-policy"
PRESET = "preset"
"""Our code for a Consent that states no base policy of its own, since ppc-1 demands `policy` or `policyRule`."""
LIMIT_DEPTH = 16
LIMIT_PROVISIONS = 256

__all__ = ["PURPOSES", "PURPOSE_SYSTEM", "check_consent", "read_consent"]


def _scope(resource: Mapping[str, Any], issues: list[Issue]) -> str | None:
    found = [code for system, code, _ in codings(resource.get("scope")) if system == SCOPE_SYSTEM]
    if len(found) != 1 or found[0] not in (PATIENT_PRIVACY, RESEARCH, "adr", "treatment"):
        issues.append(issue("Consent.scope", "the scope must be one of patient-privacy, research, adr, treatment"))
        return None
    return found[0]


def _base_of(system: str, code: str) -> str | None:
    if system == BASE_SYSTEM:
        return "preset" if code == PRESET else None
    return BASES.get(code) if system == ACT_CODE_SYSTEM else None


def _base(resource: Mapping[str, Any], issues: list[Issue]) -> str:
    if resource.get("policy"):
        issues.append(issue("Consent.policy", "policies by address are not read; state the base policy in policyRule"))
    stated = resource.get("policyRule")
    if stated is None:
        return "preset"
    known = {_base_of(system, code) for system, code, _ in codings(stated)}
    if len(known) != 1 or None in known:
        issues.append(
            issue(
                "Consent.policyRule",
                f"the base policy must be one of {', '.join(BASES)} of {ACT_CODE_SYSTEM}, or {PRESET} of {BASE_SYSTEM}",
            )
        )
        return "deny"
    return str(known.pop())


def _modifiers(node: Any, path: str) -> Iterator[Issue]:
    if isinstance(node, dict):
        for name in ("modifierExtension", "implicitRules"):
            if name in node:
                yield issue(f"{path}.{name}", "an extension or rule that changes the meaning is not understood")
        for name, value in node.items():
            if name not in ("contained", "text", "extension"):
                yield from _modifiers(value, f"{path}.{name}")
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _modifiers(value, f"{path}[{place}]")


class _Tree:
    """Flattens the tree of provisions into rules."""

    def __init__(self, zone: tzinfo, issues: list[Issue]) -> None:
        self.issues = issues
        self.reader = CriteriaReader(zone, issues)
        self.rules: list[Rule] = []

    def root(self, provision: Mapping[str, Any]) -> tuple[int, int]:
        """Read the root provision; its period is the Consent's."""
        path = "Consent.provision"
        if "type" in provision:
            self.issues.append(
                issue(
                    f"{path}.type",
                    "a type in the root belongs to the dialects of IHE PCF (root rule with exceptions) and MII (root"
                    " deny, modules nested), which are not read; in base R4 the base policy stands in policyRule and"
                    " each nested provision has its type",
                )
            )
        limits = self.reader.period(provision, path, "period")
        criteria = self.reader.read({k: v for k, v in provision.items() if k != "period"}, path, permit=None)
        nested = provision.get("provision") or []
        if criteria != Criteria() and not nested:
            self.issues.append(
                issue(
                    path,
                    "conditions in the root without nested provisions can be read as an exception to the base policy"
                    " or as a limit of the whole consent; state a nested provision with its type",
                )
            )
        self._nested(nested, path, 1, ((None, criteria),))
        return limits or (dates.EARLIEST, dates.LATEST)

    def _nested(self, nested: Any, parent: str, depth: int, when: tuple[tuple[bool | None, Criteria], ...]) -> None:
        if nested and depth > LIMIT_DEPTH:
            self.issues.append(issue(parent, f"provisions are nested more than {LIMIT_DEPTH} deep"))
            return
        for place, provision in enumerate(nested if isinstance(nested, list) else ()):
            path = f"{parent}.provision[{place}]"
            if not isinstance(provision, dict) or provision.get("type") not in ("permit", "deny"):
                self.issues.append(issue(f"{path}.type", "a nested provision must say permit or deny"))
                continue
            permit = provision["type"] == "permit"
            path_conditions = (*when, (permit, self.reader.read(provision, path, permit=permit)))
            self.rules.append(Rule(path, depth, permit, path_conditions))
            if len(self.rules) > LIMIT_PROVISIONS:
                self.issues.append(issue(path, f"more than {LIMIT_PROVISIONS} provisions"))
                return
            self._nested(provision.get("provision"), path, depth + 1, path_conditions)


def read_consent(resource: Mapping[str, Any], zone: tzinfo) -> tuple[NormalConsent | None, list[Issue]]:
    """Normalise an active Consent; (None, issues) where it is refused, (None, []) where it decides nothing.

    Args:
        resource: parsed JSON.
        zone: the platform's zone, for times without one.
    """
    if resource.get("status") != "active":
        return None, []
    issues = list(_modifiers(resource, "Consent"))
    scope = _scope(resource, issues)
    base = _base(resource, issues)
    patient = resource.get("patient")
    reference = patient.get("reference") if isinstance(patient, dict) else None
    named = split_reference(reference) if isinstance(reference, str) else None
    if named is None or named[0] != "Patient":
        issues.append(issue("Consent.patient", "the consent must name its Patient of this server"))
    written = resource.get("dateTime")
    tree = _Tree(dates.zone_of(written, zone), issues)
    dated = None
    try:
        dated = dates.instants(written, zone)[0] if written else None
    except ValueError as error:
        issues.append(issue("Consent.dateTime", str(error)))
    provision = resource.get("provision")
    limits = tree.root(provision) if isinstance(provision, dict) else (dates.EARLIEST, dates.LATEST)
    if scope in ("adr", "treatment") and tree.rules:
        issues.append(
            issue("Consent.provision", f"a consent of scope {scope} never opens or hides data; use patient-privacy")
        )
    if issues or scope not in (PATIENT_PRIVACY, RESEARCH):
        return None, issues
    return NormalConsent(scope, base, dated, limits, tuple(tree.rules)), []


def check_consent(resource: Mapping[str, Any], zone: tzinfo) -> list[Issue]:
    """All reasons for which this Consent cannot be honoured; empty = it can be filed."""
    return read_consent(resource, zone)[1]
