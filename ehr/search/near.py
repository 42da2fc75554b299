"""Locations near a place, by distance on the ground: https://hl7.org/fhir/R4/location.html#positional.

The index finds positions in the box around the circle, and the distance of each is computed by the haversine formula on
a sphere of the earth's mean radius.
"""

import math
import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from ehr.errors import BadSearch
from ehr.indexing import LATITUDE, LONGITUDE, unit_of
from ehr.search.query import Criterion, NearValue, SearchQuery
from ehr.search.rendering import NEVER, Condition, Rendering
from ehr.search.text import split, unescape

CODE = "near"
MODIFIERS = frozenset({"missing"})
EARTH_RADIUS_M = 6_371_008.8
DEFAULT_DISTANCE_M = 50_000.0
"""What is near where no distance is given (SC-57)."""
_FARTHEST_M = 4 * EARTH_RADIUS_M
"""More than half way around: every place is as near."""
_NUMBER = re.compile(r"[+-]?\d{1,12}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_STEP = Decimal("1e-9")
"""Degrees by which the box is wider than the circle: a tenth of a millimetre, far more than what floats lose."""
_FORM = "[latitude]|[longitude]|[distance]|[units]"


def parse_value(name: str, text: str) -> NearValue:
    """Read a place, a distance (50 km where there is none) and its unit (km); BadSearch for anything else."""
    parts = [unescape(part) for part in split(text, "|")]
    if not 2 <= len(parts) <= 4:
        raise BadSearch(f"{name}: {_FORM}")
    latitude, longitude = (_number(name, part) for part in parts[:2])
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise BadSearch(f"{name}: a latitude is between -90 and 90, a longitude between -180 and 180")
    distance = parts[2] if len(parts) > 2 else ""
    unit_code = (parts[3] if len(parts) > 3 else "") or "km"
    unit = unit_of(unit_code)
    if unit is None or unit.dimension != "m":
        raise BadSearch(f"{name}: no unit of length in UCUM: {unit_code[:40]}")
    if not distance:
        return NearValue(latitude, longitude, DEFAULT_DISTANCE_M)
    metres = float(unit.converted(Decimal(str(_number(name, distance)))))
    if metres < 0:
        raise BadSearch(f"{name}: a distance is not below 0")
    return NearValue(latitude, longitude, min(metres, _FARTHEST_M))


def _number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise BadSearch(f"{name}: not a number: {text[:40]} ({_FORM})")
    return float(text)


def condition(rendering: Rendering, alias: str, criterion: Criterion) -> Condition:
    """Rows whose position is within the distance of one of the places."""
    values = [value for value in criterion.values if isinstance(value, NearValue)]
    if not values:
        return NEVER
    north, east = rendering.alias("n"), rendering.alias("e")
    latitude, longitude = rendering.add(LATITUDE, "integer"), rendering.add(LONGITUDE, "integer")
    tests = [_within(rendering, f"{north}.low", f"{east}.low", value) for value in values]
    return Condition(
        sql=f"exists (select 1 from index_number {north} join index_number {east} on {east}.key = {north}.key"
        f" where {north}.key = {alias}.key and {north}.parameter = {latitude} and {east}.parameter = {longitude}"
        f" and ({' or '.join(tests)}))"
    )


def _within(rendering: Rendering, latitude: str, longitude: str, value: NearValue) -> str:
    """The box, which the index has, and the circle within it."""

    def place(number: float) -> str:
        return rendering.add(number, "double precision")

    low, high = _around(value.latitude, math.degrees(value.distance_m / EARTH_RADIUS_M))
    box = f"{latitude} between {rendering.add(low, 'numeric')} and {rendering.add(high, 'numeric')}"
    turn = _turn(value)
    if turn is not None:
        west, east = (rendering.add(bound, "numeric") for bound in turn)
        # across the meridian of 180 degrees the eastern bound is the lower number
        joined = "and" if turn[0] <= turn[1] else "or"
        box += f" and ({longitude} >= {west} {joined} {longitude} <= {east})"
    north, east_of = place(value.latitude), place(value.longitude)
    haversine = (
        f"power(sind(({latitude}::double precision - {north}) / 2), 2) + cosd({latitude}::double precision)"
        f" * cosd({north}) * power(sind(({longitude}::double precision - {east_of}) / 2), 2)"
    )
    metres = f"{2 * EARTH_RADIUS_M} * asin(least(1, sqrt({haversine})))"
    return f"({box} and {metres} <= {place(value.distance_m)})"


def distance_m(query: SearchQuery, location: dict[str, Any]) -> float | None:
    """How far a Location is from the nearest place that the query names; None where it names none."""
    values = [
        value
        for clause in query.clauses
        if isinstance(clause, Criterion) and clause.kind == "special"
        for value in clause.values
        if isinstance(value, NearValue)
    ]
    position = location.get("position", {})
    if not values or "latitude" not in position or "longitude" not in position:
        return None
    north, east = (math.radians(position[name]) for name in ("latitude", "longitude"))
    return min(_apart_m(value, north, east) for value in values)


def _apart_m(value: NearValue, north: float, east: float) -> float:
    """The haversine formula, of which the statement has the same; angles in radians."""
    latitude, longitude = math.radians(value.latitude), math.radians(value.longitude)
    haversine = (
        math.sin((north - latitude) / 2) ** 2
        + math.cos(north) * math.cos(latitude) * math.sin((east - longitude) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(haversine)))


def _around(centre: float, reach: float) -> tuple[Decimal, Decimal]:
    return (
        Decimal(centre - reach).quantize(_STEP, ROUND_FLOOR) - _STEP,
        Decimal(centre + reach).quantize(_STEP, ROUND_CEILING) + _STEP,
    )


def _turn(value: NearValue) -> tuple[Decimal, Decimal] | None:
    """The longitudes that the circle touches; None where it goes around a pole."""
    angle = value.distance_m / EARTH_RADIUS_M
    if abs(value.latitude) + math.degrees(angle) >= 90 - 1e-6:
        return None
    reach = math.degrees(math.asin(math.sin(angle) / math.cos(math.radians(value.latitude))))
    west, east = _around(value.longitude, reach)
    return (west + 360 if west < -180 else west, east - 360 if east >= 180 else east)
