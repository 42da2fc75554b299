"""batch and transaction: POST /fhir with a Bundle.

https://hl7.org/fhir/R4/http.html#transaction
Writes go through `ehr.transaction`; GET entries run the same interactions as HTTP requests do.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from ehr import transaction
from ehr.audit_note import AuditNote
from ehr.errors import KanglianError, Malformed
from ehr.scopes import WriteScope
from ehr.search import SearchQuery
from ehr.store import PatientMerge, Settlement, WriteOperation, WriteOutcome
from ehr.store.audit import REFUSED
from ehr.transaction import EntryResult
from fhir_api.bundle_text import bundle_text
from fhir_api.exchange import decode_segment, instant_text, parse_pairs
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.written import STATUSES, location_of
from fhir_api.negotiation import check_content_type, presentation
from fhir_api.operation_outcome import issues_of, outcome_bytes, status_of
from fhir_api.routing import route

_text = msgspec.json.Encoder().encode


class _Head(msgspec.Struct):
    """What must be known of the Bundle before it is run."""

    type: str = ""
    resourceType: str = ""  # noqa: N815 - FHIR's name


_head = msgspec.json.Decoder(_Head)


async def bundle(request: FhirRequest) -> Answer:
    """POST /fhir: 200 with a batch-response or transaction-response; a failed transaction gives its error's status."""
    request.no_parameters()
    check_content_type(request.header(b"content-type"))
    data = await request.body()
    kind = _kind(data)
    request.interaction, request.action = kind, "E"

    async def fetch(method: str, url: str) -> Answer:
        return await _fetched(request, method, url)

    async def act() -> Sequence[EntryResult]:
        scope = await request.write_scope()
        request.audited = True
        try:
            store = _DecidedByEntry(request) if kind == "batch" else request.services.store
            return await transaction.run(store, scope, data, request.note(), fetch=fetch, base_url=request.fhir_base)
        except Malformed:
            request.audited = False  # the store has not seen it
            raise

    results = await request.decided_anew(act)
    answer_kind: Literal["batch-response", "transaction-response"] = (
        "batch-response" if kind == "batch" else "transaction-response"
    )
    return Answer(200, bundle_text(answer_kind, [_entry(request, result) for result in results]))


class _DecidedByEntry:
    """The record as a batch writes to it: where policies change in between, the entry is decided anew alone (SC-24).

    Entries before it may be durable already, so the batch as a whole is never repeated.
    """

    def __init__(self, request: FhirRequest) -> None:
        self._request = request
        self._store = request.services.store

    def parse(
        self, resource_type: str, pairs: Sequence[tuple[str, str]], *, now: datetime | None = None
    ) -> SearchQuery:
        return self._store.parse(resource_type, pairs, now=now)

    async def match(self, scope: WriteScope, queries: Sequence[SearchQuery]) -> list[list[str]]:
        return await self._store.match(scope, queries)

    async def record(self, note: AuditNote, outcome: int = 0, holders: Sequence[int] = ()) -> None:
        await self._store.record(note, outcome, holders)

    async def write(
        self,
        scope: WriteScope,
        operations: Sequence[WriteOperation],
        note: AuditNote,
        *,
        atomic: bool = True,
        settlements: Sequence[Settlement] = (),
        merges: Sequence[PatientMerge] = (),
    ) -> list[WriteOutcome]:
        decided = [scope]

        async def act() -> list[WriteOutcome]:
            current = decided.pop() if decided else await self._request.write_scope()
            return await self._store.write(
                current, operations, note, atomic=atomic, settlements=settlements, merges=merges
            )

        return await self._request.decided_anew(act)


def _kind(data: bytes) -> Literal["batch", "transaction"]:
    try:
        head = _head.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed("The body is no JSON object of a Bundle.") from error
    if head.resourceType != "Bundle":
        raise Malformed("POST to the base takes a Bundle.")
    if head.type not in {"batch", "transaction"}:
        raise Malformed("Bundle.type is batch or transaction.")
    return "batch" if head.type == "batch" else "transaction"


async def _fetched(request: FhirRequest, method: str, url: str) -> Answer:
    """Run a GET or HEAD entry as a request of its own, with its own audit row."""
    path, _, query = url.removeprefix(request.fhir_base + "/").lstrip("/").partition("?")
    shown = presentation(parse_pairs(query.encode()) if query else [], None)
    segments = [decode_segment(segment.encode()) for segment in path.split("/")]
    found = route(method, segments)
    if found.name not in {"read", "vread", "history-instance", "search-type"}:
        raise Malformed("This address is not offered inside a Bundle.")
    inner = FhirRequest(
        services=request.services,
        session=request.session,
        method=method,
        target=url,
        pairs=shown.rest,
        headers={},
        trace=request.trace,
        body=request.body,
        check_again=request.check_again,
        resource_type=found.resource_type,
        resource_id=found.resource_id,
        version=found.version,
        interaction=found.name,
        action=found.action,
    )
    try:
        return await found.handler(inner)
    except KanglianError:
        if not inner.audited:
            await request.services.store.record(inner.note(), REFUSED)
        raise


def _entry(request: FhirRequest, result: EntryResult) -> bytes:
    if result.error is not None:
        return _failed(result.error)
    if result.outcome is None:
        return _shown(result.fetched)
    outcome = result.outcome
    if outcome.error is not None:
        return _failed(outcome.error)
    status = STATUSES[outcome.kind]
    if outcome.kind in {"deleted", "nothing"} or outcome.version == 0:
        return b'{"response":{"status":"%d"}}' % status
    resource = b'"resource":%s,' % outcome.body if outcome.body and request.prefer.answer == "representation" else b""
    full_url = f"{request.fhir_base}/{outcome.resource_type}/{outcome.resource_id}"
    return b'{"fullUrl":%s,%s"response":{"status":"%d","location":%s,"etag":"W/\\"%d\\"","lastModified":"%s"}}' % (
        _text(full_url),
        resource,
        status,
        _text(location_of(request, outcome)),
        outcome.version,
        instant_text(outcome.last_updated_us).encode(),
    )


def _failed(error: KanglianError) -> bytes:
    return b'{"response":{"status":"%d","outcome":%s}}' % (status_of(error), outcome_bytes(issues_of(error)))


def _shown(answer: Answer) -> bytes:
    tag = dict(answer.headers).get(b"etag")
    etag = b',"etag":' + _text(tag.decode()) if tag else b""
    resource = b'"resource":%s,' % answer.body if answer.body else b""
    return b'{%s"response":{"status":"%d"%s}}' % (resource, answer.status, etag)
