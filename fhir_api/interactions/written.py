"""What create, update and delete answer: status, Location, ETag and the body that the client prefers.

https://hl7.org/fhir/R4/http.html#create, https://hl7.org/fhir/R4/http.html#ops
"""

from ehr.errors import Issue
from ehr.store.operations import WriteOperation, WriteOutcome
from fhir_api.exchange import JSON_TYPE
from fhir_api.fhir_request import Answer, FhirRequest, version_headers
from fhir_api.operation_outcome import outcome_bytes

STATUSES = {
    "created": 201,
    "updated": 200,
    "matched": 200,
    "unchanged": 200,
    "superseded": 200,
    "deleted": 204,
    "nothing": 204,
}


async def write_one(request: FhirRequest, operation: WriteOperation) -> WriteOutcome:
    """Decide and write one operation; where policies changed in between, once more."""

    async def act() -> WriteOutcome:
        scope = await request.write_scope()
        request.audited = True
        outcomes = await request.services.store.write(scope, [operation], request.note())
        return outcomes[0]

    outcome = await request.decided_anew(act)
    if outcome.error is not None:
        raise outcome.error
    return outcome


def location_of(request: FhirRequest, outcome: WriteOutcome) -> str:
    """The address of the version written."""
    return f"{request.fhir_base}/{outcome.resource_type}/{outcome.resource_id}/_history/{outcome.version}"


def written_answer(request: FhirRequest, outcome: WriteOutcome) -> Answer:
    """The answer to create and update: the resource, nothing or an OperationOutcome, as preferred."""
    headers = version_headers(outcome.version, outcome.last_updated_us)
    headers.append((b"location", location_of(request, outcome).encode()))
    match request.prefer.answer:
        case "minimal":
            body = b""
            headers.remove(JSON_TYPE)
        case "OperationOutcome":
            body = outcome_bytes((Issue("information", "informational", f"The resource was {outcome.kind}."),))
        case _:
            body = outcome.body or b""
    return Answer(STATUSES[outcome.kind], body, headers)
