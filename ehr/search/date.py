"""Date parameters: https://hl7.org/fhir/R4/search.html#date.

Search values and indexed values are half-open ranges of microseconds; a value without a zone is in the platform's.
"""

from collections.abc import Callable
from datetime import datetime, tzinfo

from ehr.errors import BadSearch, KanglianError
from ehr.indexing import MAIN_DATE, ONE_DATE, PLATFORM_ZONE, date_range
from ehr.keys import parameter_number
from ehr.search.prefix import split_prefix
from ehr.search.query import Criterion, DateValue, Prefix
from ehr.search.rendering import NEVER, Condition, Rendering

MODIFIERS = frozenset({"missing"})
_LONGEST = 40
_COMPARISONS: dict[Prefix, str] = {
    "eq": "({from} >= {low} and {to} <= {high} and {from} < {high})",
    "ne": "(not ({from} >= {low} and {to} <= {high}))",
    "gt": "({to} > {high})",
    "lt": "({from} < {low})",
    "ge": "({to} > {high} or ({from} >= {low} and {to} <= {high}))",
    "le": "({from} < {low} or ({from} >= {low} and {to} <= {high}))",
    "sa": "({from} >= {high})",
    "eb": "({to} <= {low})",
    "ap": "({from} < {high} and {to} > {low})",
}
"""A range [from, to) of the index against the range [low, high) that is looked for."""
_ADMITS: dict[Prefix, Callable[[int, int, int, int], bool]] = {
    "eq": lambda start, end, low, high: start >= low and end <= high and start < high,
    "ne": lambda start, end, low, high: not (start >= low and end <= high),
    "gt": lambda _start, end, _low, high: end > high,
    "lt": lambda start, _end, low, _high: start < low,
    "ge": lambda start, end, low, high: end > high or (start >= low and end <= high),
    "le": lambda start, end, low, high: start < low or (start >= low and end <= high),
    "sa": lambda start, _end, _low, high: start >= high,
    "eb": lambda _start, end, low, _high: end <= low,
    "ap": lambda start, end, low, high: start < high and end > low,
}
"""The same for a range that was extracted from an opened row."""
_DAY_US = 86_400_000_000
_BY_COLUMNS: dict[Prefix, str] = {
    **_COMPARISONS,
    "ge": "({from} >= {low} or {to} > {high})",
    "le": "({from} < {low} or ({from} <= {high} and {to} <= {high}))",
    "eb": "({from} <= {low} and {to} <= {low})",
}
"""The same with the start compared wherever it says something, since an index has the starts."""
_GE_DAY = f"({{from}} >= {{low}} or ({{to}} > {{high}} and {{to}} > {{from}} + {_DAY_US}))"
"""`ge` of a day and more: only what is longer starts before it and ends behind it; an index of its own holds those."""


def parse_value(name: str, text: str, now: datetime, zone: tzinfo = PLATFORM_ZONE) -> DateValue:
    """Read a prefix and a date, dateTime or instant; `now` is what `ap` measures its tenth against.

    `zone` is that of values without one, as in the index.
    """
    prefix, rest = split_prefix(text)
    rest = rest.replace(" ", "+")
    if len(rest) > _LONGEST:
        raise BadSearch(f"{name}: not a date: {text[:40]}")
    try:
        low, high = date_range(rest, zone)
    except (ValueError, OverflowError, KanglianError) as error:
        raise BadSearch(f"{name}: not a date: {text[:40]}") from error
    if prefix == "ap":
        present = int(now.timestamp() * 1_000_000)
        low, high = low - abs(present - low) // 10, high + abs(present - high) // 10
    return DateValue(prefix, low, high)


def comparison(rendering: Rendering, low_sql: str, high_sql: str, value: DateValue) -> str:
    """The comparison of one indexed range with one value, by R4's table of prefixes."""
    return _rendered(rendering, _COMPARISONS[value.prefix], low_sql, high_sql, value)


def _rendered(rendering: Rendering, text: str, low_sql: str, high_sql: str, value: DateValue) -> str:
    named = {"from": low_sql, "to": high_sql}
    if "{low}" in text:
        named["low"] = rendering.add(value.low_us, "bigint")
    if "{high}" in text:
        named["high"] = rendering.add(value.high_us, "bigint")
    return text.format_map(named)


def admits(value: DateValue, low_us: int, high_us: int) -> bool:
    """Whether an extracted range is one that the value admits."""
    return _ADMITS[value.prefix](low_us, high_us, value.low_us, value.high_us)


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """Rows with a date that one of the values admits; `_lastUpdated` is a column of the row."""
    values = [value for value in criterion.values if isinstance(value, DateValue)]
    if not values:
        return NEVER
    if criterion.code == "_lastUpdated":
        column = f"{alias}.last_updated"
        tests = [comparison(rendering, column, f"({column} + 1)", value) for value in values]
        return Condition(sql=f"({' or '.join(tests)})")
    if criterion.resource_type in ONE_DATE and MAIN_DATE[criterion.resource_type] == criterion.code:
        tests = [_by_columns(rendering, alias, value) for value in values]
        share = _share_by_start(rendering, values[0]) if len(values) == 1 else 0.0
        return Condition(sql=f"({' or '.join(tests)})", share=share)
    index = rendering.alias("d")
    tests = [comparison(rendering, f"{index}.low", f"{index}.high", value) for value in values]
    parameter = rendering.add(parameter_number(criterion.resource_type, criterion.code), "integer")
    return Condition(
        sql=f"exists (select 1 from index_date {index} where {index}.key = {alias}.key"
        f" and {index}.parameter = {parameter} and ({' or '.join(tests)}))"
    )


def _share_by_start(rendering: Rendering, value: DateValue) -> float:
    """About which share of the rows the value admits, where the start of a row's range tells it nearly alone."""
    frequencies = rendering.frequencies
    match value.prefix:
        case "ge":
            return frequencies.share_between(value.low_us, None)
        case "sa":
            return frequencies.share_between(value.high_us, None)
        case "lt" | "le":
            return frequencies.share_between(None, value.low_us)
    return 0.0


def _by_columns(rendering: Rendering, alias: str, value: DateValue) -> str:
    """The comparison of the columns that hold the row's only range."""
    text = _GE_DAY if value.prefix == "ge" and value.high_us - value.low_us >= _DAY_US else _BY_COLUMNS[value.prefix]
    return _rendered(rendering, text, f"{alias}.at", f"{alias}.until", value)
