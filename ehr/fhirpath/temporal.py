"""Dates, times and instants of partial precision (http://hl7.org/fhirpath/N1/#datetime-precision-and-equality)."""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Literal

from ehr.fhirpath.errors import FhirPathError

Kind = Literal["Date", "DateTime", "Time"]

_DATE = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_TIME = re.compile(r"(\d{2})(?::(\d{2})(?::(\d{2})(?:\.(\d+))?)?)?")
_ZONE = re.compile(r"Z|([+-])(\d{2}):(\d{2})")
MICROSECONDS = 1_000_000
_LIMITS = ((1, 9999), (1, 12), (1, 31), (0, 23), (0, 59), (0, 61 * MICROSECONDS - 1))


def days_in_month(year: int, month: int) -> int:
    """The number of days of a month of the Gregorian calendar."""
    return calendar.monthrange(year, month)[1]


@dataclass(frozen=True, slots=True)
class Temporal:
    """A System.Date, DateTime or Time.

    `parts` are year, month, day, hour, minute and microseconds of the minute, as far as they are known; a Time has the
    first three filled with 1. `fraction` counts the written digits of the second, `offset` is in minutes east of UTC.
    """

    kind: Kind
    parts: tuple[int, ...]
    fraction: int = 0
    offset: int | None = None

    @classmethod
    def literal(cls, kind: str, text: str) -> "Temporal":
        """The value of a literal's text without the leading @."""
        found = {"date": cls.date, "datetime": cls.date_time, "time": cls.time}[kind](text)
        if found is None:
            raise FhirPathError(f"FHIRPath: {text!r} is no {kind}")
        return found

    @classmethod
    def date(cls, text: str) -> "Temporal | None":
        """Parse YYYY, YYYY-MM or YYYY-MM-DD; None when it is none of these or not a real date."""
        match = _DATE.fullmatch(text)
        return _checked("Date", [int(part) for part in match.groups() if part], 0, None) if match else None

    @classmethod
    def date_time(cls, text: str) -> "Temporal | None":
        """Parse a FHIR dateTime or a FHIRPath one (with "T" after a partial date)."""
        date, _, rest = text.partition("T")
        match = _DATE.fullmatch(date)
        if match is None:
            return None
        parts = [int(part) for part in match.groups() if part]
        if not rest:
            return _checked("DateTime", parts, 0, None)
        found = _clock(rest)
        if found is None or len(parts) < 3:
            return None
        return _checked("DateTime", parts + found[0], found[1], found[2])

    @classmethod
    def time(cls, text: str) -> "Temporal | None":
        """Parse hh, hh:mm, hh:mm:ss or hh:mm:ss.fff, with or without a leading T."""
        found = _clock(text.removeprefix("T"))
        return None if found is None or found[2] is not None else _checked("Time", [1, 1, 1, *found[0]], found[1], None)

    @classmethod
    def at(cls, moment: datetime) -> "Temporal":
        """A DateTime to the millisecond from an aware datetime."""
        offset = moment.utcoffset()
        second = moment.second * MICROSECONDS + moment.microsecond // 1000 * 1000
        return cls(
            "DateTime",
            (moment.year, moment.month, moment.day, moment.hour, moment.minute, second),
            3,
            int(offset.total_seconds()) // 60 if offset is not None else None,
        )

    def __str__(self) -> str:
        """The text of FHIR, without the @ of literals."""
        date = "-".join(f"{part:0{4 if place == 0 else 2}d}" for place, part in enumerate(self.parts[:3]))
        clock = ":".join(f"{part:02d}" for part in self.parts[3:5])
        if len(self.parts) == 6:
            second, rest = divmod(self.parts[5], MICROSECONDS)
            clock += f":{second:02d}" + (f".{rest:06d}"[: self.fraction + 1] if self.fraction else "")
        if self.kind == "Time":
            return clock
        return date + (f"T{clock}{self.zone()}" if clock else "")

    def zone(self) -> str:
        """The offset as it is written: "", "Z" or "+08:00"."""
        if self.offset is None:
            return ""
        if self.offset == 0:
            return "Z"
        return f"{'-' if self.offset < 0 else '+'}{abs(self.offset) // 60:02d}:{abs(self.offset) % 60:02d}"

    def compared(self, other: "Temporal") -> int | None:
        """-1, 0 or 1; None where the precisions (or a missing time zone, SC-10) leave it open."""
        mine, others = self.parts, other.parts
        if len(mine) > 3 and len(others) > 3 and self.kind == other.kind == "DateTime":
            if (self.offset is None) != (other.offset is None):
                return self._compared_without_zone(other)
            if self.offset is not None and self.offset != other.offset:
                mine, others = self.utc().parts, other.utc().parts
        for left, right in zip(mine, others, strict=False):
            if left != right:
                return -1 if left < right else 1
        return 0 if len(mine) == len(others) else None

    def _compared_without_zone(self, other: "Temporal") -> int | None:
        apart = self.moment() - other.moment()
        if abs(apart) <= timedelta(hours=15):
            return None
        return -1 if apart < timedelta(0) else 1

    def moment(self) -> datetime:
        """The first instant that this value covers, read as UTC where it names no zone."""
        return self._first(self.parts) - timedelta(minutes=self.offset or 0)

    def utc(self) -> "Temporal":
        """The same instant at the same precision, in UTC."""
        moment = self.moment()
        parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute)
        second = (moment.second * MICROSECONDS + moment.microsecond,)
        return Temporal(self.kind, (parts + second)[: len(self.parts)], self.fraction, 0)

    def plus(self, value: Decimal, unit: str) -> "Temporal":
        """Add a calendar duration (http://hl7.org/fhirpath/N1/#datetime-arithmetic); `unit` in the singular."""
        if unit in {"year", "month"}:
            return self._plus_months(int(value) * (12 if unit == "year" else 1))
        microseconds = {
            "week": 604_800_000_000,
            "day": 86_400_000_000,
            "hour": 3_600_000_000,
            "minute": 60_000_000,
            "second": 1_000_000,
            "millisecond": 1000,
        }[unit]
        amount = int(value)
        if len(self.parts) < 3:
            days = Decimal(amount * microseconds) / 86_400_000_000
            whole = int(days / 365) * 12 if len(self.parts) == 1 else int(days / 30)
            return self._plus_months(whole)
        try:
            moment = self._naive() + timedelta(microseconds=amount * microseconds)
        except OverflowError as error:
            raise FhirPathError("FHIRPath: a date left the years 1 to 9999") from error
        parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute)
        second = (moment.second * MICROSECONDS + moment.microsecond,)
        if self.kind == "Time":
            parts = (1, 1, 1, *parts[3:])
        return Temporal(self.kind, (parts + second)[: len(self.parts)], self.fraction, self.offset)

    def _naive(self) -> datetime:
        return self._first((2000, *self.parts[1:]) if self.kind == "Time" else self.parts)

    @staticmethod
    def _first(parts: tuple[int, ...]) -> datetime:
        year, month, day, hour, minute, second = parts + (1, 1, 1, 0, 0, 0)[len(parts) :]
        return datetime(year, month, day, hour, minute, tzinfo=UTC) + timedelta(microseconds=second)

    def _plus_months(self, months: int) -> "Temporal":
        if self.kind == "Time":
            raise FhirPathError("FHIRPath: a time takes no years or months")
        month_number = self.parts[0] * 12 + (self.parts[1] - 1 if len(self.parts) > 1 else 0) + months
        year, month = divmod(month_number, 12)
        if not 1 <= year <= 9999:
            raise FhirPathError("FHIRPath: a date left the years 1 to 9999")
        parts = [year, month + 1, *self.parts[2:]][: len(self.parts)]
        if len(parts) > 2:
            parts[2] = min(parts[2], days_in_month(year, month + 1))
        return Temporal(self.kind, tuple(parts), self.fraction, self.offset)


