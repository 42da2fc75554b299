"""history of one instance, of a type and of the whole system, newest first, deletions included.

https://hl7.org/fhir/R4/http.html#history
"""

from dataclasses import dataclass
from datetime import tzinfo
from urllib.parse import urlencode

from ehr.errors import BadSearch
from ehr.indexing import date_range
from ehr.search.page import Position, seal, unseal
from ehr.store.clock import now_us
from ehr.store.history import History
from ehr.store.type_history import Changes, HistoryQuestion
from fhir_api.bundle_text import bundle_text, history_entry
from fhir_api.fhir_request import Answer, FhirRequest

PAGE_SIZE = 50
LARGEST_PAGE = 500
LARGEST_VERSION = 2**31 - 1
_ORDERS = {"_lastUpdated": True, "-_lastUpdated": False}
"""`_sort` of a history: whether the oldest comes first."""


@dataclass(frozen=True, slots=True)
class _Asked:
    count: int = PAGE_SIZE
    since_us: int | None = None
    at: tuple[int, int] | None = None
    ascending: bool = False
    place: str | None = None
    """`_before` of an instance, `_page` of a type or the system: where the page starts."""


def _asked(request: FhirRequest, place_name: str, *, may_sort: bool) -> _Asked:
    pairs, zone = request.pairs, request.services.store.extractor.zone
    if len({name for name, _ in pairs}) != len(pairs):
        raise BadSearch("A parameter of history is given twice.")
    given = dict(pairs)
    offered = {"_count", "_since", place_name} | ({"_at", "_sort"} if may_sort else set())
    for name in given.keys() - offered:
        raise BadSearch(f"The parameter {name[:64]!r} is not offered on history.")
    if "_sort" in given and given["_sort"] not in _ORDERS:
        raise BadSearch("_sort of a history is _lastUpdated or -_lastUpdated.")
    since = _moment("_since", given["_since"], zone)[0] if "_since" in given else None
    at = _moment("_at", given["_at"], zone) if "_at" in given else None
    count = max(1, min(_whole_number("_count", given.get("_count", str(PAGE_SIZE))), LARGEST_PAGE))
    return _Asked(count, since, at, _ORDERS[given.get("_sort", "-_lastUpdated")], given.get(place_name))


def _whole_number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 11):
        raise BadSearch(f"{name} is a whole number.")
    return int(value)


def _moment(name: str, value: str, zone: tzinfo) -> tuple[int, int]:
    try:
        return date_range(value, zone)
    except (ValueError, OverflowError) as error:
        raise BadSearch(f"{name} is a date or an instant.") from error


async def history(request: FhirRequest) -> Answer:
    """GET /fhir/{type}/{id}/_history with `_count` and `_since`: a Bundle of type history."""
    asked = _asked(request, "_before", may_sort=False)
    before = None if asked.place is None else min(_whole_number("_before", asked.place), LARGEST_VERSION)

    async def act() -> History:
        scope = await request.read_scope("read", (request.resource_type,))
        request.audited = True
        return await request.services.store.history(
            scope,
            request.resource_type,
            request.resource_id,
            request.note(),
            count=asked.count,
            before_version=before,
            since_us=asked.since_us,
        )

    found = await request.decided_anew(act)
    base = request.fhir_base.encode()
    address = f"{request.fhir_base}/{request.resource_type}/{request.resource_id}/_history"
    links = [("self", _address(address, request.pairs))]
    if found.more:
        links.append(("next", _address(address, request.pairs, _before=str(found.versions[-1].version))))
    entries = [history_entry(version, base) for version in found.versions]
    return Answer(200, bundle_text("history", entries, links=links, total=found.total))


async def history_of_type(request: FhirRequest) -> Answer:
    """GET /fhir/{type}/_history with `_count`, `_since`, `_at` and `_sort`."""
    return await _changes(request, request.resource_type)


async def history_of_system(request: FhirRequest) -> Answer:
    """GET /fhir/_history, likewise, over all types."""
    return await _changes(request, None)


async def _changes(request: FhirRequest, resource_type: str | None) -> Answer:
    asked = _asked(request, "_page", may_sort=True)
    binding = "\x1f".join(("history", resource_type or "", _query(request.pairs)))
    moment = now_us()

    async def act() -> tuple[Changes, str]:
        scope = await request.read_scope("search", () if resource_type is None else (resource_type,))
        bound = "\x1f".join((scope.actor, scope.organisation or "", scope.purpose_of_use, binding))
        behind = None
        if asked.place is not None:
            place = unseal(request.services.link_key, bound, asked.place, moment)
            behind = (place.values[0], place.key, place.values[1])
        question = HistoryQuestion(resource_type, asked.count, asked.since_us, asked.at, behind, asked.ascending)
        request.audited = True
        return await request.services.store.changes(scope, question, request.note()), bound

    found, bound = await request.decided_anew(act)
    base = request.fhir_base.encode()
    address = f"{request.fhir_base}{f'/{resource_type}' if resource_type else ''}/_history"
    links = [("self", _address(address, request.pairs))]
    if found.more_behind is not None:
        updated, key, version = found.more_behind
        token = seal(request.services.link_key, bound, Position((updated, version), key, moment, "", large=False))
        links.append(("next", _address(address, request.pairs, _page=token)))
    return Answer(
        200, bundle_text("history", [history_entry(version, base) for version in found.versions], links=links)
    )


def _query(pairs: list[tuple[str, str]]) -> str:
    return urlencode([pair for pair in pairs if pair[0] != "_page"])


def _address(address: str, pairs: list[tuple[str, str]], **place: str) -> str:
    """The address with its parameters; a new place stands for the one that was asked from."""
    kept = [pair for pair in pairs if not place or pair[0] not in {"_before", "_page"}]
    query = urlencode([*kept, *place.items()])
    return f"{address}?{query}" if query else address
