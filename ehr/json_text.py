"""Strict JSON as FHIR writes it: decimals keep their digits, and stored bytes stay what was sent.

JSON: https://www.rfc-editor.org/rfc/rfc8259; FHIR's form of it: https://hl7.org/fhir/R4/json.html. `parse` refuses what
readers are known to disagree about (duplicate keys, NaN, lone surrogates) and what costs more than it is worth (depth,
long numbers, millions of tiny values), all within a second and a few times the input's size.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ehr.errors import Malformed

MAXIMUM_BYTES = 64 << 20
MAXIMUM_DEPTH = 100
MAXIMUM_VALUES = 4_000_000
MAXIMUM_NUMBER_CHARACTERS = 256
MAXIMUM_EXPONENT = 308

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_CONTAINERS = frozenset((dict, list))
_BRACKETS_ALIKE = bytes.maketrans(b"{}", b"[]")


def _decimal(text: str) -> Decimal:
    if len(text) > MAXIMUM_NUMBER_CHARACTERS:
        message = f"a number has more than {MAXIMUM_NUMBER_CHARACTERS} characters"
        raise ValueError(message)
    number = Decimal(text)
    if abs(number.adjusted()) > MAXIMUM_EXPONENT:  # of a zero too, which some writers spell out in full
        message = f"a number's exponent is beyond {MAXIMUM_EXPONENT}"
        raise ValueError(message)
    return number


_decoder = msgspec.json.Decoder(float_hook=_decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_array = msgspec.json.Decoder(list[msgspec.Raw])


def parse(data: bytes | str) -> dict[str, Any]:
    """The object that strict JSON holds; numbers with a fraction or exponent become Decimal, keeping their digits.

    Raises:
        Malformed: no JSON, not an object, or one of the refusals that the module's text lists.
    """
    return parse_body(data)[0]


def parse_body(data: bytes | str) -> tuple[dict[str, Any], bytes]:
    """As `parse`, and the text minified, as `splice` takes it."""
    value, text = _parsed(data)
    if not isinstance(value, dict):
        raise Malformed("The JSON text is not an object")
    return value, text


def parse_value(data: bytes | str) -> Any:
    """As `parse`, for any JSON value at the top (a JSON Patch is an array)."""
    return _parsed(data)[0]


def _parsed(data: bytes | str) -> tuple[Any, bytes]:
    text = _text(data)
    try:
        _require_bounds(text)
        value = _decoder.decode(text)
        _require_depth(text, value)
        encoded = _encoder.encode(value)
        if encoded != text:
            text = msgspec.json.format(text, indent=-1)
            if encoded != text:
                _require_unique_keys(text)
    except RecursionError:
        raise Malformed(f"The JSON text is nested deeper than {MAXIMUM_DEPTH}") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"The JSON text is not UTF-8 (byte {error.start} of a string)") from None
    except InvalidOperation:
        raise Malformed("The JSON text is malformed: a number's exponent is absurd") from None
    except ValueError as error:  # msgspec's errors are ValueErrors too
        raise Malformed(f"The JSON text is malformed: {_reason(error)}") from None
    return value, text


def parse_stored(data: bytes) -> dict[str, Any]:
    """The object of a body that the record keeps: it passed `parse` when it came, so nothing is checked again."""
    resource: dict[str, Any] = _decoder.decode(data)
    return resource


def encode(value: Any) -> bytes:
    """Compact JSON; Decimals are written with their digits, `msgspec.Raw` as it is."""
    return _encoder.encode(value)


def minify(data: bytes) -> bytes:
    """Valid JSON without the white space between its tokens; every token keeps its bytes."""
    return msgspec.json.format(_text(data), indent=-1)


def splice(
    data: bytes, *, resource_id: str, version: int | str, last_updated_iso: str, resource_type: str | None = None
) -> bytes:
    """A resource's bytes with `id`, `meta.versionId` and `meta.lastUpdated` set, every other token as it was.

    The result is minified and starts with resourceType, id and meta; profile, security, tag, source and extensions of
    meta survive. `data` is minified and has passed `parse`. `resource_type` may be left out where `data` states it.
    """
    members: dict[str, Any] = _raw_object.decode(data)
    stated = members.pop("resourceType", None)
    for replaced in ("id", "_id"):
        members.pop(replaced, None)
    meta: dict[str, Any] = {"versionId": str(version), "lastUpdated": last_updated_iso}
    if sent := members.pop("meta", None):
        kept = _raw_object.decode(sent)
        meta |= {key: kept[key] for key in kept if key.removeprefix("_") not in meta}
    return _encoder.encode({"resourceType": resource_type or stated, "id": resource_id, "meta": meta} | members)


def entry_resources(data: bytes) -> list[bytes | None]:
    """The bytes of each `entry.resource` of a Bundle's bytes, in order; None where an entry has none."""
    entries = _raw_object.decode(_text(data)).get("entry")
    if entries is None:
        return []
    found = [_raw_object.decode(entry).get("resource") for entry in _raw_array.decode(entries)]
    return [None if raw is None else bytes(raw) for raw in found]


def _text(data: bytes | str) -> bytes:
    if isinstance(data, str):
        try:
            data = data.encode()
        except UnicodeEncodeError:
            raise Malformed("The JSON text holds a lone surrogate") from None
    return bytes(data.removeprefix(_BYTE_ORDER_MARK))


def _require_bounds(text: bytes) -> None:
    """Refuse, before anything is built, what would take too much memory."""
    if len(text) > MAXIMUM_BYTES:
        message = f"more than {MAXIMUM_BYTES} bytes"
        raise ValueError(message)
    if len(text) > MAXIMUM_VALUES and text.count(b"{") + text.count(b"[") + text.count(b",") > MAXIMUM_VALUES:
        message = f"more than {MAXIMUM_VALUES} values"
        raise ValueError(message)


def _require_depth(text: bytes, value: Any) -> None:
    if text.count(b"{") + text.count(b"[") > MAXIMUM_DEPTH and not _is_shallow(text, value):
        raise RecursionError  # as the decoder does from about 1,000 levels


def _is_shallow(text: bytes, value: Any) -> bool:
    """Whether brackets nest at most MAXIMUM_DEPTH deep; takes off the innermost pairs level by level."""
    brackets = text.translate(_BRACKETS_ALIKE, _NOT_BRACKETS)
    for _ in range(MAXIMUM_DEPTH):
        peeled = brackets.replace(b"[]", b"")
        if not peeled:
            return True
        if len(peeled) == len(brackets):  # strings with brackets in them
            return _is_shallow_value(value)
        brackets = peeled
    return _is_shallow_value(value)


def _is_shallow_value(value: Any) -> bool:
    level = [value]
    for _ in range(MAXIMUM_DEPTH):
        inner: list[Any] = []
        for container in level:
            members = container.values() if type(container) is dict else container
            inner += [member for member in members if type(member) in _CONTAINERS]
        if not inner:
            return True
        level = inner
    return False


def _unique(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                message = f"the key {key[:100]!r} is given twice in one object"
                raise ValueError(message)
            seen.add(key)
    return {}


def _require_unique_keys(text: bytes) -> None:
    """Compare all keys; only for texts that re-encoding does not reproduce, which duplicates never do."""
    json.loads(text, object_pairs_hook=_unique, parse_float=len, parse_int=len)


def _reason(error: ValueError) -> str:
    return str(error).removeprefix("JSON is malformed: ").rstrip(".")
