"""AuditEvent read and search: who looked, shown to the resident concerned and to the auditor, to nobody else.

https://hl7.org/fhir/R4/auditevent.html, https://profiles.ihe.net/ITI/BALP/
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from urllib.parse import quote_plus, urlencode

import msgspec

from consent.caller import roles_of
from ehr.access.state import person_of
from ehr.errors import BadSearch, Expired, Forbidden, NotFound
from ehr.indexing import date_range
from ehr.keys import row_key
from ehr.store.audit import SUCCESS, AuditQuestion, AuditRecord, events
from ehr.store.database import database_errors
from fhir_api.balp import audit_event, event_id, position_of
from fhir_api.bundle_text import bundle_text
from fhir_api.exchange import parse_pairs
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.negotiation import check_form_type, presentation

PAGE_SIZE = 50
LARGEST_PAGE = 500
PARAMETERS = {"patient": "reference", "date": "date", "action": "token", "outcome": "token", "_id": "token"}
_ACTIONS = frozenset("CRUDE")
_OUTCOMES = frozenset({"0", "4", "8", "12"})
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class _Viewer:
    """Who looks at the log: the auditor (everything), or a resident (what touched their own rows)."""

    patient_id: str | None
    """None = the auditor."""

    @property
    def person(self) -> int | None:
        return None if self.patient_id is None else row_key("Patient", self.patient_id)


@dataclass(slots=True)
class _Asked:
    question: AuditQuestion
    patient_id: str | None
    event: str | None
    zone: tzinfo


async def _viewer(request: FhirRequest) -> _Viewer:
    """The caller as a viewer of the log; Forbidden for everybody else, whatever the scopes say."""
    await request.read_scope("read" if request.resource_id else "search", ("AuditEvent",))
    names = {role.name for role in roles_of(request.caller)}
    if "auditor" in names:
        return _Viewer(None)
    if "resident" in names and request.caller.patient is not None:
        return _Viewer(request.caller.patient)
    raise Forbidden("The log is shown to the resident concerned and to the auditor.")


async def _records(request: FhirRequest, question: AuditQuestion) -> list[AuditRecord]:
    with database_errors():
        async with request.services.store.search_pool.acquire() as connection:
            return await events(connection, question)


async def _same_person(request: FhirRequest, patient_id: str, own_id: str) -> bool:
    """Whether a Patient is the resident's own, be it as another hospital sent it."""
    if patient_id == own_id:
        return True
    with database_errors():
        found = await person_of(request.services.store.pool, own_id)
    return found is not None and row_key("Patient", patient_id) in found[1]


def _events(records: list[AuditRecord], viewer: _Viewer, only: str | None) -> list[tuple[str, bytes]]:
    found = []
    for record in records:
        if viewer.patient_id is not None:
            people: tuple[str | None, ...] = (viewer.patient_id,)
        else:
            people = tuple(p for p in record.patients if only in {None, p}) or ((None,) if only is None else (only,))
        for patient_id in people:
            event = audit_event(record, patient_id, whole=viewer.patient_id is None)
            found.append((event_id(record, patient_id), _encode(event)))
    return found


async def read_event(request: FhirRequest) -> Answer:
    """GET /fhir/AuditEvent/{id}."""
    request.no_parameters()
    viewer = await _viewer(request)
    position = position_of(request.resource_id)
    if position is None:
        raise NotFound
    transaction, sequence = position
    question = AuditQuestion(person=viewer.person, before=(transaction, sequence + 1), limit=1)
    records = await _records(request, question)
    for identifier, body in _events([r for r in records if r.position == position], viewer, None):
        if identifier == request.resource_id:
            await _looked(request, viewer)
            return Answer(200, body)
    raise NotFound


async def search_events(request: FhirRequest) -> Answer:
    """GET /fhir/AuditEvent?patient=...&date=...&action=...&outcome=...: newest first."""
    return await _search(request, request.pairs)


async def search_events_by_post(request: FhirRequest) -> Answer:
    """POST /fhir/AuditEvent/_search."""
    check_form_type(request.header(b"content-type"))
    data = await request.body()
    shown = presentation(parse_pairs(data) if data else [], request.header(b"accept"))
    request.pretty = request.pretty or shown.pretty
    pairs = request.pairs + shown.rest
    request.target += "?" + urlencode(pairs)
    return await _search(request, pairs)


