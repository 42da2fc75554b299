"""Searches in a compartment: the rows of one type, or of all, that belong to one resource.

https://hl7.org/fhir/R4/compartmentdefinition.html, https://hl7.org/fhir/R4/http.html#vsearch
"""

import hashlib

from ehr.definitions.compartments import ITSELF, compartment
from ehr.search.query import Clause, Criterion, Joined, ReferenceValue, TokenValue
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.everything import whole_compartment
from fhir_api.interactions.search import Within, form_pairs, search_pairs

EVERY_TYPE = "*"


async def search_compartment(request: FhirRequest) -> Answer:
    """GET /fhir/Patient/{id}/Observation?...: as a search of the type, among the rows of the compartment alone."""
    if request.version == EVERY_TYPE:
        return await whole_compartment(request)
    return await search_pairs(request, request.pairs, _within(request))


async def search_compartment_by_post(request: FhirRequest) -> Answer:
    """POST /fhir/Patient/{id}/Observation/_search."""
    return await search_pairs(request, await form_pairs(request), _within(request))


def _within(request: FhirRequest) -> Within:
    """The compartment; the request becomes one for the type that is searched."""
    centre, centre_id, resource_type = request.resource_type, request.resource_id, request.version
    request.resource_type, request.resource_id, request.version = resource_type, "", ""
    sides: list[Clause] = [
        Criterion(resource_type, "_id", "token", None, (TokenValue(centre_id, centre_id),))
        if code == ITSELF
        else Criterion(resource_type, code, "reference", None, (ReferenceValue(((centre, centre_id),)),))
        for code in compartment(centre)[resource_type]
    ]
    # a page link of one compartment opens nothing in another
    key = hashlib.blake2b(f"{centre}/{centre_id}".encode(), key=request.services.link_key[:64], digest_size=32)
    return Within(
        f"{centre}/{centre_id}/",
        sides[0] if len(sides) == 1 else Joined(resource_type, "or", tuple(sides)),
        key.digest(),
        (("patient", centre_id),) if centre == "Patient" else (),
    )
