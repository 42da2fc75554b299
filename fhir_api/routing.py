"""Which interaction an address and a method mean under `/fhir`.

https://hl7.org/fhir/R4/http.html#summary
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ehr.definitions import RESOURCE_TYPES
from ehr.definitions.compartments import COMPARTMENTS, compartment
from ehr.errors import NotFound
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.operation_outcome import MethodNotOffered

Handler = Callable[[FhirRequest], Awaitable[Answer]]
Action = Literal["C", "R", "U", "D", "E"]
Level = Literal["base", "type", "instance"]

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")
_JOB = re.compile(r"[A-Za-z0-9_-]{22}\Z")
SERVERS_OWN = frozenset({"AuditEvent"})
"""Types that are not rows of the record: read and search only, by handlers of their own."""
NOT_STORED = frozenset({"Parameters"})
"""Types that are checked and then refused; nothing lies at their addresses."""
TYPES = frozenset(RESOURCE_TYPES)
_BY_TYPE = SERVERS_OWN | NOT_STORED


@dataclass(frozen=True, slots=True)
class Route:
    """An interaction found; `name` is a restful-interaction code, `action` AuditEvent's."""

    handler: Handler
    name: str
    action: Action
    resource_type: str = ""
    resource_id: str = ""
    version: str = ""
    is_json: bool = True
    """Answered in the form that Accept and _format choose; else in a form of its own."""


_Methods = dict[str, Route]
_BY_SHAPE: dict[str, _Methods] = {}


