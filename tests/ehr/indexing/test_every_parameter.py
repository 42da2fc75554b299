"""For every simple parameter of R4, a resource made to its measure is found by walk and FHIRPath, and indexed."""

from collections import Counter
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from ehr import fhirpath
from ehr.definitions import RESOURCE_TYPES, SearchParameter
from ehr.fhirpath import model
from ehr.fhirpath.nodes import Node
from ehr.indexing import Extractor, answering, answering_terms
from ehr.indexing.derived import is_derived
from ehr.indexing.extractor import _walk
from ehr.indexing.plan import Branch, Leaf, NotPlain, branches_of, indexed_parameters
from ehr.keys import TermHasher

HASHER = TermHasher(b"a key for tests of terms")
EXTRACTOR = Extractor(HASHER)
SAMPLES: dict[str, Any] = {
    "CodeableConcept": {"coding": [{"system": "urn:s", "code": "c", "display": "D"}], "text": "T"},
    "Coding": {"system": "urn:s", "code": "c"},
    "Identifier": {"system": "urn:s", "value": "v"},
    "ContactPoint": {"system": "phone", "value": "1"},
    "HumanName": {"family": "F", "given": ["G"]},
    "Address": {"city": "C"},
    "Period": {"start": "2020"},
    "Timing": {"event": ["2020-01-01"]},
    "Money": {"value": 1, "currency": "CNY"},
    "Range": {"low": {"value": 1}, "high": {"value": 2}},
    "SampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 1, "data": "1 2"},
    "Location.position": {"latitude": 1, "longitude": 2},
    "boolean": True,
    "integer": 1,
    "positiveInt": 1,
    "unsignedInt": 1,
    "decimal": Decimal("1.5"),
    "date": "2020-01-01",
    "dateTime": "2020-01-01",
    "instant": "2020-01-01T00:00:00Z",
}


def _sample(branch: Branch) -> Any:
    if branch.type_name == "Reference":
        return {"reference": f"{branch.target or 'Patient'}/1"}
    if branch.type_name in model.QUANTITY_TYPES:
        return {"value": 1, "unit": "g", "code": "g", "system": "urn:u"}
    return SAMPLES.get(branch.type_name, "text")


def _resource(resource_type: str, branch: Branch) -> dict[str, Any]:
    """The smallest resource that has a value at the end of the branch."""
    resource: dict[str, Any] = {"resourceType": resource_type}
    at, holder = resource_type, resource
    keys = [step for step in branch.steps if isinstance(step, str)]
    for step in branch.steps:
        if isinstance(step, tuple):
            holder[step[0]] = step[1]
            continue
        child = next(c for c in model.children(at).values() if any(key == step for key, _ in c.options))
        at = dict(child.options)[step]
        value: Any = {} if len(keys) > 1 else _sample(branch)
        if len(keys) == 1 and isinstance(branch.steps[-1], tuple):
            value = {**value, branch.steps[-1][0]: branch.steps[-1][1]}
        holder[step] = [value] if child.many else value
        holder = value
        keys = keys[1:]
        if not keys:
            break
    return resource


def _collected(parameter: SearchParameter, branch: Branch) -> Leaf:
    def leaf(value: Any, sink: Counter[str]) -> None:
        target = branch.target is None or value["reference"].startswith(branch.target + "/")
        sink[f"{parameter.code} {branch.type_name} {value}"] += target

    return leaf


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_every_branch_of_every_parameter(resource_type: str) -> None:
    for parameter in indexed_parameters(resource_type):
        try:
            branches = branches_of(resource_type, parameter.expression or "")
        except NotPlain:
            continue
        walk = _walk(resource_type, [parameter], partial(_collected))
        make = EXTRACTOR._leaf_maker(resource_type, parameter, EXTRACTOR.implied)
        present = set(answering_terms(HASHER, resource_type, parameter.code, "present", ""))
        for branch in branches:
            resource = _resource(resource_type, branch)
            walked: Counter[str] = Counter()
            walk(resource, walked)
            items = fhirpath.compile(parameter.expression or "").items(resource)
            evaluated = {f"{parameter.code} {i.type} {i.value}" for i in items if isinstance(i, Node)}
            assert {key for key, count in walked.items() if count} == evaluated != set(), (parameter.code, branch)
            indexed = not present.isdisjoint(EXTRACTOR.entries(resource_type, resource).present)
            assert indexed is (make(parameter, branch) is not None), (parameter.code, branch)


def test_derived_parameters_select_what_those_that_answer_them_select() -> None:
    derived = 0
    for resource_type in RESOURCE_TYPES:
        parameters = {parameter.code: parameter for parameter in indexed_parameters(resource_type)}
        for code, parameter in parameters.items():
            if not is_derived(resource_type, code):
                assert answering(resource_type, code) == (code,)
                continue
            derived += 1
            sources = [parameters[source] for source in answering(resource_type, code)]
            assert {source.kind for source in sources} == {parameter.kind}
            assert not any(is_derived(resource_type, source.code) for source in sources)
            selected = {branch for source in sources for branch in branches_of(resource_type, source.expression or "")}
            assert selected == set(branches_of(resource_type, parameter.expression or "")), (resource_type, code)
    assert derived == 8
