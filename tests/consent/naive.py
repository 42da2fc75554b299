"""The precedence of docs/consent.md read a second time, straight from FHIR JSON; shares nothing with the package."""

from __future__ import annotations

from datetime import datetime
from typing import Any

LEVELS = "ULMNRV"
COVERS = {
    "BTG": ["ETREAT", "TREAT"],
    "ETREAT": ["TREAT"],
    "COC": ["TREAT"],
    "CAREMGT": ["TREAT"],
    "HQUALIMP": ["HOPERAT"],
    "PATSFTY": ["HOPERAT"],
    "CLINTRCH": ["HRESCH"],
}
NOT_FOR_DENY = {("BTG", "TREAT"), ("ETREAT", "TREAT")}
TREATMENT = {"TREAT", "ETREAT", "BTG", "CAREMGT", "COC"}
CUSTODIAN = TREATMENT | {"HOPERAT", "HQUALIMP", "PATSFTY", "HPAYMT", "HSYSADMIN", "RECORDMGT"}


def _instant(text: str, *, end: bool) -> datetime:
    if "T" in text:
        return datetime.fromisoformat(text)
    day = datetime.fromisoformat(text + "T00:00:00+08:00")
    return day.replace(day=day.day + 1) if end and day.day < 28 else day


def _within(period: dict[str, str], at: str) -> bool:
    moment = _instant(at, end=False)
    if "start" in period and moment < _instant(period["start"], end=False):
        return False
    return "end" not in period or moment < _instant(period["end"], end=True)


def _is_actor(actor: dict[str, Any], request: dict[str, Any]) -> bool:
    kind, identity = actor["reference"]["reference"].split("/")
    if kind == "Organization":
        return identity in request["organisations"]
    if kind == "Practitioner":
        return identity == request.get("practitioner")
    return identity in request.get("practitioner_roles", ())


def _role(actor: dict[str, Any]) -> str:
    return str(actor["role"]["coding"][0]["code"])


def _purpose(provision: dict[str, Any], request: dict[str, Any], *, deny: bool) -> bool:
    named = {coding["code"] for coding in provision["purpose"]}
    asked = {request["purpose"], *COVERS.get(request["purpose"], ())}
    if deny:
        asked = {p for p in asked if (request["purpose"], p) not in NOT_FOR_DENY}
    return bool(named & asked)


def _kind(provision: dict[str, Any], row: dict[str, Any]) -> bool:
    for coding in provision["class"]:
        if coding["system"] == "http://hl7.org/fhir/resource-types" and coding["code"] == row["type"]:
            return True
        document = row["type"] in ("DocumentReference", "Composition", "DiagnosticReport")
        if (
            coding["system"] == "http://loinc.org"
            and document
            and row.get("code") == "http://loinc.org|" + coding["code"]
        ):
            return True
        if coding["system"] == "urn:ietf:rfc:3986" and coding["code"] in row.get("profiles", ()):
            return True
    return False


def _labels(provision: dict[str, Any], row: dict[str, Any], *, deny: bool) -> bool:
    levels = [c["code"] for c in provision["securityLabel"] if c["system"].endswith("v3-Confidentiality")]
    sensitivities = {c["code"] for c in provision["securityLabel"] if c["system"].endswith("v3-ActCode")}
    level = LEVELS.index(row.get("level", "N"))
    for named in levels:
        if level < LEVELS.index(named) if deny else level > LEVELS.index(named):
            return False
    return not sensitivities or bool(sensitivities & set(row.get("labels", ())))


def _conditions(provision: dict[str, Any], request: dict[str, Any], row: dict[str, Any], *, permits: bool) -> bool:
    """Whether one provision's own conditions hold; `permits` is of the rule at the end of the path."""
    deny = provision.get("type") == "deny"
    checks = []
    if "period" in provision:
        checks.append(_within(provision["period"], request["now"]))
    recipients = [actor for actor in provision.get("actor", ()) if _role(actor) != "CST"]
    keepers = [a["reference"]["reference"].split("/")[1] for a in provision.get("actor", ()) if _role(a) == "CST"]
    if recipients:
        checks.append(any(_is_actor(actor, request) for actor in recipients))
    if keepers:
        checks.append(bool({row["custodian"], *row.get("wholes", ())} & set(keepers)))
    if "action" in provision:
        checks.append(request["action"] in {a["coding"][0]["code"] for a in provision["action"]})
    if "purpose" in provision:
        checks.append(_purpose(provision, request, deny=deny))
    if "class" in provision:
        checks.append(_kind(provision, row))
    if "code" in provision:
        codes = {f"{c['system']}|{c['code']}" for concept in provision["code"] for c in concept["coding"]}
        checks.append(row.get("code") in codes)
    if "securityLabel" in provision:
        checks.append(_labels(provision, row, deny=deny))
    if "dataPeriod" in provision:
        checks.append(_within(provision["dataPeriod"], row["date"]) if row.get("date") else not permits)
    return all(checks)


