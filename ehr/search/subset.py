"""`_summary` and `_elements`: https://hl7.org/fhir/R4/search.html#summary and #elements.

What is kept is kept byte for byte; a subsetted resource is tagged SUBSETTED. Elements that the definition requires, and
those that modify the meaning of others, always stay.
"""

from functools import cache

import msgspec

from ehr.definitions import Element, structure

_TAG = b'{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}'
_ALWAYS = frozenset({"resourceType", "id", "meta"})
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.encode


def cut(body: bytes, resource_type: str, summary: str | None, elements: tuple[str, ...] = ()) -> bytes:
    """One body as `_summary` and `_elements` ask for it; whole where they ask for nothing less."""
    if elements:
        return _top_level(body, _kept_elements(resource_type, elements))
    match summary:
        case "true":
            return _tagged(_summary(resource_type, resource_type, _decode_object(body)))
        case "text":
            return _top_level(body, _kept_elements(resource_type, ("text",)))
        case "data":
            return _tagged({key: raw for key, raw in _decode_object(body).items() if key != "text"})
    return body


@cache
def _kept_elements(resource_type: str, names: tuple[str, ...]) -> frozenset[str]:
    kept = set(_ALWAYS)
    for element in structure(resource_type).children(resource_type):
        chosen = element.min > 0 or element.modifier or element.name in names or f"{element.name}[x]" in names
        if chosen:
            kept.update(element.names or {element.name: None})
    return frozenset(kept | {f"_{name}" for name in kept})


def _top_level(body: bytes, kept: frozenset[str]) -> bytes:
    return _tagged({key: raw for key, raw in _decode_object(body).items() if key in kept})


@cache
def _summary_children(type_name: str, path: str) -> dict[str, Element]:
    """The elements below a path that a summary keeps, by their names on the wire."""
    return {
        name: element
        for element in structure(type_name).children(path)
        if element.summary or element.min > 0 or element.modifier
        for name in (element.names or (element.name,))
    }


def _summary(type_name: str, path: str, fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    children = _summary_children(type_name, path)
    kept: dict[str, msgspec.Raw] = {}
    for key, raw in fields.items():
        element = children.get(key.removeprefix("_"))
        if key in _ALWAYS and path == type_name:
            kept[key] = raw
        elif element is not None:
            below = element.content_reference or element.path
            nested = not key.startswith("_") and bool(structure(type_name).children(below))
            kept[key] = _nested(type_name, below, raw) if nested else raw
    return kept


def _nested(type_name: str, path: str, raw: msgspec.Raw) -> msgspec.Raw:
    text = bytes(raw)
    if text[:1] == b"[":
        return msgspec.Raw(_encode([_nested(type_name, path, item) for item in _decode_list(text)]))
    if text[:1] != b"{":
        return raw
    return msgspec.Raw(_encode(_summary(type_name, path, _decode_object(text))))


def _tagged(fields: dict[str, msgspec.Raw]) -> bytes:
    meta = _decode_object(bytes(fields["meta"])) if "meta" in fields else {}
    tags = _decode_list(bytes(meta["tag"])) if "tag" in meta else []
    meta["tag"] = msgspec.Raw(_encode([*tags, msgspec.Raw(_TAG)]))
    with_meta: dict[str, msgspec.Raw] = {}
    for key in ("resourceType", "id"):
        if key in fields:
            with_meta[key] = fields[key]
    with_meta["meta"] = msgspec.Raw(_encode(meta))
    return _encode(with_meta | {key: raw for key, raw in fields.items() if key not in _ALWAYS})
