"""Positions of Locations, for `near`: https://hl7.org/fhir/R4/location.html#positional.

Latitude and longitude stand under numbers of their own in the table of numbers, a Location has one position.
"""

from decimal import Decimal
from typing import Any

from ehr.indexing.entries import IndexEntries
from ehr.indexing.plan import Leaf
from ehr.indexing.token import Term
from ehr.keys import parameter_number

POSITION = "Location.position"
"""The type of the values that the parameter selects."""
_FARTHEST = 3600
"""Degrees of longitude, ten turns, beyond which a number is no place."""
LATITUDE = parameter_number("Location", "near:latitude")
LONGITUDE = parameter_number("Location", "near:longitude")


def position_leaf(term: Term) -> Leaf:
    """The leaf for Location.position; longitudes are brought between -180 and 180."""
    present = term("present", "")

    def leaf(value: Any, sink: IndexEntries) -> None:
        latitude, longitude = value.get("latitude"), value.get("longitude")
        if latitude is None or longitude is None or abs(latitude) > 90 or abs(longitude) > _FARTHEST:
            return
        north, east = Decimal(latitude), _within_turn(Decimal(longitude))
        sink.numbers += [(LATITUDE, north, north), (LONGITUDE, east, east)]
        sink.terms.append(present)

    return leaf


def _within_turn(longitude: Decimal) -> Decimal:
    return longitude if -180 <= longitude < 180 else (longitude % 360 + 540) % 360 - 180
