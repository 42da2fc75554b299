"""Python functions behind the rules where a table is not enough: telecoms, numbers, locations, statuses."""

from typing import Any

from hospital_adapters.hl7v2 import times
from hospital_adapters.hl7v2.coding import concept, known_system, mapped_code
from hospital_adapters.hl7v2.draft import Draft
from hospital_adapters.hl7v2.leaves import ID_CARD_SYSTEM, decimal, is_id_card
from hospital_adapters.hl7v2.memory import copied
from hospital_adapters.hl7v2.parse import Node
from hospital_adapters.hl7v2.tables import REGISTRY, Leaf, Shape, element, name_of

_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
# table 0203 and what hospitals write in its stead (SFZ: the initials of 身份证); the check digit has its say besides
_ID_CARD_TYPES = frozenset({"NI", "NNCHN", "SS", "PRC", "SFZ", "SFZH", "IDCARD", "身份证", "身份证号", "居民身份证"})
_LEVELS = (4, 7, 8, 1, 2, 3)  # PL: facility, building, floor, point of care, room, bed
_LEVEL_KINDS = {4: ("si", "Site"), 7: ("bu", "Building"), 8: ("lvl", "Level"), 2: ("ro", "Room"), 3: ("bd", "Bed")}
_PHYSICAL = "http://terminology.hl7.org/CodeSystem/location-physical-type"


def extension(name: str, kind: str, value: Any) -> dict[str, Any]:
    """An extension listed in `extensions.yaml`."""
    return {"url": name_of(name), f"value{kind}": value}


def unit_of(node: Node, draft: Draft) -> dict[str, Any]:
    """CE or CWE of a unit as the unit part of a Quantity: unit, code with system; alternates as an extension."""
    code, text, name = node.text(1), node.text(2), node.text(3)
    found: dict[str, Any] = {}
    if text or code:
        found["unit"] = text or code
    if code and (name or text):
        found["system"] = (known_system(name) if name else None) or draft.local_uri("codesystem", name or draft.site)
        found["code"] = " ".join(code.split())
    if any(node.parts[3:]) or (name and not code) or "%" in found.get("system", ""):
        whole = concept(node, draft, "")
        if whole:
            found["extension"] = [extension("units", "CodeableConcept", whole)]
    return found


def quantity(node: Node, draft: Draft, _argument: str) -> dict[str, Any] | None:
    """CQ (number, units) to Quantity."""
    number = decimal(node.text(1) or "")
    found: dict[str, Any] = {} if number is None else {"value": number}
    if number is None:
        node.unmark(1)
    if node.has(2):
        found.update(unit_of(node.child(2), draft))
    return found or None


def telecom(node: Node, draft: Draft, use: str) -> dict[str, Any] | None:
    """XTN to ContactPoint: the number or address from 4, 12, 1 or 5 to 8; `use` holds where XTN-2 says none."""
    point: dict[str, Any] = element("XTN", node, draft) or {}
    email, plain, printed = node.text(4), node.text(12), node.text(1)
    system = point.get("system")
    if system == "email" and not email and printed and "@" not in printed:
        system = "phone"  # "Internet" beside a telephone number
    parts = [node.text(position) for position in (5, 6, 7)]
    composed = " ".join(part for part in parts if part)
    if email and (system in (None, "email") or not (plain or printed or composed)):
        value = email
        system = "url" if "://" in email else "email"
    else:
        value = plain or printed or composed
    if not value:
        return None
    point["value"] = value
    point["system"] = system or ("email" if "@" in value else "phone")
    if "use" not in point and use:
        point["use"] = use
    others = (("email", email), ("unformatted-number", plain), ("telephone-number", printed))
    kept = [extension(name, "String", text) for name, text in others if text and text != value]
    if kept:
        point["extension"] = [*point.get("extension", []), *kept]
    return point


def identifier(node: Node, draft: Draft, kind: str) -> dict[str, Any] | None:
    """CX to Identifier; a resident identity card number gets its national system; `kind` is the type where unsaid."""
    found: dict[str, Any] | None = element("CX@Identifier", node, draft)
    if found is None:
        return None
    if kind and "type" not in found:
        found["type"] = {"coding": [{"system": _TYPES, "code": kind}]}
    if is_id_card(found.get("value", "")) and (kind == "NI" or _type_code(found).upper() in _ID_CARD_TYPES):
        found["system"] = ID_CARD_SYSTEM
        found["value"] = found["value"].upper()
    return found