def _clock(text: str) -> tuple[list[int], int, int | None] | None:
    """Parse hh:mm:ss.fff and a zone to (parts, digits of the fraction, offset)."""
    match = _TIME.match(text)
    if match is None:
        return None
    hour, minute, second, fraction = match.groups()
    parts = [int(part) for part in (hour, minute) if part]
    if second:
        parts.append(int(second) * MICROSECONDS + int((fraction or "0")[:6].ljust(6, "0")))
    rest = text[match.end() :]
    if not rest:
        return parts, min(len(fraction or ""), 6), None
    zone = _ZONE.fullmatch(rest)
    if zone is None:
        return None
    minutes = 0 if rest == "Z" else (int(zone[2]) * 60 + int(zone[3])) * (-1 if zone[1] == "-" else 1)
    return parts, min(len(fraction or ""), 6), minutes


def _checked(kind: Kind, parts: list[int], fraction: int, offset: int | None) -> Temporal | None:
    for part, (low, high) in zip(parts, _LIMITS, strict=False):
        if not low <= part <= high:
            return None
    if len(parts) > 2 and parts[2] > days_in_month(parts[0], parts[1]):
        return None
    if offset is not None and abs(offset) > 14 * 60:
        return None
    return Temporal(kind, tuple(parts), fraction, offset)
