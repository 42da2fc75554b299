"""Equality, ordering, arithmetic and logic of FHIRPath (http://hl7.org/fhirpath/N1/#operations).

Collections are lists; the empty list is FHIRPath's `{ }`.
"""

from collections.abc import Callable
from decimal import ROUND_HALF_UP, Decimal, DecimalException, localcontext
from typing import Any

from ehr.fhirpath.errors import FhirPathError
from ehr.fhirpath.nodes import Item, Node, system_value
from ehr.fhirpath.quantity import Quantity, product_code
from ehr.fhirpath.temporal import Temporal

TRUE: list[Item] = [True]
FALSE: list[Item] = [False]
MAXIMUM_INTEGER = 2**31 - 1
MAXIMUM_PAIRS = 1_000_000
Truth = bool | None
"""A Boolean of three values; None is unknown."""


def is_number(value: Any) -> bool:
    """Whether a System value is an Integer or a Decimal (a Boolean is none)."""
    return type(value) is int or type(value) is Decimal


def single(items: list[Item], what: str) -> Any:
    """The System value of the only item; None for an empty collection, an error for several."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"FHIRPath: {what} takes one item, found {len(items)}")
    return system_value(items[0])


def truth(items: list[Item], what: str) -> bool | None:
    """A collection as a Boolean: empty is None, a single item that is no Boolean counts as true."""
    if not items:
        return None
    if len(items) > 1:
        raise FhirPathError(f"FHIRPath: {what} takes one Boolean, found {len(items)} items")
    value = system_value(items[0])
    return value if type(value) is bool else True


def _quantities_equal(left: Quantity, right: Quantity) -> bool | None:
    if left.code() == right.code() and left.code() is not None:
        return left.value == right.value
    if left.calendar != right.calendar and (left.code() is None or right.code() is None):
        return None
    if left.calendar and right.calendar and left.code() is None and right.code() is None:
        return _calendar_months(left) == _calendar_months(right)
    mine, others = left.base(), right.base()
    if mine is None or others is None:
        return None
    return mine[1] == others[1] and mine[0] == others[0]


def _calendar_months(quantity: Quantity) -> Decimal:
    return quantity.value * (12 if quantity.unit.startswith("year") else 1)


def values_equal(left: Item, right: Item) -> bool | None:  # noqa: PLR0911 - one return for each pair of types
    """Equality of two items; None where precision leaves it open."""
    mine, others = system_value(left), system_value(right)
    if isinstance(mine, Temporal) and isinstance(others, Temporal):
        if (mine.kind == "Time") != (others.kind == "Time"):
            return False
        order = mine.compared(others)
        return None if order is None else order == 0
    if isinstance(mine, Temporal) and isinstance(others, str):
        return str(mine) == others
    if isinstance(mine, str) and isinstance(others, Temporal):
        return mine == str(others)
    if isinstance(mine, Quantity) and isinstance(others, Quantity):
        return _quantities_equal(mine, others)
    if is_number(mine) and is_number(others):
        return bool(mine == others)
    if isinstance(mine, Node) and isinstance(others, Node):
        return json_equal(mine.value, others.value) and mine.sibling == others.sibling
    if mine is None and others is None:
        return isinstance(left, Node) and isinstance(right, Node) and left.sibling == right.sibling
    return type(mine) is type(others) and bool(mine == others)


def json_equal(left: Any, right: Any) -> bool:
    """Equality of two JSON values in which true is not 1."""
    if type(left) is not type(right):
        return is_number(left) and is_number(right) and bool(left == right)
    if type(left) is dict:
        return left.keys() == right.keys() and all(json_equal(value, right[key]) for key, value in left.items())
    if type(left) is list:
        return len(left) == len(right) and all(map(json_equal, left, right))
    return bool(left == right)


def equal(left: list[Item], right: list[Item]) -> bool | None:
    """`=`: None when a side is empty."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unknown = False
    for mine, others in zip(left, right, strict=True):
        found = values_equal(mine, others)
        if found is False:
            return False
        unknown = unknown or found is None
    return None if unknown else True


