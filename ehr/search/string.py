"""String parameters: https://hl7.org/fhir/R4/search.html#string.

Names of people are found as they are in China too: by their characters in any order, by pinyin and by initials (SC-58).
"""

from collections.abc import Sequence
from dataclasses import replace

from ehr.errors import BadSearch, TooCostly
from ehr.indexing import (
    answering,
    asked_characters,
    asked_letters,
    has_characters,
    is_spelt,
    normalise_string,
)
from ehr.search import limits
from ehr.search.query import Criterion, StringValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import unescape

MODIFIERS = frozenset({"missing", "exact", "contains"})
_GRAM = 3


def parse_value(name: str, modifier: str | None, names: bool, text: str) -> StringValue:  # noqa: FBT001 - bound once
    """Read one string; BadSearch where nothing is left to compare, TooCostly for a long `:contains`.

    `names`: the parameter selects names of people.
    """
    plain = unescape(text)
    if modifier == "contains" and len(plain) > limits.CONTAINS_LENGTH:
        raise TooCostly(f"{name}: at most {limits.CONTAINS_LENGTH} characters")
    value = StringValue(plain, normalise_string(plain))
    if not value.normalised and modifier != "exact":
        raise BadSearch(f"{name}: no text to look for")
    if names and modifier is None:
        return replace(value, characters=asked_characters(value.normalised), letters=asked_letters(value.normalised))
    return value


def as_written(criterion: Criterion) -> Criterion:
    """The criterion without the ways of finding names, for operators that say what is compared."""
    values = (replace(each, characters="", letters="") for each in criterion.values if isinstance(each, StringValue))
    return replace(criterion, values=tuple(values))


def conditions(rendering: Rendering, alias: str, criterion: Criterion) -> list[Condition]:
    """Rows that may match; exact unless `needs_opening`."""
    values = [value for value in criterion.values if isinstance(value, StringValue)]
    if not any(value.characters for value in values):
        return [condition(rendering, alias, criterion)]
    (code,) = answering(criterion.resource_type, criterion.code)
    asked = [_characters(rendering, (criterion.resource_type, code), value) for value in values if value.characters]
    if len(values) == 1:
        return [Condition((term,)) for term in asked[0]]
    tests = [f"{alias}.terms @> {rendering.add(terms, 'bigint[]')}" for terms in asked]
    others = tuple(value for value in values if not value.characters)
    if others:
        rest = condition(rendering, alias, replace(criterion, values=others))
        tests.append(rendering.conditions(alias, [rest]))
    return [Condition(sql=f"({' or '.join(tests)})")]


def _characters(rendering: Rendering, parameter: tuple[str, str], value: StringValue) -> list[int]:
    return [rendering.hasher.term(*parameter, "han", character) for character in sorted(set(value.characters))]


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """As `conditions`, for values that are not names in Chinese characters."""
    values = [value for value in criterion.values if isinstance(value, StringValue)]
    if not values:
        return NEVER

    (code,) = answering(criterion.resource_type, criterion.code)

    def term(kind: str, text: str) -> int:
        return rendering.hasher.term(criterion.resource_type, code, kind, text)

    if criterion.modifier == "exact":
        return Condition(tuple(term("exact", value.text) for value in values))
    if criterion.modifier != "contains":
        beginnings = [text[: limits.PREFIX] for value in values for text in (value.normalised, value.letters) if text]
        return Condition(tuple(term("prefix", beginning) for beginning in dict.fromkeys(beginnings)))
    if any(len(value.normalised) < _GRAM for value in values):
        return Condition((term("present", ""),), implied=True)
    alternatives = [_grams(rendering, (criterion.resource_type, code), value.normalised) for value in values]
    return Condition(sql="(" + " or ".join(f"{alias}.terms @> {grams}" for grams in alternatives) + ")")


def _grams(rendering: Rendering, parameter: tuple[str, str], text: str) -> str:
    grams = sorted({text[start : start + _GRAM] for start in range(len(text) - _GRAM + 1)})
    terms = [rendering.hasher.term(*parameter, "gram", gram) for gram in grams]
    return rendering.add(terms, "bigint[]")


def needs_opening(criterion: Criterion) -> bool:
    """Whether the index gives only candidates, so that the strings themselves must be compared."""
    if criterion.modifier == "contains":
        return True
    values = (value for value in criterion.values if isinstance(value, StringValue))
    return criterion.modifier is None and any(_is_candidate(value) for value in values)


def _is_candidate(value: StringValue) -> bool:
    """Whether terms alone do not tell: long strings, several characters of one name, syllables of several words."""
    if value.characters:
        return len(value.characters) > 1
    return len(value.normalised) > limits.PREFIX or value.letters not in {"", value.normalised}


def matches(criterion: Criterion, texts: list[str], names: Sequence[str] = ()) -> bool:
    """Compare the strings of an opened resource with the criterion; `names` are whole names of people."""
    normalised = [normalise_string(text) for text in texts]
    for value in criterion.values:
        if not isinstance(value, StringValue):
            continue
        if criterion.modifier == "contains" and any(value.normalised in text for text in normalised):
            return True
        if criterion.modifier is None and any(text.startswith(value.normalised) for text in normalised):
            return True
        if criterion.modifier == "exact" and value.text in texts:
            return True
        if value.characters and has_characters(names, value.characters):
            return True
        if value.letters and is_spelt(names, value.letters):
            return True
    return False
