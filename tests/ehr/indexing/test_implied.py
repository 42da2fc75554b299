"""A row stores one term for the parameters that it has values for, and one for the beginnings of a text."""

from typing import Any

from ehr.indexing import Extractor, answering_terms
from ehr.keys import TermHasher

HASHER = TermHasher(b"a key of the tests")
BLOOD = {"system": "http://loinc.org", "code": "1", "display": "Blood pressure"}


def _present(*codes: str) -> set[int]:
    return {term for code in codes for term in answering_terms(HASHER, "Observation", code, "present", "")}


def _observation(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": {"coding": [BLOOD]}, **more}


def test_one_term_for_the_set_of_parameters() -> None:
    extractor = Extractor(HASHER)
    first = extractor.entries("Observation", _observation())
    second = extractor.entries("Observation", _observation(code={"coding": [BLOOD | {"code": "2"}]}))
    more = extractor.entries("Observation", _observation(issued="2024-01-01T00:00:00Z", effectiveDateTime="2024"))
    assert first.present == _present("status", "code") == second.present
    assert first.present.isdisjoint(first.terms)
    sets = [
        {stored for implied, stored in extractor.implied.unwritten if implied in entries.present} & set(entries.terms)
        for entries in (first, second, more)
    ]
    assert sets[0] == sets[1] != sets[2]
    assert [len(each) for each in sets] == [1, 1, 1]
    implied = {implied for implied, stored in extractor.implied.unwritten if stored in sets[2]}
    assert implied == _present("status", "code", "date")


def test_a_lone_parameter_stands_for_itself() -> None:
    entries = Extractor(HASHER).entries("Observation", {"resourceType": "Observation", "status": "final"})
    assert entries.present == _present("status")
    assert entries.present < set(entries.terms)


def test_the_longest_beginning_implies_the_others() -> None:
    extractor = Extractor(HASHER)
    terms = set(extractor.entries("Observation", _observation()).terms)
    longest, middle, shortest = (
        HASHER.term("Observation", "code", "text", beginning) for beginning in ("blood pr", "bloo", "bl")
    )
    assert longest in terms
    assert terms.isdisjoint({middle, shortest})
    assert {(middle, longest), (shortest, longest)} <= extractor.implied.unwritten.keys()


def test_what_was_written_is_forgotten_and_not_made_again() -> None:
    extractor = Extractor(HASHER)
    extractor.entries("Observation", _observation())
    assert extractor.implied.unwritten
    extractor.implied.written(list(extractor.implied.unwritten))
    assert not extractor.implied.unwritten
    extractor.entries("Observation", _observation())
    assert not extractor.implied.unwritten


def test_what_a_search_reads_is_not_to_be_written() -> None:
    extractor = Extractor(HASHER)
    component = {"code": {"coding": [BLOOD]}, "valueString": "high"}
    found = list(extractor.elements("Observation", "component-code-value-concept", _observation(component=[component])))
    assert len(found) == 1
    assert not extractor.implied.unwritten
