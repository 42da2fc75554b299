"""Uri parameters: https://hl7.org/fhir/R4/search.html#uri."""

import re

from ehr.errors import BadSearch
from ehr.search.query import Criterion, UriValue
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import unescape

MODIFIERS = frozenset({"missing", "below", "above"})
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://\S+")
_BOUNDARIES = "/|#?"
"""Characters at which the part of an address ends that lies above it."""


def parse_value(name: str, modifier: str | None, text: str) -> UriValue:
    """Read one address; compared exactly, case and all. BadSearch for `:below` and `:above` of what is no URL."""
    plain = unescape(text)
    if modifier is not None and not _URL.fullmatch(plain):
        raise BadSearch(f"{name}: a URL, since other addresses have no levels")
    return UriValue(plain)


def condition(rendering: Rendering, _alias: str, criterion: Criterion) -> Condition:
    """Rows with one of the addresses; with `:above`, one on the way to it; with `:below`, candidates to be opened."""
    values = [value.text for value in criterion.values if isinstance(value, UriValue)]
    if not values:
        return NEVER
    if criterion.modifier == "below":
        asked = [("present", "")]
    elif criterion.modifier == "above":
        asked = [("uri", text) for value in values for text in _on_the_way(value)]
    else:
        asked = [("uri", text) for text in values]
    hashed = (rendering.hasher.term(criterion.resource_type, criterion.code, kind, text) for kind, text in asked)
    return Condition(tuple(dict.fromkeys(hashed)), implied=criterion.modifier == "below")


def _on_the_way(address: str) -> list[str]:
    """An address and those above it, each with and without the slash at its end: `http://a/b` has `http://a/`."""
    start = address.index("://") + 3
    ends = [place for place in range(start, len(address)) if address[place] in _BOUNDARIES]
    cut = [address[: end + with_slash] for end in ends for with_slash in (0, 1)]
    return [address, *(text for text in cut if len(text) > start)]


def needs_opening(criterion: Criterion) -> bool:
    """Whether the index gives only candidates: the beginnings of addresses have no terms."""
    return criterion.modifier == "below"


def matches(criterion: Criterion, texts: list[str]) -> bool:
    """Compare the addresses of an opened resource with `:below`."""
    wanted = [value.text for value in criterion.values if isinstance(value, UriValue)]
    return any(_is_below(text, above) for text in texts for above in wanted)


def _is_below(text: str, above: str) -> bool:
    if not text.startswith(above):
        return False
    return len(text) == len(above) or above[-1] in _BOUNDARIES or text[len(above)] in _BOUNDARIES
