"""update and conditional update.

https://hl7.org/fhir/R4/http.html#update, https://hl7.org/fhir/R4/http.html#cond-update
"""

from ehr.errors import Malformed
from ehr.store.operations import WriteOperation
from fhir_api.fhir_request import Answer, FhirRequest, if_match_version
from fhir_api.interactions.written import write_one, written_answer
from fhir_api.negotiation import check_content_type


async def update(request: FhirRequest) -> Answer:
    """PUT /fhir/{type}/{id}: 200, or 201 where the id was free and the caller may choose it; 412 by If-Match."""
    request.no_parameters()
    operation = WriteOperation(
        "update",
        request.resource_type,
        request.resource_id,
        body=await _body(request),
        if_match=if_match_version(request.header(b"if-match")),
    )
    return written_answer(request, await write_one(request, operation))


async def conditional_update(request: FhirRequest) -> Answer:
    """PUT /fhir/{type}?criteria: updates the one row that matches, creates where none does, 412 where several do."""
    if not request.pairs:
        raise Malformed("A conditional update needs criteria.")
    operation = WriteOperation(
        "update",
        request.resource_type,
        body=await _body(request),
        if_match=if_match_version(request.header(b"if-match")),
        condition=request.services.store.condition(request.resource_type, request.pairs),
    )
    return written_answer(request, await write_one(request, operation))


async def _body(request: FhirRequest) -> bytes:
    """The body; If-None-Match is refused (SC-21)."""
    if b"if-none-match" in request.headers:
        raise Malformed("If-None-Match is not offered on update; POST with If-None-Exist creates once.")
    check_content_type(request.header(b"content-type"))
    return await request.body()
