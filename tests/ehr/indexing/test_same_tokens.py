"""Values without a system of their own are stored as codes, and found by the systems they are known by."""

from typing import Any

import pytest

from ehr.definitions import RESOURCE_TYPES, codes_of
from ehr.indexing import Extractor, answering_terms, indexed_parameters
from ehr.indexing.plan import branches_of, implicit_systems
from ehr.indexing.same_tokens import implied_systems, stored_token
from ehr.keys import TermHasher

HASHER = TermHasher(b"a key of the tests")
EXTRACTOR = Extractor(HASHER)
STATUS = "http://hl7.org/fhir/observation-status"


def _asked(resource_type: str, code: str, token: str) -> set[int]:
    return set(answering_terms(HASHER, resource_type, code, "token", token))


def _stored(resource: dict[str, Any]) -> set[int]:
    return set(EXTRACTOR.entries(resource["resourceType"], resource).terms)


@pytest.mark.parametrize(
    ("resource", "code", "token", "found"),
    [
        ({"resourceType": "Observation", "status": "final"}, "status", "final", True),
        ({"resourceType": "Observation", "status": "final"}, "status", "|final", True),
        ({"resourceType": "Observation", "status": "final"}, "status", f"{STATUS}|final", True),
        ({"resourceType": "Observation", "status": "final"}, "status", "http://loinc.org|final", False),
        ({"resourceType": "Observation", "status": "final"}, "status", f"{STATUS}|", False),
        ({"resourceType": "Observation", "status": "final"}, "status", f"{STATUS}|amended", False),
        ({"resourceType": "Observation", "status": "other"}, "status", "|other", True),
        ({"resourceType": "Observation", "status": "other"}, "status", f"{STATUS}|other", False),
        ({"resourceType": "Patient", "active": True}, "active", "|true", True),
        ({"resourceType": "Patient", "active": True}, "active", "urn:x|true", False),
        ({"resourceType": "Patient", "telecom": [{"value": "1|3"}]}, "telecom", "|1|3", True),
        ({"resourceType": "Patient", "telecom": [{"value": "1|3"}]}, "telecom", "1|3", True),
        ({"resourceType": "Patient", "telecom": [{"value": "1|3"}]}, "telecom", "3", False),
        # a coding has a system of its own, or says that it has none
        ({"resourceType": "Observation", "code": {"coding": [{"code": "a"}]}}, "code", "|a", True),
        ({"resourceType": "Observation", "code": {"coding": [{"system": "s", "code": "a"}]}}, "code", "|a", False),
    ],
)
def test_what_finds_a_value(resource: dict[str, Any], code: str, token: str, found: bool) -> None:  # noqa: FBT001 - a table's column
    assert (not _asked(resource["resourceType"], code, token).isdisjoint(_stored(resource))) is found


def test_a_status_is_one_term() -> None:
    assert len(_stored({"resourceType": "Observation", "status": "final"})) == 2  # the code, and that there is a status


def test_each_code_of_each_value_set_is_found_by_its_systems_and_by_no_other() -> None:
    tried = 0
    for resource_type in RESOURCE_TYPES:
        for parameter in indexed_parameters(resource_type):
            systems = implied_systems(resource_type, parameter.code)
            if systems is None:
                continue
            (value_set,) = {
                implicit_systems(branch.element) if branch.type_name == "code" else None
                for branch in branches_of(resource_type, parameter.expression or "")
            }
            pairs = codes_of(value_set) or () if value_set is not None else ()
            assert {(system, each) for each, found in systems.items() for system in found} == set(pairs)
            for system, each in pairs:
                assert stored_token(resource_type, parameter.code, f"{system}|{each}") == each
                assert stored_token(resource_type, parameter.code, f"{system}/|{each}") == f"{system}/|{each}"
                tried += 1
    assert tried > 1000
