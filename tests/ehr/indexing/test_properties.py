"""What holds for any value: ranges hold what they are the range of, prefixes begin what they are prefixes of."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from ehr.indexing import date_range, decimal_range, normalise_string
from ehr.indexing.values import TEXT_LENGTHS, prefixes, text_prefix, text_prefixes

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=ZONES), st.integers(0, 3))  # noqa: DTZ001 - the strategy adds zones
def test_an_instant_lies_in_the_range_of_each_of_its_spellings(moment: datetime, precision: int) -> None:
    microseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    spelling = ["minutes", "seconds", "milliseconds", "microseconds"][precision]
    low, high = date_range(moment.isoformat(timespec=spelling))
    assert low <= microseconds < high
    assert high - low == [60_000_000, 1_000_000, 1000, 1][precision]


@given(st.dates())
def test_a_day_lies_in_its_month_and_its_year(day: object) -> None:
    text = str(day)
    low, high = date_range(text)
    for wider in (text[:7], text[:4]):
        outer_low, outer_high = date_range(wider)
        assert outer_low <= low < high <= outer_high


@given(st.decimals(-(10**9), 10**9, places=4))
def test_a_number_lies_in_its_range(value: Decimal) -> None:
    low, high = decimal_range(value)
    assert low < value < high


@given(st.text(max_size=40))
def test_prefixes_begin_the_normal_form(text: str) -> None:
    normalised = normalise_string(text)
    assert normalise_string(normalised) == normalised
    assert all(normalised.startswith(prefix) for prefix in prefixes(normalised))
    assert len(prefixes(normalised)) == min(len(normalised), 16)
    for length in range(1, len(normalised) + 1):
        assert text_prefix(normalised[:length]) in ["", *text_prefixes(normalised)]
        assert len(text_prefix(normalised[:length])) == max((n for n in TEXT_LENGTHS if n <= length), default=0)
