"""vread: one version of a resource.

https://hl7.org/fhir/R4/http.html#vread
"""

from ehr.errors import NotFound
from ehr.store.operations import StoredVersion
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.read import answer_if_changed

LARGEST_VERSION = 2**31 - 1


async def vread(request: FhirRequest) -> Answer:
    """GET /fhir/{type}/{id}/_history/{version}: 200, or 404 for what is absent or hidden; a deletion is 410."""
    request.no_parameters()
    if not request.version.isdigit() or not 0 < int(request.version[:12]) <= LARGEST_VERSION:
        raise NotFound

    async def act() -> StoredVersion:
        scope = await request.read_scope("read", (request.resource_type,))
        request.audited = True
        return await request.services.store.vread(
            scope, request.resource_type, request.resource_id, int(request.version), request.note()
        )

    return answer_if_changed(request, await request.decided_anew(act))
