"""patch and conditional patch: JSON Patch, and FHIRPath Patch as Parameters.

https://hl7.org/fhir/R4/http.html#patch, https://hl7.org/fhir/R4/fhirpatch.html
Patching shows what is there (a `test` answers, the answer carries the result), so the caller must be let read it too.
"""

from base64 import b64decode
from dataclasses import replace
from typing import Any, Protocol

from ehr import json_text
from ehr.bundle_entries import BundleEntry
from ehr.errors import Conflict, Invalid, Issue, Malformed, MultipleMatches, NotFound, PreconditionFailed
from ehr.patch import FhirPathPatch, JsonPatch
from ehr.search import SearchQuery
from ehr.store.operations import ANY_VERSION, StoredVersion, WriteOperation, WriteOutcome
from fhir_api.fhir_request import Answer, FhirRequest, if_match_version
from fhir_api.interactions.written import write_one, written_answer
from fhir_api.negotiation import check_content_type, media_type
from fhir_api.operation_outcome import UnsupportedMediaType

JSON_PATCH_TYPE = "application/json-patch+json"
_TAKEN = (b"accept-patch", b"application/json-patch+json, application/fhir+json")
_ATTEMPTS = 8


async def patch(request: FhirRequest) -> Answer:
    """PATCH /fhir/{type}/{id}: 200; 412 by If-Match, 422 where the patch does not fit."""
    request.no_parameters()
    return written_answer(request, await write_changed(request, await _instructions(request)))


async def conditional_patch(request: FhirRequest) -> Answer:
    """PATCH /fhir/{type}?criteria: patches the one row that matches, 404 where none does, 412 where several do."""
    if not request.pairs:
        raise Malformed("A conditional patch needs criteria.")
    instructions = await _instructions(request)
    query = request.services.store.condition(request.resource_type, request.pairs)
    request.resource_id = await _matched(request, query)
    return written_answer(request, await write_changed(request, instructions))


async def patch_as_update(request: FhirRequest, entry: BundleEntry) -> BundleEntry:
    """A PATCH entry of a Bundle as the PUT of its result over the version that it was made from."""
    instructions = instructions_of_entry(entry)
    request.resource_id = entry.resource_id or await _matched(request, entry.condition)
    wanted = None if entry.if_match == ANY_VERSION else entry.if_match
    version, body = await _result(request, instructions, wanted)
    return replace(
        entry, method="PUT", resource=body, resource_id=request.resource_id, condition=None, if_match=version
    )


def instructions_of_entry(entry: BundleEntry) -> JsonPatch | FhirPathPatch:
    """The patch that an entry holds: Parameters, or a Binary with either form (R4 http.html#transaction)."""
    resource = json_text.parse(entry.resource or b"{}")
    if resource.get("resourceType") != "Binary":
        return FhirPathPatch(resource)
    kind, data = resource.get("contentType"), resource.get("data")
    if not isinstance(kind, str) or not isinstance(data, str):
        raise Invalid(Issue("error", "required", "A patch in a Binary needs contentType and data.", "Binary"))
    try:
        given = b64decode("".join(data.split()), validate=True)
    except ValueError as error:
        raise Invalid(Issue("error", "value", "The data are no base64.", "Binary.data")) from error
    return read_instructions(kind, given)


async def _matched(request: FhirRequest, query: SearchQuery | None) -> str:
    """The id of the one row that the criteria match; NotFound, MultipleMatches."""

    async def act() -> list[str]:
        scope = await request.write_scope()
        (found,) = await request.services.store.match(scope, [query] if query is not None else [])
        return found

    found = await request.decided_anew(act)
    if len(found) > 1:
        raise MultipleMatches(f"The criteria match more than one {request.resource_type}.")
    if not found:
        raise NotFound
    return found[0]


def read_instructions(content_type: str | None, data: bytes) -> JsonPatch | FhirPathPatch:
    """Read a patch by its content type; UnsupportedMediaType for merge patch and all else."""
    kind = media_type(content_type)
    if kind == JSON_PATCH_TYPE:
        return JsonPatch(json_text.parse_value(data))
    check_patch_type(content_type)
    return FhirPathPatch(json_text.parse(data))


def check_patch_type(content_type: str | None) -> None:
    """Pass for the forms of a patch that are taken."""
    kind = media_type(content_type)
    if kind == JSON_PATCH_TYPE:
        return
    if kind is not None and kind.endswith("merge-patch+json"):
        text = "JSON merge patch cannot say what FHIR needs; use JSON Patch or FHIRPath Patch."
        raise UnsupportedMediaType(text, taken=_TAKEN)
    check_content_type(content_type, _TAKEN)


async def _instructions(request: FhirRequest) -> JsonPatch | FhirPathPatch:
    given = request.header(b"content-type")
    check_patch_type(given)
    return read_instructions(given, await request.body())


class Change(Protocol):
    """What makes another version of a resource."""

    def apply(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The resource as changed."""


async def write_changed(request: FhirRequest, change: Change) -> WriteOutcome:
    """Apply a change to the current version and write the result over just that version, else over the next one."""
    wanted = if_match_version(request.header(b"if-match"))
    if wanted == ANY_VERSION:  # what is patched is there
        wanted = None
    for _ in range(_ATTEMPTS):
        version, body = await _result(request, change, wanted)
        operation = WriteOperation("update", request.resource_type, request.resource_id, body=body, if_match=version)
        try:
            return await write_one(request, operation)
        except PreconditionFailed:
            if wanted is not None:
                raise
    raise Conflict("Others change this resource too often now; try again.")


async def _result(request: FhirRequest, change: Change, wanted: int | None) -> tuple[int, bytes]:
    """The number of the current version, and what the patch makes of it."""
    version = await current_version(request)
    request.audited = False  # that was the look; what comes of the patch has a row of its own
    if wanted is not None and wanted != version.version:
        raise PreconditionFailed("If-Match names another version than the current one.")
    patched = change.apply(json_text.parse(version.body or b"{}"))
    if patched.get("id") != request.resource_id:
        raise Invalid(Issue("error", "invalid", "A patch does not change the id.", "Resource.id"))
    return version.version, json_text.encode(patched)


async def current_version(request: FhirRequest) -> StoredVersion:
    """The version in place, read and audited as one that the caller asks for."""

    async def act() -> StoredVersion:
        scope = await request.read_scope("read", (request.resource_type,))
        request.audited = True
        return await request.services.store.read(scope, request.resource_type, request.resource_id, request.note())

    return await request.decided_anew(act)
