"""search by GET and by POST _search.

https://hl7.org/fhir/R4/http.html#search, https://hl7.org/fhir/R4/search.html
"""

from dataclasses import dataclass, replace
from urllib.parse import quote_plus

import msgspec

from ehr.errors import BadSearch, Issue
from ehr.search import SearchResult, search
from ehr.search.near import distance_m
from ehr.search.query import Clause, SearchQuery
from ehr.store.operations import StoredVersion
from fhir_api.bundle_text import bundle_text, outcome_entry, search_entry
from fhir_api.completeness import statement
from fhir_api.conformance import definition_at
from fhir_api.exchange import parse_pairs
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.negotiation import check_form_type, presentation

PAGE_PARAMETER = "_page"


@dataclass(frozen=True, slots=True)
class Within:
    """Where a search looks: not among all rows of the type."""

    prefix: str
    """Of the address before the type."""
    clause: Clause
    """What the rows meet."""
    link_key: bytes
    names: tuple[tuple[str, str], ...]
    """The Patient whom the address names, as a search would."""


async def search_type(request: FhirRequest) -> Answer:
    """GET /fhir/{type}?...: a page of the rows that match and that the caller may see."""
    return await search_pairs(request, request.pairs)


async def search_by_post(request: FhirRequest) -> Answer:
    """POST /fhir/{type}/_search: the form's parameters together with the address's."""
    return await search_pairs(request, await form_pairs(request))


async def form_pairs(request: FhirRequest) -> list[tuple[str, str]]:
    """The parameters of the address and of a form body; the audit row shows them all."""
    check_form_type(request.header(b"content-type"))
    data = await request.body()
    shown = presentation(parse_pairs(data) if data else [], request.header(b"accept"))
    request.pretty = request.pretty or shown.pretty
    pairs = request.pairs + shown.rest
    request.target += "?" + "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    return pairs


async def search_pairs(request: FhirRequest, pairs: list[tuple[str, str]], within: Within | None = None) -> Answer:
    """Answer a search by these parameters."""
    cursors = [value for name, value in pairs if name == PAGE_PARAMETER]
    if len(cursors) > 1:
        raise BadSearch(f"{PAGE_PARAMETER} is given twice.")
    criteria = [pair for pair in pairs if pair[0] != PAGE_PARAMETER]
    query = request.services.store.parse(request.resource_type, criteria, lenient=request.prefer.lenient)
    link_key, prefix, named = request.services.link_key, "", criteria
    if within is not None:
        query = replace(query, clauses=(within.clause, *query.clauses))
        link_key, prefix, named = within.link_key, within.prefix, [*criteria, *within.names]

    async def act() -> tuple[SearchResult, tuple[Issue, ...]]:
        scope = await request.read_scope("search", (request.resource_type,), named)
        told = () if cursors or query.count_only else await statement(request, scope, named)
        found = await search(
            request.services.store,  # type: ignore[arg-type]  # a property fits where it is only read
            scope,
            query,
            request.note(),
            link_key=link_key,
            cursor=cursors[0] if cursors else None,
        )
        return found, told

    result, told = await request.decided_anew(act)
    if result.total == 0 and (official := _official(request, pairs)) is not None:
        return official
    return search_answer(request, result, prefix, told, query)


def _official(request: FhirRequest, pairs: list[tuple[str, str]]) -> Answer | None:
    """The official definition that a search by `url` alone asks for, where no row has that address."""
    if [name for name, _ in pairs] != ["url"]:
        return None
    found = definition_at(request.resource_type, pairs[0][1])
    if found is None:
        return None
    address = f"{request.fhir_base}/{request.resource_type}"
    link = ("self", f"{address}?url={quote_plus(pairs[0][1])}")
    entry = b'{"fullUrl":"%s/%s","resource":%s,"search":{"mode":"match"}}' % (
        address.encode(),
        found[0].encode(),
        found[1],
    )
    return Answer(200, bundle_text("searchset", [entry], links=[link], total=1))


def _distance_m(query: SearchQuery, version: StoredVersion) -> float | None:
    """How far a match is from where `near` asks; None without it."""
    if version.resource_type != "Location" or version.body is None:
        return None
    return distance_m(query, msgspec.json.decode(version.body))


def search_answer(
    request: FhirRequest, result: SearchResult, prefix: str, told: tuple[Issue, ...], query: SearchQuery
) -> Answer:
    """The searchset Bundle of a result; `prefix` is what stands before the type in the address."""
    base = request.fhir_base.encode()
    address = f"{request.fhir_base}/{prefix}{request.resource_type}"
    own = result.self_query
    links = [("self", f"{address}?{own}" if own else address)]
    if result.next_cursor is not None:
        cursor = f"{PAGE_PARAMETER}={quote_plus(result.next_cursor)}"
        links.append(("next", f"{address}?{own}&{cursor}" if own else f"{address}?{cursor}"))
    entries = [search_entry(version, base, "match", _distance_m(query, version)) for version in result.matches]
    entries += [search_entry(version, base, "include") for version in result.includes]
    if result.issues or told:
        entries.append(outcome_entry((*result.issues, *told)))
    return Answer(200, bundle_text("searchset", entries, links=links, total=result.total, paging=result.paging))