def _covered(path: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    """A permit opens a labelled row only where its path names every label."""
    named = [coding for provision in path for coding in provision.get("securityLabel", ())]
    sensitivities = {c["code"] for c in named if c["system"].endswith("v3-ActCode")}
    levels = [LEVELS.index(c["code"]) for c in named if c["system"].endswith("v3-Confidentiality")]
    if not set(row.get("labels", ())) <= sensitivities:
        return False
    return LEVELS.index(row.get("level", "N")) <= max([LEVELS.index("N"), *levels])


def _speaks_of(consent: dict[str, Any], request: dict[str, Any], row: dict[str, Any]) -> bool:
    """Whether a permit of this consent can be about the row: what a hospital attests opens its own rows to others."""
    filed_by = consent.get("_filedBy")
    if filed_by is None:
        return True
    return filed_by not in request["organisations"] and filed_by in {row["custodian"], *row.get("wholes", ())}


def _matches(
    path: list[dict[str, Any]], request: dict[str, Any], row: dict[str, Any], *, own: bool, permits_count: bool
) -> list[tuple[int, str]]:
    found = []
    provision = path[-1]
    if len(path) > 1:
        permits = provision["type"] == "permit"
        if all(_conditions(each, request, row, permits=permits) for each in path):
            names = any(_role(actor) != "CST" for each in path for actor in each.get("actor", ()))
            usable = permits_count and (own or _covered(path, row)) if permits else names or not own
            if usable:
                found.append((len(path), provision["type"]))
    for nested in provision.get("provision", ()):
        found += _matches([*path, nested], request, row, own=own, permits_count=permits_count)
    return found


def _one(consent: dict[str, Any], request: dict[str, Any], row: dict[str, Any], *, own: bool) -> str | None:
    """Rule 4: the deepest matching provision; at equal depth deny."""
    root = {k: v for k, v in consent.get("provision", {}).items() if k != "period"}
    found = _matches([root], request, row, own=own, permits_count=_speaks_of(consent, request, row))
    deepest = [kind for depth, kind in found if depth == max(depth for depth, _ in found)]
    if not deepest:
        return None
    return "deny" if "deny" in deepest else "permit"


def _newest(consents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    dates = [c["dateTime"] for c in consents if "dateTime" in c]
    return [c for c in consents if "dateTime" not in c or c["dateTime"] == max(dates)]


def _scope(consents: list[dict[str, Any]], scope: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        consent
        for consent in consents
        if consent["status"] == "active"
        and consent["scope"]["coding"][0]["code"] == scope
        and _within(consent.get("provision", {}).get("period", {}), request["now"])
    ]


def _decided(consents: list[dict[str, Any]], request: dict[str, Any], row: dict[str, Any], *, own: bool) -> str | None:
    """Rule 5."""
    matching = [(c, result) for c in consents if (result := _one(c, request, row, own=own)) is not None]
    newest = _newest([c for c, _ in matching])
    results = {result for c, result in matching if any(c is n for n in newest)}
    if not results:
        return None
    return "deny" if "deny" in results else "permit"


def _base(consents: list[dict[str, Any]], request: dict[str, Any], row: dict[str, Any]) -> str:
    found = []
    for consent in consents:
        code = consent.get("policyRule", {}).get("coding", [{"code": "none"}])[0]["code"]
        permits = code in ("OPTIN", "OPTINR")
        if code not in ("none", "preset") and (not permits or _speaks_of(consent, request, row)):
            found.append((consent, "permit" if permits else "deny"))
    newest = _newest([consent for consent, _ in found])
    bases = {base for consent, base in found if any(consent is each for each in newest)}
    return "deny" if "deny" in bases else "permit" if bases else "preset"


def visible(consents: list[dict[str, Any]], request: dict[str, Any], row: dict[str, Any]) -> tuple[bool, str]:
    """(decision, number of the rule that decided)."""
    research = request["purpose"] in ("HRESCH", "CLINTRCH")
    privacy = _scope(consents, "patient-privacy", request)
    deciding = _scope(consents, "research", request) if research else privacy
    if row["custodian"] == request["organisation"] and request["purpose"] in CUSTODIAN:
        result = _decided(privacy, request, row, own=True)
        return result != "deny", "4/5" if result else "1"
    if research and any(_one(c, request, row, own=False) == "deny" for c in privacy):
        return False, "4/5"
    result = _decided(deciding, request, row, own=False)
    if result is not None:
        return result == "permit", "4/5"
    if request.get("emergency") and request["purpose"] in ("BTG", "ETREAT"):
        return True, "7"
    plain = not row.get("labels") and row.get("level", "N") not in ("R", "V")
    base = _base(deciding, request, row)
    if base == "preset":
        opens = request["preset"] == "cn-county" and request["purpose"] in TREATMENT and not research
        return opens and bool(request.get("reach")) and plain, "6"
    return base == "permit" and plain, "6"
