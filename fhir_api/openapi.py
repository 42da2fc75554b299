"""The OpenAPI document: FHIR's addresses from what is registered, beside the cold routes that FastAPI describes.

https://spec.openapis.org/oas/v3.1.0, https://hl7.org/fhir/R4/http.html
Types share templates: one path for each form of address, its type a parameter with the types that answer there.
"""

import re
from collections.abc import Mapping
from typing import Any

from ehr.definitions.compartments import COMPARTMENTS
from fhir_api.routing import NOT_STORED, SERVERS_OWN, TYPES, Route, registered

Json = dict[str, Any]
_FHIR, _PATCH = "application/fhir+json", "application/json-patch+json"
_FORM = "application/x-www-form-urlencoded"
_ADDRESSES = {
    "base": "/fhir",
    "system-history": "/fhir/_history",
    "type": "/fhir/{type}",
    "type-search": "/fhir/{type}/_search",
    "type-history": "/fhir/{type}/_history",
    "instance": "/fhir/{type}/{id}",
    "history": "/fhir/{type}/{id}/_history",
    "version": "/fhir/{type}/{id}/_history/{version}",
    "compartment": "/fhir/{compartment}/{id}/{inside}",
    "compartment-search": "/fhir/{compartment}/{id}/{inside}/_search",
    "system-export": "/fhir/$export",
    "patient-export": "/fhir/Patient/$export",
    "group-export": "/fhir/Group/{id}/$export",
    "bulk-status": "/fhir/_bulk/{job}",
    "bulk-file": "/fhir/_bulk/{job}/{file}",
}
_OPERATION = re.compile(r"(base|type|instance)\$([a-z-]+)")
_PLACES = {"base": "/fhir", "type": "/fhir/{type}", "instance": "/fhir/{type}/{id}"}
_STORED = sorted(TYPES - SERVERS_OWN - NOT_STORED)
_ID = {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"}
_PARAMETERS: Mapping[str, Json] = {
    "type": {"type": "string", "enum": _STORED},
    "id": _ID,
    "version": {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"},
    "compartment": {"type": "string", "enum": list(COMPARTMENTS)},
    "inside": {"type": "string", "enum": ["*", *_STORED], "description": "A type of the compartment, or all of them"},
    "job": {"type": "string", "pattern": "^[A-Za-z0-9_-]{22}$"},
    "file": {"type": "string"},
}
_SEARCHES = frozenset({"search-type", "operation", "history-type", "history-system", "history-instance"})
_CRITERIA: Json = {
    "name": "parameters",
    "in": "query",
    "style": "form",
    "explode": True,
    "description": "Parameters by name: those that the CapabilityStatement states for the type",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
_OUTCOME = {
    "description": "An OperationOutcome",
    "content": {_FHIR: {"schema": {"$ref": "#/components/schemas/Resource"}}},
}
_RESOURCE = {"description": "A resource", "content": {_FHIR: {"schema": {"$ref": "#/components/schemas/Resource"}}}}
_BODILESS = {"description": "No body"}


def address_of(shape: str) -> str:
    """The path template of a registered shape; KeyError for one that is not described here."""
    form, _, only = shape.partition(":")
    operation = _OPERATION.fullmatch(form)
    address = f"{_PLACES[operation[1]]}/${operation[2]}" if operation else _ADDRESSES[form]
    return address.replace("{type}", only) if only else address


def openapi_document(cold: Json) -> Json:
    """The document of the cold routes with the FHIR paths added."""
    paths: Json = {
        "/fhir/metadata": {"get": _public("The CapabilityStatement")},
        "/fhir/.well-known/smart-configuration": {"get": _public("The SMART configuration", "application/json")},
    }
    for shape, methods in registered().items():
        address = address_of(shape)
        described = paths.setdefault(address, {"parameters": _path_parameters(address)})
        for method, route in methods.items():
            described[method.lower()] = _operation(shape, method, route)
    components = cold.get("components", {})
    schemas = components.get("schemas", {}) | _schemas()
    security = components.get("securitySchemes", {}) | {"token": {"type": "http", "scheme": "bearer"}}
    return cold | {
        "paths": cold.get("paths", {}) | dict(sorted(paths.items())),
        "components": components | {"schemas": schemas, "securitySchemes": security},
    }


def _schemas() -> Json:
    resource = {"type": "object", "properties": {"resourceType": {"type": "string"}}, "required": ["resourceType"]}
    step = {
        "type": "object",
        "properties": {
            "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
            "path": {"type": "string"},
        },
        "required": ["op", "path"],
    }
    return {
        "Resource": resource,
        "Bundle": resource | {"properties": {"resourceType": {"const": "Bundle"}}},
        "Parameters": resource | {"properties": {"resourceType": {"const": "Parameters"}}},
        "JsonPatch": {"type": "array", "items": step},
    }


def _public(text: str, kind: str = _FHIR) -> Json:
    return {
        "tags": ["fhir"],
        "summary": text,
        "responses": {"200": {"description": text, "content": {kind: {"schema": {"type": "object"}}}}},
    }


def _path_parameters(address: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in re.findall(r"\{(\w+)\}", address)
    ]


def _operation(shape: str, method: str, route: Route) -> Json:
    parameters = [_CRITERIA] if method == "GET" and route.name in _SEARCHES else []
    if shape == "type" and method in {"PUT", "PATCH", "DELETE"}:
        parameters = [_CRITERIA]
    responses: Json = {"default": _OUTCOME}
    if route.is_json:
        responses["200"] = _RESOURCE
    if route.name in {"create", "update"}:
        responses["201"] = _RESOURCE
    if method == "DELETE":
        responses["204"] = _BODILESS
    if route.name in {"read", "vread"}:
        responses["304"] = _BODILESS
    found: Json = {
        "tags": ["fhir"],
        "summary": route.name,
        "operationId": f"{method.lower()}-{shape}".replace("$", "").replace(":", "-"),
        "parameters": parameters,
        "responses": responses,
        "security": [{"token": []}],
    }
    body = _body(shape, method, route)
    return found | ({"requestBody": body} if body else {})


def _body(shape: str, method: str, route: Route) -> Json:
    if method in {"GET", "DELETE"}:
        return {}
    if route.name == "search-type":
        criteria = {"type": "object", "additionalProperties": {"type": "string"}}
        return {"content": {_FORM: {"schema": criteria}}}
    kind = "Bundle" if shape == "base" else "Parameters" if route.name in {"operation", "patch"} else "Resource"
    content: Json = {_FHIR: {"schema": {"$ref": f"#/components/schemas/{kind}"}}}
    if route.name == "patch":
        content[_PATCH] = {"schema": {"$ref": "#/components/schemas/JsonPatch"}}
    return {"required": route.name != "operation", "content": content}
