"""Number parameters: https://hl7.org/fhir/R4/search.html#number.

The index holds exact bounds: a plain number is the point low = high, a Range its two ends. A value without prefix
stands for the range that its written precision implies; with gt, lt, ge, le, sa and eb it is exact.
"""

import re
from decimal import Context, Decimal

from ehr.errors import BadSearch
from ehr.keys import parameter_number
from ehr.search.prefix import split_prefix
from ehr.search.query import Criterion, NumberValue
from ehr.search.rendering import NEVER, Condition, Rendering

MODIFIERS = frozenset({"missing"})
_NUMBER = re.compile(r"([+-]?)(\d{1,40})(?:\.(\d{1,40}))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)
_LARGEST_EXPONENT = 100
_EXACTLY = Context(prec=300)
"""More digits than a value has, so that nothing is rounded."""


def parse_value(name: str, text: str) -> NumberValue:
    """Read a prefix and a decimal; BadSearch for anything else."""
    prefix, rest = split_prefix(text)
    match = _NUMBER.fullmatch(rest)
    if match is None or abs(int(match[4] or 0)) > _LARGEST_EXPONENT:
        raise BadSearch(f"{name}: not a number: {text[:40]}")
    value = Decimal(rest)
    exponent = value.as_tuple().exponent
    half = Decimal(5).scaleb(int(exponent) - 1)
    low, high = _EXACTLY.subtract(value, half), _EXACTLY.add(value, half)
    if prefix == "ap":
        tenth = _EXACTLY.scaleb(abs(value), -1)
        low, high = min(low, _EXACTLY.subtract(value, tenth)), max(high, _EXACTLY.add(value, tenth))
    return NumberValue(prefix, value, low, high)


def comparison(rendering: Rendering, alias: str, value: NumberValue) -> str:
    """The comparison of one index row (columns low and high) with one value."""

    def exact() -> str:
        return rendering.add(value.value, "numeric")

    if value.prefix in ("eq", "ne"):
        low, high = rendering.add(value.low, "numeric"), rendering.add(value.high, "numeric")
        within = f"{alias}.low >= {low} and {alias}.high < {high}"
        return f"({within} and {alias}.low < {high})" if value.prefix == "eq" else f"(not ({within}))"
    if value.prefix == "ap":
        low, high = rendering.add(value.low, "numeric"), rendering.add(value.high, "numeric")
        return f"({alias}.low <= {high} and {alias}.high >= {low})"
    column, operator = {
        "gt": ("high", ">"),
        "ge": ("high", ">="),
        "lt": ("low", "<"),
        "le": ("low", "<="),
        "sa": ("low", ">"),
        "eb": ("high", "<"),
    }[value.prefix]
    return f"({alias}.{column} {operator} {exact()})"


def admits(value: NumberValue, low: Decimal, high: Decimal) -> bool:  # noqa: PLR0911 - one return for each prefix
    """The same comparison for bounds that were extracted from an opened row."""
    match value.prefix:
        case "gt":
            return high > value.value
        case "ge":
            return high >= value.value
        case "lt":
            return low < value.value
        case "le":
            return low <= value.value
        case "sa":
            return low > value.value
        case "eb":
            return high < value.value
        case "ap":
            return low <= value.high and high >= value.low
    within = low >= value.low and high < value.high
    return not within if value.prefix == "ne" else within and low < value.high


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """Rows with a number that one of the values admits."""
    index = rendering.alias("n")
    tests = [comparison(rendering, index, value) for value in criterion.values if isinstance(value, NumberValue)]
    if not tests:
        return NEVER
    parameter = rendering.add(parameter_number(criterion.resource_type, criterion.code), "integer")
    return Condition(
        sql=f"exists (select 1 from index_number {index} where {index}.key = {alias}.key"
        f" and {index}.parameter = {parameter} and ({' or '.join(tests)}))"
    )
