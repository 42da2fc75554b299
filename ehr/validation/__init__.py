"""Checks resources against the base definitions of FHIR R4 4.0.1 (https://hl7.org/fhir/R4/validation.html).

`check` says everything that is wrong with a resource: structure, unknown elements, cardinality, the forms of JSON,
primitive values with real dates, choices, required bindings to finite code sets, the types of reference targets,
narratives, and the invariants of severity error. Best practices (dom-6) and warnings are not reported.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ehr.errors import Issue
from ehr.validation.resources import check_parsed

__all__ = ["check"]


def check(resource: Mapping[str, Any], *, at: datetime | None = None) -> list[Issue]:
    """All problems of a parsed resource, at most 100, each naming its element; empty for a valid resource.

    Args:
        resource: as `ehr.json_text.parse` gives it (numbers with fractions as Decimal).
        at: the moment that rules about now compare with; none of the base definitions has one.
    """
    del at
    return check_parsed(resource)
