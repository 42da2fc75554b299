"""String functions (http://hl7.org/fhirpath/N1/#string-manipulation and the additions of 2.1)."""

import base64
import binascii
import html
import json
import re
from functools import lru_cache

from ehr.fhirpath.environment import Compile, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item, system_value
from ehr.fhirpath.operators import single
from ehr.fhirpath.registry import builder, on_collection, on_value
from ehr.fhirpath.syntax import Expression

MAXIMUM_PATTERN = 2000


@lru_cache(maxsize=512)
def pattern_of(text: str) -> re.Pattern[str]:
    """A compiled regular expression; "." matches line ends too."""
    if len(text) > MAXIMUM_PATTERN:
        raise FhirPathError("FHIRPath: the regular expression is too long")
    try:
        return re.compile(text, re.DOTALL)
    except re.error as error:
        raise FhirPathError(f"FHIRPath: no regular expression: {text!r}") from error


@on_value("indexOf", 1, wanted=str)
def _index_of(text: str, part: str) -> int:
    return text.find(part)


@on_value("lastIndexOf", 1, wanted=str)
def _last_index_of(text: str, part: str) -> int:
    return text.rfind(part)


@builder("substring", 1, 2)
def _substring(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:  # noqa: FBT001 - a Builder's shape
    closures = [compiled(expression) for expression in expressions]

    def step(items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
        text = single(items, "substring()")
        numbers = [single(closure(this, environment), "substring()") for closure in closures]
        if text is None or numbers[0] is None:
            return []
        if type(text) is not str or any(type(number) not in {int, type(None)} for number in numbers):
            raise FhirPathError("FHIRPath: substring() takes a string and Integers")
        start = numbers[0]
        length = numbers[1] if len(numbers) > 1 and numbers[1] is not None else len(text)
        if not 0 <= start < len(text):
            return []
        return [text[start : start + max(length, 0)]]

    return step


@on_value("startsWith", 1, wanted=str)
def _starts_with(text: str, part: str) -> bool:
    return text.startswith(part)


@on_value("endsWith", 1, wanted=str)
def _ends_with(text: str, part: str) -> bool:
    return text.endswith(part)


@on_value("contains", 1, wanted=str)
def _contains(text: str, part: str) -> bool:
    return part in text


@on_value("upper", wanted=str)
def _upper(text: str) -> str:
    return text.upper()


@on_value("lower", wanted=str)
def _lower(text: str) -> str:
    return text.lower()


@on_value("replace", 2, wanted=str)
def _replace(text: str, part: str, substitute: str) -> str:
    return text.replace(part, substitute)


@on_value("matches", 1, wanted=str)
def _matches(text: str, pattern: str) -> bool:
    return pattern_of(pattern).search(text) is not None


@on_value("matchesFull", 1, wanted=str)
def _matches_full(text: str, pattern: str) -> bool:
    return pattern_of(pattern).fullmatch(text) is not None


@on_value("replaceMatches", 2, wanted=str)
def _replace_matches(text: str, pattern: str, substitute: str) -> str:
    if not pattern:
        return text
    groups = re.sub(r"\$(\d)", r"\\g<\1>", re.sub(r"\$\{(\w+)\}|\$<(\w+)>", r"\\g<\1\2>", substitute))
    try:
        return pattern_of(pattern).sub(groups, text)
    except (re.error, IndexError) as error:
        raise FhirPathError("FHIRPath: the substitution of replaceMatches() names an unknown group") from error


@on_value("length", wanted=str)
def _length(text: str) -> int:
    return len(text)


@on_value("toChars", wanted=str)
def _to_chars(text: str) -> list[str]:
    return list(text)


@on_value("trim", wanted=str)
def _trim(text: str) -> str:
    return text.strip()


@on_value("split", 1, wanted=str)
def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


@on_collection("join", 1)
def _join(items: list[Item], separator: list[Item]) -> list[Item]:
    texts = [text for text in map(system_value, items) if text is not None]
    if any(type(text) is not str for text in texts):
        raise FhirPathError("FHIRPath: join() takes strings")
    return [str(single(separator, "join()") or "").join(texts)]


@on_value("encode", 1, wanted=str)
def _encode(text: str, form: str) -> str | None:
    data = text.encode()
    if form == "hex":
        return data.hex()
    if form == "base64":
        return base64.b64encode(data).decode()
    return base64.urlsafe_b64encode(data).decode() if form == "urlbase64" else None


@on_value("decode", 1, wanted=str)
def _decode(text: str, form: str) -> str | None:
    try:
        if form == "hex":
            return bytes.fromhex(text).decode()
        if form == "base64":
            return base64.b64decode(text, validate=True).decode()
        return base64.urlsafe_b64decode(text).decode() if form == "urlbase64" else None
    except (ValueError, binascii.Error) as error:
        raise FhirPathError(f"FHIRPath: decode() found no {form}") from error


@on_value("escape", 1, wanted=str)
def _escape(text: str, target: str) -> str | None:
    if target == "html":
        return html.escape(text)
    return json.dumps(text, ensure_ascii=False)[1:-1] if target == "json" else None


@on_value("unescape", 1, wanted=str)
def _unescape(text: str, target: str) -> str | None:
    if target == "html":
        return html.unescape(text)
    if target != "json":
        return None
    try:
        return str(json.loads(f'"{text}"'))
    except ValueError:
        return text.replace('\\"', '"')
