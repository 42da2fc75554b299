"""An oracle for searching: what each parameter selects is compared value by value, resource by resource.

It shares no code with the search: values are picked by the official FHIRPath expression and compared here as
https://hl7.org/fhir/R4/search.html says.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from ehr.definitions import SearchParameter, search_parameter_of, search_parameters
from ehr.fhirpath import compile as compile_path
from tests.generative.naive_kinds import NAME_CODES, is_member, name_matches, whole_names

ZONE = ZoneInfo("Asia/Shanghai")
_FAR_PAST, _FAR_FUTURE = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
Span = tuple[datetime, datetime]


@dataclass(slots=True)
class Values:
    """What one resource has for one parameter."""

    tokens: list[tuple[str | None, str | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    quantities: list[tuple[Decimal, Decimal, dict[str, Any]]] = field(default_factory=list)
    present: bool = False
    names: list[str] = field(default_factory=list)
    """The names of people, each with its parts in one."""
    elements: list[tuple["Values", ...]] = field(default_factory=list)
    """Of a composite: what each element has for the parts."""


def values_of(resource: dict[str, Any], code: str) -> Values:
    """Pick the values of a parameter."""
    parameter = search_parameters(resource["resourceType"])[code]
    found = Values()
    for item in compile_path(parameter.expression or "").items(resource):
        type_name = getattr(item, "type", "boolean")
        value = getattr(item, "value", item)
        if value is not None and parameter.kind == "composite":
            found.elements.append(_parts(parameter, item, resource))
        elif value is not None:
            _add(found, parameter.kind, type_name, value)
            found.names += whole_names(value) if code in NAME_CODES and parameter.kind == "string" else []
    found.present = bool(
        found.tokens or found.texts or found.references or found.spans or found.quantities or found.present
    )
    return found


def _parts(parameter: SearchParameter, element: Any, resource: dict[str, Any]) -> tuple[Values, ...]:
    found = []
    for address, expression in parameter.components:
        part = Values()
        for item in compile_path(expression).items(element, resource=resource):
            _add(part, search_parameter_of(address).kind, item.type, item.value)
        found.append(part)
    return tuple(found)


def _add(found: Values, kind: str, type_name: str, value: Any) -> None:
    match kind:
        case "token":
            _add_token(found, type_name, value)
        case "string":
            found.texts += _strings(type_name, value)
        case "reference" | "uri":
            text = value if isinstance(value, str) else value.get("reference")
            if text is not None:
                found.references.append(text)
            found.present = found.present or (isinstance(value, dict) and "identifier" in value)
        case "date":
            found.spans.append(_span(value))
        case "quantity" if "value" in value:
            found.quantities.append((value["value"], value["value"], value))
        case "number":
            found.quantities.append((Decimal(value), Decimal(value), {}))


def _add_token(found: Values, type_name: str, value: Any) -> None:
    match type_name:
        case "CodeableConcept":
            found.tokens += [(c.get("system"), c.get("code")) for c in value.get("coding", ())]
            found.texts += [c["display"] for c in value.get("coding", ()) if "display" in c]
            found.texts += [value["text"]] if "text" in value else []
            found.present = True
        case "Coding":
            found.tokens.append((value.get("system"), value.get("code")))
            found.texts += [value["display"]] if "display" in value else []
        case "Identifier":
            found.tokens.append((value.get("system"), value.get("value")))
            text = value.get("type", {}).get("text")
            found.texts += [text] if text else []
        case "ContactPoint":
            found.tokens.append((None, value.get("value")))
        case _:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            found.tokens.append((None, text))


def _strings(type_name: str, value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    keys = {
        "HumanName": ("text", "family", "given", "prefix", "suffix"),
        "Address": ("text", "line", "city", "district", "state", "postalCode", "country"),
    }.get(type_name, ())
    found: list[str] = []
    for key in keys:
        part = value.get(key, [])
        found += [part] if isinstance(part, str) else [text for text in part if text is not None]
    return found


def _span(value: Any) -> Span:
    if isinstance(value, str):
        return span_of(value)
    low = span_of(value["start"])[0] if "start" in value else _FAR_PAST
    high = span_of(value["end"])[1] if "end" in value else _FAR_FUTURE
    return low, high


def span_of(text: str) -> Span:
    """The half-open span of a written date."""
    if len(text) == 4:
        return datetime(int(text), 1, 1, tzinfo=ZONE), datetime(int(text) + 1, 1, 1, tzinfo=ZONE)
    if len(text) == 7:
        year, month = int(text[:4]), int(text[5:])
        after = (year + 1, 1) if month == 12 else (year, month + 1)
        return datetime(year, month, 1, tzinfo=ZONE), datetime(*after, 1, tzinfo=ZONE)
    if len(text) == 10:
        start = datetime.fromisoformat(text).replace(tzinfo=ZONE)
        return start, datetime.fromtimestamp((start + timedelta(days=1)).timestamp(), ZONE)
    start = datetime.fromisoformat(text)
    start = start if start.tzinfo else start.replace(tzinfo=ZONE)
    if re.fullmatch(r".{10}T\d\d:\d\d(Z|[+-].*)?", text):
        return start, start + timedelta(minutes=1)
    digits = re.search(r"\.(\d+)", text)
    return start, start + (timedelta(microseconds=10 ** (6 - len(digits[1]))) if digits else timedelta(seconds=1))


def folded(text: str) -> str:
    """Without case and accents."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    return " ".join(unicodedata.normalize("NFC", bare.casefold()).split())


