"""Quantities and as much of UCUM as comparing and multiplying them takes (http://hl7.org/fhirpath/N1/#quantity)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import lru_cache

CALENDAR_UNITS: Mapping[str, str] = {
    plural: unit
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in (unit, unit + "s")
}
"""Keyword of a calendar duration, singular or plural, to its singular."""

UCUM_DURATIONS: Mapping[str, str] = {
    "wk": "week",
    "d": "day",
    "h": "hour",
    "min": "minute",
    "s": "second",
    "ms": "millisecond",
}
"""UCUM codes that equal a calendar duration; years and months differ ("a", "mo")."""

_PREFIXES = {
    "Y": 24,
    "Z": 21,
    "E": 18,
    "P": 15,
    "T": 12,
    "G": 9,
    "M": 6,
    "k": 3,
    "h": 2,
    "da": 1,
    "d": -1,
    "c": -2,
    "m": -3,
    "u": -6,
    "n": -9,
    "p": -12,
    "f": -15,
    "a": -18,
}
_METRIC = {
    "m": ("1", {"m": 1}),
    "g": ("1", {"g": 1}),
    "s": ("1", {"s": 1}),
    "K": ("1", {"K": 1}),
    "Cel": ("1", {"Cel": 1}),
    "cd": ("1", {"cd": 1}),
    "C": ("1", {"C": 1}),
    "rad": ("1", {"rad": 1}),
    "mol": ("602213670000000000000000", {}),
    "L": ("0.001", {"m": 3}),
    "l": ("0.001", {"m": 3}),
    "N": ("1000", {"g": 1, "m": 1, "s": -2}),
    "Pa": ("1000", {"g": 1, "m": -1, "s": -2}),
    "bar": ("100000000", {"g": 1, "m": -1, "s": -2}),
    "J": ("1000", {"g": 1, "m": 2, "s": -2}),
    "cal": ("4184", {"g": 1, "m": 2, "s": -2}),
    "W": ("1000", {"g": 1, "m": 2, "s": -3}),
    "Hz": ("1", {"s": -1}),
    "A": ("1", {"C": 1, "s": -1}),
    "V": ("1000", {"g": 1, "m": 2, "s": -2, "C": -1}),
    "Bq": ("1", {"s": -1}),
    "Gy": ("1", {"m": 2, "s": -2}),
    "Sv": ("1", {"m": 2, "s": -2}),
    "kat": ("602213670000000000000000", {"s": -1}),
    "U": ("10036894500000000", {"s": -1}),
    "eq": ("602213670000000000000000", {}),
    "osm": ("602213670000000000000000", {}),
    "[iU]": ("1", {"[iU]": 1}),
    "[IU]": ("1", {"[iU]": 1}),
    "t": ("1000000", {"g": 1}),
    "m[H2O]": ("9806650", {"g": 1, "m": -1, "s": -2}),
    "m[Hg]": ("133322000", {"g": 1, "m": -1, "s": -2}),
}
_PLAIN = {
    "%": ("0.01", {}),
    "[ppth]": ("0.001", {}),
    "[ppm]": ("0.000001", {}),
    "min": ("60", {"s": 1}),
    "h": ("3600", {"s": 1}),
    "d": ("86400", {"s": 1}),
    "wk": ("604800", {"s": 1}),
    "mo": ("2629800", {"s": 1}),
    "a": ("31557600", {"s": 1}),
    "[in_i]": ("0.0254", {"m": 1}),
    "[ft_i]": ("0.3048", {"m": 1}),
    "[yd_i]": ("0.9144", {"m": 1}),
    "[mi_i]": ("1609.344", {"m": 1}),
    "[lb_av]": ("453.59237", {"g": 1}),
    "[oz_av]": ("28.349523125", {"g": 1}),
    "[degF]": ("1", {"[degF]": 1}),
    "[pH]": ("1", {"[pH]": 1}),
    "deg": ("0.01745329251994329576923690768", {"rad": 1}),
}
_FACTOR = re.compile(r"(\{[^}]*\})|(10[*^])([+-]?\d+)|(\d+)|((?:[A-Za-z%']|\[[^\]]*\])+)([+-]?\d+)?(?:\{[^}]*\})?")

Unit = tuple[Decimal, tuple[tuple[str, int], ...]]
"""Factor to the base units, and their exponents sorted by name."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A System.Quantity; `unit` is a UCUM code, or the keyword of a calendar duration."""

    value: Decimal
    unit: str
    calendar: bool = False

    def __str__(self) -> str:
        """The text as FHIRPath writes it: `1 'mg'`, `4 days`."""
        return f"{self.value} {self.unit}" if self.calendar else f"{self.value} '{self.unit}'"

    def duration_unit(self) -> str | None:
        """The calendar unit (singular) by which a date can be moved; None for years and months of UCUM."""
        keyword = CALENDAR_UNITS.get(self.unit)
        return keyword if keyword is not None else UCUM_DURATIONS.get(self.unit)

    def code(self) -> str | None:
        """The UCUM code; None for calendar years and months, which have no fixed length."""
        if not self.calendar:
            return self.unit
        singular = CALENDAR_UNITS[self.unit]
        return next((code for code, unit in UCUM_DURATIONS.items() if unit == singular), None)

    def base(self) -> tuple[Decimal, tuple[tuple[str, int], ...]] | None:
        """Value in base units and their exponents; None where the unit is not understood."""
        code = self.code()
        unit = None if code is None else unit_of(code)
        return None if unit is None else (self.value * unit[0], unit[1])


