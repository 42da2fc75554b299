"""Reference and uri parameters to terms (https://hl7.org/fhir/R4/search.html#reference, #uri)."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ehr.definitions import is_resource_type
from ehr.indexing.chinese import identity_number
from ehr.indexing.entries import IndexEntries
from ehr.indexing.plan import JoinedLeaf, Leaf
from ehr.indexing.token import CACHED_VALUES, Term
from ehr.keys import row_key

_LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
_TYPED = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/[^/]+(?:/_history/[^/]+)?")

Target = tuple[str, str, int]
"""Type, id and row key of a resource of ours."""


class References:
    """Reads reference strings; `base_url` is the platform's own FHIR base, whose absolute URLs are ours."""

    def __init__(self, base_url: str | None) -> None:
        """Take the base with or without a slash at its end."""
        self._base = None if base_url is None else base_url.rstrip("/") + "/"
        self.target: Callable[[str], Target | None] = lru_cache(maxsize=16_384)(self._target)

    def _target(self, text: str) -> Target | None:
        if self._base is not None:
            text = text.removeprefix(self._base)
        match = _LOCAL.fullmatch(text)
        if match is None or not is_resource_type(match[1]):
            return None
        return match[1], match[2], row_key(match[1], match[2])

    def type_of(self, reference: dict[str, Any]) -> str | None:
        """The type of the target as far as the reference tells."""
        text = reference.get("reference")
        target = self.target(text) if text is not None else None
        if target is not None:
            return target[0]
        named = reference.get("type")
        if named is not None:
            return str(named)
        match = _TYPED.fullmatch(text) if text is not None else None
        return match[1] if match is not None and is_resource_type(match[1]) else None


class ReferenceLeaf(JoinedLeaf):
    """The leaf of one parameter for References; `wanted` restricts them to one target type."""

    def __init__(self, term: Term, salt: int, references: References, wanted: str | None) -> None:
        """Take the parameter's terms and salt, and what reads references."""
        self._term = term
        self._salt = salt
        self._references = references
        self._wanted = wanted
        self._present = term("present", "")

    def __call__(self, value: Any, sink: IndexEntries) -> None:
        """Add the terms of one Reference."""
        sink.terms += self._terms(value)

    def _terms(self, value: Any) -> list[int]:
        if self._wanted is not None and self._references.type_of(value) != self._wanted:
            return []
        terms = [self._present]
        text = value.get("reference")
        if text is not None:
            target = self._references.target(text)
            terms.append(self._term("uri", text) if target is None else target[2] ^ self._salt)
        identifier = value.get("identifier")
        if identifier is not None and "value" in identifier:
            number = identity_number(identifier["value"]) or identifier["value"]
            system = identifier.get("system", "")
            terms += (self._term("identifier", number), self._term("identifier", f"{system}|{number}"))
        return terms

    def joined(self, leaves: Sequence[JoinedLeaf]) -> Leaf:
        """All parameters of the place at once, remembered where the address alone tells the terms."""
        parameters = [leaf for leaf in leaves if isinstance(leaf, ReferenceLeaf)]
        of_own = [(leaf._wanted, leaf._present, leaf._salt) for leaf in parameters]  # noqa: SLF001 - same class
        target_of = self._references.target
        known: dict[str, list[int]] = {}

        def terms_of(value: Any) -> list[int]:
            return [term for leaf in parameters for term in leaf._terms(value)]  # noqa: SLF001 - same class

        def terms_of_address(text: str, value: Any) -> list[int]:
            target = target_of(text)
            if target is None:
                return terms_of(value)
            kind, _, key = target
            terms: list[int] = []
            for wanted, present, salt in of_own:
                if wanted is None or wanted == kind:
                    terms += (present, key ^ salt)
            return terms

        def references(value: Any, sink: IndexEntries) -> None:
            text = value.get("reference")
            if text is None or "identifier" in value or "type" in value:
                sink.terms += terms_of(value)
                return
            found = known.get(text)
            if found is None:
                if len(known) >= CACHED_VALUES:
                    known.clear()
                found = known[text] = terms_of_address(text, value)
            sink.terms += found

        return references


def reference_leaf(
    term: Term, salt: int, references: References, type_name: str, wanted: str | None = None
) -> Leaf | None:
    """The leaf for values of a type; `wanted` restricts references to one target type."""
    if type_name in {"canonical", "uri", "url", "oid", "uuid"}:
        return uri_leaf(term)
    if type_name == "Reference":
        return ReferenceLeaf(term, salt, references, wanted)
    present = term("present", "")

    def resource(value: Any, sink: IndexEntries) -> None:
        named, local_id = value.get("resourceType"), value.get("id")
        if is_resource_type(named) and local_id is not None and wanted in {None, named}:
            sink.terms += (present, row_key(named, local_id) ^ salt)

    return resource if is_resource_type(type_name) or type_name == "Resource" else None


def uri_leaf(term: Term) -> Leaf:
    """The leaf for uri, url and canonical; a canonical with a version is found without it too."""
    present = term("present", "")
    cache: dict[str, tuple[int, ...]] = {}

    def terms_of(text: str) -> tuple[int, ...]:
        if len(cache) >= CACHED_VALUES:
            cache.clear()
        bare, bar, _ = text.partition("|")
        found = (present, term("uri", text))
        cache[text] = (*found, term("uri", bare)) if bar else found
        return cache[text]

    def leaf(value: Any, sink: IndexEntries) -> None:
        sink.terms += cache.get(value) or terms_of(value)

    return leaf
