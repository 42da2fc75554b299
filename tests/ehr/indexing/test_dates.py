"""Ranges of dates: https://hl7.org/fhir/R4/search.html#date."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ehr.indexing import MAX_INSTANT, MIN_INSTANT, date_range


def _us(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("2020", "2020-01-01T00:00+08:00", "2021-01-01T00:00+08:00"),
        ("2020-12", "2020-12-01T00:00+08:00", "2021-01-01T00:00+08:00"),
        ("2020-02-29", "2020-02-29T00:00+08:00", "2020-03-01T00:00+08:00"),
        ("2020-01-01T10:00", "2020-01-01T10:00+08:00", "2020-01-01T10:01+08:00"),
        ("2020-01-01T10:00:05", "2020-01-01T10:00:05+08:00", "2020-01-01T10:00:06+08:00"),
        ("2020-01-01T10:00:05Z", "2020-01-01T10:00:05+00:00", "2020-01-01T10:00:06+00:00"),
        ("2020-01-01T10:00:05-05:00", "2020-01-01T10:00:05-05:00", "2020-01-01T10:00:06-05:00"),
        ({"start": "2020", "end": "2020"}, "2020-01-01T00:00+08:00", "2021-01-01T00:00+08:00"),
        ({"event": ["2020-03-01", "2020-01-01"]}, "2020-01-01T00:00+08:00", "2020-03-02T00:00+08:00"),
        (
            {"repeat": {"boundsPeriod": {"start": "2020", "end": "2021"}}},
            "2020-01-01T00:00+08:00",
            "2022-01-01T00:00+08:00",
        ),
    ],
)
def test_range_of_a_value(value: Any, low: str, high: str) -> None:
    assert date_range(value) == (_us(low), _us(high))


def test_fractions_of_a_second_narrow_the_range() -> None:
    low, high = date_range("2020-01-01T10:00:05.123Z")
    assert high - low == 1000
    assert low % 1_000_000 == 123_000
    assert date_range("2020-01-01T10:00:05.123456789Z")[1] - date_range("2020-01-01T10:00:05.123456789Z")[0] == 1


def test_open_periods_reach_the_ends_of_time() -> None:
    assert date_range({"end": "2020"})[0] == MIN_INSTANT
    assert date_range({"start": "2020"})[1] == MAX_INSTANT
    assert date_range("9999")[1] == date_range("9999-12")[1] == date_range("9999-12-31")[1] == MAX_INSTANT


def test_the_zone_is_the_callers() -> None:
    assert date_range("2020-01-01", ZoneInfo("UTC"))[0] == int(datetime(2020, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    "value",
    ["", "20", "2020-13", "2020-02-30", "today", "2020-01-01T25:00Z", "2020-01-01T10:00:61Z", {}, {"event": []}],
)
def test_what_is_no_date_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        date_range(value)
