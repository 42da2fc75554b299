"""Parameters posted or put as a resource: checked, then refused, since none is stored.

https://hl7.org/fhir/R4/parameters.html ("there is no RESTful end-point associated with it")
"""

from ehr.store.operations import WriteOperation
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.written import write_one, written_answer
from fhir_api.negotiation import check_content_type


async def check_parameters(request: FhirRequest) -> Answer:
    """POST or PUT /fhir/Parameters: 405 that says so; 400 or 422 with every problem of a body that is not valid."""
    check_content_type(request.header(b"content-type"))
    operation = WriteOperation("create", request.resource_type, body=await request.body())
    return written_answer(request, await write_one(request, operation))
