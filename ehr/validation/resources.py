"""Starts the check of one resource."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ehr.definitions import is_resource_type
from ehr.errors import Issue
from ehr.validation.checkers import checker_of
from ehr.validation.members import check_resource
from ehr.validation.report import Report, Scope, TooManyIssuesError


def check_parsed(resource: Mapping[str, Any]) -> list[Issue]:
    """All problems of a parsed resource, at most MAXIMUM_ISSUES."""
    resource_type = resource.get("resourceType") if isinstance(resource, dict) else None
    if type(resource_type) is not str or not is_resource_type(resource_type):
        stated = "none is given" if resource_type is None else f"{str(resource_type)[:100]!r} is none"
        problem = f"resourceType must be the name of a resource type of R4; {stated}"
        return [Issue("error", "structure", problem, "Resource.resourceType")]
    report = Report()
    with suppress(TooManyIssuesError):
        check_resource(checker_of(resource_type), resource, (resource_type,), Scope(report, resource, resource, {}, {}))
    return report.issues
