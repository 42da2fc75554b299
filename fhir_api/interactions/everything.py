"""$everything of a Patient, of all Patients whom the caller sees, and of an Encounter; all rows of a compartment.

https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html,
https://hl7.org/fhir/R4/http.html#vsearch
"""

from datetime import tzinfo
from typing import Literal, cast
from urllib.parse import urlencode

from ehr.definitions import is_resource_type
from ehr.errors import BadSearch, Issue
from ehr.indexing import date_range
from ehr.search.everything import EverythingPage, EverythingQuestion
from ehr.search.everything import everything as read_everything
from fhir_api.bundle_text import bundle_text, outcome_entry, search_entry
from fhir_api.completeness import statement
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.operation_input import given, texts
from fhir_api.interactions.search import PAGE_PARAMETER

PAGE_SIZE = 1_000
"""Where `_count` is absent: most people's records fit into one page."""
LARGEST_PAGE = 1_000
_ON_ENCOUNTERS = frozenset({"_since", "_type", "_count", PAGE_PARAMETER})
_ON_PATIENTS = _ON_ENCOUNTERS | {"start", "end"}
_IN_COMPARTMENTS = frozenset({"_type", "_count", PAGE_PARAMETER})
Centre = Literal["Patient", "Encounter", "Practitioner", "RelatedPerson", "Device"]


async def everything(request: FhirRequest) -> Answer:
    """GET or POST /fhir/Patient/{id}/$everything, /fhir/Patient/$everything, /fhir/Encounter/{id}/$everything."""
    offered = _ON_PATIENTS if request.resource_type == "Patient" else _ON_ENCOUNTERS
    if request.resource_type == "Patient" and request.resource_id:
        offered |= {"_mdm"}
    return await answer(request, texts(await given(request), offered), "$everything")


async def whole_compartment(request: FhirRequest) -> Answer:
    """GET /fhir/{type}/{id}/*: the rows of all types in a compartment."""
    return await answer(request, texts(list(request.pairs), _IN_COMPARTMENTS), "*")


async def answer(request: FhirRequest, asked: dict[str, str], what: Literal["$everything", "*"]) -> Answer:
    """The searchset of one page."""
    question = _question(request, asked, named=what == "$everything")
    address = "/".join(part for part in (request.fhir_base, request.resource_type, request.resource_id, what) if part)
    kept = {name: value for name, value in asked.items() if name != PAGE_PARAMETER}
    query = urlencode(kept)
    people = request.services.store.parse("Patient", [])

    async def act() -> tuple[EverythingPage, tuple[Issue, ...]]:
        scope = await request.read_scope("search", (request.resource_type,))
        told: tuple[Issue, ...] = ()
        if PAGE_PARAMETER not in asked:
            told = await statement(request, scope, (), whole_person=question.whole_person)
        page = await read_everything(
            request.services.store,  # type: ignore[arg-type]  # a property fits where it is only read
            scope,
            question,
            people,
            request.note(),
            link_key=request.services.link_key,
            asked=f"{address}?{query}",
            cursor=asked.get(PAGE_PARAMETER),
        )
        return page, told

    found, told = await request.decided_anew(act)
    links = [("self", f"{address}?{query}" if query else address)]
    if found.next_cursor is not None:
        links.append(("next", f"{address}?{urlencode(kept | {PAGE_PARAMETER: found.next_cursor})}"))
    base = request.fhir_base.encode()
    entries = [search_entry(version, base, "match") for version in found.matches]
    entries += [search_entry(version, base, "include") for version in found.named]
    if told:
        entries.append(outcome_entry(told))
    return Answer(200, bundle_text("searchset", entries, links=links, total=found.total))


def _question(request: FhirRequest, asked: dict[str, str], *, named: bool) -> EverythingQuestion:
    zone = request.services.store.extractor.zone
    start, end = _moments("start", asked, zone), _moments("end", asked, zone)
    since = _moments("_since", asked, zone)
    if asked.get("_mdm", "false") not in {"true", "false"}:
        raise BadSearch("_mdm is true or false.")
    return EverythingQuestion(
        cast("Centre", request.resource_type),
        request.resource_id or None,
        _count(asked.get("_count")),
        types=_types(asked["_type"]) if "_type" in asked else None,
        since_us=since and since[0],
        start_us=start and start[0],
        end_us=end and end[1],
        whole_person=asked.get("_mdm") == "true",
        named=named,
    )


def _count(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
        raise BadSearch("_count is a whole number of 1 or more.")
    return min(int(text), LARGEST_PAGE)


def _types(text: str) -> frozenset[str]:
    names = frozenset(text.split(","))
    for name in names:
        if not is_resource_type(name):
            raise BadSearch(f"_type: no resource type {name[:64]!r}.")
    return names


def _moments(name: str, asked: dict[str, str], zone: tzinfo) -> tuple[int, int] | None:
    if name not in asked:
        return None
    try:
        return date_range(asked[name], zone)
    except (ValueError, OverflowError) as error:
        raise BadSearch(f"{name} is a date or an instant.") from error
