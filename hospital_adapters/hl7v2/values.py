"""OBX-5 by the type that OBX-2 names, to the value of an Observation; OBX-6 units, OBX-7 reference range.

HL7 v2 chapter 7.4.2; https://hl7.org/fhir/R4/observation-definitions.html#Observation.value_x_
"""

import base64
import binascii
import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any

from hospital_adapters.hl7v2 import times
from hospital_adapters.hl7v2.coding import concept
from hospital_adapters.hl7v2.draft import Draft
from hospital_adapters.hl7v2.elements import extension, unit_of
from hospital_adapters.hl7v2.leaves import decimal
from hospital_adapters.hl7v2.parse import Node, Segment
from hospital_adapters.hl7v2.tables import code_maps, element

UCUM = "http://unitsofmeasure.org"
_CODED = frozenset({"CE", "CWE", "CNE", "CF", "IS", "ID"})
_TEXT = frozenset({"ST", "TX", "FT", "GTS", "RFR", ""})
_MOMENTS = frozenset({"DT", "DTM", "TS", "TM", "DR"})
_ENCAPSULATED = frozenset({"ED", "RP"})
_PRINTED = frozenset(
    [
        "HD",
        "EI",
        "CX",
        "XCN",
        "XPN",
        "XAD",
        "XTN",
        "XON",
        "PN",
        "AD",
        "TN",
        "CN",
        "CK",
        "NA",
        "MA",
        "CP",
        "MO",
        "PL",
        "CQ",
        "DR",
    ]
)
_TYPED = _CODED | _TEXT | _PRINTED | _MOMENTS | {"NM", "SN", "NR", "CQ"}
_RANGE = re.compile(r"\s*([+-]?\d+(?:\.\d+)?)\s*(?:-|_|~|to|–|—|～|至)\s*([+-]?\d+(?:\.\d+)?)\s*")
_BOUND = re.compile(r"\s*(<=|>=|<|>|≤|≥)\s*([+-]?\d+(?:\.\d+)?)\s*")
_COMPARATORS = {"<": "<", ">": ">", "<=": "<=", ">=": ">=", "≤": "<=", "≥": ">="}
_LONGEST_RANGE = 200
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_NUMBER_AND_SIGN = re.compile(r"\s*(?:(<=|>=|<|>|≤|≥)\s*)?([+-]?\d+(?:\.\d+)?)\s*")


def units(segment: Segment, draft: Draft) -> dict[str, Any]:
    """OBX-6 as the unit part of a Quantity: unit, code, system, and alternates as an extension."""
    node = segment.first(6)
    draft.site = "OBX-6"
    return unit_of(node, draft) if node is not None else {}


