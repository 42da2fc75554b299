"""$validate: whether a resource is valid, meets profiles, and could be written by this caller; nothing is written.

https://hl7.org/fhir/R4/resource-operation-validate.html. The answer is 200 with an OperationOutcome wherever the
question could be answered. What the caller may not write is said in the words of the write itself, which is tried and
undone: a row that is hidden from him is as absent.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ehr import json_text
from ehr.errors import (
    BadSearch,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    Issue,
    Malformed,
    NotAllowed,
    NotFound,
)
from ehr.store.operations import WriteOperation
from ehr.validation import check
from ehr.validation.profiles import NOTHING, Loaded, check_against, profiles_named
from ehr.validation.profiles.stored import load_stored
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.operation_input import given, texts
from fhir_api.operation_outcome import issues_of, outcome_bytes

_OFFERED = frozenset({"mode", "profile"})
_WRITES = frozenset({"create", "update", "delete"})
_REFUSALS = (Conflict, Forbidden, Gone, Invalid, Malformed, NotAllowed, NotFound)


@dataclass(frozen=True, slots=True)
class _Question:
    mode: str
    profiles: tuple[str, ...]
    resource: dict[str, Any] | None


async def validate(request: FhirRequest) -> Answer:
    """GET or POST /fhir/{type}/$validate and /fhir/{type}/{id}/$validate with `resource`, `mode` and `profile`."""
    question = await _question(request)

    async def act() -> list[Issue]:
        return await _answered(request, question)

    return Answer(200, outcome_bytes(await request.decided_anew(act)))


async def _question(request: FhirRequest) -> _Question:
    values = await given(request)
    resources = [value for name, value in values if name == "resource"]
    asked = texts([pair for pair in values if pair[0] != "resource"], _OFFERED)
    mode = asked.get("mode", "")
    if mode not in _WRITES | {"", "profile"}:
        raise BadSearch("mode is create, update, delete or profile.")
    if len(resources) > 1 or not all(isinstance(each, dict) for each in resources):
        raise Malformed("$validate takes one resource.")
    resource = resources[0] if resources else None
    if resource is None and not request.resource_id:
        raise Malformed("$validate of a type needs a resource.")
    if mode == "delete" and not request.resource_id:
        raise Malformed("The mode delete is about a resource that has an address.")
    if mode == "create" and request.resource_id:
        raise Malformed("The mode create is about a resource that has no address yet.")
    if mode == "update" and resource is None:
        raise Malformed("The mode update needs the resource that is to be written.")
    return _Question(mode, tuple([asked["profile"]] if "profile" in asked else ()), resource)


async def _answered(request: FhirRequest, question: _Question) -> list[Issue]:
    """All that is wrong; the audit row is durable when this returns."""
    if question.mode == "delete":
        issues, holders = await _rehearsed(
            request, WriteOperation("delete", request.resource_type, request.resource_id)
        )
        await _record(request, holders)
        return issues
    resource = question.resource if question.resource is not None else await _stored(request)
    issues = await _problems(request, resource, question.profiles)
    holders = set()
    if question.mode in _WRITES:
        refused, holders = await _rehearsed(request, _operation(request, question.mode, resource))
        issues += [issue for issue in refused if issue not in issues]
    if question.resource is not None:
        await _record(request, holders)
    return issues


async def _record(request: FhirRequest, holders: set[int]) -> None:
    request.audited = True
    await request.services.store.record(request.note(), holders=holders)


async def _stored(request: FhirRequest) -> dict[str, Any]:
    """The current version at the address, which writes its own audit row."""
    scope = await request.read_scope("read", (request.resource_type,))
    request.audited = True
    version = await request.services.store.read(scope, request.resource_type, request.resource_id, request.note())
    return json_text.parse_stored(version.body or b"{}")


async def _problems(request: FhirRequest, resource: dict[str, Any], profiles: Sequence[str]) -> list[Issue]:
    """What the base definitions and the profiles say."""
    if resource.get("resourceType") != request.resource_type:
        return [Issue("error", "invalid", f"The body is not a {request.resource_type}.", "resourceType")]
    asked = [*profiles, *profiles_named(resource)]
    loaded = await _profiles(request, asked)

    def checked() -> list[Issue]:
        issues = check(resource)
        known = {(issue.code, issue.expression) for issue in issues}
        found = check_against(resource, profiles, loaded)
        return issues + [issue for issue in found if (issue.code, issue.expression) not in known]

    return await asyncio.to_thread(checked)


async def _profiles(request: FhirRequest, asked: Sequence[str]) -> Loaded:
    """The profiles that are stored and that the caller may read; none where he may read no profiles."""
    try:
        scope = await request.read_scope("search", ("StructureDefinition",)) if asked else None
    except Forbidden:
        scope = None
    if scope is None:
        return NOTHING
    return await load_stored(request.services.store, scope, asked)


def _operation(request: FhirRequest, mode: str, resource: dict[str, Any]) -> WriteOperation:
    method = cast("Literal['create', 'update']", mode)
    resource_id = request.resource_id or (resource.get("id") if mode == "update" else None)
    named = resource_id if isinstance(resource_id, str) else None
    body = json_text.encode(resource)
    return WriteOperation(method, request.resource_type, named, body=body, resource=resource)


async def _rehearsed(request: FhirRequest, operation: WriteOperation) -> tuple[list[Issue], set[int]]:
    """What the write would answer, and whom it would be about."""
    if operation.method == "update" and operation.resource_id is None:
        return [Issue("error", "required", "A resource that is to be updated has an id.", "Resource.id")], set()
    try:
        scope = await request.write_scope()
        return [], await request.services.store.rehearse(scope, operation, request.note())
    except _REFUSALS as error:
        return list(issues_of(error)), set()
