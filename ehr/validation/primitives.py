"""Tests of primitive values as they stand in JSON (https://hl7.org/fhir/R4/datatypes.html#primitive).

A test is given a value of the right JSON type and answers something true for a good one; the tests of texts are methods
of compiled patterns and sets, so that a value costs one call. Dates are real dates: the patterns know the length of
each month and the leap years.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

Test = Callable[[Any], Any]
JsonKind = Literal["string", "boolean", "number"]

MAXIMUM_STRING_CHARACTERS = 1024 * 1024
MAXIMUM_DECIMAL_DIGITS = 256

_LEAP_YEAR = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"(?!0000)[0-9]{4}"
_DAY = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_FULL_DATE = rf"(?:{_YEAR}-{_DAY}|{_LEAP_YEAR}-02-29)"
_PARTIAL_DATE = rf"{_YEAR}(?:-(?:0[1-9]|1[0-2]))?"
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]{1,64})?"
_ZONE = r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OID = r"[0-2](?:\.(?:0|[1-9][0-9]*)){1,200}"
# the Java and XML Schema \s is ASCII; no-break and ideographic spaces are ordinary characters there
_SPACE = r" \t\r\n\f\v"


def _pattern(text: str) -> Test:
    return re.compile(text).fullmatch


_bare_string = _pattern(rf"[^{_CONTROL}]+")
_bare_uri = _pattern(
    rf"(?:urn:oid:{_OID}|urn:uuid:(?i:{_UUID})|(?!urn:oid:|urn:uuid:|oid:|uuid:)[^{_CONTROL}{_SPACE}]+)"
)
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.").match
_base64_text = _pattern(r"[0-9A-Za-z+/]+={0,2}")


def _is_string(value: str) -> bool:
    return len(value) <= MAXIMUM_STRING_CHARACTERS and _bare_string(value) is not None


def is_urn(value: str) -> bool:
    """Whether a text is a URN by UUID or OID; Reference.reference is a string, so these are not looked into."""
    return value.startswith(("urn:uuid:", "urn:oid:"))


def _is_absolute_uri(value: str) -> bool:
    return _scheme(value) is not None and _bare_uri(value) is not None


def _is_canonical(value: str) -> bool:
    return (value[:1] == "#" or _scheme(value) is not None) and _bare_uri(value) is not None


def _is_base64(value: str) -> bool:
    """Groups of four characters, white space anywhere between them (RFC 4648; R4 allows white space)."""
    text = "".join(value.split())
    return len(text) % 4 == 0 and _base64_text(text) is not None


def _is_decimal(value: float | Decimal) -> bool:
    if type(value) is Decimal:
        return value.is_finite() and len(value.as_tuple().digits) <= MAXIMUM_DECIMAL_DIGITS
    if type(value) is int:
        return value.bit_length() <= MAXIMUM_DECIMAL_DIGITS * 3
    return type(value) is float and value - value == 0  # neither infinite nor NaN


def _is_integer(value: object) -> bool:
    return type(value) is int and -0x80000000 <= value <= 0x7FFFFFFF


def _is_unsigned(value: object) -> bool:
    return type(value) is int and 0 <= value <= 0x7FFFFFFF


def _is_positive(value: object) -> bool:
    return type(value) is int and 1 <= value <= 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class Primitive:
    """How a primitive type stands in JSON: the kind of its value, the test of it, and what it asks for in words."""

    kind: JsonKind
    test: Test
    wants: str


_STRING = "text without control characters, not empty, of at most 1,048,576 characters"

PRIMITIVES: dict[str, Primitive] = {
    "boolean": Primitive("boolean", lambda _: True, "true or false"),
    "integer": Primitive("number", _is_integer, "a whole number of 32 bits"),
    "unsignedInt": Primitive("number", _is_unsigned, "a whole number from 0 to 2,147,483,647"),
    "positiveInt": Primitive("number", _is_positive, "a whole number from 1 to 2,147,483,647"),
    "decimal": Primitive("number", _is_decimal, f"a number of at most {MAXIMUM_DECIMAL_DIGITS} digits"),
    "string": Primitive("string", _is_string, _STRING),
    "markdown": Primitive("string", _is_string, _STRING),
    "xhtml": Primitive("string", _bare_string, "text without control characters, not empty"),
    "code": Primitive(
        "string",
        _pattern(rf"(?![{_SPACE}])(?s:(?!.*[{_SPACE}]{{2}}))[^{_CONTROL}\f\v]+(?<![{_SPACE}])"),
        "a code: no white space but single spaces inside it",
    ),
    "id": Primitive("string", _pattern(r"[A-Za-z0-9\-.]{1,64}"), "1 to 64 letters, digits, hyphens and dots"),
    "uri": Primitive("string", _bare_uri, "a URI without white space (urn:oid: and urn:uuid: well formed)"),
    "url": Primitive("string", _bare_uri, "a URL without white space"),
    "canonical": Primitive("string", _is_canonical, "an absolute canonical address, or a fragment (#id)"),
    "oid": Primitive("string", _pattern(rf"urn:oid:{_OID}"), "urn:oid: and an object identifier"),
    "uuid": Primitive("string", _pattern(rf"urn:uuid:{_UUID}"), "urn:uuid: and a UUID in lower case"),
    "base64Binary": Primitive("string", _is_base64, "base64, in groups of four characters"),
    "date": Primitive(
        "string", _pattern(rf"(?:{_FULL_DATE}|{_PARTIAL_DATE})"), "a date that exists: YYYY, YYYY-MM or YYYY-MM-DD"
    ),
    "dateTime": Primitive(
        "string",
        _pattern(rf"(?:{_FULL_DATE}(?:T{_TIME}{_ZONE})?|{_PARTIAL_DATE})"),
        "a date that exists (YYYY, YYYY-MM, YYYY-MM-DD), or YYYY-MM-DDThh:mm:ss with its time zone",
    ),
    "instant": Primitive(
        "string", _pattern(rf"{_FULL_DATE}T{_TIME}{_ZONE}"), "YYYY-MM-DDThh:mm:ss with its time zone, of a real date"
    ),
    "time": Primitive("string", _pattern(_TIME), "a time of day: hh:mm:ss"),
}

SCHEMED = Primitive("string", lambda value: _scheme(value) is not None, "a URI with its scheme (http:, urn:oid:, ...)")
ABSOLUTE_URI = Primitive("string", _is_absolute_uri, "an absolute URI (http:, urn:oid:, urn:uuid:, ...)")
REFERENCE = Primitive("string", _pattern(rf"[^{_CONTROL}{_SPACE}]+"), "a reference without white space")
# SC-33
LANGUAGE_TAG = Primitive(
    "string",
    _pattern(
        r"(?:[A-Za-z]{2,3}(?:-[A-Za-z]{3}){0,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|[0-9]{3}))?"
        r"(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3})){0,20}(?:-[0-9A-WY-Za-wy-z](?:-[A-Za-z0-9]{2,8}){1,20}){0,20}"
        r"(?:-x(?:-[A-Za-z0-9]{1,8}){1,20})?|x(?:-[A-Za-z0-9]{1,8}){1,20})"
    ),
    "a language tag of BCP 47 (https://www.rfc-editor.org/info/bcp47)",
)

_JSON_TYPES: dict[JsonKind, frozenset[type]] = {
    "string": frozenset((str,)),
    "boolean": frozenset((bool,)),
    "number": frozenset((int, Decimal, float)),
}


def has_json_type(primitive: Primitive, value: object) -> bool:
    """Whether a value has the JSON type that a primitive is written as; booleans are no numbers."""
    return type(value) in _JSON_TYPES[primitive.kind]


def json_type_name(value: object) -> str:
    """What a parsed JSON value was in the text: "an object", "a string", ..."""
    names: dict[type, str] = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
