"""The last pass over a resource: nothing empty, no period that ends before it starts."""

from typing import Any
from zoneinfo import ZoneInfo

from hospital_adapters.hl7v2.elements import extension
from hospital_adapters.hl7v2.times import ordering_time

_UTC = ZoneInfo("UTC")


def finished(value: dict[str, Any]) -> dict[str, Any]:
    """A copy without empty elements; a period's end before its start is kept as an extension."""
    result: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            inner: Any = finished(item)
        elif isinstance(item, list):
            inner = [finished(part) if isinstance(part, dict) else part for part in item]
            inner = [part for part in inner if part not in ({}, [], "", None)]
            if key == "extension":
                inner = [part for part in inner if len(part) > 1]
        else:
            inner = item
        if inner not in ({}, [], "", None) or inner is False or inner == 0:
            result[key] = inner
    start, end = result.get("start"), result.get("end")
    if isinstance(start, str) and isinstance(end, str) and not _in_order(start, end):
        result.setdefault("extension", []).append(extension("period-end-as-sent", "DateTime", result.pop("end")))
    return result


def _in_order(start: str, end: str) -> bool:
    """Whether per-1 holds: `start <= end`, which FHIRPath leaves open where one is cut shorter than the other."""
    if "T" in start and "T" in end:
        return ordering_time(start, _UTC) <= ordering_time(end, _UTC)
    length = min(len(start), len(end), 10)
    return start[:length] < end[:length] or start == end