def span_matches(prefix: str, mine: Span, asked: Span) -> bool:
    """R4's table of prefixes for ranges."""
    within = asked[0] <= mine[0] and mine[1] <= asked[1]
    return {
        "eq": within,
        "ne": not within,
        "gt": mine[1] > asked[1],
        "lt": mine[0] < asked[0],
        "ge": within or mine[1] > asked[1],
        "le": within or mine[0] < asked[0],
        "sa": mine[0] >= asked[1],
        "eb": mine[1] <= asked[0],
    }[prefix or "eq"]


def number_matches(prefix: str, mine: Decimal | Fraction, text: str) -> bool:
    """R4's examples for numbers: without prefix a range of the written precision, else exact."""
    asked = Decimal(text)
    fraction = len(text.partition(".")[2])
    half = Decimal("0.5") / (Decimal(10) ** fraction)
    near = asked - half <= mine < asked + half
    return {
        "eq": near,
        "ne": not near,
        "gt": mine > asked,
        "lt": mine < asked,
        "ge": mine >= asked,
        "le": mine <= asked,
        "sa": mine > asked,
        "eb": mine < asked,
    }[prefix or "eq"]


@dataclass(frozen=True, slots=True)
class Question:
    """One criterion, in a form that both sides can take."""

    code: str
    kind: str
    modifier: str | None
    choices: tuple[tuple[str, str], ...]
    """(prefix, text) alternatives."""

    def text(self) -> tuple[str, str]:
        """Name and value as a client sends them."""
        name = self.code if self.modifier is None else f"{self.code}:{self.modifier}"
        if self.kind == "composite":
            parts = [
                (token, f"{prefix}{amount}") for prefix, text in self.choices for token, amount in [text.split("$")]
            ]
            return name, ",".join(f"{escaped(token, plain=False)}${amount}" for token, amount in parts)
        plain = self.kind == "string" or self.modifier in {"missing", "text"}
        values = [
            prefix + (escaped(text, plain=plain) if self.kind != "date" else text) for prefix, text in self.choices
        ]
        return name, ",".join(values)

    def holds(self, found: Values) -> bool:
        """Whether a resource with these values matches."""
        if self.modifier == "missing":
            return found.present != (self.choices[0][1] == "true")
        hit = any(self._holds(found, prefix, text) for prefix, text in self.choices)
        return not hit if self.modifier in {"not", "not-in"} else hit

    def _holds(self, found: Values, prefix: str, text: str) -> bool:
        hits: dict[str, Callable[[], bool]] = {
            "token:text": lambda: any(folded(mine).startswith(folded(text)) for mine in found.texts),
            "token": lambda: any(_token_is(mine, text) for mine in found.tokens),
            "string:exact": lambda: text in found.texts,
            "string:contains": lambda: any(folded(text) in folded(mine) for mine in found.texts),
            "string": lambda: (
                any(folded(mine).startswith(folded(text)) for mine in found.texts)
                or name_matches(found.names, folded(text))
            ),
            "member": lambda: any(is_member(mine, str(self.modifier), text) for mine in found.tokens),
            "composite": lambda: any(_element_is(mine, prefix, text) for mine in found.elements),
            "date": lambda: any(span_matches(prefix, mine, span_of(text)) for mine in found.spans),
            "quantity": lambda: any(_quantity_is(mine, prefix, text) for mine in found.quantities),
            "number": lambda: any(number_matches(prefix, mine[0], text) for mine in found.quantities),
            "reference": lambda: text in found.references,
        }
        kind = f"{self.kind}:{self.modifier}" if self.modifier in {"text", "exact", "contains"} else self.kind
        return hits["member" if self.modifier in {"in", "not-in", "below", "above"} else kind]()