def quantity_of(text: str) -> Quantity | None:
    """Parse the text of a quantity (`1 'mg'`, `4 days`, `1`); None when it is none."""
    match = re.fullmatch(r"([+-]?\d+(?:\.\d+)?)(?:\s*'([^']*)'|\s+([a-z]+))?", text.strip())
    if match is None or (match[3] is not None and match[3] not in CALENDAR_UNITS):
        return None
    try:
        value = Decimal(match[1])
    except InvalidOperation:
        return None
    return Quantity(value, match[3] or match[2] or "1", calendar=match[3] is not None)


def _atom(name: str) -> tuple[Decimal, Mapping[str, int]] | None:
    if name in _PLAIN:
        factor, units = _PLAIN[name]
        return Decimal(factor), units
    if name in _METRIC:
        factor, units = _METRIC[name]
        return Decimal(factor), units
    for length in (2, 1):
        rest = _METRIC.get(name[length:])
        power = _PREFIXES.get(name[:length])
        if rest is not None and power is not None:
            return Decimal(rest[0]).scaleb(power), rest[1]
    return None


@lru_cache(maxsize=1024)
def unit_of(code: str) -> Unit | None:
    """The meaning of a UCUM code; None when it is not understood."""
    factor, units = Decimal(1), dict[str, int]()
    divide = False
    at = 0
    while at < len(code):
        if code[at] in "/.":
            divide = code[at] == "/"
            at += 1
        match = _FACTOR.match(code, at)
        if match is None:
            return None
        at = match.end()
        part = _factor(match)
        if part is None:
            return None
        exponent = (-1 if divide else 1) * part[2]
        factor = factor * part[0] ** exponent
        for name, power in part[1].items():
            units[name] = units.get(name, 0) + power * exponent
        divide = False
    return factor, tuple(sorted((name, power) for name, power in units.items() if power))


def _factor(match: re.Match[str]) -> tuple[Decimal, Mapping[str, int], int] | None:
    annotation, _, power, number, name, exponent = match.groups()
    if annotation is not None:
        return Decimal(1), {}, 1
    if power is not None:
        return Decimal(10) ** int(power), {}, 1
    if number is not None:
        return Decimal(number), {}, 1
    found = _atom(name)
    return None if found is None else (*found, int(exponent or 1))


def product_code(left: str, right: str, sign: int) -> str:
    """The UCUM code of a product (`sign` 1) or a quotient (-1), written in base terms where possible."""
    if right == "1":
        return left
    if sign == 1:
        return right if left == "1" else f"{left}.{right}"
    return "1" if left == right else f"{left}/{right}"
