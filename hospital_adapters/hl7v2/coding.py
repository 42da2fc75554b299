"""Coded elements (CE, CWE, CNE, CF, IS, ID) to Coding and CodeableConcept; names of code systems to URIs.

All of code, text and system of both triples (2.7 and later: three) are kept. A system that only the hospital knows
becomes a URI that is stable per feed. https://terminology.hl7.org/
"""

import re
from functools import lru_cache
from typing import Any

import yaml

from hospital_adapters.hl7v2.draft import Draft
from hospital_adapters.hl7v2.parse import Node
from hospital_adapters.hl7v2.tables import REGISTRY, RULES, Leaf, Shape, code_maps, name_of

_OID = re.compile(r"[0-2](\.(0|[1-9]\d*)){2,}")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:\S+")
_TABLE = re.compile(r"(?:HL7[- ]?|HL)?(\d{4})")
_SPACES = re.compile(r"\s+")
# code, text, system, version, system OID (positions of CWE in 2.8)
_VALUE_SETS = (
    *((15, "value-set-oid"), (16, "value-set-version"), (18, "value-set-oid"), (19, "value-set-version")),
    *((21, "value-set-oid"), (22, "value-set-version")),
)
_TRIPLES = ((1, 2, 3, 7, 14), (4, 5, 6, 8, 17), (10, 11, 12, 13, 20))


@lru_cache(maxsize=1)
def _systems() -> dict[str, str]:
    table = yaml.safe_load((RULES / "code_systems.yaml").read_text(encoding="utf-8"))
    return {str(name).upper(): str(uri) for name, uri in table.items()}


@lru_cache(maxsize=4096)
def known_system(name: str) -> str | None:
    """The URI of a code system named as HL7 table 0396 or by OID, UUID or URI; None where only the sender knows it."""
    known = _systems().get(name.upper())
    if known is not None:
        return known
    table = _TABLE.fullmatch(name.upper())
    if table is not None:
        return f"http://terminology.hl7.org/CodeSystem/v2-{table.group(1)}"
    return universal_uri(name)


@lru_cache(maxsize=4096)
def universal_uri(identifier: str) -> str | None:
    """A universal id (OID, UUID, URI) as a URI, else None."""
    if _OID.fullmatch(identifier):
        return f"urn:oid:{identifier}"
    if _UUID.fullmatch(identifier):
        return f"urn:uuid:{identifier.lower()}"
    return identifier if _URI.fullmatch(identifier) else None


def concept(node: Node, draft: Draft, table: str) -> dict[str, Any] | None:
    """CWE and its kin to CodeableConcept; `table` is the HL7 table that holds where no system is named."""
    codings: list[dict[str, Any]] = []
    parts = node.parts
    count = len(parts)
    local = draft.feed.code_maps.get(draft.site) if draft.feed.code_maps else None
    for code_at, text_at, system_at, version_at, oid_at in _TRIPLES:
        if code_at > count:
            break
        code = node.text(code_at)
        display = node.text(text_at)
        name = node.text(system_at)
        if code is None and display is None:
            if name is not None:
                node.unmark(system_at)
            continue
        oid = node.text(oid_at) if oid_at <= count else None
        system = _system(name, oid, code, table, draft)
        version = node.text(version_at) if version_at <= count else None
        coded = _SPACES.sub(" ", code) if code else None
        elements = (("system", system), ("version", version), ("code", coded), ("display", display))
        coding: dict[str, Any] = {key: text for key, text in elements if text}
        if oid is not None or (name is not None and not (name.isascii() and name.isalnum())):
            _keep_names(coding, name, oid)
        codings.append(coding)
        if local and code is not None and code in local:
            codings.append(_mapped(local[code]))
    return _with_text(node, {"coding": codings} if codings else {})


def _keep_names(coding: dict[str, Any], name: str | None, oid: str | None) -> None:
    """What the URI of a system does not say of its name and OID stands beside it."""
    system = coding.get("system", "")
    said = system == f"urn:oid:{oid}"
    if oid is not None and not said:
        coding["extension"] = [{"url": name_of("coding-system-oid"), "valueString": oid}]
    elif name is not None and (said or "%" in system):
        coding["extension"] = [{"url": name_of("coding-system-name"), "valueString": name}]


def _with_text(node: Node, result: dict[str, Any]) -> dict[str, Any] | None:
    text = node.text(9) if len(node.parts) > 8 else None
    if text:
        result["text"] = text
    if len(node.parts) > 14 and result:
        _value_set(node, result)
    return result or None


def _system(name: str | None, oid: str | None, code: str | None, table: str, draft: Draft) -> str | None:
    if name is not None:
        known = known_system(name) if name != "L" else None
        if known is None and oid is not None:
            known = universal_uri(oid)
        return known or draft.local_uri("codesystem", draft.site if name == "L" else name)
    if oid is not None:
        return universal_uri(oid) or draft.local_uri("codesystem", oid)
    if (
        draft.method and code is not None and draft.site in ("DG1-3", "PR1-3")
    ):  # 2.1 to 2.3 name the system in the field before
        return known_system(draft.method) or draft.local_uri("codesystem", draft.method)
    if table:
        return f"http://terminology.hl7.org/CodeSystem/v2-{table}" if table.isdigit() else table
    return draft.local_uri("codesystem", draft.site) if code is not None else None


def _mapped(target: str) -> dict[str, Any]:
    system, _, rest = target.rpartition("|")
    coding = {"system": system} if system else {}
    return {**coding, "code": rest}


def _value_set(node: Node, result: dict[str, Any]) -> None:
    for position, name in _VALUE_SETS:
        text = node.text(position)
        if text:
            result.setdefault("extension", []).append({"url": name_of(name), "valueString": text})


def single_coding(node: Node, draft: Draft, table: str) -> dict[str, Any] | None:
    """The first triple as one Coding; the rest stays unread."""
    found = concept(Node(node.raw, node.depth, node._delimiters), draft, table)  # noqa: SLF001  same package, a copy
    if found is None or not found.get("coding"):
        return None
    for position in (1, 2, 3, 7, 14):
        node.text(position)
    coding: dict[str, Any] = found["coding"][0]
    return coding


def mapped_code(text: str, draft: Draft, name: str) -> str | None:
    """A v2 code by the map `name` of `rules/codes/`; the feed's own map of the field comes first."""
    codes = code_maps()[name]
    local = draft.feed.code_maps.get(draft.site) if draft.feed.code_maps else None
    if local and text in local:
        text = local[text]
        if text in codes.values():
            return text
    found = codes.get(text.upper()) or codes.get("*")
    if found is None:
        draft.warnings.append(f"{draft.site}: code '{text[:20]}' is not in the map {name}")
    return found


def original_code(text: str, _draft: Draft, table: str) -> dict[str, str]:
    """The code as it was sent, as a Coding of an HL7 table: kept beside a FHIR code that says less."""
    return {"system": f"http://terminology.hl7.org/CodeSystem/v2-{table}", "code": _SPACES.sub(" ", text)}


REGISTRY.update(
    {
        "CWE": Shape("CodeableConcept", concept),
        "Coding": Shape("Coding", single_coding),
        "code": Leaf("Code", mapped_code),
        "original": Leaf("Coding", original_code),
    }
)
