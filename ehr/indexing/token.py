"""Token parameters to terms (https://hl7.org/fhir/R4/search.html#token; readings SC-4, SC-5, SC-6)."""

from collections.abc import Callable
from typing import Any

from ehr.definitions import codes_of
from ehr.indexing.chinese import identity_number
from ehr.indexing.entries import IndexEntries
from ehr.indexing.implied import Implied
from ehr.indexing.plan import Leaf
from ehr.indexing.values import normalise_string, text_prefixes

CACHED_VALUES = 5000
"""Codings whose terms a parameter remembers (about 600 bytes each); coded values repeat."""

Term = Callable[[str, str], int]
"""(kind, value) to the term of one parameter."""


class TokenLeaves:
    """Makes leaves for the types that a token parameter may select."""

    def __init__(self, term: Term, value_set: str | None, implied: Implied, *, codes_alone: bool = False) -> None:
        """Take the terms of one parameter, the value set of a code's required binding, and where implied terms go.

        `codes_alone`: the values have no system of their own, and are stored as codes (`ehr.indexing.same_tokens`).
        """
        self._term = term
        self._implied = implied
        self._present = term("present", "")
        self._codes_alone = codes_alone
        self._cache: dict[Any, tuple[int, ...]] = {}
        self._systems: dict[str, list[str]] = {}
        for system, code in (codes_of(value_set) if value_set is not None else None) or ():
            self._systems.setdefault(code, []).append(system)

    def leaf(self, type_name: str) -> Leaf | None:
        """The leaf for values of a type; None where tokens cannot be made of it."""
        if type_name == "CodeableConcept":
            return self._concept
        if type_name == "Coding":
            return self._coding
        if type_name == "Identifier":
            return self._identifier
        if type_name == "ContactPoint":
            return self._contact
        return self._primitive if type_name[0].islower() else None

    def _remembered(self, key: Any, terms: list[int]) -> tuple[int, ...]:
        if len(self._cache) >= CACHED_VALUES:
            self._cache.clear()
        found = self._cache[key] = (*dict.fromkeys(terms), self._present)
        return found

    def _pair(self, system: str | None, value: str) -> list[int]:
        term = self._term
        if system is None:
            return [term("token", value)] if self._codes_alone else [term("token", value), term("token", f"|{value}")]
        return [term("token", value), term("token", f"{system}|{value}"), term("token", f"{system}|")]

    def _text(self, text: str) -> list[int]:
        """The longest beginning, which implies the shorter ones."""
        beginnings = [self._term("text", prefix) for prefix in text_prefixes(normalise_string(text))]
        if len(beginnings) > 1:
            self._implied.note(beginnings[0], beginnings[1:])
        return beginnings[:1]

    def _text_terms(self, text: str) -> tuple[int, ...]:
        key = ("text", text)
        return self._cache.get(key) or self._remembered(key, self._text(text))

    def _concept(self, value: Any, sink: IndexEntries) -> None:
        for coding in value.get("coding", ()):
            key = (coding.get("system"), coding.get("code"), coding.get("display"))
            sink.terms += self._cache.get(key) or self._remembered(key, self._coding_terms(*key))
        text = value.get("text")
        if text is not None:
            sink.terms += self._text_terms(text)

    def _coding(self, value: Any, sink: IndexEntries) -> None:
        key = (value.get("system"), value.get("code"), value.get("display"))
        sink.terms += self._cache.get(key) or self._remembered(key, self._coding_terms(*key))

    def _coding_terms(self, system: str | None, code: str | None, display: str | None) -> list[int]:
        terms = self._pair(system, code) if code is not None else []
        if code is None and system is not None:
            terms.append(self._term("token", f"{system}|"))
        return terms + (self._text(display) if display is not None else [])

    def _identifier(self, value: Any, sink: IndexEntries) -> None:
        text = value.get("type", {}).get("text")
        if text is not None:
            sink.terms += self._text_terms(text)
        system, number = value.get("system"), value.get("value")
        if number is not None:
            number = identity_number(number) or number
            sink.terms += self._pair(system, number)
            sink.terms.append(self._present)
            for coding in value.get("type", {}).get("coding", ()):
                if "system" in coding and "code" in coding:
                    sink.terms.append(self._term("of-type", f"{coding['system']}|{coding['code']}|{number}"))
        elif system is not None:
            sink.terms += (self._term("token", f"{system}|"), self._present)

    def _contact(self, value: Any, sink: IndexEntries) -> None:
        number = value.get("value")
        if number is not None:
            sink.terms += (*self._pair(None, number), self._present)

    def _primitive(self, value: Any, sink: IndexEntries) -> None:
        text = ("true" if value else "false") if type(value) is bool else str(value)
        terms = self._cache.get(text)
        if terms is None:
            found = self._pair(None, text)
            found += [self._term("token", f"{system}|{text}") for system in self._systems.get(text, ())]
            terms = self._remembered(text, found)
        sink.terms += terms