def _scale(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def _rounded_equal(left: Decimal, right: Decimal) -> bool:
    """Equality after rounding to the precision of the less precise, trailing zeros aside."""
    places = min(_scale(left.normalize()), _scale(right.normalize()))
    step = Decimal(1).scaleb(-places)
    return left.quantize(step, ROUND_HALF_UP) == right.quantize(step, ROUND_HALF_UP)


def values_equivalent(left: Item, right: Item) -> bool:
    """Equivalence of two items (`~`)."""
    mine, others = system_value(left), system_value(right)
    if isinstance(mine, str) and isinstance(others, str):
        return " ".join(mine.lower().split()) == " ".join(others.lower().split())
    if is_number(mine) and is_number(others):
        return _rounded_equal(Decimal(mine), Decimal(others))
    if isinstance(mine, Quantity) and isinstance(others, Quantity):
        return _quantities_equivalent(mine, others)
    if isinstance(mine, Node) and isinstance(others, Node):
        return _json_equivalent(mine.value, others.value)
    return values_equal(left, right) is True


def _quantities_equivalent(left: Quantity, right: Quantity) -> bool:
    if left.code() == right.code() and left.code() is not None:
        return _rounded_equal(left.value, right.value)
    mine, others = left.base(), right.base()
    if mine is None or others is None:
        singular = {"a": "year", "mo": "month"}
        names = [singular.get(quantity.unit, quantity.duration_unit()) for quantity in (left, right)]
        return names[0] == names[1] and left.value == right.value
    if mine[1] != others[1]:
        return False
    factor = mine[0] / left.value if left.value else Decimal(1)
    return _rounded_equal(left.value, others[0] / factor)


def _json_equivalent(left: Any, right: Any) -> bool:
    if type(left) is dict and type(right) is dict:
        keys = {key for key in left if key != "id"}
        return keys == {key for key in right if key != "id"} and all(_json_equivalent(left[k], right[k]) for k in keys)
    if type(left) is list and type(right) is list:
        return len(left) == len(right) and all(any(_json_equivalent(a, b) for b in right) for a in left)
    if type(left) is str and type(right) is str:
        return left.casefold() == right.casefold()
    return json_equal(left, right)


def equivalent(left: list[Item], right: list[Item]) -> bool:
    """`~`: order does not count, empty is equivalent to empty."""
    if len(left) != len(right):
        return False
    rest = list(right)
    for mine in left:
        for place, others in enumerate(rest):
            if values_equivalent(mine, others):
                del rest[place]
                break
        else:
            return False
    return True


def ordered(left: list[Item], right: list[Item], operator: str) -> int | None:
    """-1, 0 or 1 for two single items; None when a side is empty or precision leaves it open."""
    mine, others = single(left, operator), single(right, operator)
    if mine is None or others is None:
        return None
    if is_number(mine) and is_number(others):
        return int((mine > others) - (mine < others))
    if isinstance(mine, str) and isinstance(others, Temporal):
        mine = _temporal_like(mine, others)
    elif isinstance(mine, Temporal) and isinstance(others, str):
        others = _temporal_like(others, mine)
    if isinstance(mine, str) and isinstance(others, str):
        return (mine > others) - (mine < others)
    if isinstance(mine, Temporal) and isinstance(others, Temporal) and (mine.kind == "Time") == (others.kind == "Time"):
        return mine.compared(others)
    if isinstance(mine, Quantity) and isinstance(others, Quantity):
        return _quantities_ordered(mine, others)
    raise FhirPathError(f"FHIRPath: {operator} cannot compare these types")


def _temporal_like(text: str, like: Temporal) -> Temporal | str:
    found = Temporal.time(text) if like.kind == "Time" else Temporal.date_time(text)
    return text if found is None else found


def _quantities_ordered(left: Quantity, right: Quantity) -> int | None:
    if left.code() == right.code() and left.code() is not None:
        return (left.value > right.value) - (left.value < right.value)
    if left.calendar and right.calendar and left.code() is None and right.code() is None:
        mine, others = _calendar_months(left), _calendar_months(right)
        return (mine > others) - (mine < others)
    converted, other = left.base(), right.base()
    if converted is None or other is None or converted[1] != other[1]:
        return None
    return (converted[0] > other[0]) - (converted[0] < other[0])


def _moved(moment: Temporal, amount: Quantity, sign: int) -> Temporal:
    unit = amount.duration_unit()
    if unit is None:
        raise FhirPathError(f"FHIRPath: a date cannot be moved by {amount.unit!r}")
    value = amount.value * sign
    if moment.kind == "Date" and unit in {"hour", "minute", "second", "millisecond"}:
        milliseconds = {"hour": 3_600_000, "minute": 60_000, "second": 1000, "millisecond": 1}[unit]
        value, unit = Decimal(int(value * milliseconds / 86_400_000)), "day"
    return moment.plus(value, unit)


def _sum(left: Any, right: Any, sign: int) -> Any:
    if isinstance(left, Temporal) and isinstance(right, Quantity):
        return _moved(left, right, sign)
    if is_number(left) and is_number(right):
        return left + right * sign
    if isinstance(left, Quantity) and isinstance(right, Quantity):
        return _quantity_sum(left, right, sign)
    if sign == 1 and isinstance(left, str) and isinstance(right, str):
        return left + right
    raise FhirPathError(f"FHIRPath: {'+' if sign == 1 else '-'} cannot take these types")


def _quantity_sum(left: Quantity, right: Quantity, sign: int) -> Quantity | None:
    if left.unit == right.unit:
        return Quantity(left.value + right.value * sign, left.unit, left.calendar)
    mine, others = left.base(), right.base()
    if mine is None or others is None or mine[1] != others[1] or not left.value:
        return None
    return Quantity(left.value + others[0] * sign / (mine[0] / left.value), left.unit, left.calendar)


def _product(left: Any, right: Any, *, divide: bool) -> Any:
    if divide and (right == 0 or (isinstance(right, Quantity) and right.value == 0)):
        return None
    if is_number(left) and is_number(right):
        return Decimal(left) / Decimal(right) if divide else left * right
    mine = left if isinstance(left, Quantity) else Quantity(Decimal(left), "1") if is_number(left) else None
    others = right if isinstance(right, Quantity) else Quantity(Decimal(right), "1") if is_number(right) else None
    if mine is None or others is None:
        raise FhirPathError(f"FHIRPath: {'/' if divide else '*'} cannot take these types")
    value = mine.value / others.value if divide else mine.value * others.value
    return Quantity(value, product_code(mine.code() or "", others.code() or "", -1 if divide else 1))


def _whole_quotient(left: Any, right: Any) -> Any:
    if not is_number(left) or not is_number(right):
        raise FhirPathError("FHIRPath: div takes numbers")
    return None if right == 0 else int(Decimal(left) // Decimal(right))


def _remainder(left: Any, right: Any) -> Any:
    if not is_number(left) or not is_number(right):
        raise FhirPathError("FHIRPath: mod takes numbers")
    if right == 0:
        return None
    found = Decimal(left) % Decimal(right)
    return int(found) if type(left) is int and type(right) is int else found


ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda left, right: _sum(left, right, 1),
    "-": lambda left, right: _sum(left, right, -1),
    "*": lambda left, right: _product(left, right, divide=False),
    "/": lambda left, right: _product(left, right, divide=True),
    "div": _whole_quotient,
    "mod": _remainder,
}


def calculated(operator: str, left: list[Item], right: list[Item]) -> list[Item]:
    """An arithmetic operator on two collections; empty where a side is, or where the result has no value."""
    mine, others = single(left, operator), single(right, operator)
    if mine is None or others is None:
        return []
    try:
        with localcontext() as context:
            context.prec = 28
            found = ARITHMETIC[operator](mine, others)
    except DecimalException as error:
        raise FhirPathError(f"FHIRPath: {operator} left the range of numbers") from error
    if found is None or (type(found) is int and abs(found) > MAXIMUM_INTEGER + 1):
        return []
    return [found]


def conjunction(left: Truth, right: Truth) -> Truth:
    """Three-valued `and`."""
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


def disjunction(left: Truth, right: Truth) -> Truth:
    """Three-valued `or`."""
    if left is True or right is True:
        return True
    return None if left is None or right is None else False


def exclusive(left: Truth, right: Truth) -> Truth:
    """Three-valued `xor`."""
    return None if left is None or right is None else left is not right


def implication(left: Truth, right: Truth) -> Truth:
    """Three-valued `implies`."""
    if left is False or right is True:
        return True
    return None if left is None or right is None else right


LOGIC = {"and": conjunction, "or": disjunction, "xor": exclusive, "implies": implication}


def distinct(items: list[Item]) -> list[Item]:
    """Items without repetitions, in order."""
    if len(items) < 2:
        return items
    found: list[Item] = []
    seen: set[Any] = set()
    unmarked: list[Item] = []
    for item in items:
        mark = _mark(item)
        if mark is not None:
            if mark not in seen:
                seen.add(mark)
                found.append(item)
        elif not _among(unmarked, item):
            unmarked.append(item)
            found.append(item)
            _bound(len(unmarked) * len(items))
    return found


def _mark(item: Item) -> Any:
    """What can stand for the item in a set: strings and Booleans; None for all else."""
    value = system_value(item)
    kind = type(value)
    return (kind, value) if kind is str or kind is bool else None


def _bound(pairs: int) -> None:
    if pairs > MAXIMUM_PAIRS:
        raise FhirPathError("FHIRPath: too many items to compare each with each")


def _among(items: list[Item], item: Item) -> bool:
    return any(values_equal(other, item) is True for other in items)


def member(items: list[Item], item: Item) -> bool:
    """Whether a collection holds an equal item."""
    return members(items, [item])[0]


def members(items: list[Item], wanted: list[Item]) -> list[bool]:
    """For each of the wanted items, whether a collection holds an equal one."""
    if len(wanted) < 2 or len(items) < 2:
        return [_among(items, item) for item in wanted]
    marks = {_mark(item) for item in items}
    unmarked = [item for item in items if _mark(item) is None] if None in marks else []
    _bound(len(unmarked) * len(wanted))
    without_mark = [item for item in wanted if _mark(item) is None]
    _bound(len(without_mark) * len(items))
    return [
        (mark is not None and mark in marks) or _among(unmarked if mark is not None else items, item)
        for mark, item in ((_mark(item), item) for item in wanted)
    ]
