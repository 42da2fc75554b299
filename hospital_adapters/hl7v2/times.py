"""Time stamps of HL7 v2 (DTM, TS, DT, TM) to FHIR date, dateTime, instant and time.

HL7 v2 chapter 2A: `YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ]`; https://hl7.org/fhir/R4/datatypes.html#dateTime.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

_STAMP = re.compile(
    r"(\d{4})(?:-?(\d{2})(?:-?(\d{2})(?:[T ]?(\d{2})(?::?(\d{2})(?::?(\d{2})(?:\.(\d{1,9}))?)?)?)?)?)?\s*(Z|[+-].*)?"
)
_ZONE = re.compile(r"([+-])(\d{2}):?([0-5]\d)")
_TIME = re.compile(r"(\d{2}):?(\d{2})(?::?(\d{2})(\.\d{1,6})?)?(?:[+-]\d{4})?")


@lru_cache(maxsize=8192)
def date_time(text: str, zone: ZoneInfo) -> str | None:
    """A FHIR dateTime of the same precision, or None where the text is no time stamp.

    A time without zone is local to the feed; one with a broken zone is cut to its date.
    """
    match = _STAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = match.groups()
    while month == "00" or day == "00":  # senders pad unknown parts with zeros
        month, day = (month, None) if month != "00" else (None, None)
        hour = None
    try:
        moment = datetime(int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0))  # noqa: DTZ001  the zone follows
    except ValueError:
        return None
    if day is None:
        return year if month is None else f"{year}-{month}"
    date = f"{year}-{month}-{day}"
    if hour is None:
        return date
    shift = _offset(offset) if offset else moment.replace(tzinfo=zone).utcoffset()
    if shift is None:
        return date
    return f"{date}T{moment:%H:%M:%S}{'.' + fraction if fraction else ''}{_offset_text(shift)}"


def _offset(text: str) -> timedelta | None:
    if text == "Z":
        return timedelta(0)
    match = _ZONE.fullmatch(text)
    if match is None:
        return None
    shift = timedelta(hours=int(match.group(2)), minutes=int(match.group(3)))
    return None if shift > timedelta(hours=14) else -shift if match.group(1) == "-" else shift


def _offset_text(shift: timedelta) -> str:
    minutes = round(shift.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


def date(text: str, zone: ZoneInfo) -> str | None:
    """A FHIR date (year, month or day), or None."""
    moment = date_time(text, zone)
    return moment[:10] if moment else None


def instant(text: str, zone: ZoneInfo) -> str | None:
    """A FHIR instant; None unless date and time of day are there."""
    moment = date_time(text, zone)
    return moment if moment and "T" in moment else None


def time_of_day(text: str) -> str | None:
    """A FHIR time, or None."""
    match = _TIME.fullmatch(text)
    if match is None or int(match.group(1)) > 23 or int(match.group(2)) > 59 or int(match.group(3) or 0) > 59:
        return None
    return f"{match.group(1)}:{match.group(2)}:{match.group(3) or '00'}{match.group(4) or ''}"


@lru_cache(maxsize=8192)
def ordering_time(text: str, zone: ZoneInfo) -> str:
    """The time stamp in UTC as a text that sorts by time; the start of the day, month or year where cut short."""
    moment = date_time(text, zone)
    if moment is None:
        return ""
    moment += {4: "-01-01", 7: "-01"}.get(len(moment), "")
    try:
        parsed = datetime.fromisoformat(re.sub(r"\.(\d+)", lambda m: f".{m.group(1)[:6]:0<6}", moment))
        parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
        return parsed.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    except (ValueError, OverflowError):
        return moment