def _type_code(found: dict[str, Any]) -> str:
    return str(found.get("type", {}).get("coding", [{}])[0].get("code", ""))


def national_number(text: str, draft: Draft, _argument: str) -> dict[str, Any]:
    """PID-19 and its kin: the national number; Chinese identity card numbers get their own system."""
    system = ID_CARD_SYSTEM if is_id_card(text) else draft.local_uri("assigner", "national-number")
    code = "NNCHN" if is_id_card(text) else "SS"
    return {"type": {"coding": [{"system": _TYPES, "code": code}]}, "system": system, "value": text}


def birth_time(text: str, draft: Draft, _argument: str) -> str | None:
    """The birth time where the birth date has one; a bare date is left to birthDate."""
    return times.instant(text, draft.feed.timezone)


def birth_place(text: str, _draft: Draft, _argument: str) -> dict[str, str]:
    """PID-23 as an Address of one line."""
    return {"text": text}


def encounter_class(text: str, draft: Draft, _argument: str) -> dict[str, str]:
    """PV1-2 to the class of an Encounter; a class of another table keeps its own code."""
    code = mapped_code(text, draft, "encounter-class")
    if code is not None:
        return {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": code}
    return {"system": "http://terminology.hl7.org/CodeSystem/v2-0004", "code": " ".join(text.split())}


def _designator(node: Node, position: int) -> tuple[str | None, str | None, str | None]:
    inner = node.child(position)
    return inner.text(1), inner.text(2), inner.text(3)


def location(node: Node, draft: Draft, _argument: str) -> dict[str, str] | None:
    """PL to a chain of Locations, each `partOf` the wider one; gives the reference of the innermost."""
    reference: str | None = None
    path: list[str] = []
    resource: dict[str, Any] = {}
    for position in _LEVELS:
        if not node.has(position):
            continue
        name, universal, kind = _designator(node, position)
        if not (name or universal):
            continue
        path.append(f"{position}:{(name or universal or '').casefold()}")
        resource = {"resourceType": "Location", "mode": "instance"}
        if name:
            resource["name"] = name
        if universal:
            resource["identifier"] = [_universal(universal, kind)]
        if position in _LEVEL_KINDS:
            code, _display = _LEVEL_KINDS[position]
            resource["physicalType"] = {"coding": [{"system": _PHYSICAL, "code": code}]}
        if reference:
            resource["partOf"] = {"reference": reference}
        reference = draft.add(resource, *path)
    if reference is None:
        description = node.text(9)
        if not description:
            return None
        reference = draft.add({"resourceType": "Location", "mode": "instance", "name": description}, "9", description)
    _describe(node, draft.resources[reference], draft)
    return {"reference": reference}


def _universal(universal: str, kind: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"value": universal}
    if kind:
        found["type"] = {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0301", "code": " ".join(kind.split())}]
        }
    return found


def _describe(node: Node, resource: dict[str, Any], draft: Draft) -> None:
    count = len(node.parts)
    if count < 5:
        return
    draft.repeatable = False  # it says what the resource in the Bundle does not say yet
    status = node.text(5)
    if status:
        code = {"ACTIVE": "active", "A": "active", "INACTIVE": "inactive", "I": "inactive"}.get(status.upper())
        if code:
            resource["status"] = code
        else:
            operational = {"system": "http://terminology.hl7.org/CodeSystem/v2-0306", "code": " ".join(status.split())}
            resource["operationalStatus"] = operational
    kind = node.text(6)
    if kind and "type" not in resource:
        system = "http://terminology.hl7.org/CodeSystem/v2-0305"
        resource["type"] = [{"coding": [{"system": system, "code": " ".join(kind.split())}]}]
    description = node.text(9) if count > 8 else None
    if description:
        resource.setdefault("description", description)
    if count > 9 and node.has(10):
        found = element("EI@Identifier", node.child(10), draft)
        if count > 10 and found:
            authority = element("HD@assigner", node.child(11), draft)
            if authority:
                found.setdefault("extension", []).append(extension("assigning-authority", "Reference", authority))
        if found and found not in resource.get("identifier", []):
            resource.setdefault("identifier", []).append(found)


def location_text(node: Node, draft: Draft, argument: str) -> dict[str, Any] | None:
    """PL to a reference to its Location (for extensions)."""
    return location(node, draft, argument)


def job(node: Node, draft: Draft, _argument: str) -> dict[str, Any] | None:
    """JCC (job code, class, text) to CodeableConcept."""
    codes = [(node.text(1), "0327"), (node.text(2), "0328")]
    system = "http://terminology.hl7.org/CodeSystem/v2-"
    codings = [{"system": system + table, "code": " ".join(code.split())} for code, table in codes if code]
    text = node.text(3)
    _ = draft
    return {**({"coding": codings} if codings else {}), **({"text": text} if text else {})} or None


def order_number(node: Node, draft: Draft, kind: str) -> dict[str, Any] | None:
    """EI of an order to Identifier with its type (PLAC, FILL, PGN) and system."""
    return _numbered(node, draft, kind)


def specimen_number(node: Node, draft: Draft, kind: str) -> dict[str, Any] | None:
    """EIP's placer or filler half to Identifier."""
    return _numbered(node, draft, kind)


def _numbered(node: Node, draft: Draft, kind: str) -> dict[str, Any] | None:
    """An EI as Identifier; a message names the same order many times."""
    key = (node.raw, node.depth, kind)
    known = draft.numbers.get(key)
    if known is not None and (not node.read or node.marks() == known[1]):
        node.mark(known[1])
        return copied(known[0])  # type: ignore[no-any-return]  # a copy of a dictionary
    if node.read:
        return _read_number(node, draft, kind)
    found = _read_number(node, draft, kind)
    if found is not None:
        draft.numbers[key] = (copied(found), node.marks())
    return found


def _read_number(node: Node, draft: Draft, kind: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = element("EI@Identifier", node, draft)
    if found is None:
        return None
    system = element("EIuri", node, draft)
    if system:
        found["system"] = system
    if kind:
        found["type"] = {"coding": [{"system": _TYPES, "code": kind}]}
    return found


def placer_and_filler(node: Node, draft: Draft, _argument: str) -> dict[str, Any] | None:
    """EIP to a logical reference: the placer's number, the filler's beside it."""
    placer = _numbered(node.child(1), draft, "PLAC") if node.has(1) else None
    filler = _numbered(node.child(2), draft, "FILL") if node.has(2) else None
    if placer and filler:
        placer.setdefault("extension", []).append(extension("filler-number", "Identifier", filler))
    found = placer or filler
    return {"identifier": found} if found else None


def parent_result(node: Node, draft: Draft, _argument: str) -> dict[str, Any] | None:
    """PRL (parent's code, sub-id, value) to CodeableConcept."""
    found = concept(node.child(1), draft, "") if node.has(1) else None
    text = ", ".join(part for part in (node.text(2), node.text(3)) if part)
    if text:
        found = found or {}
        found["text"] = f"{found['text']}: {text}" if "text" in found else text
    return found


def specimen_availability(text: str, _draft: Draft, _argument: str) -> str | None:
    """SPM-20 to Specimen.status."""
    return {"Y": "available", "N": "unavailable"}.get(text.upper())


REGISTRY.update(
    {
        "CX": Shape("Identifier", identifier),
        "telecom": Shape("ContactPoint", telecom),
        "account_number": Shape("Identifier", lambda node, draft, _a: identifier(node, draft, "AN")),
        "national_number": Leaf("Identifier", national_number),
        "birth_time": Leaf("DateTime", birth_time),
        "birth_place": Leaf("Address", birth_place),
        "encounter_class": Leaf("Coding", encounter_class),
        "CQ": Shape("Quantity", quantity),
        "location": Shape("Reference", location),
        "location_text": Shape("Reference", location_text),
        "job": Shape("CodeableConcept", job),
        "order_number": Shape("Identifier", order_number),
        "specimen_number": Shape("Identifier", specimen_number),
        "placer_and_filler": Shape("Reference", placer_and_filler),
        "parent_result": Shape("CodeableConcept", parent_result),
        "specimen_availability": Leaf("Code", specimen_availability),
    }
)