async def _search(request: FhirRequest, pairs: list[tuple[str, str]]) -> Answer:
    viewer = await _viewer(request)
    asked = _read(pairs, request.services.store.extractor.zone)
    question = replace(asked.question, limit=asked.question.limit + 1)
    patient_id = asked.patient_id
    if viewer.patient_id is not None:
        if patient_id is not None and not await _same_person(request, patient_id, viewer.patient_id):
            question = replace(question, limit=0)
        patient_id = viewer.patient_id
    if patient_id is not None:
        question = replace(question, person=row_key("Patient", patient_id))
    records = await _records(request, question) if question.limit else []
    shown = records[: asked.question.limit]
    address = f"{request.fhir_base}/AuditEvent"
    kept = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs if name != "_page")
    links = [("self", f"{address}?{kept}" if kept else address)]
    if len(records) > len(shown):
        page = "-".join(map(str, shown[-1].position))
        links.append(("next", f"{address}?{kept}&_page={page}" if kept else f"{address}?_page={page}"))
    entries = [
        b'{"fullUrl":%s,"resource":%s,"search":{"mode":"match"}}' % (_encode(f"{address}/{identifier}"), body)
        for identifier, body in _events(shown, viewer, patient_id)
        if asked.event in {None, identifier}
    ]
    await _looked(request, viewer)
    return Answer(200, bundle_text("searchset", entries, links=links))


async def _looked(request: FhirRequest, viewer: _Viewer) -> None:
    """Looking at the log is in the log."""
    holders = () if viewer.person is None else (viewer.person,)
    await request.services.store.record(request.note(), SUCCESS, holders)


def _read(pairs: list[tuple[str, str]], zone: tzinfo) -> _Asked:
    asked = _Asked(AuditQuestion(limit=PAGE_SIZE), None, None, zone)
    for name, value in pairs:
        reader = _READERS.get(name)
        if reader is None:
            raise BadSearch(f"The parameter {name[:64]!r} is not offered on AuditEvent.")
        reader(asked, value)
    return asked


def _read_patient(asked: _Asked, value: str) -> None:
    patient_id = value.removeprefix("Patient/")
    if asked.patient_id not in {None, patient_id}:
        raise BadSearch("patient: one Patient at a time.")
    asked.patient_id = patient_id


def _read_action(asked: _Asked, value: str) -> None:
    if value not in _ACTIONS:
        raise BadSearch("action: one of C, R, U, D, E.")
    asked.question = replace(asked.question, action=value)


def _read_outcome(asked: _Asked, value: str) -> None:
    if value not in _OUTCOMES:
        raise BadSearch("outcome: one of 0, 4, 8, 12.")
    asked.question = replace(asked.question, outcome=int(value))


def _read_count(asked: _Asked, value: str) -> None:
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise BadSearch("_count: a whole number.")
    asked.question = replace(asked.question, limit=max(1, min(int(value), LARGEST_PAGE)))


def _read_page(asked: _Asked, value: str) -> None:
    before = position_of(value)
    if before is None:
        raise Expired("The page link does not hold.")
    asked.question = replace(asked.question, before=before)


def _read_id(asked: _Asked, value: str) -> None:
    position = position_of(value)
    before = (0, 0) if position is None else (position[0], position[1] + 1)
    asked.question = replace(asked.question, before=before, limit=1)
    asked.event = value


def _read_date(asked: _Asked, value: str) -> None:
    prefix = value[:2] if value[:2] in {"ge", "gt", "le", "lt", "eq"} else "eq"
    try:
        low, high = date_range(value.removeprefix(prefix) if value[:1].isalpha() else value, asked.zone)
    except (ValueError, OverflowError) as error:
        raise BadSearch("date: not a date.") from error
    since, until = asked.question.since_us, asked.question.until_us
    if prefix in {"ge", "gt", "eq"}:
        since = max(high if prefix == "gt" else low, low if since is None else since)
    if prefix in {"le", "lt", "eq"}:
        until = min(low if prefix == "lt" else high, high if until is None else until)
    asked.question = replace(asked.question, since_us=since, until_us=until)


_READERS: dict[str, Callable[[_Asked, str], None]] = {
    "patient": _read_patient,
    "date": _read_date,
    "action": _read_action,
    "outcome": _read_outcome,
    "_count": _read_count,
    "_id": _read_id,
    "_page": _read_page,
}
