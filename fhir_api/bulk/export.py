"""$export of the system, of Patient and of a Group: the kick-off.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-kick-off-request
"""

from typing import Any

from msgspec.structs import replace

from ehr import json_text
from ehr.bulk.export_request import ExportRequest, Level
from ehr.errors import NotFound
from ehr.scopes import ReadScope
from fhir_api.bulk.export_parameters import pairs_of_parameters, read_export
from fhir_api.bulk.kick_off import kicked_off
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.negotiation import check_content_type


async def export_system(request: FhirRequest) -> Answer:
    """GET or POST /fhir/$export."""
    return await _kick_off(request, "system")


async def export_patients(request: FhirRequest) -> Answer:
    """GET or POST /fhir/Patient/$export."""
    return await _kick_off(request, "patient")


async def export_group(request: FhirRequest) -> Answer:
    """GET or POST /fhir/Group/{id}/$export."""
    return await _kick_off(request, "group")


async def _kick_off(request: FhirRequest, level: Level) -> Answer:
    """202 with the address of the status; who may take what is decided now, and again while the rows are written."""
    services = request.services
    if services.bulk_folder is None:
        raise NotFound
    posted = request.method == "POST"
    pairs = list(request.pairs)
    if posted:
        check_content_type(request.header(b"content-type"))
        pairs += pairs_of_parameters(await request.body())
    asked = read_export(level, pairs, services.store, posted=posted, lenient=request.prefer.lenient)
    allowed = services.consent.export_types(request.caller, asked.types)
    asked = replace(asked, types=asked.types or tuple(sorted(allowed)))

    async def decide() -> ExportRequest:
        scope = await services.consent.export_scope(request.caller)
        request.decision = scope.decision
        return await _of_group(request, scope, asked) if level == "group" else asked

    asked = await request.decided_anew(decide)
    if not request.audited:
        await services.store.record(request.note())
    return await kicked_off(request, "export", asked)


async def _of_group(request: FhirRequest, scope: ReadScope, asked: ExportRequest) -> ExportRequest:
    """The export narrowed to the Patients who are members now; NotFound where the client does not see the Group."""
    request.audited = True
    group = await request.services.store.read(scope, "Group", request.resource_id, request.note())
    members = _members(json_text.parse(group.body or b"{}"))
    if asked.patients is not None:
        members = [each for each in members if each in asked.patients]
    return replace(asked, patients=tuple(members))


def _members(group: dict[str, Any]) -> list[str]:
    references = (
        entry.get("entity", {}).get("reference", "") for entry in group.get("member", ()) if not entry.get("inactive")
    )
    return list(dict.fromkeys(each.removeprefix("Patient/") for each in references if each.startswith("Patient/")))
