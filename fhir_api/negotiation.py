"""What form an answer takes: Accept, _format, _pretty, Prefer, and the bodies' content types.

https://hl7.org/fhir/R4/http.html#mime-type, https://hl7.org/fhir/R4/http.html#ops,
https://www.rfc-editor.org/rfc/rfc9110#section-12, https://www.rfc-editor.org/rfc/rfc7240
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import msgspec

from ehr.errors import Malformed
from fhir_api.operation_outcome import NotAcceptable, UnsupportedMediaType

_JSON_TYPES = frozenset({"application/fhir+json", "application/json", "text/json", "application/json+fhir"})
_JSON_FORMATS = _JSON_TYPES | {"json"}
_WILDCARDS = frozenset({"*/*", "application/*"})
_FORM_TYPE = "application/x-www-form-urlencoded"
LIMIT_HEADER_CHARACTERS = 4_096


def _media_types(header: str) -> list[tuple[str, dict[str, str]]]:
    found = []
    for part in header.split(","):
        name, *parameters = part.split(";")
        values = {}
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            values[key.strip().lower()] = value.strip().strip('"')
        if name.strip():
            found.append((name.strip().lower(), values))
    return found


def _version_fits(parameters: dict[str, str]) -> bool:
    return parameters.get("fhirversion", "4.0") in {"4.0", "4.0.1"}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0


@lru_cache(maxsize=512)
def _accepts_json(header: str) -> bool:
    return any(
        name in _JSON_TYPES | _WILDCARDS and _quality(parameters) > 0 and _version_fits(parameters)
        for name, parameters in _media_types(header)
    )


def check_accept(header: str | None, format_value: str | None) -> None:
    """Pass where JSON is wanted or would do; `_format` wins over Accept (R4 http 3.1.0.1.11).

    Raises:
        NotAcceptable: XML, Turtle, HTML or another FHIR version was asked for.
    """
    if format_value is not None:
        types = _media_types(format_value.replace(" ", "+"))
        if len(types) != 1 or types[0][0] not in _JSON_FORMATS or not _version_fits(types[0][1]):
            raise NotAcceptable("Answers are given as application/fhir+json, FHIR 4.0, only.")
        return
    if header in {None, "", "*/*", "application/fhir+json"}:
        return
    if header is None or len(header) > LIMIT_HEADER_CHARACTERS or not _accepts_json(header):
        raise NotAcceptable("Answers are given as application/fhir+json, FHIR 4.0, only.")


def media_type(header: str | None) -> str | None:
    """The one media type that a header names, without parameters; None where there is none or several."""
    types = _media_types(header or "")
    return types[0][0] if len(types) == 1 else None


def check_content_type(header: str | None, taken: tuple[bytes, bytes] | None = None) -> None:
    """Pass for JSON bodies in UTF-8; UnsupportedMediaType for all else, a missing header too; `taken` is told then."""
    types = _media_types(header or "")
    if (
        len(types) != 1
        or types[0][0] not in _JSON_TYPES
        or types[0][1].get("charset", "utf-8").lower() not in {"utf-8", "utf8"}
        or not _version_fits(types[0][1])
    ):
        raise UnsupportedMediaType("Bodies are taken as application/fhir+json in UTF-8, FHIR 4.0, only.", taken=taken)


def check_form_type(header: str | None) -> None:
    """Pass for a form body (POST _search); UnsupportedMediaType for all else."""
    types = _media_types(header or "")
    if len(types) != 1 or types[0][0] != _FORM_TYPE:
        raise UnsupportedMediaType(f"POST _search takes {_FORM_TYPE} only.")


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the client prefers (RFC 7240, R4 http 3.1.0.1.10); unknown preferences are ignored as the RFC asks."""

    answer: Literal["minimal", "representation", "OperationOutcome"] = "representation"
    lenient: bool = False


_NONE = Preferences()


@lru_cache(maxsize=256)
def _preferences(header: str) -> Preferences:
    answer: Literal["minimal", "representation", "OperationOutcome"] = "representation"
    lenient = False
    for part in header.replace(";", ",").split(","):
        name, _, value = part.partition("=")
        match name.strip().lower(), value.strip().strip('"'):
            case "return", "minimal":
                answer = "minimal"
            case "return", "representation":
                answer = "representation"
            case "return", "OperationOutcome":
                answer = "OperationOutcome"
            case "handling", "lenient":
                lenient = True
            case "handling", "strict":
                lenient = False
    return Preferences(answer, lenient)


def preferences(header: str | None) -> Preferences:
    """Read the Prefer header; a header of more than 4,096 characters is Malformed."""
    if not header:
        return _NONE
    if len(header) > LIMIT_HEADER_CHARACTERS:
        raise Malformed("The Prefer header is too long.")
    return _preferences(header)


@dataclass(frozen=True, slots=True)
class Presentation:
    """The result parameters that this package answers itself; the rest belongs to the interaction."""

    rest: list[tuple[str, str]]
    pretty: bool = False


def presentation(pairs: list[tuple[str, str]], accept: str | None) -> Presentation:
    """Take `_format` and `_pretty` out of the query and check them with Accept; NotAcceptable, Malformed."""
    wanted: str | None = None
    pretty = False
    rest = []
    for name, value in pairs:
        if name == "_format":
            wanted = value
        elif name == "_pretty":
            if value not in {"true", "false"}:
                raise Malformed("_pretty is true or false.")
            pretty = value == "true"
        else:
            rest.append((name, value))
    check_accept(accept, wanted)
    return Presentation(rest, pretty)


def pretty(body: bytes) -> bytes:
    """The same JSON with two spaces of indentation (R4 http 3.1.0.1.12); numbers keep their digits."""
    return msgspec.json.format(body, indent=2)
