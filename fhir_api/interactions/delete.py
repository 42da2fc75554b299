"""delete and conditional delete (of one row).

https://hl7.org/fhir/R4/http.html#delete, https://hl7.org/fhir/R4/http.html#cdelete
"""

from ehr.errors import Issue, Malformed
from ehr.store.operations import WriteOperation, WriteOutcome
from fhir_api.fhir_request import Answer, FhirRequest, entity_tag, if_match_version
from fhir_api.interactions.written import write_one
from fhir_api.operation_outcome import outcome_bytes


async def delete(request: FhirRequest) -> Answer:
    """DELETE /fhir/{type}/{id}: 204, again too; 412 by If-Match."""
    request.no_parameters()
    operation = WriteOperation(
        "delete",
        request.resource_type,
        request.resource_id,
        if_match=if_match_version(request.header(b"if-match")),
    )
    return _answer(request, await write_one(request, operation))


async def conditional_delete(request: FhirRequest) -> Answer:
    """DELETE /fhir/{type}?criteria: 204 where one row matches or none does (SC-20), 412 where several do."""
    if not request.pairs:
        raise Malformed("A conditional delete needs criteria.")
    operation = WriteOperation(
        "delete",
        request.resource_type,
        if_match=if_match_version(request.header(b"if-match")),
        condition=request.services.store.condition(request.resource_type, request.pairs),
    )
    return _answer(request, await write_one(request, operation))


def _answer(request: FhirRequest, outcome: WriteOutcome) -> Answer:
    if request.prefer.answer == "OperationOutcome":
        answer = Answer(200, outcome_bytes((Issue("information", "informational", "The resource is deleted."),)))
    else:
        answer = Answer(204, b"", [])
    if outcome.kind == "deleted":
        answer.headers.append((b"etag", entity_tag(outcome.version)))
    return answer
