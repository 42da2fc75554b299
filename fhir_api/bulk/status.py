"""The status of a bulk job: how far it is, what it came to, and its end by DELETE.

Another client's job and one that never was look alike. https://hl7.org/fhir/uv/bulkdata/STU2/export.html
"""

import msgspec

from consent import Caller
from ehr.bulk import jobs
from ehr.bulk.export import ExportProgress
from ehr.bulk.export_files import published
from ehr.bulk.import_request import ImportProgress, ImportRequest
from ehr.bulk.importing import ERRORS
from ehr.bulk.jobs import BulkJob
from ehr.errors import Issue, NotFound
from ehr.store.clock import as_fhir_instant, now_us
from fhir_api.bulk.signing import signed_query
from fhir_api.exchange import NO_STORE, http_date
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.operation_outcome import outcome_bytes

_JSON = (b"content-type", b"application/json")
_FAILED = "The job failed; the operator's log says why."
_SOON_US = 10_000_000


async def own_job(request: FhirRequest) -> BulkJob:
    """The bulk job that the address names, where it is the caller's own."""
    bulk = await jobs.find(request.services.store.pool, request.resource_id)
    if bulk is None or _owner(msgspec.convert(bulk.caller, Caller)) != _owner(request.caller):
        raise NotFound
    if bulk.expires_at_us is not None and bulk.expires_at_us < now_us():
        raise NotFound
    return bulk


def _owner(caller: Caller) -> tuple[str, str, str | None]:
    return caller.client, caller.subject, caller.organisation


async def status(request: FhirRequest) -> Answer:
    """GET /fhir/_bulk/{id}: 202 with X-Progress, 200 with the manifest, or 500 with the cause."""
    request.no_parameters()
    bulk = await own_job(request)
    await request.services.store.record(request.note())
    if bulk.state == "failed":
        return Answer(500, outcome_bytes((Issue("error", "exception", bulk.error or _FAILED),)))
    if bulk.state != "complete":
        retry_s = b"1" if now_us() - bulk.created_at_us < _SOON_US else b"5"
        return Answer(202, b"", [(b"x-progress", _progress(bulk).encode()), (b"retry-after", retry_s), NO_STORE])
    manifest = _export_manifest(request, bulk) if bulk.kind == "export" else _import_manifest(request, bulk)
    body = msgspec.json.encode(manifest)
    expires = http_date((bulk.expires_at_us or 0) // 1_000_000)
    return Answer(200, body, [_JSON, NO_STORE, (b"expires", expires)])


async def end(request: FhirRequest) -> Answer:
    """DELETE /fhir/_bulk/{id}: 202; the job stops, and its files go."""
    request.no_parameters()
    bulk = await own_job(request)
    await request.services.store.record(request.note())
    await jobs.end(request.services.store.pool, bulk.id)
    return Answer(202, b"", [NO_STORE])


def _progress(bulk: BulkJob) -> str:
    if bulk.state == "accepted":
        return "accepted"
    if bulk.kind == "import":
        progress = msgspec.json.decode(bulk.progress, type=ImportProgress)
        return f"{progress.resources} resources written, {progress.refused} refused"
    return f"{msgspec.json.decode(bulk.progress, type=ExportProgress).count} resources written"


def _export_manifest(request: FhirRequest, bulk: BulkJob) -> dict[str, object]:
    progress = msgspec.json.decode(bulk.progress, type=ExportProgress)
    address = f"{request.fhir_base}/_bulk/{bulk.id}"
    return {
        "transactionTime": as_fhir_instant(progress.at_us),
        "request": bulk.request["address"],
        "requiresAccessToken": True,
        "output": [
            {
                "type": file.type,
                "url": f"{address}/{name}?{signed_query(request.services.link_key, bulk, name)}",
                "count": file.count,
            }
            for name, file in published(progress.files).items()
        ],
        "error": [],
    }


def _import_manifest(request: FhirRequest, bulk: BulkJob) -> dict[str, object]:
    """What went in by source, and the file of what did not."""
    progress = msgspec.json.decode(bulk.progress, type=ImportProgress)
    sources = msgspec.convert(bulk.request["import"], ImportRequest).sources
    address = f"{request.fhir_base}/_bulk/{bulk.id}/{ERRORS}"
    query = signed_query(request.services.link_key, bulk, ERRORS)
    errors = [{"type": "OperationOutcome", "url": f"{address}?{query}", "count": progress.refused}]
    return {
        "transactionTime": as_fhir_instant(bulk.completed_at_us or bulk.created_at_us),
        "request": bulk.request["address"],
        "requiresAccessToken": True,
        "outcome": [
            {"inputUrl": source.name, "count": each.resources, "refused": each.refused}
            for source, each in zip(sources, progress.sources, strict=True)
        ],
        "output": [],
        "error": errors if progress.refused else [],
    }
