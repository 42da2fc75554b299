"""read and conditional read: the current version of one resource.

https://hl7.org/fhir/R4/http.html#read, https://hl7.org/fhir/R4/http.html#cread
"""

from ehr.errors import BadSearch, NotFound
from ehr.search import SearchQuery, parse
from ehr.search.subset import cut
from ehr.store.audit import SUCCESS
from ehr.store.operations import StoredVersion
from fhir_api.conformance import definition
from fhir_api.exchange import seconds_of_http_date
from fhir_api.fhir_request import Answer, FhirRequest, names_version, version_answer, version_headers


async def read(request: FhirRequest) -> Answer:
    """GET /fhir/{type}/{id}: 200 with the stored bytes, 304 where the client's copy is current."""
    shape = _shape(request) if request.pairs else None

    async def act() -> StoredVersion:
        scope = await request.read_scope("read", (request.resource_type,))
        request.audited = True
        return await request.services.store.read(scope, request.resource_type, request.resource_id, request.note())

    try:
        answer = answer_if_changed(request, await request.decided_anew(act))
    except NotFound:
        answer = await _official(request)
    if shape is not None and answer.status == 200:
        answer.body = cut(answer.body, request.resource_type, shape.summary, shape.elements)
    return answer


async def _official(request: FhirRequest) -> Answer:
    """The official definition at an address where no row lies; NotFound elsewhere."""
    body = definition(request.resource_type, request.resource_id)
    if body is None:
        raise NotFound
    await request.services.store.record(request.note(), SUCCESS)
    return Answer(200, body)


def _shape(request: FhirRequest) -> SearchQuery:
    """`_summary` and `_elements`, the only parameters of a read (SC-23; R4 search 3.1.1.5.8 and 3.1.1.5.9)."""
    for name, value in request.pairs:
        if name not in {"_summary", "_elements"} or value == "count":
            raise BadSearch(f"The parameter {name[:64]!r} is not offered on read with this value.")
    return parse(request.resource_type, request.pairs)


def answer_if_changed(request: FhirRequest, version: StoredVersion) -> Answer:
    """304 where If-None-Match names the version, or else where If-Modified-Since is not before it (RFC 9110 13.2)."""
    none_match = request.headers.get(b"if-none-match")
    since = request.headers.get(b"if-modified-since")
    if none_match is not None:
        unchanged = names_version(none_match.decode("latin-1"), version.version)
    elif since is not None:
        moment = seconds_of_http_date(since.decode("latin-1"))
        unchanged = moment is not None and version.last_updated_us // 1_000_000 <= moment
    else:
        unchanged = False
    if unchanged:
        return Answer(304, b"", version_headers(version.version, version.last_updated_us)[1:])
    return version_answer(version)