def value(node: Node, kind: str, segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    """One repetition of OBX-5 as ("valueQuantity", {...}) or its like; None where it is empty.

    A value that does not fit its declared type is kept as text, with a warning.
    """
    draft.site = "OBX-5"
    typed = _typed(node, kind, segment, draft)
    if typed is not None:
        return typed
    text = node.whole()
    if text is None:
        return None
    if kind not in _TEXT and kind not in _PRINTED:
        draft.warnings.append(f"OBX[{segment.sequence}]-5 is not of the type {kind}; kept as text")
    return "valueString", text


def _typed(node: Node, kind: str, segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    if kind in _CODED:
        found = concept(node, draft, "")
        return ("valueCodeableConcept", found) if found else None
    if kind in _QUANTITIES:
        return _QUANTITIES[kind](node, segment, draft)
    if kind in _MOMENTS:
        return _moment(node, kind, draft)
    return None


def _moment(node: Node, kind: str, draft: Draft) -> tuple[str, Any] | None:
    if kind in ("DT", "DTM", "TS"):
        moment = times.date_time(node.raw.strip(), draft.feed.timezone)
        node.text(1)
        return ("valueDateTime", moment) if moment else None
    if kind == "TM":
        time = times.time_of_day(node.raw.strip())
        node.text(1)
        return ("valueTime", time) if time else None
    found = element("DR", node, draft)
    return ("valuePeriod", found) if found else None


def _numeric_range(node: Node, segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    return _range(decimal(node.text(1) or ""), decimal(node.text(2) or ""), segment, draft)


def _composite(node: Node, _segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    found = element("CQ", node, draft)
    return ("valueQuantity", found) if found and "value" in found else None


def _number(node: Node, segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    text = node.text(1)
    if text is None or any(node.parts[1:]):
        return None
    match = _NUMBER_AND_SIGN.fullmatch(text)
    number = decimal(match.group(2) if match else text)
    if number is None:
        return None
    found: dict[str, Any] = {"value": number}
    if match and match.group(1):
        found["comparator"] = _COMPARATORS[match.group(1)]
    return "valueQuantity", {**found, **units(segment, draft)}


def _structured(node: Node, segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    """SN: comparator, number, separator or suffix, number (`>^100`, `^1^:^128`, `^2^-^10`, `^3^+`)."""
    sign, first, separator, second = (node.text(position) for position in (1, 2, 3, 4))
    one, two = decimal(first or ""), decimal(second or "")
    if one is None:
        return None
    if separator == "-" and two is not None:
        return _range(one, two, segment, draft)
    if separator in (":", "/") and two is not None:
        return "valueRatio", {"numerator": {"value": one}, "denominator": {"value": two}}
    if separator or second:
        return None
    found: dict[str, Any] = {"value": one}
    if sign and sign not in ("=", ""):
        if sign not in _COMPARATORS:
            return None
        found["comparator"] = _COMPARATORS[sign]
    return "valueQuantity", {**found, **units(segment, draft)}


def _range(low: Decimal | None, high: Decimal | None, segment: Segment, draft: Draft) -> tuple[str, Any] | None:
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return None
    unit = units(segment, draft)
    bounds = {name: {"value": bound, **unit} for name, bound in (("low", low), ("high", high)) if bound is not None}
    return "valueRange", bounds


_QUANTITIES: dict[str, Callable[[Node, Segment, Draft], tuple[str, Any] | None]] = {
    "NM": _number,
    "SN": _structured,
    "NR": _numeric_range,
    "CQ": _composite,
}


def put_value(segment: Segment, observation: dict[str, Any], draft: Draft) -> None:
    """OBX-5 into the Observation: one value, or (several repetitions) text lines or components of the same code."""
    kind = (segment.peek(2) or "").upper()
    if kind in _TYPED:
        segment.text(2)
    nodes = segment.repetitions(5)
    if kind in _TEXT and len(nodes) > 1:
        observation["valueString"] = "\n".join(filter(None, (node.whole() for node in nodes)))
        return
    values = [found for found in (value(node, kind, segment, draft) for node in nodes) if found]
    if len(values) == 1:
        key, content = values[0]
        observation[key] = content
    elif values:
        code = observation.get("code", {})
        observation["component"] = [{"code": code, key: content} for key, content in values]
    if not any(key in ("valueQuantity", "valueRange") for key, _ in values):
        unit = segment.first(6)
        draft.site = "OBX-6"
        found = concept(unit, draft, "") if unit else None
        if found:
            observation.setdefault("extension", []).append(extension("units", "CodeableConcept", found))


def put_reference_range(segment: Segment, observation: dict[str, Any], draft: Draft) -> None:
    """OBX-7 into referenceRange: its text always, low and high where it is a plain range or bound."""
    node = segment.first(7)
    text = node.whole() if node else None
    if text is None:
        return
    found: dict[str, Any] = {"text": text}
    quantity = observation.get("valueQuantity", {})
    unit = {key: quantity[key] for key in ("unit", "system", "code") if key in quantity}
    for side, bound in (_bounds if len(text) < _LONGEST_RANGE else _bounds.__wrapped__)(text):
        found[side] = {"value": bound, **unit}
    observation["referenceRange"] = [found]
    _ = draft


@lru_cache(maxsize=4096)
def _bounds(text: str) -> tuple[tuple[str, Decimal | None], ...]:
    """The ends of a plain range, or a bound as one of them; nothing where the text says more."""
    both, bound = _RANGE.fullmatch(text), _BOUND.fullmatch(text)
    if both and Decimal(both.group(1)) <= Decimal(both.group(2)):
        return ("low", decimal(both.group(1))), ("high", decimal(both.group(2)))
    if bound:
        return (("high" if bound.group(1) in ("<", "<=", "≤") else "low", decimal(bound.group(2))),)
    return ()


def is_document(segment: Segment) -> bool:
    """Whether OBX-5 holds an encapsulated or referenced document (ED, RP)."""
    return (segment.peek(2) or "").upper() in _ENCAPSULATED


def attachment(node: Node, kind: str, segment: Segment) -> dict[str, Any] | None:
    """ED (source, type, subtype, encoding, data) or RP (pointer, application, type, subtype) to Attachment."""
    if kind == "RP":
        pointer = node.text(1)
        found = {"url": pointer} if pointer and _URL.fullmatch(pointer) else {"title": pointer} if pointer else {}
        broad, narrow = node.text(3), node.text(4)
        node.text(2)
    else:
        broad, narrow = node.text(2), node.text(3)
        found = _data(node.text(5), (node.text(4) or "").upper())
        source = node.child(1)
        names = [text for text in (source.text(1), source.text(2), source.text(3)) if text]
        if names:
            found["title"] = " ".join(names)
    content_type = code_maps()["delivery-format"].get((narrow or "").upper())
    if content_type is None and (broad or narrow):
        content_type = f"{(broad or 'application').lower()}/{(narrow or 'octet-stream').lower()}"
    if content_type or "data" in found:
        found["contentType"] = re.sub(r"\s+", "", content_type or "application/octet-stream")
    _ = segment
    return found or None


def _data(text: str | None, encoding: str) -> dict[str, Any]:
    if not text:
        return {}
    if encoding == "BASE64":
        compact = re.sub(r"\s+", "", text)
        try:
            base64.b64decode(compact, validate=True)
        except (binascii.Error, ValueError):
            return {"title": "content that is not base64", "data": base64.b64encode(text.encode()).decode()}
        return {"data": compact}
    if encoding == "HEX":
        try:
            return {"data": base64.b64encode(bytes.fromhex(re.sub(r"\s+", "", text))).decode()}
        except ValueError:
            pass
    return {"data": base64.b64encode(text.encode("utf-8", "replace")).decode()}
