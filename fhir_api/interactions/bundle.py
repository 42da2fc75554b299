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
from ehr.bundle_entries import BundleEntry
from ehr.errors import Issue, KanglianError, Malformed
from ehr.indexing import date_range
from ehr.scopes import WriteScope
from ehr.search import SearchQuery
from ehr.store import PatientMerge, Settlement, WriteOperation, WriteOutcome
from ehr.store.audit import REFUSED
from ehr.transaction import EntryResult
from fhir_api.bundle_text import bundle_text
from fhir_api.exchange import decode_segment, http_date, instant_text, parse_pairs
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.patch import patch, patch_as_update
from fhir_api.interactions.written import STATUSES, location_of
from fhir_api.negotiation import check_content_type, presentation
from fhir_api.operation_outcome import issues_of, outcome_bytes, status_of
from fhir_api.routing import Route, is_operation, route

_PATCH = Route(patch, "patch", "U")
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

    async def fetch(entry: BundleEntry) -> Answer:
        return await _fetched(request, entry)

    async def patched(entry: BundleEntry) -> BundleEntry:
        return await patch_as_update(_inner(request, entry, _PATCH), entry)

    async def act() -> Sequence[EntryResult]:
        scope = await request.write_scope()
        request.audited = True
        try:
            store = _DecidedByEntry(request) if kind == "batch" else request.services.store
            return await transaction.run(
                store, scope, data, request.note(), fetch=fetch, patch=patched, base_url=request.fhir_base
            )
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
        self.extractor = self._store.extractor

    def condition(
        self, resource_type: str, pairs: Sequence[tuple[str, str]], *, now: datetime | None = None
    ) -> SearchQuery:
        return self._store.condition(resource_type, pairs, now=now)

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


async def _fetched(request: FhirRequest, entry: BundleEntry) -> Answer:
    """Run a GET or HEAD entry as a request of its own, with its own audit row."""
    method = entry.method
    path, _, query = entry.url.removeprefix(request.fhir_base + "/").lstrip("/").partition("?")
    shown = presentation(parse_pairs(query.encode()) if query else [], None)
    segments = [decode_segment(segment.encode()) for segment in path.split("/")]
    found = route(method, segments)
    if found.name not in {"read", "vread", "history-instance", "search-type"} and not is_operation(segments[-1]):
        raise Malformed("This address is not offered inside a Bundle.")
    inner = _inner(request, entry, found)
    inner.pairs, inner.headers = shown.rest, _conditions(request, entry)
    try:
        return await found.handler(inner)
    except KanglianError:
        if not inner.audited:
            await request.services.store.record(inner.note(), REFUSED)
        raise


def _inner(request: FhirRequest, entry: BundleEntry, found: Route) -> FhirRequest:
    """An entry as a request of its own."""
    return FhirRequest(
        services=request.services,
        session=request.session,
        method=entry.method,
        target=entry.url,
        pairs=[],
        headers={},
        trace=request.trace,
        body=request.body,
        check_again=request.check_again,
        resource_type=found.resource_type or entry.resource_type,
        resource_id=found.resource_id or entry.resource_id or "",
        version=found.version,
        interaction=found.name,
        action=found.action,
    )


def _conditions(request: FhirRequest, entry: BundleEntry) -> dict[bytes, bytes]:
    """The headers that ifNoneMatch and ifModifiedSince stand for."""
    headers = {}
    if entry.if_none_match is not None:
        headers[b"if-none-match"] = entry.if_none_match.encode("latin-1", "replace")
    if entry.if_modified_since is not None:
        try:
            moment = date_range(entry.if_modified_since, request.services.store.extractor.zone)[0]
            headers[b"if-modified-since"] = http_date(moment // 1_000_000)
        except (ValueError, OverflowError) as error:
            place = f"Bundle.entry[{entry.place}].request.ifModifiedSince"
            raise Malformed(Issue("error", "value", "ifModifiedSince is an instant.", place)) from error
    return headers


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
        return _gone(request, outcome, status)
    resource = b'"resource":%s,' % outcome.body if outcome.body and request.prefer.answer == "representation" else b""
    told = b""
    if request.prefer.answer == "OperationOutcome":
        issue = Issue("information", "informational", f"The resource was {outcome.kind}.")
        told = b',"outcome":' + outcome_bytes((issue,))
    full_url = f"{request.fhir_base}/{outcome.resource_type}/{outcome.resource_id}"
    return b'{"fullUrl":%s,%s"response":{"status":"%d","location":%s,"etag":"W/\\"%d\\"","lastModified":"%s"%s}}' % (
        _text(full_url),
        resource,
        status,
        _text(location_of(request, outcome)),
        outcome.version,
        instant_text(outcome.last_updated_us).encode(),
        told,
    )


def _gone(request: FhirRequest, outcome: WriteOutcome, status: int) -> bytes:
    etag = b',"etag":"W/\\"%d\\""' % outcome.version if outcome.version else b""
    told = b""
    if request.prefer.answer == "OperationOutcome":
        status = 200
        told = b',"outcome":' + outcome_bytes((Issue("information", "informational", "The resource is deleted."),))
    return b'{"response":{"status":"%d"%s%s}}' % (status, etag, told)


def _failed(error: KanglianError) -> bytes:
    return b'{"response":{"status":"%d","outcome":%s}}' % (status_of(error), outcome_bytes(issues_of(error)))


def _shown(answer: Answer) -> bytes:
    tag = dict(answer.headers).get(b"etag")
    etag = b',"etag":' + _text(tag.decode()) if tag else b""
    resource = b'"resource":%s,' % answer.body if answer.body else b""
    return b'{%s"response":{"status":"%d"%s}}' % (resource, answer.status, etag)
