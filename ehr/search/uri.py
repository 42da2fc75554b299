"""Uri parameters: https://hl7.org/fhir/R4/search.html#uri."""

from ehr.search.query import Criterion, UriValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import unescape

MODIFIERS = frozenset({"missing"})


def parse_value(text: str) -> UriValue:
    """Read one address; compared exactly, case and all."""
    return UriValue(unescape(text))


def condition(rendering: Rendering, _alias: str, criterion: Criterion) -> Condition:
    """Rows with one of the addresses."""
    terms = tuple(
        rendering.hasher.term(criterion.resource_type, criterion.code, "uri", value.text)
        for value in criterion.values
        if isinstance(value, UriValue)
    )
    return Condition(terms) if terms else NEVER
