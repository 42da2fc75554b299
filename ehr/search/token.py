"""Token parameters: https://hl7.org/fhir/R4/search.html#token."""

import re
from dataclasses import replace

from ehr.definitions import SearchParameter, search_parameters
from ehr.errors import BadSearch
from ehr.indexing import answering_terms, identity_number, normalise_string, selected_types, text_prefix
from ehr.search.query import CodeSet, Criterion, TokenValue, Value
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.terminology import CODE_MODIFIERS, SET_MODIFIERS
from ehr.search.text import split, unescape

MODIFIERS = frozenset({"missing", "not", "text", "of-type", "in", "not-in", "below", "above"})
_NEGATED = frozenset({"not", "not-in"})
_CODED = frozenset({"code", "Coding", "CodeableConcept"})
_IDENTIFIED = frozenset({"Identifier"})
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:\S+|ValueSet/[A-Za-z0-9\-.]{1,64}")


def takes(resource_type: str, parameter: SearchParameter, modifier: str) -> bool:
    """Whether a modifier says anything about the values that a token parameter selects."""
    if modifier == "of-type":
        fitting = _IDENTIFIED
    elif modifier in SET_MODIFIERS or modifier in CODE_MODIFIERS:
        fitting = _CODED
    else:
        return True
    return not fitting.isdisjoint(selected_types(resource_type, parameter.expression or ""))


def parse_value(name: str, text: str) -> TokenValue:
    """Read `code`, `system|code`, `|code` or `system|`; BadSearch for anything else."""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) == 1:
        return TokenValue(parts[0], parts[0])
    if len(parts) != 2 or not any(parts):
        raise BadSearch(f"{name}: a token is code, system|code, |code or system|")
    return TokenValue("|".join(parts), parts[1])


def parse_of_type(name: str, text: str) -> TokenValue:
    """Read `system|code|value` of `:of-type`: an identifier's type and its value."""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) != 3 or not all(parts):
        raise BadSearch(f"{name}: the type's system, its code and the identifier's value: system|code|value")
    return TokenValue("|".join(parts), parts[2])


def parse_set(name: str, base_url: str | None, text: str) -> TokenValue:
    """Read the address of a value set, `ValueSet/id` or canonical with or without version."""
    plain = unescape(text)
    if base_url:
        plain = plain.removeprefix(base_url.rstrip("/") + "/")
    if not _ADDRESS.fullmatch(plain):
        raise BadSearch(f"{name}: the address of a value set, or ValueSet/id")
    return TokenValue(plain)


def parse_related(name: str, text: str) -> TokenValue:
    """Read `system|code` of `:below` and `:above`."""
    value = parse_value(name, text)
    if "|" not in value.text or value.text.startswith("|") or not value.code:
        raise BadSearch(f"{name}: system|code, since the code system says what is subsumed")
    return value


def parse_text(name: str, text: str) -> TokenValue:
    """Read the words of `:text`; BadSearch where nothing is left to compare."""
    normalised = normalise_string(unescape(text))
    if not normalised:
        raise BadSearch(f"{name}: no text to look for")
    return TokenValue(normalised)


def condition(rendering: Rendering, _alias: str, criterion: Criterion) -> Condition:
    """Rows with one of the tokens; with `:not` and `:not-in`, all others, those without the parameter included."""
    values = [as_identity(value) for value in criterion.values] if _identifies(criterion) else criterion.values
    asked = [each for value in values for each in _asked(criterion.modifier, value)]
    terms = tuple(
        term
        for kind, text in asked
        for term in answering_terms(rendering.hasher, criterion.resource_type, criterion.code, kind, text)
    )
    negated = criterion.modifier in _NEGATED
    if not terms:
        return replace(NEVER, negated=negated)
    return Condition(terms, negated=negated, implied=criterion.modifier == "text")


def _identifies(criterion: Criterion) -> bool:
    """Whether the parameter selects identifiers, among which identity numbers are written in several ways."""
    parameter = search_parameters(criterion.resource_type).get(criterion.code)
    if parameter is None or criterion.modifier not in {None, "not", "of-type"}:
        return False
    return "Identifier" in selected_types(criterion.resource_type, parameter.expression or "")


def as_identity(value: Value) -> Value:
    """A token whose value is an identity number as rows store it (SC-59)."""
    number = identity_number(value.code) if isinstance(value, TokenValue) else None
    if number is None or not isinstance(value, TokenValue):
        return value
    return TokenValue(value.text.removesuffix(value.code) + number, number)


def _asked(modifier: str | None, value: Value) -> list[tuple[str, str]]:
    """Kind and value of the terms of which a row must have one."""
    match value:
        case CodeSet(tokens=tokens):
            return [("token", text) for text in tokens]
        case TokenValue(text=text) if modifier == "text":
            return [_asked_text(text)]
        case TokenValue(text=text) if modifier not in SET_MODIFIERS | CODE_MODIFIERS:
            return [("of-type" if modifier == "of-type" else "token", text)]
    return []


def _asked_text(text: str) -> tuple[str, str]:
    """Kind and value of the term of a `:text`: its beginning, or where that is too short any value at all."""
    beginning = text_prefix(text)
    return ("text", beginning) if beginning else ("present", "")


def needs_opening(criterion: Criterion) -> bool:
    """Whether the index gives only candidates: `:text` with more characters than its terms hold."""
    return criterion.modifier == "text" and any(
        isinstance(value, TokenValue) and text_prefix(value.text) != value.text for value in criterion.values
    )


def matches(criterion: Criterion, texts: list[str]) -> bool:
    """Compare the texts and displays of an opened resource with `:text`."""
    normalised = [normalise_string(text) for text in texts]
    wanted = [value.text for value in criterion.values if isinstance(value, TokenValue)]
    return any(text.startswith(words) for text in normalised for words in wanted)
