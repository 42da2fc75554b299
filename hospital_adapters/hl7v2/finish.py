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
        else:
            inner = item
        if inner not in ({}, [], "", None) or inner is False or inner == 0:
            result[key] = inner
    start, end = result.get("start"), result.get("end")
    if isinstance(start, str) and isinstance(end, str) and start[:10] >= end[:10] and _later(start, end):
        result.setdefault("extension", []).append(extension("period-end-as-sent", "DateTime", result.pop("end")))
    return result


def _later(start: str, end: str) -> bool:
    return ordering_time(start, _UTC) > ordering_time(end, _UTC)
