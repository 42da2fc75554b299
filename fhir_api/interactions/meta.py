"""$meta, $meta-add and $meta-delete of one resource.

https://hl7.org/fhir/R4/resource-operations.html. A change of meta is an update: it makes a version, is checked and
audited as one, and needs what an update needs. A security label is added, never taken away and never lowered: what a
row says of itself decides who may see it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from consent.labels import CONFIDENTIALITY_SYSTEM, LEVELS
from ehr import json_text
from ehr.errors import BadSearch, Forbidden, Invalid, Issue, Malformed
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.operation_input import given
from fhir_api.interactions.patch import current_version, write_changed

_LISTS = ("profile", "security", "tag")
_NORMAL = LEVELS.index("N")


async def meta(request: FhirRequest) -> Answer:
    """GET or POST /fhir/{type}/{id}/$meta: profiles, security labels and tags of the current version."""
    for name, _ in await given(request):
        raise BadSearch(f"The parameter {name[:64]!r} is not offered on this operation.")
    version = await current_version(request)
    return _answer(json_text.parse(version.body or b"{}"))


async def meta_add(request: FhirRequest) -> Answer:
    """POST /fhir/{type}/{id}/$meta-add with `meta`: adds what is not there yet."""
    return await _changed(request, _Added(_checked(await _sent(request))))


async def meta_delete(request: FhirRequest) -> Answer:
    """POST /fhir/{type}/{id}/$meta-delete with `meta`: takes away profiles and tags; 403 for security labels."""
    return await _changed(request, _Removed(_without_labels(await _sent(request))))


async def _changed(request: FhirRequest, change: "_Added | _Removed") -> Answer:
    outcome = await write_changed(request, change)
    return _answer(json_text.parse(outcome.body or b"{}"))


async def _sent(request: FhirRequest) -> Mapping[str, Any]:
    """The one Meta of the request, its three lists well formed."""
    values = [value for name, value in await given(request) if name == "meta"]
    if len(values) != 1 or not isinstance(values[0], dict):
        raise Malformed("This operation takes one parameter, meta, with a valueMeta.")
    for name in _LISTS:
        kind = str if name == "profile" else dict
        items = values[0].get(name, [])
        if not isinstance(items, list) or not all(isinstance(item, kind) for item in items):
            raise Invalid(Issue("error", "structure", f"meta.{name} is a list.", f"Parameters.parameter.value.{name}"))
    return values[0]


def _checked(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    for label in sent.get("security", ()):
        code = label.get("code")
        if label.get("system") == CONFIDENTIALITY_SYSTEM and code in LEVELS and LEVELS.index(code) < _NORMAL:
            raise Forbidden("No operation lowers the confidentiality of a resource.")
    return sent


def _without_labels(sent: Mapping[str, Any]) -> Mapping[str, Any]:
    if sent.get("security"):
        raise Forbidden("Security labels are not taken away.")
    return sent


def _same(name: str, one: Any, other: Any) -> bool:
    """Codings are the same by system and code (R4 resource-operations: "matching")."""
    if name == "profile":
        return bool(one == other)
    return (one.get("system"), one.get("code")) == (other.get("system"), other.get("code"))


@dataclass(frozen=True, slots=True)
class _Added:
    sent: Mapping[str, Any]

    def apply(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The resource with what its meta lacks of `sent`."""
        held = dict(resource.get("meta", {}))
        for name in _LISTS:
            items = list(held.get(name, ()))
            for item in self.sent.get(name, ()):
                if not any(_same(name, item, known) for known in items):
                    items.append(item)
            if items:
                held[name] = items
        return resource | {"meta": held}


@dataclass(frozen=True, slots=True)
class _Removed:
    sent: Mapping[str, Any]

    def apply(self, resource: dict[str, Any]) -> dict[str, Any]:
        """The resource without the profiles and tags of `sent`."""
        held = dict(resource.get("meta", {}))
        for name in ("profile", "tag"):
            gone = self.sent.get(name, ())
            kept = [each for each in held.pop(name, ()) if not any(_same(name, each, item) for item in gone)]
            if kept:
                held[name] = kept
        return resource | {"meta": held}


def _answer(resource: Mapping[str, Any]) -> Answer:
    value = {name: resource.get("meta", {})[name] for name in resource.get("meta", {})}
    parameters = {"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": value}]}
    return Answer(200, msgspec.json.encode(parameters))
