"""`_sort`: https://hl7.org/fhir/R4/search.html#sort.

Of several values of a row the lowest counts going up and the highest going down, of a range its start (SC-12); rows
without the value come last both ways. Dates, numbers, quantities, `_id` and `_lastUpdated` are sorted by the database,
words by opening the bodies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cmp_to_key
from typing import Any

from ehr.indexing import MAIN_DATE, answering
from ehr.keys import parameter_number
from ehr.search.page import Position
from ehr.search.query import SearchQuery, SortKey
from ehr.search.rendering import Rendering

_IN_DOUBT_US = 120_000_000
_TABLES = {"date": "index_date", "number": "index_number", "quantity": "index_quantity"}
NEWEST_FIRST = SortKey("_lastUpdated", "date", descending=True)


def keys_of(query: SearchQuery) -> tuple[SortKey, ...]:
    """The order of a query: newest first where none is asked for."""
    return query.sort or (NEWEST_FIRST,)


def by_words(key: SortKey) -> bool:
    """Whether the values can be compared only after opening the bodies."""
    return key.kind not in _TABLES and key.code != "_id"


@dataclass(frozen=True, slots=True)
class Order:
    """The order of one statement: an SQL expression for each key, and the direction of the last key for ties."""

    keys: tuple[SortKey, ...]
    expressions: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def ties_descending(self) -> bool:
        """Rows with equal values follow their keys, in the direction of the last sort key."""
        return self.keys[-1].descending

    @property
    def is_by_main_date(self) -> bool:
        """Whether the rows' column `at` is the only sort value."""
        return len(self.keys) == 1 and self.expressions[0].endswith(".at")

    def columns(self) -> str:
        """The select list of the sort values: s0, s1, ..."""
        return ", ".join(f"{expression} as s{number}" for number, expression in enumerate(self.expressions))

    def by(self, alias: str) -> str:
        """The `order by` over a table with the columns s0, s1, ... and key."""
        parts = []
        for number, key in enumerate(self.keys):
            direction = "desc" if key.descending else "asc"
            parts.append(f"{_column(alias, number)} {direction}" + ("" if never_missing(key) else " nulls last"))
        parts.append(f"{alias}key {'desc' if self.ties_descending else 'asc'}")
        return ", ".join(parts)

    def by_expression(self, alias: str, *, first_is_there: bool = False) -> str:
        """The `order by` over the rows themselves; `first_is_there` says that none lacks the first sort value."""
        parts = []
        for number, (key, expression) in enumerate(zip(self.keys, self.expressions, strict=True)):
            direction = "desc" if key.descending else "asc"
            there = never_missing(key) or (first_is_there and number == 0)
            parts.append(f"{expression} {direction}" + ("" if there else " nulls last"))
        parts.append(f"{alias}.key {'desc' if self.ties_descending else 'asc'}")
        return ", ".join(parts)

    def after(self, rendering: Rendering, alias: str, position: Position) -> str:
        """The condition on a row to come behind the position."""
        key = rendering.add(position.key, "bigint")
        if self.keys in ((NEWEST_FIRST,), (SortKey("_lastUpdated", "date", descending=False),)):
            last = rendering.add(position.values[0], "bigint")
            sign = "<" if self.ties_descending else ">"
            return f"({alias}.last_updated, {alias}.key) {sign} ({last}, {key})"
        ties = f"{alias}.key {'<' if self.ties_descending else '>'} {key}"
        for number in reversed(range(len(self.keys))):
            expression, value = self.expressions[number], position.values[number]
            if value is None:
                ties = f"({expression} is null and {ties})"
                continue
            bound = rendering.add(_as_sql(value, self.types[number]), self.types[number])
            sign = "<" if self.keys[number].descending else ">"
            missing = "" if never_missing(self.keys[number]) else f" or {expression} is null"
            ties = f"({expression} {sign} {bound}{missing} or ({expression} = {bound} and {ties}))"
        return ties


def _column(alias: str, number: int) -> str:
    return f"{alias}s{number}"


def never_missing(key: SortKey) -> bool:
    """Whether each row has the value."""
    return key.code in ("_id", "_lastUpdated")


def _as_sql(value: Any, sql_type: str) -> Any:
    return Decimal(value) if sql_type == "numeric" else value


def order_of(rendering: Rendering, alias: str, keys: Sequence[SortKey], resource_type: str) -> Order:
    """The order over the rows of an alias; keys by words are not for here."""
    expressions, types = [], []
    for key in keys:
        if key.code == "_lastUpdated":
            expression, sql_type = f"{alias}.last_updated", "bigint"
        elif key.code == "_id":
            expression, sql_type = f"{alias}.id", "text"
        elif key.kind == "date" and MAIN_DATE.get(resource_type) == key.code:
            expression, sql_type = f"{alias}.at", "bigint"
        else:
            expression = _indexed(rendering, alias, resource_type, key)
            sql_type = "bigint" if key.kind == "date" else "numeric"
        expressions.append(expression)
        types.append(sql_type)
    return Order(tuple(keys), tuple(expressions), tuple(types))


def _indexed(rendering: Rendering, alias: str, resource_type: str, key: SortKey) -> str:
    index = rendering.alias("o")
    numbers = [parameter_number(resource_type, code) for code in answering(resource_type, key.code)]
    parameter = (
        rendering.add(numbers[0], "integer") if len(numbers) == 1 else f"any({rendering.add(numbers, 'integer[]')})"
    )
    extreme = f"{'max' if key.descending else 'min'}({index}.low)"
    return (
        f"(select {extreme} from {_TABLES[key.kind]} {index}"
        f" where {index}.key = {alias}.key and {index}.parameter = {parameter})"
    )


def unmoved(rendering: Rendering, alias: str, position: Position) -> str:
    """The condition that a row is as it was when the first page was read: a later change may have moved it.

    Rows stamped shortly before the first page may have been committed after it; of those the database's snapshot tells.
    """
    started = rendering.add(position.started_us, "bigint")
    snapshot = rendering.add(position.snapshot, "text")
    newest = f"pg_snapshot_xmax({snapshot}::pg_snapshot)::text::bigint"
    transaction = (
        f"({newest} + ((({alias}.xmin::text::bigint - {newest}) & 4294967295) # 2147483648) - 2147483648)::text::xid8"
    )
    return (
        f"{alias}.last_updated <= {started} and ({alias}.last_updated < {started} - {_IN_DOUBT_US}"
        f" or pg_visible_in_snapshot({transaction}, {snapshot}::pg_snapshot))"
    )


def values_at(keys: Sequence[SortKey], position: Position) -> tuple[Any, ...]:
    """The sort values of a position as rows have them: a page link holds numbers as text."""
    return tuple(
        Decimal(value) if value is not None and key.kind in ("number", "quantity") else value
        for key, value in zip(keys, position.values, strict=True)
    )


def compare_rows(keys: Sequence[SortKey], one: tuple[Sequence[Any], int], other: tuple[Sequence[Any], int]) -> int:
    """Compare (values, row key) of two opened rows in the order of the keys: negative, 0 or positive."""
    for key, mine, theirs in zip(keys, one[0], other[0], strict=True):
        if mine == theirs:
            continue
        if mine is None or theirs is None:
            return 1 if mine is None else -1
        smaller = mine < theirs
        return -1 if smaller != key.descending else 1
    if one[1] == other[1]:
        return 0
    return -1 if (one[1] < other[1]) != keys[-1].descending else 1


def comparing(keys: Sequence[SortKey]) -> Any:
    """The key function for sorting (values, row key) pairs in Python."""
    return cmp_to_key(lambda one, other: compare_rows(keys, one, other))
