"""Conversion, mathematics and the clock (http://hl7.org/fhirpath/N1/#conversion, #math, #current-date-and-time)."""

import re
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_UP, Decimal, DecimalException
from typing import Any

from ehr.fhirpath.environment import Compile, Environment, Step
from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item
from ehr.fhirpath.operators import MAXIMUM_INTEGER, single
from ehr.fhirpath.quantity import Quantity, quantity_of
from ehr.fhirpath.registry import builder, on_value
from ehr.fhirpath.syntax import Expression
from ehr.fhirpath.temporal import Temporal

# ruff: noqa: FBT001 - builders have one shape, whose last argument is the strict flag

_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0"})
MAXIMUM_PLACES = 31


def _to_boolean(value: Any) -> bool | None:
    if type(value) is bool:
        return value
    if type(value) is str:
        text = value.lower()
        return True if text in _TRUE else False if text in _FALSE else None
    if type(value) is int or type(value) is Decimal:
        return True if value == 1 else False if value == 0 else None
    return None


def _to_integer(value: Any) -> int | None:
    if type(value) is bool or type(value) is int:
        return int(value)
    if type(value) is str and re.fullmatch(r"[+-]?\d{1,10}", value) and abs(int(value)) <= MAXIMUM_INTEGER:
        return int(value)
    return None


def _to_decimal(value: Any) -> Decimal | None:
    if type(value) is bool or type(value) is int:
        return Decimal(int(value))
    if type(value) is Decimal:
        return value
    if type(value) is str and re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return Decimal(value)
    return None


def _to_string(value: Any) -> str | None:
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is Decimal:
        return format(value, "f")
    return str(value) if isinstance(value, str | int | Temporal | Quantity) else None


def _to_date(value: Any) -> Temporal | None:
    if isinstance(value, str):
        found = Temporal.date_time(value)
        return None if found is None else Temporal("Date", found.parts[:3])
    if isinstance(value, Temporal) and value.kind != "Time":
        return Temporal("Date", value.parts[:3])
    return None


def _to_date_time(value: Any) -> Temporal | None:
    if isinstance(value, str):
        return Temporal.date_time(value)
    if isinstance(value, Temporal) and value.kind != "Time":
        return Temporal("DateTime", value.parts, value.fraction, value.offset)
    return None


def _to_time(value: Any) -> Temporal | None:
    if isinstance(value, str):
        return Temporal.time(value)
    return value if isinstance(value, Temporal) and value.kind == "Time" else None


def _to_quantity(value: Any) -> Quantity | None:
    if isinstance(value, Quantity):
        return value
    if isinstance(value, str):
        return quantity_of(value)
    number = _to_decimal(value)
    return None if number is None else Quantity(number, "1")


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Boolean": _to_boolean,
    "Integer": _to_integer,
    "Decimal": _to_decimal,
    "String": _to_string,
    "Date": _to_date,
    "DateTime": _to_date_time,
    "Time": _to_time,
    "Quantity": _to_quantity,
}


def _register_conversion(name: str, convert: Callable[[Any], Any]) -> None:
    @builder(f"to{name}", 0, 1)
    def _convert(expressions: tuple[Expression, ...], compiled: Compile, _: bool) -> Step:
        unit = compiled(expressions[0]) if expressions else None

        def step(items: list[Item], this: list[Item], environment: Environment) -> list[Item]:
            value = single(items, f"to{name}()")
            found = None if value is None else convert(value)
            if found is not None and unit is not None:
                wanted = single(unit(this, environment), f"to{name}()")
                return [found] if getattr(found, "unit", None) == wanted else []
            return [] if found is None else [found]

        return step

    @builder(f"convertsTo{name}", 0, 1)
    def _converts(_expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
        def step(items: list[Item], _this: list[Item], _environment: Environment) -> list[Item]:
            value = single(items, f"convertsTo{name}()")
            return [] if value is None else [convert(value) is not None]

        return step


for _name, _conversion in _CONVERSIONS.items():
    _register_conversion(_name, _conversion)


def _decimal(value: Any) -> Decimal:
    if type(value) is not int and type(value) is not Decimal:
        raise FhirPathError("FHIRPath: a number is wanted")
    return Decimal(value)


@on_value("abs")
def _abs(value: Any) -> Any:
    return Quantity(abs(value.value), value.unit, value.calendar) if isinstance(value, Quantity) else abs(value)


@on_value("ceiling")
def _ceiling(value: Any) -> int:
    return int(_decimal(value).to_integral_value(ROUND_CEILING))


@on_value("floor")
def _floor(value: Any) -> int:
    return int(_decimal(value).to_integral_value(ROUND_FLOOR))


@on_value("truncate")
def _truncate(value: Any) -> int:
    return int(_decimal(value).to_integral_value(ROUND_DOWN))


@on_value("round", 0, 1)
def _round(value: Any, places: int = 0) -> Decimal:
    if not 0 <= places <= MAXIMUM_PLACES:
        raise FhirPathError("FHIRPath: round() takes 0 to 31 places")
    return _decimal(value).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


def _finite(operation: Callable[[], Decimal]) -> Decimal | None:
    try:
        found = operation()
    except DecimalException:
        return None
    return found if found.is_finite() else None


@on_value("exp")
def _exp(value: Any) -> Decimal | None:
    return _finite(_decimal(value).exp)


@on_value("ln")
def _ln(value: Any) -> Decimal | None:
    return _finite(_decimal(value).ln)


@on_value("log", 1)
def _log(value: Any, base: Any) -> Decimal | None:
    found = _finite(lambda: _decimal(value).ln() / _decimal(base).ln())
    return None if found is None else found.quantize(Decimal("1e-20"))


@on_value("sqrt")
def _sqrt(value: Any) -> Decimal | None:
    return None if value < 0 else _decimal(value).sqrt()


@on_value("power", 1)
def _power(value: Any, exponent: Any) -> Any:
    found = _finite(lambda: _decimal(value) ** _decimal(exponent))
    whole = type(value) is int and type(exponent) is int and exponent >= 0
    return int(found) if whole and found is not None and abs(found) <= MAXIMUM_INTEGER else found


@builder("today")
def _today(_expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
    return lambda _items, _this, environment: [Temporal("Date", Temporal.at(environment.now()).parts[:3])]


@builder("now")
def _now(_expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
    return lambda _items, _this, environment: [Temporal.at(environment.now())]


@builder("timeOfDay")
def _time_of_day(_expressions: tuple[Expression, ...], _compiled: Compile, _: bool) -> Step:
    return lambda _items, _this, environment: [
        Temporal("Time", (1, 1, 1, *Temporal.at(environment.now()).parts[3:]), fraction=3)
    ]
