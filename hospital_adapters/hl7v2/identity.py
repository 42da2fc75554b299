"""What makes a source record the same record: keys for deterministic ids, read without marks from raw segments.

Never the message's own id: the same patient, visit, order or result has the same id in every message that names it.
"""

import hashlib

from hospital_adapters.hl7v2.parse import Message, Node, Segment
from hospital_adapters.hl7v2.tables import peek

_PATIENT_TYPES = {"MR": 0, "MRN": 0, "PI": 1, "PT": 2, "PN": 3, "": 4}
Keys = tuple[str, ...]


def designated(node: Node, value: int = 1, namespace: int = 2, universal: int = 3) -> Keys | None:
    """(id, assigner) of an EI; None without an id."""
    text = peek(node, (value,))
    return (text, peek(node, (universal,)) or peek(node, (namespace,))) if text else None


def numbered(node: Node) -> Keys | None:
    """(id, assigner) of a CX; None without an id."""
    text = peek(node, (1,))
    return (text, peek(node, (4, 2)) or peek(node, (4, 1))) if text else None


def patient_keys(segment: Segment, fields: tuple[int, ...] = (3, 2, 4)) -> Keys | None:
    """The patient's keys: the hospital's record number among PID-3 first; without any number name and birth date."""
    for field in fields:
        found: list[tuple[int, int, Keys]] = []
        for order, node in enumerate(segment.repetitions(field)):
            keys = numbered(node)
            if keys:
                found.append((_PATIENT_TYPES.get(peek(node, (5,)).upper(), 5), order, keys))
        if found:
            return min(found)[2]
    if segment.name != "PID":
        return None
    name = segment.first(5)
    if name is None:
        return None
    number = segment.peek(18) or segment.peek(19) or ""
    return ("name", peek(name, (1,)), peek(name, (2,)), segment.peek(7) or "", number)


def message_keys(message: Message) -> Keys:
    """Keys for what has no identity but its message: the sender, and a hash of all that was sent."""
    content = "\r".join(message.delimiters.field.join(segment.fields) for segment in message.segments)
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return ("message", *message.sender, digest)


def encounter_keys(visit: Segment, patient: Segment | None, person: Keys, event_time: str) -> Keys:
    """The visit number, else the account number, else the person's admission time (or the event's)."""
    number = visit.first(19)
    keys = numbered(number) if number else None
    if keys:
        return ("visit", *keys)
    account = patient.first(18) if patient else None
    keys = numbered(account) if account else None
    if keys:
        return ("account", *keys)
    return ("stay", *person, visit.peek(44) or event_time)


def order_keys(orc: Segment | None, obr: Segment | None, person: Keys, *, filler_first: bool) -> Keys:
    """Placer or filler number with the ordered code; without numbers the person, code and times of the request."""
    fields = (3, 2) if filler_first else (2, 3)
    code = ""
    if obr is not None:
        node = obr.first(4)
        code = (peek(node, (1,)) or peek(node, (2,)) or peek(node, (4,))) if node else ""
    for field in fields:
        for segment in (obr, orc):
            node = segment.first(field) if segment else None
            keys = designated(node) if node else None
            if keys:
                return (str(field), *keys, code)
    if obr is None:
        return ("order", *person, (orc.peek(9) if orc else None) or "")
    return ("order", *person, code, obr.peek(7) or "", obr.peek(22) or "", obr.peek(1) or "")


def text_keys(segment: Segment, *places: tuple[int, int]) -> Keys:
    """The texts at (field, component), case folded; empty where absent."""
    return tuple((segment.peek(field, component) or "").casefold() for field, component in places)
