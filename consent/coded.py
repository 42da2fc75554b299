"""Index terms of the codes, document types and profiles that a consent names.

A row carries a code of a consent where one of these search parameters of its type carries it; the list is published
in `docs/consent.md`. https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from collections.abc import Sequence
from functools import lru_cache

from consent.persons import types_of_kind
from ehr.definitions import search_parameters
from ehr.indexing import answering_terms
from ehr.keys import TermHasher

CODE_PARAMETERS = (
    "code",
    "combo-code",
    "combo-value-concept",
    "vaccine-code",
    "reason-code",
    "service-type",
    "type",
    "class",
    "category",
    "evidence",
    "manifestation",
    "topic",
    "event",
)
DOCUMENT_PARAMETERS = (
    ("DocumentReference", "type"),
    ("DocumentReference", "category"),
    ("Composition", "type"),
    ("Composition", "category"),
    ("DocumentManifest", "type"),
    ("DiagnosticReport", "code"),
    ("DiagnosticReport", "category"),
)


@lru_cache(maxsize=1)
def coded_parameters() -> tuple[tuple[str, str], ...]:
    """(type, parameter) in which clinical codes are looked for."""
    return tuple(
        (resource_type, name)
        for resource_type in sorted(types_of_kind("personal"))
        for name in CODE_PARAMETERS
        if (found := search_parameters(resource_type).get(name)) is not None and found.kind == "token"
    )


class IndexTerms:
    """Terms by the store's keyed hasher (`consent.decision.Terms`)."""

    def __init__(self, hasher: TermHasher) -> None:
        """Take the hasher of the store whose rows are asked."""
        self._hasher = hasher
        self._tokens = lru_cache(maxsize=4_096)(self._token_terms)

    def _token_terms(self, parameters: tuple[tuple[str, str], ...], codes: tuple[str, ...]) -> frozenset[int]:
        return frozenset(
            term
            for resource_type, name in parameters
            for code in codes
            for term in answering_terms(self._hasher, resource_type, name, "token", code)
        )

    def codes(self, codes: Sequence[str]) -> frozenset[int]:
        """Terms of clinical codes "system|code"."""
        return self._tokens(coded_parameters(), tuple(codes))

    def documents(self, codes: Sequence[str]) -> frozenset[int]:
        """Terms of document types "system|code"."""
        return self._tokens(DOCUMENT_PARAMETERS, tuple(codes))

    def profiles(self, profiles: Sequence[str]) -> frozenset[int]:
        """Terms of profile addresses."""
        return frozenset(
            self._hasher.term(resource_type, "_profile", "uri", profile)
            for resource_type in sorted(types_of_kind("personal"))
            for profile in profiles
        )
