"""The files of a bulk job: NDJSON as it lies on the disk, to the client alone that asked for it.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-output-file-request
"""

import msgspec

from ehr.bulk.export import ExportProgress
from ehr.bulk.export_files import published
from ehr.bulk.importing import ERRORS
from ehr.bulk.jobs import BulkJob
from ehr.errors import NotFound
from fhir_api.bulk.signing import holds
from fhir_api.bulk.status import own_job
from fhir_api.exchange import NO_STORE
from fhir_api.fhir_request import Answer, FhirRequest

_NDJSON = (b"content-type", b"application/fhir+ndjson")


async def file(request: FhirRequest) -> Answer:
    """GET /fhir/_bulk/{id}/{file}: the lines; who reads them is written down first."""
    bulk = await own_job(request)
    folder = request.services.bulk_folder
    if bulk.state != "complete" or folder is None:
        raise NotFound
    if not holds(request.services.link_key, bulk, request.version, dict(request.pairs)):
        raise NotFound
    name = _name(bulk, request.version)
    if name is None or not (folder / bulk.id / name).is_file():
        raise NotFound
    await request.services.store.record(request.note())
    return Answer(200, b"", [_NDJSON, NO_STORE], folder / bulk.id / name)


def _name(bulk: BulkJob, shown: str) -> str | None:
    """The name on disk of a file, by that under which the client sees it."""
    if bulk.kind == "import":
        return ERRORS if shown == ERRORS else None
    found = published(msgspec.json.decode(bulk.progress, type=ExportProgress).files).get(shown)
    return None if found is None else found.name
