"""The last pass over a resource: nothing empty, no period that ends before it starts."""

import re
from typing import Any
from zoneinfo import ZoneInfo

from ehr import json_text
from hospital_adapters.hl7v2.elements import extension
from hospital_adapters.hl7v2.times import ordering_time

_UTC = ZoneInfo("UTC")
_NAMED_ONLY = re.compile(rb'\{"url":"[^"]*"\}')


def encoded(resource: dict[str, Any]) -> bytes:
    """The resource, changed in place where it was not finished, as JSON; its text tells what has to be looked for."""
    data = json_text.encode(resource)
    is_finished = not (
        b"{}" in data
        or b"[]" in data
        or b'""' in data
        or b"null" in data
        or b'"end":' in data
        or (b'"extension":' in data and _NAMED_ONLY.search(data))
    )
    return data if is_finished else json_text.encode(finished(resource))


def finished(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource without empty elements, changed in place; an end before its start becomes an extension."""
    empty: list[str] = []
    for key, item in resource.items():
        kind = type(item)
        if kind is dict:
            if not finished(item):
                empty.append(key)
        elif kind is list:
            resource[key] = items = _finished_list(item, extensions=key == "extension")
            if not items:
                empty.append(key)
        elif item is None or item == "":
            empty.append(key)
    for key in empty:
        del resource[key]
    if "end" in resource and "start" in resource:
        start, end = resource["start"], resource["end"]
        if isinstance(start, str) and isinstance(end, str) and not _in_order(start, end):
            del resource["end"]
            resource.setdefault("extension", []).append(extension("period-end-as-sent", "DateTime", end))
    return resource


def _finished_list(items: list[Any], *, extensions: bool) -> list[Any]:
    if not (items and type(items[0]) is dict):
        return [item for item in items if item not in ("", None)]
    least = 2 if extensions else 1  # an extension that has nothing but its URL says nothing
    return [item for item in items if len(finished(item)) >= least]


def _in_order(start: str, end: str) -> bool:
    """Whether per-1 holds: `start <= end`, which FHIRPath leaves open where one is cut shorter than the other."""
    if "T" in start and "T" in end:
        return ordering_time(start, _UTC) <= ordering_time(end, _UTC)
    length = min(len(start), len(end), 10)
    return start[:length] < end[:length] or start == end
