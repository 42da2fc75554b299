"""Ranges of instants that dates and periods of FHIR stand for (https://hl7.org/fhir/R4/search.html#date)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from ehr.indexing.entries import MAX_INSTANT, MIN_INSTANT

PLATFORM_ZONE = ZoneInfo("Asia/Shanghai")
"""Zone of values without one, unless the caller names another (SC-3)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PARTIAL = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)
_MOMENT = re.compile(r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,12}))?)?(Z|[+-]\d{2}:\d{2})?", re.ASCII)
_MINUTE, _SECOND = 60_000_000, 1_000_000


def _microseconds(moment: datetime) -> int:
    apart = moment - _EPOCH
    return (apart.days * 86_400 + apart.seconds) * 1_000_000 + apart.microseconds


@lru_cache(maxsize=16_384)
def _partial_range(text: str, zone: tzinfo) -> tuple[int, int]:
    match = _PARTIAL.fullmatch(text)
    if match is None:
        raise ValueError("no date")
    year, month, day = int(match[1]), int(match[2] or 1), int(match[3] or 1)
    start = datetime(year, month, day, tzinfo=zone)
    end: datetime | None = None
    if match[3]:
        if start.date().toordinal() == 3_652_059:  # 9999-12-31, the last day that Python knows
            return _microseconds(start), MAX_INSTANT
        end = start + timedelta(days=1)
    elif match[2]:
        end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone) if (year, month) != (9999, 12) else None
    else:
        end = datetime(year + 1, 1, 1, tzinfo=zone) if year < 9999 else None
    return _microseconds(start), MAX_INSTANT if end is None else _microseconds(end)


@lru_cache(maxsize=16_384)
def _moment_range(text: str, zone: tzinfo) -> tuple[int, int]:
    match = _MOMENT.fullmatch(text)
    if match is None:
        raise ValueError("no date")
    minute, second, fraction, offset = match.groups()
    moment = datetime.fromisoformat(minute + (offset or ""))
    low = _microseconds(moment if offset else moment.replace(tzinfo=zone))
    if second is None:
        return low, low + _MINUTE
    if int(second) > 60:
        raise ValueError("no date")
    low += int(second) * _SECOND
    if fraction is None:
        return low, low + _SECOND
    low += int(fraction[:6].ljust(6, "0"))
    return low, low + 10 ** max(6 - len(fraction), 0)


def text_range(text: str, zone: tzinfo = PLATFORM_ZONE) -> tuple[int, int]:
    """The range [low, high) in microseconds of a date, dateTime or instant; ValueError for anything else."""
    return _moment_range(text, zone) if len(text) > 10 else _partial_range(text, zone)


def period_range(period: Mapping[str, Any], zone: tzinfo = PLATFORM_ZONE) -> tuple[int, int]:
    """The range of a Period; an absent end is open."""
    start, end = period.get("start"), period.get("end")
    if start is None and end is None:
        raise ValueError("a Period without ends")
    low = text_range(start, zone)[0] if start is not None else MIN_INSTANT
    return low, text_range(end, zone)[1] if end is not None else MAX_INSTANT


def timing_range(timing: Mapping[str, Any], zone: tzinfo = PLATFORM_ZONE) -> tuple[int, int]:
    """The outer limits of a Timing: its events and repeat.boundsPeriod (SC-2)."""
    ranges = [text_range(event, zone) for event in timing.get("event", ()) if event is not None]
    bounds = timing.get("repeat", {}).get("boundsPeriod")
    if bounds:
        ranges.append(period_range(bounds, zone))
    if not ranges:
        raise ValueError("a Timing without limits")
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def date_range(value: str | Mapping[str, Any], zone: tzinfo = PLATFORM_ZONE) -> tuple[int, int]:
    """The range [low, high) in microseconds since 1970 UTC of a date, dateTime, instant, Period or Timing.

    Partial dates cover the whole day, month or year, in `zone` where they name no zone; so do values of a search
    (minutes without seconds). Raises ValueError for what is no date.
    """
    if isinstance(value, str):
        return text_range(value, zone)
    return timing_range(value, zone) if "event" in value or "repeat" in value else period_range(value, zone)
