"""Date, number and quantity parameters to rows of the typed tables (https://hl7.org/fhir/R4/search.html#quantity)."""

from collections.abc import Callable
from datetime import tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any

from ehr.fhirpath.model import QUANTITY_TYPES
from ehr.indexing import ucum
from ehr.indexing.dates import period_range, text_range, timing_range
from ehr.indexing.entries import IndexEntries
from ehr.indexing.near import POSITION, position_leaf
from ehr.indexing.plan import Leaf
from ehr.indexing.token import CACHED_VALUES, Term
from ehr.json_text import MAXIMUM_EXPONENT

CURRENCIES = "urn:iso:std:iso:4217"
LEAST, GREATEST = Decimal("-Infinity"), Decimal("Infinity")
_DATE_READERS: dict[str, Callable[[Any, tzinfo], tuple[int, int]]] = {
    "date": text_range,
    "dateTime": text_range,
    "instant": text_range,
    "Period": period_range,
    "Timing": timing_range,
}


def date_leaf(term: Term, number: int, zone: tzinfo, type_name: str, *, main: bool, only: bool) -> Leaf | None:
    """The leaf for dates; with `main` it sets `IndexEntries.at` too, with `only` that and `until` alone."""
    read = _DATE_READERS.get(type_name)
    if read is None:
        return None
    present = term("present", "")

    def leaf(value: Any, sink: IndexEntries) -> None:
        try:
            low, high = read(value, zone)
        except (ValueError, OverflowError):
            return
        sink.terms.append(present)
        if only and sink.until is None:
            sink.at, sink.until = low, high
            return
        sink.dates.append((number, low, high))
        if main and sink.at is None:
            sink.at = low

    return leaf


def number_leaf(term: Term, number: int, type_name: str) -> Leaf | None:
    """The leaf for integers, decimals and Ranges of them, and for the two numbers of a position."""
    if type_name == POSITION:
        return position_leaf(term)
    present = term("present", "")

    def point(value: Any, sink: IndexEntries) -> None:
        found = Decimal(value)
        sink.numbers.append((number, found, found))
        sink.terms.append(present)

    def spread(value: Any, sink: IndexEntries) -> None:
        low, high = value.get("low", {}).get("value"), value.get("high", {}).get("value")
        if low is not None or high is not None:
            sink.numbers.append((number, *_ends(low, high)))
            sink.terms.append(present)

    if type_name in {"integer", "positiveInt", "unsignedInt", "decimal"}:
        return point
    return spread if type_name == "Range" else None


def _ends(low: Any, high: Any) -> tuple[Decimal, Decimal]:
    return LEAST if low is None else Decimal(low), GREATEST if high is None else Decimal(high)


class QuantityLeaves:
    """Makes leaves for the types that a quantity parameter may select."""

    def __init__(self, term: Term, number: int, canonical: int) -> None:
        """Take the terms of one parameter, its number and that of its quantities in base units of UCUM."""
        self._term = term
        self._number = number
        self._canonical = canonical
        self._present = term("present", "")
        self._units: dict[tuple[str | None, str | None, str | None], tuple[int, int, int]] = {}
        self._dimensions: dict[str, int] = {}

    def leaf(self, type_name: str) -> Leaf | None:
        """The leaf for values of a type; None where quantities cannot be made of it."""
        if type_name in QUANTITY_TYPES:
            return self._quantity
        return {"Money": self._money, "Range": self._range, "SampledData": self._sampled}.get(type_name)

    def _unit(self, value: dict[str, Any]) -> tuple[int, int, int]:
        key = (value.get("system"), value.get("code"), value.get("unit"))
        found = self._units.get(key)
        if found is None:
            if len(self._units) >= CACHED_VALUES:
                self._units.clear()
            system, code, unit = key
            both = self._term("token", f"{system or ''}|{code}") if code is not None else 0
            found = self._units[key] = (
                both,
                self._term("token", code) if code is not None else 0,
                self._term("token", unit) if unit is not None else 0,
            )
        return found

    def _add(self, unit: dict[str, Any], low: Decimal, high: Decimal, sink: IndexEntries) -> None:
        sink.quantities.append((self._number, *self._unit(unit), low, high))
        sink.terms.append(self._present)
        known = ucum.unit_of(unit.get("code", "")) if unit.get("system") == ucum.SYSTEM else None
        if known is not None:
            dimension = self._dimensions.get(known.dimension)
            if dimension is None:
                if len(self._dimensions) >= CACHED_VALUES:
                    self._dimensions.clear()
                dimension = self._dimensions[known.dimension] = self._term("unit", known.dimension)
            start = known.converted(low)
            end = start if high is low else known.converted(high)
            sink.quantities.append((self._canonical, 0, dimension, 0, start, end))

    def _quantity(self, value: Any, sink: IndexEntries) -> None:
        number = value.get("value")
        if number is None:
            return
        low = high = Decimal(number)
        comparator = value.get("comparator")
        if comparator in {"<", "<="}:
            low = LEAST
        elif comparator in {">", ">="}:
            high = GREATEST
        self._add(value, low, high, sink)

    def _money(self, value: Any, sink: IndexEntries) -> None:
        number = value.get("value")
        if number is not None:
            currency = value.get("currency")
            unit = {} if currency is None else {"system": CURRENCIES, "code": currency}
            self._add(unit, Decimal(number), Decimal(number), sink)

    def _range(self, value: Any, sink: IndexEntries) -> None:
        low, high = value.get("low", {}), value.get("high", {})
        if low.get("value") is not None or high.get("value") is not None:
            self._add(low or high, *_ends(low.get("value"), high.get("value")), sink)

    def _sampled(self, value: Any, sink: IndexEntries) -> None:
        origin = value.get("origin", {})
        factor = Decimal(value.get("factor", 1))
        zero = Decimal(origin.get("value", 0))
        points = []
        for text in value.get("data", "").split():
            try:
                point = Decimal(text)
            except InvalidOperation:
                continue  # E, L and U stand for errors and values beyond the limits
            if point.is_finite() and abs(point.adjusted()) <= MAXIMUM_EXPONENT:
                points.append(point * factor + zero)
        if points:
            self._add(origin, min(points), max(points), sink)
