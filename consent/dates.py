"""Half-open instants of a Consent's periods, in the zone in which the Consent was written.

A date means its whole day there, a month its month; the end of a period includes what its precision includes
(https://hl7.org/fhir/R4/datatypes.html#Period).
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

EARLIEST = -(2**62)
LATEST = 2**62
_FORM = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:\d{2})?)?)?)?"
)


def _zone(text: str | None, otherwise: tzinfo) -> tzinfo:
    if text is None:
        return otherwise
    if text == "Z":
        return UTC
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[4:6])))


def zone_of(text: str | None, otherwise: tzinfo) -> tzinfo:
    """The zone that a dateTime is written in; `otherwise` where it says none."""
    found = _FORM.fullmatch(text) if text else None
    return _zone(found.group(8), otherwise) if found else otherwise


def _microseconds(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def instants(text: str, zone: tzinfo) -> tuple[int, int]:
    """[low, high) in microseconds since 1970 UTC of a date or dateTime; ValueError where it is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is not a date or dateTime")
    year, month, day, hour, minute, second, fraction, written = found.groups()
    where = _zone(written, zone)
    low = datetime(
        int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=where
    )
    if month is None:
        high = low.replace(year=low.year + 1)
    elif day is None:
        high = low.replace(year=low.year + low.month // 12, month=low.month % 12 + 1)
    elif hour is None:
        # the day after by the calendar: days of zones with summer time have 23 or 25 hours
        high = (low.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=where)
    elif second is None:
        high = low + timedelta(minutes=1)
    elif fraction is None:
        high = low + timedelta(seconds=1)
    else:
        start = _microseconds(low) + int(f"{fraction:0<6}"[:6])
        return start, start + int(10 ** max(0, 6 - len(fraction)))
    return _microseconds(low), _microseconds(high)


def period(value: object, zone: tzinfo) -> tuple[int, int]:
    """[low, high) of a Period; a missing bound is open. ValueError where it is none."""
    if not isinstance(value, dict):
        raise ValueError("not a Period")  # noqa: TRY004 - one kind of error for all that is unreadable
    low = instants(value["start"], zone)[0] if value.get("start") else EARLIEST
    high = instants(value["end"], zone)[1] if value.get("end") else LATEST
    return low, high
