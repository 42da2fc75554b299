"""The CapabilityStatement and the SMART configuration: generated from what is registered; absent = not offered.

https://hl7.org/fhir/R4/capabilitystatement.html, https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html
"""

from typing import Any

from ehr.definitions import RESOURCE_TYPES, search_parameters
from ehr.definitions.compartments import COMPARTMENTS
from ehr.search import filter_grammar
from ehr.search.controls import NOT_ROWS, followed
from ehr.search.grammar import LIST, MODIFIERS
from ehr.search.query import PREFIXES
from fhir_api.interactions import audit_events
from fhir_api.routing import NOT_STORED, SERVERS_OWN, offered, operations
from fhir_api.services import Services

_SMART = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_CORE = "http://hl7.org/fhir"
_BULK_DATA = "http://hl7.org/fhir/uv/bulkdata"
_IMPORT = "https://github.com/smart-on-fhir/bulk-import/blob/master/import-manifest.md"
_EXPORTS = {"": "export", "Patient": "patient-export", "Group": "group-export"}
_SEARCHABLE_KINDS = frozenset(
    {"composite", "number", "date", "string", "token", "reference", "quantity", "special", "uri"}
)
_SPECIAL = {
    filter_grammar.NAME: f"Operators: {' '.join(filter_grammar.OPERATORS)}, as far as they fit the parameter; and, or,"
    " not, brackets, and paths through references.",
    LIST: "Ids of Lists: the resources that they name as items.",
}
_RESULT_PARAMETERS = {"_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total"}


def _search_parameters(resource_type: str) -> list[dict[str, str]]:
    if resource_type in SERVERS_OWN:
        return [{"name": name, "type": kind} for name, kind in audit_events.PARAMETERS.items()]
    return [
        {"name": code, "definition": parameter.url, "type": parameter.kind}
        for code, parameter in sorted(search_parameters(resource_type).items())
        if parameter.kind in _SEARCHABLE_KINDS and parameter.expression is not None and code not in _RESULT_PARAMETERS
    ] + [{"name": name, "type": "special", "documentation": text} for name, text in _SPECIAL.items()]


def _resource(resource_type: str) -> dict[str, Any]:
    shapes = ("type", "type-history", "instance", "history", "version")
    found = [entry for shape in shapes for entry in offered(shape, resource_type).values()]
    names = sorted({entry.name for entry in found})
    entry: dict[str, Any] = {
        "type": resource_type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{resource_type}",
        "interaction": [{"code": name} for name in names],
        "versioning": "versioned",
        "readHistory": "vread" in names,
        "searchParam": _search_parameters(resource_type),
    }
    if "create" in names:
        entry |= {
            "updateCreate": True,
            "conditionalCreate": True,
            "conditionalRead": "full-support",
            "conditionalUpdate": True,
            "conditionalDelete": "single",
        }
    if resource_type not in SERVERS_OWN:
        entry |= _includes(resource_type)
    return entry


def _includes(resource_type: str) -> dict[str, Any]:
    """What `_include` and `_revinclude` take for matches of a type; the members are left out where they are empty."""
    forward = [f"{resource_type}:{code}" for code in followed(resource_type)]
    reverse: list[str] = []
    for source in RESOURCE_TYPES:
        codes = followed(source, resource_type) if source not in NOT_ROWS else ()
        if codes:
            reverse += [f"{source}:*", *(f"{source}:{code}" for code in codes)]
    found: dict[str, Any] = {}
    if forward:
        found["searchInclude"] = ["*", f"{resource_type}:*", *forward]
    if reverse:
        found["searchRevInclude"] = ["*", *reverse]
    return found


def _operations(services: Services, resource_type: str) -> dict[str, Any]:
    """The operations of a type, or those of the whole system for an empty name; nothing where there are none."""
    found = [{"name": each.name, "definition": each.definition} for each in operations(resource_type)]
    export = _EXPORTS.get(resource_type)
    if export is not None and services.bulk_folder is not None:
        found.append({"name": "export", "definition": f"{_BULK_DATA}/OperationDefinition/{export}"})
    if not resource_type and services.import_addresses:
        found.append({"name": "import", "definition": _IMPORT})
    return {"operation": found} if found else {}


def _search_documentation() -> str:
    """What no element of the statement says about searches."""
    modifiers = "; ".join(
        f"{kind}: {' '.join(f':{name}' for name in sorted(taken))}"
        for kind, taken in sorted(MODIFIERS.items())
        if taken
    )
    return (
        f"Searches by GET and POST _search. Modifiers: {modifiers}, and :[type] of references. Prefixes of dates,"
        f" numbers and quantities: {' '.join(sorted(PREFIXES))}. Chains and _has of any depth, mixed."
        f" Results: {' '.join(sorted(_RESULT_PARAMETERS))}; _include and _revinclude take :iterate."
        " What is unknown is refused with 400; with Prefer: handling=lenient it is reported and dropped."
    )


def capability_statement(services: Services) -> dict[str, Any]:
    """What this server offers, as `GET /fhir/metadata` shows it."""
    issuer = services.oidc_issuer or f"{services.base_url}/auth"
    endpoints = [
        {"url": name, "valueUri": f"{issuer}/{name}"} for name in ("authorize", "token", "introspect", "revoke")
    ]
    security: dict[str, Any] = {
        "service": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/restful-security-service",
                        "code": "SMART-on-FHIR",
                    }
                ]
            }
        ],
        "description": "OpenID Connect tokens; SMART v2 scopes are intersected with consent.",
    }
    if services.oidc_issuer is None:
        security["extension"] = [{"url": _SMART, "extension": endpoints}]
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-01",
        "kind": "instance",
        "software": {"name": "Kanglian 康联", "version": services.version},
        "implementation": {"description": "Kanglian 康联", "url": f"{services.base_url}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json"],
        "patchFormat": ["application/json-patch+json", "application/fhir+json"],
        **({"instantiates": [f"{_BULK_DATA}/CapabilityStatement/bulk-data"]} if services.bulk_folder else {}),
        "rest": [
            {
                "mode": "server",
                "documentation": _search_documentation(),
                "security": security,
                "resource": [
                    _resource(name) | _operations(services, name) for name in RESOURCE_TYPES if name not in NOT_STORED
                ],
                "interaction": [{"code": "transaction"}, {"code": "batch"}, {"code": "history-system"}],
                "compartment": [f"{_CORE}/CompartmentDefinition/{name.lower()}" for name in COMPARTMENTS],
                **_operations(services, ""),
            }
        ],
    }