@dataclass(frozen=True, slots=True)
class Compared:
    """One comparison of a `_filter`."""

    question: Question
    operator: str

    def text(self) -> str:
        """As a client writes it."""
        value = self.question.choices[0][1]
        quoted = self.question.kind == "string" or re.search(r'[\s)\]"]', value)
        return f"{self.question.code} {self.operator} {json.dumps(value) if quoted else value}"

    def holds(self, found: Values) -> bool:
        """Whether a resource with these values matches."""
        question, text = self.question, self.question.choices[0][1]
        if self.operator == "pr":
            return found.present == (text == "true")
        if question.kind == "string":
            mine, asked = [folded(each) for each in found.texts], folded(text)
            return {
                "eq": asked in mine,
                "ne": bool(mine) and asked not in mine,
                "co": any(asked in each for each in mine),
                "sw": any(each.startswith(asked) for each in mine),
                "ew": any(each.endswith(asked) for each in mine),
            }[self.operator]
        if question.kind == "date":
            asked_span = span_of(text)
            if self.operator == "po":
                return any(mine[0] < asked_span[1] and mine[1] > asked_span[0] for mine in found.spans)
            return any(span_matches(self.operator, mine, asked_span) for mine in found.spans)
        if question.kind in ("quantity", "number"):
            return any(_quantity_is(mine, self.operator, text) for mine in found.quantities)
        hit = question.holds(found)
        return found.present and not hit if self.operator == "ne" else hit


def sort_value(found: Values, kind: str, *, descending: bool) -> Any:
    """What a row is sorted by (SC-12): of several values the lowest going up, the highest going down; else None."""
    values: list[Any] = {
        "date": [span[0] for span in found.spans],
        "quantity": [low for low, _, _ in found.quantities],
        "number": [low for low, _, _ in found.quantities],
        "string": [folded(text) for text in found.texts if folded(text)],
        "token": [code for _, code in found.tokens if code] or found.texts,
    }.get(kind, found.references)
    return (max if descending else min)(values, default=None)


def _element_is(parts: tuple[Values, ...], prefix: str, text: str) -> bool:
    token, amount = text.split("$")
    coded, measured = parts
    return any(_token_is(mine, token) for mine in coded.tokens) and any(
        _quantity_is(mine, prefix, amount) for mine in measured.quantities
    )


def _token_is(mine: tuple[str | None, str | None], text: str) -> bool:
    system, bar, code = text.rpartition("|")
    if not bar:
        return mine[1] == text
    if not system:
        return mine == (None, code)
    return mine[0] == system and code in {"", mine[1]}


UCUM = "http://unitsofmeasure.org"
UNITS = {
    "mg": ("g", "0.001"), "g": ("g", "1"), "kg": ("g", "1000"), "pg": ("g", "1e-12"),
    "1": ("1", "1"), "%": ("1", "0.01"), "mg/g": ("1", "0.001"),
    "{score}": ("1", "1"), "{T-score}": ("1", "1"), "{INR}": ("1", "1"),
    "g/L": ("g/L", "1"), "g/dL": ("g/L", "10"), "mg/dL": ("g/L", "0.01"), "mg/L": ("g/L", "0.001"),
    "ug/mL": ("g/L", "0.001"), "ug/L": ("g/L", "1e-6"), "ng/mL": ("g/L", "1e-6"), "pg/mL": ("g/L", "1e-9"),
    "10*3/uL": ("/L", "1e9"), "10*6/uL": ("/L", "1e12"), "mmol/L": ("/L", "6.02214076e20"),
    "mL/min": ("mL/min", "1"), "mL/min/{1.73_m2}": ("mL/min", "1"),
}  # fmt: skip
"""What each unit of the data can be compared in, and how many of that it is; others stand alone in the data."""


def _quantity_is(mine: tuple[Decimal, Decimal, dict[str, Any]], prefix: str, text: str) -> bool:
    number, *unit = text.split("|")
    if unit and unit[0] == mine[2].get("system") == UCUM and unit[1] in UNITS and mine[2].get("code") in UNITS:
        asked, held = UNITS[unit[1]], UNITS[mine[2]["code"]]
        amount = Fraction(mine[0]) * Fraction(held[1]) / Fraction(asked[1])
        return asked[0] == held[0] and number_matches(prefix, amount, number)
    if not number_matches(prefix, mine[0], number):
        return False
    if not unit:
        return True
    if unit[0]:
        return mine[2].get("system") == unit[0] and mine[2].get("code") == unit[1]
    return unit[1] in {mine[2].get("code"), mine[2].get("unit")}


def escaped(text: str, *, plain: bool) -> str:
    """Escape for a value; bars separate parts unless the value is plain text."""
    text = text.replace("\\", "\\\\").replace(",", "\\,").replace("$", "\\$")
    return text.replace("|", "\\|") if plain else text
