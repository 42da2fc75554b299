"""$match of Patients: who may be the person described, by exact rules.

https://hl7.org/fhir/R4/patient-operation-match.html
"""

from typing import Any

from ehr.errors import BadSearch, Malformed
from ehr.search.same_person import SCORES, Match, same_person
from fhir_api.bundle_text import bundle_text
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.interactions.operation_input import given, texts

_GRADE = b"http://hl7.org/fhir/StructureDefinition/match-grade"
_OFFERED = frozenset({"onlyCertainMatches", "count"})


async def match(request: FhirRequest) -> Answer:
    """POST /fhir/Patient/$match with a Patient: a searchset, the surest match first."""
    values = await given(request)
    described = [value for name, value in values if name == "resource"]
    asked = texts([pair for pair in values if pair[0] != "resource"], _OFFERED)
    if len(described) != 1 or not isinstance(described[0], dict) or described[0].get("resourceType") != "Patient":
        raise Malformed("$match takes one Patient as its parameter resource.")
    only_certain, count = _only_certain(asked), _count(asked)

    async def act() -> list[Match]:
        scope = await request.read_scope("search", ("Patient",))
        store: Any = request.services.store
        return await same_person(store, scope, described[0], store.parse, request.note())

    found = await request.decided_anew(act)
    if only_certain:
        certain = [each for each in found if each.grade == "certain"]
        found = certain if len(certain) == 1 else []
    base = request.fhir_base.encode()
    return Answer(200, bundle_text("searchset", [_entry(each, base) for each in found[:count]], total=len(found)))


def _only_certain(asked: dict[str, str]) -> bool:
    text = asked.get("onlyCertainMatches", "false")
    if text not in {"true", "false"}:
        raise BadSearch("onlyCertainMatches is true or false.")
    return text == "true"


def _count(asked: dict[str, str]) -> int | None:
    text = asked.get("count")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text[:9]) > 0):
        raise BadSearch("count is a whole number of 1 or more.")
    return int(text[:9])


def _entry(found: Match, base: bytes) -> bytes:
    return (
        b'{"fullUrl":"%s/Patient/%s","resource":%s,"search":{"extension":[{"url":"%s","valueCode":"%s"}],'
        b'"mode":"match","score":%.1f}}'
    ) % (
        base,
        found.version.resource_id.encode(),
        found.version.body or b"{}",
        _GRADE,
        found.grade.encode(),
        SCORES[found.grade],
    )
