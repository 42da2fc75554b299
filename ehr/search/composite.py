"""Composite parameters: https://hl7.org/fhir/R4/search.html#composite.

The index finds the rows that meet each part somewhere; where the parts must be met by one element of several, the row
is opened and its elements are compared one by one.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ehr.indexing import Extractor, Found, is_of_resource
from ehr.keys import TermHasher
from ehr.row_filter import EVERYTHING
from ehr.search import date, number, quantity, reference, string, token, uri
from ehr.search.query import CompositeValue, Criterion, DateValue, NumberValue, QuantityValue
from ehr.search.rendering import Condition, Rendering

MODIFIERS: frozenset[str] = frozenset()
RenderCriterion = Callable[[Rendering, str, Criterion], list[Condition]]


def conditions(rendering: Rendering, alias: str, criterion: Criterion, render: RenderCriterion) -> list[Condition]:
    """Rows that meet all parts of one of the values; exact unless `needs_opening`."""
    values = [value for value in criterion.values if isinstance(value, CompositeValue)]
    alternatives = [[each for part in value.parts for each in render(rendering, alias, part)] for value in values]
    if len(alternatives) == 1:
        return alternatives[0]
    met = [rendering.conditions(alias, parts) for parts in alternatives]
    return [Condition(sql=f"(({') or ('.join(met)}))")]


def needs_opening(criterion: Criterion) -> bool:
    """Whether the index gives only candidates."""
    if not is_of_resource(criterion.resource_type, criterion.code):
        return True
    return any(
        part.kind == "string" and string.needs_opening(part)
        for value in criterion.values
        if isinstance(value, CompositeValue)
        for part in value.parts
    )


def matches(extractor: Extractor, criterion: Criterion, resource: dict[str, Any]) -> bool:
    """Whether one element of an opened resource meets all parts of one of the values."""
    values = [value for value in criterion.values if isinstance(value, CompositeValue)]
    hasher = extractor.hasher
    return any(
        all(_meets(hasher, part, found) for part, found in zip(value.parts, element, strict=True))
        for element in extractor.elements(criterion.resource_type, criterion.code, resource)
        for value in values
    )


def _meets(hasher: TermHasher, part: Criterion, found: Found) -> bool:
    entries = found.entries
    match part.kind:
        case "string":
            return string.matches(part, found.texts)
        case "date":
            asked = [value for value in part.values if isinstance(value, DateValue)]
            return any(date.admits(value, low, high) for value in asked for _, low, high in entries.dates)
        case "number":
            numbers = [value for value in part.values if isinstance(value, NumberValue)]
            return any(number.admits(value, low, high) for value in numbers for _, low, high in entries.numbers)
        case "quantity":
            quantities = [value for value in part.values if isinstance(value, QuantityValue)]
            return any(quantity.admits(hasher, part, value, entries) for value in quantities)
    return not _terms(hasher, part).isdisjoint(entries.terms)


@lru_cache(maxsize=256)
def _terms(hasher: TermHasher, part: Criterion) -> frozenset[int]:
    """The terms of which a value must have one."""
    rendering = Rendering(EVERYTHING, hasher)
    match part.kind:
        case "reference":
            found = reference.condition(rendering, "r", part)[:1]
        case "uri":
            found = [uri.condition(rendering, "r", part)]
        case _:
            found = [token.condition(rendering, "r", part)]
    return frozenset(term for condition in found for term in condition.terms)
