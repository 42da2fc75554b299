"""Token parameters: https://hl7.org/fhir/R4/search.html#token."""

from ehr.errors import BadSearch
from ehr.indexing import answering_terms, normalise_string, text_prefix
from ehr.search.query import Criterion, TokenValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import split, unescape

MODIFIERS = frozenset({"missing", "not", "text"})


def parse_value(name: str, text: str) -> TokenValue:
    """Read `code`, `system|code`, `|code` or `system|`; BadSearch for anything else."""
    parts = [unescape(part) for part in split(text, "|")]
    if len(parts) == 1:
        return TokenValue(parts[0], parts[0])
    if len(parts) != 2 or not any(parts):
        raise BadSearch(f"{name}: a token is code, system|code, |code or system|")
    return TokenValue("|".join(parts), parts[1])


def parse_text(name: str, text: str) -> TokenValue:
    """Read the words of `:text`; BadSearch where nothing is left to compare."""
    normalised = normalise_string(unescape(text))
    if not normalised:
        raise BadSearch(f"{name}: no text to look for")
    return TokenValue(normalised)


def condition(rendering: Rendering, _alias: str, criterion: Criterion) -> Condition:
    """Rows with one of the tokens; with `:not`, rows without any, those without the parameter included."""
    texts = [value.text for value in criterion.values if isinstance(value, TokenValue)]
    asked = [_asked_text(text) for text in texts] if criterion.modifier == "text" else [("token", t) for t in texts]
    terms = tuple(
        term
        for kind, text in asked
        for term in answering_terms(rendering.hasher, criterion.resource_type, criterion.code, kind, text)
    )
    return Condition(terms, negated=criterion.modifier == "not") if terms else NEVER


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
