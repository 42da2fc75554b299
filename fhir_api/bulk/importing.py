"""$import: the kick-off, by Parameters or by the manifest of SMART's bulk import.

Files are fetched from addresses that the operator allows; the answers of status and errors are those of an export.
https://github.com/smart-on-fhir/bulk-import/blob/master/import-manifest.md
"""

from typing import Any

from consent.smart import system_grants
from ehr import json_text
from ehr.bulk.import_request import ImportRequest, ImportSource, is_allowed
from ehr.definitions import RESOURCE_TYPES
from ehr.errors import BadSearch, Forbidden, Invalid, Issue, NotFound
from ehr.scopes import WriteScope
from fhir_api.bulk.kick_off import kicked_off
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.negotiation import check_content_type

_FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
_TAKEN = frozenset({"inputFormat", "inputSource", "storageDetail", "input", "mode"})
_MOST_FILES = 1_000


async def import_files(request: FhirRequest) -> Answer:
    """POST /fhir/$import: 202 with the address of the status."""
    services = request.services
    if services.bulk_folder is None or not services.import_addresses:
        raise NotFound
    request.no_parameters()
    check_content_type(request.header(b"content-type"))
    manifest = _manifest(json_text.parse(await request.body()))
    sources = _sources(manifest, services.import_addresses)

    if not system_grants(request.caller):
        raise Forbidden("Bulk imports need scopes of level system, system/*.cu.")

    async def decide() -> WriteScope:
        return await request.write_scope()

    await request.decided_anew(decide)
    await services.store.record(request.note())
    return await kicked_off(request, "import", ImportRequest(sources))


def _manifest(body: dict[str, Any]) -> dict[str, Any]:
    """The manifest, whether it came as it is or as Parameters."""
    if "resourceType" not in body:
        return body
    entries = body.get("parameter")
    if body["resourceType"] != "Parameters" or not isinstance(entries, list):
        raise _invalid("Send a Parameters resource or an import manifest.", "Parameters")
    found: dict[str, Any] = {"input": []}
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise _invalid("A parameter has a name and a value.", f"Parameters.parameter[{place}]")
        if entry["name"] == "input":
            found["input"].append(_parts(entry))
        else:
            found[entry["name"]] = _parts(entry) if "part" in entry else _value(entry)
    return found


def _parts(entry: dict[str, Any]) -> dict[str, Any]:
    parts = entry.get("part")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise _invalid("input has the parts type and url.", "Parameters.parameter.part")
    return {str(part.get("name")): _value(part) for part in parts}


def _value(entry: dict[str, Any]) -> Any:
    return next((value for name, value in entry.items() if name.startswith("value")), None)


def _sources(manifest: dict[str, Any], allowed: tuple[str, ...]) -> tuple[ImportSource, ...]:
    for name in manifest.keys() - _TAKEN:
        raise BadSearch(f"The parameter {name[:64]!r} is not offered on $import.")
    if manifest.get("inputFormat", "application/fhir+ndjson") not in _FORMATS:
        raise _invalid("inputFormat is application/fhir+ndjson.", "inputFormat")
    if manifest.get("mode", "upsert") not in {"upsert", "merge"}:
        raise _invalid("mode is upsert: what has an id replaces what has the same.", "mode")
    inputs = manifest.get("input")
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= _MOST_FILES:
        raise _invalid(f"input names 1 to {_MOST_FILES} files.", "input")
    return tuple(_source(place, entry, allowed) for place, entry in enumerate(inputs))


def _source(place: int, entry: Any, allowed: tuple[str, ...]) -> ImportSource:
    address = entry.get("url") if isinstance(entry, dict) else None
    resource_type = entry.get("type") if isinstance(entry, dict) else None
    if not isinstance(address, str) or not is_allowed(address, allowed):
        raise _invalid("Files are fetched from addresses that the operator allows only.", f"input[{place}].url")
    if resource_type is not None and resource_type not in RESOURCE_TYPES:
        raise _invalid("type is a type of resource.", f"input[{place}].type")
    return ImportSource(address, address=address, type=resource_type)


def _invalid(text: str, expression: str) -> Invalid:
    return Invalid(Issue("error", "invalid", text, expression))