def register(shape: str, method: str, handler: Handler, name: str, action: Action, *, is_json: bool = True) -> None:
    """Offer an interaction.

    Args:
        shape: `base`, `system-history`, `type`, `type-search`, `type-history`, `instance`, `history`, `version`, or
            `type:X` / `instance:X` for a type X that has handlers of its own.
        method: HTTP method; HEAD follows GET.
        handler: the interaction.
        name: its restful-interaction code.
        action: its AuditEvent.action.
        is_json: False where it has a form of its own.
    """
    methods = _BY_SHAPE.setdefault(shape, {})
    methods[method] = Route(handler, name, action, is_json=is_json)
    if method == "GET":
        methods["HEAD"] = methods["GET"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that is offered: where its definition stands, and at which addresses it answers."""

    name: str
    definition: str
    levels: tuple[Level, ...]
    types: tuple[str, ...]
    """Empty = every type of the record."""


_OPERATIONS: dict[str, Operation] = {}


def register_operation(
    operation: Operation, handler: Handler, action: Action = "E", methods: Sequence[str] = ("GET", "POST")
) -> None:
    """Offer an operation at each of its addresses.

    Args:
        operation: its name without `$`, definition and addresses.
        handler: answers it.
        action: its AuditEvent.action.
        methods: POST alone where it changes something.
    """
    _OPERATIONS[operation.definition] = operation
    for level in operation.levels:
        for suffix in [f":{name}" for name in operation.types] if operation.types and level != "base" else [""]:
            for method in methods:
                register(f"{level}${operation.name}{suffix}", method, handler, "operation", action)


def is_operation(segment: str | None) -> bool:
    """Whether the last segment of an address names one of the operations that `operations` lists."""
    return any(segment == f"${each.name}" for each in _OPERATIONS.values())


def operations(resource_type: str) -> list[Operation]:
    """The operations of a type; of the whole system for an empty name."""
    if not resource_type:
        return [each for each in _OPERATIONS.values() if "base" in each.levels]
    stored = resource_type not in _BY_TYPE
    return [
        each
        for each in _OPERATIONS.values()
        if set(each.levels) - {"base"} and (resource_type in each.types or (not each.types and stored))
    ]


def route(method: str, segments: Sequence[str | None]) -> Route:
    """The interaction of a method and decoded path segments after `/fhir/`.

    Raises:
        NotFound: the address names nothing here.
        MethodNotOffered: it does, by other methods.
    """
    shape, resource_type, resource_id, version = _shape(segments)
    methods = _methods(shape, resource_type)
    if methods is None:
        raise NotFound
    found = methods.get(method)
    if found is None and resource_type in NOT_STORED:
        raise NotFound
    if found is None:
        raise MethodNotOffered(_listed(methods))
    if shape == "base":
        return found
    return replace(found, resource_type=resource_type, resource_id=resource_id, version=version)


def allowed_methods(segments: Sequence[str | None]) -> str:
    """What an address answers, as the header Allow lists it; NotFound where it names nothing here."""
    shape, resource_type, _, _ = _shape(segments)
    methods = _methods(shape, resource_type)
    if methods is None:
        raise NotFound
    return _listed(methods)


def _methods(shape: str, resource_type: str) -> _Methods | None:
    own = _BY_SHAPE.get(f"{shape}:{resource_type}")
    return own if own is not None or resource_type in _BY_TYPE else _BY_SHAPE.get(shape)


def _listed(methods: Iterable[str]) -> str:
    return ", ".join(sorted({*methods, "OPTIONS"}))


_FIXED: dict[tuple[str | None, ...], tuple[str, str, str, str]] = {
    (): ("base", "", "", ""),
    ("",): ("base", "", "", ""),
    ("_history",): ("system-history", "", "", ""),
    ("$export",): ("system-export", "", "", ""),
    ("Patient", "$export"): ("patient-export", "Patient", "", ""),
}


_OF_TYPE = {"_search": "type-search", "_history": "type-history"}


def _shape(segments: Sequence[str | None]) -> tuple[str, str, str, str]:
    fixed = _FIXED.get(tuple(segments))
    if fixed is not None:
        return fixed
    match segments:
        case [str(name)] | [str(name), ""] if name in TYPES:
            return "type", name, "", ""
        case [str(name), str(word)] if name in TYPES and word in _OF_TYPE:
            return _OF_TYPE[word], name, "", ""
        case [str(name), str(operation)] if name in TYPES and operation.startswith("$"):
            return f"type{operation}", name, "", ""
        case [str(name), str(resource_id), *rest] if name in TYPES and _ID.match(resource_id):
            return _instance(name, resource_id, rest)
    return _of_system(segments)


def _of_system(segments: Sequence[str | None]) -> tuple[str, str, str, str]:
    match segments:
        case [str(operation)] if operation.startswith("$"):
            return f"base{operation}", "", "", ""
        case ["_bulk", str(job), *rest] if _JOB.match(job):
            return _of_bulk_job(job, rest)
    raise NotFound


def _of_bulk_job(job: str, rest: Sequence[str | None]) -> tuple[str, str, str, str]:
    match rest:
        case []:
            return "bulk-status", "", job, ""
        case [str(file)]:
            return "bulk-file", "", job, file
    raise NotFound


def _instance(name: str, resource_id: str, rest: Sequence[str | None]) -> tuple[str, str, str, str]:
    match rest:
        case []:
            return "instance", name, resource_id, ""
        case ["_history"]:
            return "history", name, resource_id, ""
        case ["$export"] if name == "Group":
            return "group-export", name, resource_id, ""
        case ["_history", str(version)] if _ID.match(version):
            return "version", name, resource_id, version
        case [str(operation)] if operation.startswith("$"):
            return f"instance{operation}", name, resource_id, ""
        case [str(inside), *search] if name in COMPARTMENTS and search in ([], ["_search"]):
            return _compartment(name, resource_id, inside, search)
    raise NotFound


def _compartment(name: str, resource_id: str, inside: str, search: Sequence[str | None]) -> tuple[str, str, str, str]:
    """The rows of a type, or of all (`*`), that belong to one resource; `version` holds which."""
    if inside == "*" and not search:
        return "compartment", name, resource_id, inside
    if inside in compartment(name) and inside not in _BY_TYPE:
        return "compartment-search" if search else "compartment", name, resource_id, inside
    raise NotFound


def allowed_besides(method: str, resource_type: str, resource_id: str) -> str:
    """What an address answers besides a method that was refused there, as the header Allow lists it (RFC 9110 15.5.6).

    It depends on the form of the address alone, never on what lies there.
    """
    shape = "instance" if resource_id else "type" if resource_type else "base"
    methods = _methods(shape, resource_type) or {}
    return "" if resource_type in NOT_STORED else _listed(set(methods) - {method})


def registered() -> dict[str, dict[str, Route]]:
    """Every shape that answers, with its methods but HEAD (for the OpenAPI document)."""
    return {
        shape: {method: found for method, found in methods.items() if method != "HEAD"}
        for shape, methods in _BY_SHAPE.items()
    }


def offered(shape: str, resource_type: str) -> dict[str, Route]:
    """What is registered for a shape and type, by method (for the CapabilityStatement)."""
    if resource_type in SERVERS_OWN:
        shape = f"{shape}:{resource_type}"
    return {method: replace(found) for method, found in _BY_SHAPE.get(shape, {}).items() if method != "HEAD"}
