"""String parameters to terms (https://hl7.org/fhir/R4/search.html#string)."""

from collections.abc import Iterator
from typing import Any

from ehr.errors import TooCostly
from ehr.indexing.chinese import han_of, names_of, pinyin_of
from ehr.indexing.entries import IndexEntries
from ehr.indexing.plan import Leaf
from ehr.indexing.token import Term
from ehr.indexing.values import grams, normalise_string, prefixes

CACHED_TEXTS = 1000
"""Strings whose terms a parameter remembers (about 2 kB each)."""
LIMIT_TERMS = 200_000
"""Index terms of one resource, and characters of one of its strings: some 15,000 names, or a name of 200 kB."""
_TOO_MUCH = "The resource holds more names, addresses or titles than the server indexes."
_PARTS = {
    "HumanName": ("family", "given", "prefix", "suffix", "text"),
    "Address": ("line", "city", "district", "state", "postalCode", "country", "text"),
    "CodeableConcept": ("text",),
    "Annotation": ("text",),
}


def texts_of(value: Any, type_name: str) -> Iterator[str]:
    """The strings that a value of a type is searched by, each for itself."""
    if type(value) is str:
        yield value
        return
    for part in _PARTS.get(type_name, ()):
        found = value.get(part)
        if type(found) is list:
            yield from (text for text in found if text is not None)
        elif found is not None:
            yield found


def string_leaf(term: Term, type_name: str, *, names: bool = False) -> Leaf | None:
    """The leaf for values of a type; None where it has no strings. `names`: of people, or parts of them."""
    if type_name not in _PARTS and not type_name[0].islower():
        return None
    strings = _string_leaf(term, type_name)
    return _name_leaf(term, strings) if names else strings


def _name_leaf(term: Term, strings: Leaf) -> Leaf:
    """The terms of the strings, and those by which a Chinese name is found."""
    cache: dict[str, tuple[int, ...]] = {}

    def terms_of(name: str) -> tuple[int, ...]:
        if len(cache) >= CACHED_TEXTS:
            cache.clear()
        characters = han_of(name)
        found = {("han", character) for character in characters}
        found |= {("prefix", prefix) for form in pinyin_of(characters) for prefix in prefixes(form)}
        cache[name] = tuple(term(*each) for each in found)
        return cache[name]

    def leaf(value: Any, sink: IndexEntries) -> None:
        strings(value, sink)
        for name in names_of(value):
            if not name.isascii():
                found = cache.get(name)
                sink.terms += terms_of(name) if found is None else found
        if len(sink.terms) > LIMIT_TERMS:
            raise TooCostly(_TOO_MUCH)

    return leaf


def _string_leaf(term: Term, type_name: str) -> Leaf:
    present = term("present", "")
    cache: dict[str, tuple[int, ...]] = {}

    def terms_of(text: str) -> tuple[int, ...]:
        if len(cache) >= CACHED_TEXTS:
            cache.clear()
        if len(text) > LIMIT_TERMS:
            raise TooCostly(_TOO_MUCH)
        normalised = normalise_string(text)
        found = [present, term("exact", text)]
        found += [term("prefix", prefix) for prefix in prefixes(normalised)]
        found += [term("gram", gram) for gram in grams(normalised)]
        cache[text] = tuple(found)
        return cache[text]

    def leaf(value: Any, sink: IndexEntries) -> None:
        for text in texts_of(value, type_name):
            sink.terms += cache.get(text) or terms_of(text)
            if len(sink.terms) > LIMIT_TERMS:
                raise TooCostly(_TOO_MUCH)

    return leaf
