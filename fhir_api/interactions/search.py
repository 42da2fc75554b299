"""search by GET and by POST _search.

https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from urllib.parse import quote_plus

from ehr.errors import BadSearch
from ehr.search import SearchResult, search
from fhir_api.bundle_text import bundle_text, outcome_entry, search_entry
from fhir_api.exchange import parse_pairs
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.negotiation import check_form_type, presentation

PAGE_PARAMETER = "_page"


async def search_type(request: FhirRequest) -> Answer:
    """GET /fhir/{type}?...: a page of the rows that match and that the caller may see."""
    return await _search(request, request.pairs)


async def search_by_post(request: FhirRequest) -> Answer:
    """POST /fhir/{type}/_search: the form's parameters together with the address's."""
    check_form_type(request.header(b"content-type"))
    data = await request.body()
    shown = presentation(parse_pairs(data) if data else [], request.header(b"accept"))
    request.pretty = request.pretty or shown.pretty
    pairs = request.pairs + shown.rest
    request.target += "?" + "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    return await _search(request, pairs)


async def _search(request: FhirRequest, pairs: list[tuple[str, str]]) -> Answer:
    cursors = [value for name, value in pairs if name == PAGE_PARAMETER]
    if len(cursors) > 1:
        raise BadSearch(f"{PAGE_PARAMETER} is given twice.")
    criteria = [pair for pair in pairs if pair[0] != PAGE_PARAMETER]
    query = request.services.store.parse(request.resource_type, criteria, lenient=request.prefer.lenient)

    async def act() -> SearchResult:
        scope = await request.read_scope("search", (request.resource_type,), criteria)
        return await search(
            request.services.store,  # type: ignore[arg-type]  # a property fits where it is only read
            scope,
            query,
            request.note(),
            link_key=request.services.link_key,
            cursor=cursors[0] if cursors else None,
        )

    return search_answer(request, await request.decided_anew(act))


def search_answer(request: FhirRequest, result: SearchResult) -> Answer:
    """The searchset Bundle of a result."""
    base = request.fhir_base.encode()
    address = f"{request.fhir_base}/{request.resource_type}"
    own = result.self_query
    links = [("self", f"{address}?{own}" if own else address)]
    if result.next_cursor is not None:
        cursor = f"{PAGE_PARAMETER}={quote_plus(result.next_cursor)}"
        links.append(("next", f"{address}?{own}&{cursor}" if own else f"{address}?{cursor}"))
    entries = [search_entry(version, base, "match") for version in result.matches]
    entries += [search_entry(version, base, "include") for version in result.includes]
    if result.issues:
        entries.append(outcome_entry(result.issues))
    return Answer(200, bundle_text("searchset", entries, links=links, total=result.total))
