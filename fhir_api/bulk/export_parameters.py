"""The parameters of an export, from an address or from a Parameters resource, checked.

https://hl7.org/fhir/uv/bulkdata/STU2/export.html#query-parameters
"""

import re
from collections.abc import Sequence
from typing import Any

from ehr import json_text
from ehr.bulk.export_request import ExportRequest, Level, TypeFilter
from ehr.definitions import RESOURCE_TYPES, structure
from ehr.errors import BadSearch, Invalid, Issue, KanglianError
from ehr.indexing import date_range
from ehr.search.opening import must_open
from ehr.store import Store
from fhir_api.exchange import parse_pairs

Pairs = Sequence[tuple[str, str]]
_FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
_REPEATED = frozenset({"_type", "_typeFilter", "_elements", "patient"})
_ONCE = frozenset({"_outputFormat", "_since", "_until"})
_RESULT_PARAMETERS = frozenset(
    {"_include", "_revinclude", "_sort", "_count", "_summary", "_elements", "_total", "_contained", "_score", "_page"}
)
_BETWEEN_FILTERS = re.compile(r",(?=[A-Z][A-Za-z]*\?)")
_PATIENT = re.compile(r"(?:(?:[^?#]*/)?Patient/)?([A-Za-z0-9\-.]{1,64})")
_MOST_PATIENTS = 10_000
_MOST_FILTERS = 100


def pairs_of_parameters(body: bytes) -> list[tuple[str, str]]:
    """The parameters of a posted Parameters resource as pairs; Invalid where it is none or holds other values."""
    resource = json_text.parse(body)
    entries = resource.get("parameter", [])
    if resource.get("resourceType") != "Parameters" or not isinstance(entries, list):
        raise Invalid(Issue("error", "invalid", "Send a Parameters resource.", "Parameters"))
    return [_pair(place, entry) for place, entry in enumerate(entries)]


def _pair(place: int, entry: Any) -> tuple[str, str]:
    expression = f"Parameters.parameter[{place}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Invalid(Issue("error", "invalid", "A parameter has a name and a value.", expression))
    values = [value for name, value in entry.items() if name.startswith("value")]
    value = values[0] if len(values) == 1 else None
    if isinstance(value, dict):
        value = value.get("reference")
    if not isinstance(value, str):
        text = f"The parameter {entry['name'][:64]!r} has one value, a text or a reference."
        raise Invalid(Issue("error", "invalid", text, expression))
    return entry["name"], value


def read_export(level: Level, pairs: Pairs, store: Store, *, posted: bool, lenient: bool) -> ExportRequest:
    """An export as asked for; `types` is empty where none was named.

    Raises:
        BadSearch: a parameter is unknown or unusable; the text names it.
    """
    given = _by_name(pairs, lenient=lenient)
    for name in _ONCE:
        if len(given.get(name, ())) > 1:
            raise BadSearch(f"{name} is given twice.")
    form = given.get("_outputFormat", ["ndjson"])[0].replace(" ", "+")
    if form not in _FORMATS:
        raise BadSearch("_outputFormat is application/fhir+ndjson, application/ndjson or ndjson.")
    patients = given.get("patient")
    if patients is not None and (level == "system" or not posted):
        raise BadSearch("patient is taken by POST, for exports of Patient and Group.")
    types = _types(given.get("_type", ()))
    return ExportRequest(
        level,
        types,
        _instant("_since", given, store, latest=True),
        _instant("_until", given, store, latest=False),
        _filters(given.get("_typeFilter", ()), types, store),
        _elements(given.get("_elements", ())),
        None if patients is None else _patients(patients),
    )


def _by_name(pairs: Pairs, *, lenient: bool) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in _REPEATED | _ONCE:
            given.setdefault(name, []).append(value)
        elif not lenient:
            raise BadSearch(f"The parameter {name[:64]!r} is not offered on $export.")
    return given


def _types(values: Sequence[str]) -> tuple[str, ...]:
    found = dict.fromkeys(name.strip() for value in values for name in value.split(",") if name.strip())
    for name in found:
        if name not in RESOURCE_TYPES or name in {"AuditEvent", "Parameters"}:
            raise BadSearch(f"_type: {name[:64]!r} is not exported here.")
    if values and not found:
        raise BadSearch("_type names no type.")
    return tuple(found)


def _instant(name: str, given: dict[str, list[str]], store: Store, *, latest: bool) -> int | None:
    if name not in given:
        return None
    try:
        low, high = date_range(given[name][0].replace(" ", "+"), store.extractor.zone)
    except (ValueError, OverflowError) as error:
        raise BadSearch(f"{name} is an instant, such as 2026-01-31T08:00:00+08:00.") from error
    exact = high - low <= 1_000_000
    return low if exact or not latest else high


def _filters(values: Sequence[str], types: Sequence[str], store: Store) -> tuple[TypeFilter, ...]:
    texts = [text for value in values for text in _BETWEEN_FILTERS.split(value) if text]
    if len(texts) > _MOST_FILTERS:
        raise BadSearch(f"_typeFilter: at most {_MOST_FILTERS} filters.")
    return tuple(_filter(text, types, store) for text in texts)


def _filter(text: str, types: Sequence[str], store: Store) -> TypeFilter:
    resource_type, question, criteria = text.partition("?")
    if not question or resource_type not in RESOURCE_TYPES:
        raise BadSearch("_typeFilter is a search such as Observation?category=laboratory.")
    if types and resource_type not in types:
        raise BadSearch(f"_typeFilter: {resource_type} is not among the types of _type.")
    try:
        pairs = parse_pairs(criteria.encode("utf-8", "surrogatepass"))
        for name, _ in pairs:
            if name.split(":")[0] in _RESULT_PARAMETERS:
                raise BadSearch(f"{name[:64]} does not select rows.")
        if must_open(store.condition(resource_type, pairs)):
            raise BadSearch("the index does not answer this search alone (:contains, long texts).")
    except KanglianError as error:
        raise BadSearch(f"_typeFilter {resource_type}: {error}") from error
    return TypeFilter(resource_type, tuple(pairs))


def _elements(values: Sequence[str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found: dict[str, list[str]] = {}
    for text in (part.strip() for value in values for part in value.split(",")):
        resource_type, dot, name = text.rpartition(".")
        if not name:
            raise BadSearch("_elements is a list of elements, such as id,Patient.birthDate.")
        if dot and (resource_type not in RESOURCE_TYPES or not _has(resource_type, name)):
            raise BadSearch(f"_elements: there is no element {text[:64]!r}.")
        found.setdefault(resource_type, []).append(name)
    return tuple((resource_type, tuple(names)) for resource_type, names in found.items())


def _has(resource_type: str, name: str) -> bool:
    names = {"id", "meta", "text", "contained", "extension", "modifierExtension", "implicitRules", "language"}
    for element in structure(resource_type).children(resource_type):
        names |= {element.name, element.name.removesuffix("[x]"), *(element.names or ())}
    return name in names


def _patients(values: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for value in (part.strip() for each in values for part in each.split(",")):
        named = _PATIENT.fullmatch(value)
        if named is None:
            raise BadSearch("patient is a reference such as Patient/123.")
        found[named[1]] = None
    if len(found) > _MOST_PATIENTS:
        raise BadSearch(f"patient: at most {_MOST_PATIENTS} people; make a Group.")
    return tuple(found)
