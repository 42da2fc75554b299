"""What makes a source record the same record: keys for deterministic ids, read without marks from raw segments.

Never the message's own id: the same patient, visit, order or result has the same id in every message that names it.
"""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from hospital_adapters.hl7v2.memory import LONGEST
from hospital_adapters.hl7v2.parse import Delimiters, Message, Node, Segment, peeked

_PATIENT_TYPES = {"MR": 0, "MRN": 0, "PI": 1, "PT": 2, "PN": 3, "": 4}
Keys = tuple[str, ...]
_T = TypeVar("_T")


def designated(node: Node, value: int = 1, namespace: int = 2, universal: int = 3) -> Keys | None:
    """(id, assigner) of an EI; None without an id."""
    text = node.peek(value)
    return (text, node.peek(universal) or node.peek(namespace)) if text else None


def entity(segment: Segment, field: int) -> Keys | None:
    """(id, assigner) of an EI field's first repetition; None without an id."""
    found = segment.raw(field)
    return _remembered(_entity, found[0], segment.delimiters) if found else None


def number(segment: Segment, field: int) -> Keys | None:
    """(id, assigner) of a CX field's first repetition; None without an id."""
    found = segment.raw(field)
    return _remembered(_number, found[0], segment.delimiters) if found else None


def _remembered(read: Callable[[str, Delimiters], _T], raw: str, delimiters: Delimiters) -> _T:
    """What was read of the same text before; long texts are not kept."""
    return _read(read, raw, delimiters) if len(raw) <= LONGEST else read(raw, delimiters)


@lru_cache(maxsize=16_384)
def _read(read: Callable[[str, Delimiters], _T], raw: str, delimiters: Delimiters) -> _T:
    return read(raw, delimiters)


def _entity(raw: str, delimiters: Delimiters) -> Keys | None:
    return designated(Node(raw, 1, delimiters))


def _ordered(raw: str, delimiters: Delimiters) -> str:
    node = Node(raw, 1, delimiters)
    return node.peek(1) or node.peek(2) or node.peek(4)


def _number(raw: str, delimiters: Delimiters) -> Keys | None:
    node = Node(raw, 1, delimiters)
    text = node.peek(1)
    return (text, node.peek(4, 2) or node.peek(4)) if text else None


def patient_keys(segment: Segment, fields: tuple[int, ...] = (3, 2, 4)) -> Keys | None:
    """The patient's keys: the hospital's record number among PID-3 first; without any number name and birth date."""
    delimiters = segment.delimiters
    for field in fields:
        found: list[tuple[int, int, Keys]] = []
        for order, raw in enumerate(segment.raw(field)):
            keys = _remembered(_number, raw, delimiters)
            if keys:
                kind = (peeked(raw, 5, delimiters) or "").casefold().upper()
                found.append((_PATIENT_TYPES.get(kind, 5), order, keys))
        if found:
            return min(found)[2]
    if segment.name != "PID":
        return None
    names = segment.raw(5)
    if not names:
        return None
    name = Node(names[0], 1, delimiters)
    account = segment.peek(18) or segment.peek(19) or ""
    return ("name", name.peek(1), name.peek(2), segment.peek(7) or "", account)


def message_keys(message: Message) -> Keys:
    """Keys for what has no identity but its message: the sender, and a hash of all that was sent."""
    content = "\r".join(message.delimiters.field.join(segment.fields) for segment in message.segments)
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return ("message", *message.sender, digest)


def encounter_keys(visit: Segment, patient: Segment | None, person: Keys, event_time: str) -> Keys:
    """The visit number, else the account number, else the person's admission time (or the event's)."""
    keys = number(visit, 19)
    if keys:
        return ("visit", *keys)
    keys = number(patient, 18) if patient else None
    if keys:
        return ("account", *keys)
    return ("stay", *person, visit.peek(44) or event_time)


def order_keys(orc: Segment | None, obr: Segment | None, person: Keys, *, filler_first: bool) -> Keys:
    """Placer or filler number with the ordered code; without numbers the person, code and times of the request."""
    fields = (3, 2) if filler_first else (2, 3)
    code = ""
    if obr is not None:
        found = obr.raw(4)
        code = _remembered(_ordered, found[0], obr.delimiters) if found else ""
    for field in fields:
        for segment in (obr, orc):
            keys = entity(segment, field) if segment else None
            if keys:
                return (str(field), *keys, code)
    if obr is None:
        return ("order", *person, (orc.peek(9) if orc else None) or "")
    return ("order", *person, code, obr.peek(7) or "", obr.peek(22) or "", obr.peek(1) or "")


def text_keys(segment: Segment, *places: tuple[int, int]) -> Keys:
    """The texts at (field, component), case folded; empty where absent."""
    fields = segment.fields
    count = len(fields)
    raws = tuple([fields[field] if field < count else "" for field, _ in places])
    read = _texts if sum(map(len, raws)) <= LONGEST else _texts.__wrapped__
    return read(raws, places, segment.delimiters)


@lru_cache(maxsize=8192)
def _texts(raws: tuple[str, ...], places: tuple[tuple[int, int], ...], delimiters: Delimiters) -> Keys:
    return tuple(
        (peeked(raw, component, delimiters) or "").casefold() if raw else ""
        for raw, (_, component) in zip(raws, places, strict=True)
    )
