"""The compiled walks select what plain FHIRPath selects, over the given Synthea resources."""

import gzip
import os
from collections import Counter
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ehr import fhirpath
from ehr.definitions import SearchParameter
from ehr.fhirpath.nodes import Node
from ehr.indexing.extractor import _walk
from ehr.indexing.plan import Branch, Leaf, indexed_parameters
from ehr.indexing.reference import References

DATA = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data")) / "synthea"
SAMPLE_OF_A_TYPE = 40


def _sample() -> dict[str, list[dict[str, Any]]]:
    """Resources of each type, from the small files and three patients."""
    decoder = msgspec.json.Decoder(float_hook=Decimal)
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(DATA.rglob("*.gz"), key=lambda path: path.stat().st_size)[:8]:
        for entry in decoder.decode(gzip.decompress(path.read_bytes()))["entry"]:
            resource = entry["resource"]
            of_type = found.setdefault(resource["resourceType"], [])
            if len(of_type) < SAMPLE_OF_A_TYPE:
                of_type.append(resource)
    return found


def _collected(parameter: SearchParameter, branch: Branch) -> Leaf:
    references = References(None)

    def leaf(value: Any, sink: Counter[str]) -> None:
        if branch.target is None or references.type_of(value) == branch.target:
            sink[f"{parameter.code} {branch.type_name} {value}"] += 1

    return leaf


def _by_fhirpath(parameter: SearchParameter, resource: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for item in fhirpath.compile(parameter.expression or "").items(resource):
        kind, value = (item.type, item.value) if isinstance(item, Node) else ("boolean", item)
        if value is not None:
            found[f"{parameter.code} {kind} {value}"] += 1
    return found


@pytest.mark.skipif(not DATA.exists(), reason="the Synthea bundles are not at hand")
def test_walks_select_what_fhirpath_selects() -> None:
    compared = 0
    for resource_type, resources in _sample().items():
        parameters = indexed_parameters(resource_type)
        walk = _walk(resource_type, parameters, partial(_collected))
        for resource in resources:
            walked: Counter[str] = Counter()
            walk(resource, walked)
            evaluated: Counter[str] = Counter()
            for parameter in parameters:
                evaluated += _by_fhirpath(parameter, resource)
            # a union in FHIRPath drops repetitions, a walk does not
            assert walked.keys() == evaluated.keys(), (resource_type, resource.get("id"))
            compared += len(walked)
    assert compared > 2000
