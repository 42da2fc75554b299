"""Converters of single values: text, numbers, times, indicators, identifiers of systems."""

import re
from decimal import Decimal, InvalidOperation
from typing import Any

from hospital_adapters.hl7v2 import times
from hospital_adapters.hl7v2.coding import universal_uri
from hospital_adapters.hl7v2.draft import Draft
from hospital_adapters.hl7v2.parse import Node
from hospital_adapters.hl7v2.tables import REGISTRY, Leaf, Shape

_NUMBER = re.compile(r"[+-]?(\d{1,30}(\.\d{0,30})?|\.\d{1,30})")
_CODE_SPACES = re.compile(r"\s+")
_ID_CARD = re.compile(r"\d{17}[\dXx]")
_ID_CARD_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
ID_CARD_SYSTEM = "urn:oid:2.16.156.10011.1.3"


def string(text: str, _draft: Draft, _argument: str) -> str:
    """Text as it is."""
    return text


def code_text(text: str, _draft: Draft, _argument: str) -> str:
    """Text fit for a FHIR code: inner white space is one blank."""
    return _CODE_SPACES.sub(" ", text)


def decimal(text: str) -> Decimal | None:
    """A number with the digits it was sent with, or None."""
    if not _NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def whole_number(text: str, _draft: Draft, argument: str) -> int | None:
    """A whole number at least `argument` (0)."""
    number = decimal(text)
    if number is None or number != number.to_integral_value() or abs(number) > 2_147_483_647:
        return None
    return int(number) if number >= int(argument or 0) else None


def indicator(text: str, _draft: Draft, _argument: str) -> bool | None:
    """Table 0136 (and true, false, 1, 0) to boolean."""
    return {"Y": True, "N": False, "YES": True, "NO": False, "TRUE": True, "FALSE": False, "1": True, "0": False}.get(
        text.upper()
    )


def is_id_card(text: str) -> bool:
    """Whether the text is a resident identity card number: GB 11643, 17 digits and a check character."""
    if not _ID_CARD.fullmatch(text):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(text, _ID_CARD_WEIGHTS, strict=False))
    return "10X98765432"[total % 11] == text[-1].upper()


def assigner_system(node: Node, draft: Draft, _argument: str) -> str | None:
    """HD (namespace, universal id, its type) to the URI of Identifier.system."""
    universal = node.text(2)
    uri = universal_uri(universal) if universal else None
    if uri:
        return uri
    name = node.text(1) or universal
    return draft.local_uri("assigner", name) if name else None


def entity_system(node: Node, draft: Draft, _argument: str) -> str | None:
    """EI (id, namespace, universal id, its type) to the URI of Identifier.system."""
    universal = node.text(3)
    uri = universal_uri(universal) if universal else None
    if uri:
        return uri
    name = node.text(2) or universal
    return draft.local_uri("assigner", name) if name else None


def whole_text(node: Node, _draft: Draft, _argument: str) -> str | None:
    """The node as text, separators kept."""
    return node.whole()


def _time(kind: str) -> Leaf:
    read: dict[str, Any] = {"DateTime": times.date_time, "Date": times.date, "Instant": times.instant}
    convert = read[kind]
    return Leaf(kind, lambda text, draft, _argument: convert(text, draft.feed.timezone))


REGISTRY.update(
    {
        "ST": Leaf("String", string),
        "TX": Leaf("String", string),
        "ID": Leaf("Code", code_text),
        "URI": Leaf("Uri", lambda text, _draft, _argument: universal_uri(text)),
        "NM": Leaf("Decimal", lambda text, _draft, _argument: decimal(text)),
        "COUNT": Leaf("Integer", whole_number),
        "YN": Leaf("Boolean", indicator),
        "DTM": _time("DateTime"),
        "DT": _time("Date"),
        "INST": _time("Instant"),
        "TM": Leaf("Time", lambda text, _draft, _argument: times.time_of_day(text)),
        "HDuri": Shape("Uri", assigner_system),
        "EIuri": Shape("Uri", entity_system),
        "WHOLE": Shape("String", whole_text),
    }
)
