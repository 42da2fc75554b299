"""history of one instance, newest first, deletions included.

https://hl7.org/fhir/R4/http.html#history
"""

from dataclasses import dataclass
from datetime import tzinfo

from ehr.errors import BadSearch
from ehr.indexing import date_range
from ehr.store.history import History
from fhir_api.bundle_text import bundle_text, history_entry
from fhir_api.fhir_request import Answer, FhirRequest

PAGE_SIZE = 50
LARGEST_PAGE = 500
LARGEST_VERSION = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Asked:
    count: int = PAGE_SIZE
    since_us: int | None = None
    before_version: int | None = None


def _asked(pairs: list[tuple[str, str]], zone: tzinfo) -> _Asked:
    count, since_us, before = PAGE_SIZE, None, None
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadSearch("A parameter of history is given twice.")
    for name, value in pairs:
        if name in {"_count", "_before"} and not (value.isascii() and value.isdigit() and len(value) < 11):
            raise BadSearch(f"{name} is a whole number.")
        if name == "_count":
            count = max(1, min(int(value), LARGEST_PAGE))
        elif name == "_before":
            before = min(int(value), LARGEST_VERSION)
        elif name == "_since":
            try:
                since_us = date_range(value, zone)[0]
            except (ValueError, OverflowError) as error:
                raise BadSearch("_since is an instant.") from error
        else:
            raise BadSearch(f"The parameter {name!r} is not offered on history.")
    return _Asked(count, since_us, before)


async def history(request: FhirRequest) -> Answer:
    """GET /fhir/{type}/{id}/_history with `_count` and `_since`: a Bundle of type history."""
    asked = _asked(request.pairs, request.services.store.extractor.zone)

    async def act() -> History:
        scope = await request.read_scope("read", (request.resource_type,))
        request.audited = True
        return await request.services.store.history(
            scope,
            request.resource_type,
            request.resource_id,
            request.note(),
            count=asked.count,
            before_version=asked.before_version,
            since_us=asked.since_us,
        )

    found = await request.decided_anew(act)
    base = request.fhir_base.encode()
    address = f"{request.fhir_base}/{request.resource_type}/{request.resource_id}/_history"
    kept = [f"{name}={value.replace('+', '%2B')}" for name, value in request.pairs if name != "_before"]
    links = [("self", _with(address, [*kept, f"_before={asked.before_version}"] if asked.before_version else kept))]
    if found.more:
        links.append(("next", _with(address, [*kept, f"_before={found.versions[-1].version}"])))
    entries = [history_entry(version, base) for version in found.versions]
    return Answer(200, bundle_text("history", entries, links=links, total=found.total))


def _with(address: str, parameters: list[str]) -> str:
    return f"{address}?{'&'.join(parameters)}" if parameters else address
