"""Search parameters that others answer: what they select is what the others select together.

They have no index entries of their own, which in an Observation were a quarter of all terms and half of the
quantities; whoever makes a term or looks up a parameter's number for a query asks `answering` first.
"""

from ehr.indexing.same_tokens import stored_token
from ehr.keys import TermHasher

_ANSWERED_BY: dict[tuple[str, str], tuple[str, ...]] = {
    ("Observation", "combo-code"): ("code", "component-code"),
    ("Observation", "combo-data-absent-reason"): ("data-absent-reason", "component-data-absent-reason"),
    ("Observation", "combo-value-concept"): ("value-concept", "component-value-concept"),
    ("Observation", "combo-value-quantity"): ("value-quantity", "component-value-quantity"),
    ("Patient", "phonetic"): ("name",),
    ("Person", "phonetic"): ("name",),
    ("Practitioner", "phonetic"): ("name",),
    ("RelatedPerson", "phonetic"): ("name",),
}


def answering(resource_type: str, code: str) -> tuple[str, ...]:
    """The parameters of the type whose index entries answer a parameter: itself, or those that it is made of."""
    return _ANSWERED_BY.get((resource_type, code)) or (code,)


def is_derived(resource_type: str, code: str) -> bool:
    """Whether a parameter has no index entries of its own."""
    return (resource_type, code) in _ANSWERED_BY


def answering_terms(hasher: TermHasher, resource_type: str, code: str, kind: str, value: str) -> tuple[int, ...]:
    """The terms of one value: a row that has one of them has the value."""
    parameters = answering(resource_type, code)
    if kind == "token":
        return tuple(hasher.term(resource_type, p, kind, stored_token(resource_type, p, value)) for p in parameters)
    return tuple(hasher.term(resource_type, parameter, kind, value) for parameter in parameters)
