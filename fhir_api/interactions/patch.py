"""patch and conditional patch: JSON Patch, and FHIRPath Patch as Parameters.

https://hl7.org/fhir/R4/http.html#patch, https://hl7.org/fhir/R4/fhirpatch.html
Patching shows what is there (a `test` answers, the answer carries the result), so the caller must be let read it too.
"""

from ehr import json_text
from ehr.errors import Conflict, Invalid, Issue, Malformed, MultipleMatches, NotFound, PreconditionFailed
from ehr.patch import FhirPathPatch, JsonPatch
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
    return written_answer(request, await _patched(request, await _instructions(request)))


async def conditional_patch(request: FhirRequest) -> Answer:
    """PATCH /fhir/{type}?criteria: patches the one row that matches, 404 where none does, 412 where several do."""
    if not request.pairs:
        raise Malformed("A conditional patch needs criteria.")
    instructions = await _instructions(request)
    query = request.services.store.condition(request.resource_type, request.pairs)

    async def act() -> list[str]:
        (found,) = await request.services.store.match(await request.write_scope(), [query])
        return found

    found = await request.decided_anew(act)
    if len(found) > 1:
        raise MultipleMatches(f"The criteria match more than one {request.resource_type}.")
    if not found:
        raise NotFound
    request.resource_id = found[0]
    return written_answer(request, await _patched(request, instructions))


async def _instructions(request: FhirRequest) -> JsonPatch | FhirPathPatch:
    given = request.header(b"content-type")
    kind = media_type(given)
    if kind == JSON_PATCH_TYPE:
        return JsonPatch(json_text.parse_value(await request.body()))
    if kind is not None and kind.endswith("merge-patch+json"):
        text = "JSON merge patch cannot say what FHIR needs; use JSON Patch or FHIRPath Patch."
        raise UnsupportedMediaType(text, _TAKEN)
    check_content_type(given, _TAKEN)
    return FhirPathPatch(json_text.parse(await request.body()))


async def _patched(request: FhirRequest, instructions: JsonPatch | FhirPathPatch) -> WriteOutcome:
    """Apply the patch to the current version and write the result over just that version, else over the next one."""
    wanted = if_match_version(request.header(b"if-match"))
    if wanted == ANY_VERSION:  # what is patched is there
        wanted = None
    for _ in range(_ATTEMPTS):
        version = await _current(request)
        request.audited = False  # that was the look; what comes of the patch has a row of its own
        if wanted is not None and wanted != version.version:
            raise PreconditionFailed("If-Match names another version than the current one.")
        patched = instructions.apply(json_text.parse(version.body or b"{}"))
        if patched.get("id") != request.resource_id:
            raise Invalid(Issue("error", "invalid", "A patch does not change the id.", "Resource.id"))
        operation = WriteOperation(
            "update",
            request.resource_type,
            request.resource_id,
            body=json_text.encode(patched),
            if_match=version.version,
        )
        try:
            return await write_one(request, operation)
        except PreconditionFailed:
            if wanted is not None:
                raise
    raise Conflict("Others change this resource too often now; try again.")


async def _current(request: FhirRequest) -> StoredVersion:
    async def act() -> StoredVersion:
        scope = await request.read_scope("read", (request.resource_type,))
        request.audited = True
        return await request.services.store.read(scope, request.resource_type, request.resource_id, request.note())

    return await request.decided_anew(act)
