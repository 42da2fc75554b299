"""create and conditional create.

https://hl7.org/fhir/R4/http.html#create, https://hl7.org/fhir/R4/http.html#ccreate
"""

from ehr.errors import Malformed
from ehr.store.operations import WriteOperation
from fhir_api.exchange import parse_pairs
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.written import write_one, written_answer
from fhir_api.negotiation import check_content_type


async def create(request: FhirRequest) -> Answer:
    """POST /fhir/{type}: 201 with Location, or with If-None-Exist 200 where one row matches, 412 where several do."""
    request.no_parameters()
    check_content_type(request.header(b"content-type"))
    criteria = request.header(b"if-none-exist")
    condition = None
    if criteria is not None:
        pairs = parse_pairs(criteria.removeprefix("?").encode("latin-1"))
        if not pairs:
            raise Malformed("If-None-Exist holds no criteria.")
        condition = request.services.store.condition(request.resource_type, pairs)
    operation = WriteOperation("create", request.resource_type, body=await request.body(), condition=condition)
    return written_answer(request, await write_one(request, operation))
