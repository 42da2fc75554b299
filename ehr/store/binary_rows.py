"""Rows in the binary format of COPY, by which many new rows are written at once.

https://www.postgresql.org/docs/current/sql-copy.html (Binary Format). In an array of rows the driver encodes one of
`resource` in 16 us, most of it asking each term whether it is an array; these bytes take 4 us, and the server copies
less of them.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any

import asyncpg

from ehr.store import schema

Row = tuple[Any, ...]
"""One value for each column."""

_START = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_BIGINT_OID = 20

_five_numbers = Struct(">hiqiqiqiqiq").pack
_bigint = Struct(">iq").pack
_versions_and_type = Struct(">iiiiihihi?").pack
_integer = Struct(">ii").pack
_length = Struct(">i").pack
_date = Struct(">hiqiqiqii").pack
_logged = Struct(">hiqiiihiciq").pack
_EMPTY_ARRAY = Struct(">iiii").pack(12, 0, 0, _BIGINT_OID)

_RESOURCE = tuple(column.name for column in schema.resource.columns)
_DATE = ("key", "low", "high", "parameter")
_LOGGED = ("key", "version", "type", "operation", "at")


@lru_cache(maxsize=4096)
def _array_of(count: int) -> Callable[..., bytes]:
    return Struct(">iiiiii" + "iq" * count).pack


def _bigints(values: Sequence[int] | None) -> bytes:
    """A `bigint[]` of one dimension."""
    if values is None:
        return _NULL
    if not values:
        return _EMPTY_ARRAY
    count = len(values)
    items = [8] * (2 * count)
    items[1::2] = values
    return _array_of(count)(20 + 12 * count, 1, 0, _BIGINT_OID, count, 1, *items)


def _bytes(value: bytes | None) -> bytes:
    return _NULL if value is None else _length(len(value)) + value


def _resource(row: Row) -> bytes:
    _, updated, holder, custodian, labels, until, at = row[:7]
    identity, body, terms, others, last_version, order_key = row[12:]
    version, consent_class, number, dictionary, deleted = row[7:12]
    return b"".join(
        (
            _five_numbers(18, 8, row[0], 8, updated, 8, holder, 8, custodian, 8, labels),
            _NULL if until is None else _bigint(8, until),
            _NULL if at is None else _bigint(8, at),
            _versions_and_type(4, version, 4, consent_class, 2, number, 2, dictionary, 1, deleted),
            _bytes(identity.encode()),
            _bytes(body),
            _bigints(terms),
            _bigints(others),
            _integer(4, last_version),
            _NULL if order_key is None else _bytes(order_key.encode()),
        )
    )


def _dates(rows: Iterable[Row]) -> Iterable[bytes]:
    return [_date(4, 8, key, 8, low, 8, high, 4, parameter) for key, low, high, parameter in rows]


def _changes(rows: Iterable[Row]) -> Iterable[bytes]:
    return [
        _logged(5, 8, key, 4, version, 2, number, 1, operation.encode(), 8, at)
        for key, version, number, operation, at in rows
    ]


async def copy_resources(connection: asyncpg.Connection, rows: Iterable[Row]) -> None:
    """Insert rows of `resource`, in the order of its columns."""
    await _copy(connection, "resource", _RESOURCE, map(_resource, rows))


async def copy_dates(connection: asyncpg.Connection, rows: Iterable[Row]) -> None:
    """Insert rows of `index_date`: (key, low, high, parameter)."""
    await _copy(connection, "index_date", _DATE, _dates(rows))


async def copy_changes(connection: asyncpg.Connection, rows: Iterable[Row]) -> None:
    """Insert rows of `change_log`: (key, version, type, operation, at)."""
    await _copy(connection, "change_log", _LOGGED, _changes(rows))


async def _copy(connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> None:
    data = b"".join((_START, *rows, _END))

    async def source() -> AsyncIterator[bytes]:
        yield data

    await connection.copy_to_table(table, source=source(), columns=columns, format="binary")
