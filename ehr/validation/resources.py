"""Starts the check of one resource."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ehr.definitions import is_resource_type
from ehr.errors import Issue
from ehr.validation.acceptance import Around
from ehr.validation.checkers import checker_of
from ehr.validation.members import check_resource
from ehr.validation.references import contained_types
from ehr.validation.report import Report, Scope, TooManyIssuesError


def check_parsed(resource: Mapping[str, Any]) -> list[Issue]:
    """All problems of a parsed resource, at most MAXIMUM_ISSUES."""
    resource_type = resource.get("resourceType") if isinstance(resource, dict) else None
    if type(resource_type) is not str or not is_resource_type(resource_type):
        stated = "none is given" if resource_type is None else f"{str(resource_type)[:100]!r} is none"
        problem = f"resourceType must be the name of a resource type of R4; {stated}"
        return [Issue("error", "structure", problem, "Resource.resourceType")]
    if is_accepted(resource_type, resource):
        return []
    return reported(resource_type, resource)


def reported(resource_type: str, resource: Mapping[str, Any]) -> list[Issue]:
    """All problems of a resource that says it is of this type."""
    report = Report()
    with suppress(TooManyIssuesError):
        scope = Scope(report, resource, resource, {}, {})
        check_resource(checker_of(resource_type), resource, (resource_type,), scope)
    return report.issues


def is_accepted(resource_type: str, resource: Mapping[str, Any]) -> bool:
    """Whether a resource surely has no problem; False says nothing."""
    if resource_type == "Bundle":  # its entries are looked at together
        return False
    around = Around(resource, resource, contained_types(resource) if "contained" in resource else {})
    try:
        return checker_of(resource_type).accepts(resource, around) and around.referred == around.contained.keys()
    except (AttributeError, TypeError):  # a test met a value of another JSON type, which the report names
        return False
