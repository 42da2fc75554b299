"""String parameters: https://hl7.org/fhir/R4/search.html#string."""

from ehr.errors import BadSearch, TooCostly
from ehr.indexing import answering, normalise_string
from ehr.search import limits
from ehr.search.query import Criterion, StringValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import unescape

MODIFIERS = frozenset({"missing", "exact", "contains"})
_GRAM = 3


def parse_value(name: str, modifier: str | None, text: str) -> StringValue:
    """Read one string; BadSearch where nothing is left to compare, TooCostly for a long `:contains`."""
    plain = unescape(text)
    if modifier == "contains" and len(plain) > limits.CONTAINS_LENGTH:
        raise TooCostly(f"{name}: at most {limits.CONTAINS_LENGTH} characters")
    value = StringValue(plain, normalise_string(plain))
    if not value.normalised and modifier != "exact":
        raise BadSearch(f"{name}: no text to look for")
    return value


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """Rows that may match; exact unless `needs_opening`."""
    values = [value for value in criterion.values if isinstance(value, StringValue)]
    if not values:
        return NEVER

    (code,) = answering(criterion.resource_type, criterion.code)

    def term(kind: str, text: str) -> int:
        return rendering.hasher.term(criterion.resource_type, code, kind, text)

    if criterion.modifier == "exact":
        return Condition(tuple(term("exact", value.text) for value in values))
    if criterion.modifier != "contains":
        return Condition(tuple(term("prefix", value.normalised[: limits.PREFIX]) for value in values))
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
    lengths = (len(value.normalised) for value in criterion.values if isinstance(value, StringValue))
    return criterion.modifier is None and any(length > limits.PREFIX for length in lengths)


def matches(criterion: Criterion, texts: list[str]) -> bool:
    """Compare the strings of an opened resource with the criterion."""
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
    return False
