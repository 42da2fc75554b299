"""New rows are the same whether they go by the statement or, when they are many, by COPY."""

import asyncpg
import pytest

from ehr.store.write_rows import _MANY_ROWS, AuditLine, WaveRows, write_wave

pytestmark = [pytest.mark.database, pytest.mark.asyncio(loop_scope="module")]

_LEAST, _GREATEST = -(2**63), 2**63 - 1


def _row(key: int) -> tuple[object, ...]:
    """A row of `resource` in the order of its columns; by turns with everything and with nothing optional."""
    full = key % 2 == 0
    return (
        key,
        _GREATEST if full else 0,
        _LEAST if full else 0,
        key + 1,
        1 << 61 if full else 0,
        _GREATEST if full else None,
        _LEAST if full else None,
        2**31 - 1 if full else 1,
        3,
        145,
        1,
        False,
        f"{key}-" + "x" * (key % 60),
        b"\x00\xff" * (key % 500) if full else b"",
        [_LEAST, 0, _GREATEST, *range(key % 300)] if full else [],
        [_LEAST, _GREATEST] if full else None,
        5,
        "1 检验|A" if full else None,
    )


async def _written(connection: asyncpg.Connection, count: int) -> tuple[WaveRows, list[list[tuple[object, ...]]]]:
    rows = WaveRows(inserted=[_row(1_000_000 + number) for number in range(count)])
    rows.dates = [(row[0], -(2**62), 2**61, -(2**31)) for row in rows.inserted]
    rows.logged = [(int(str(row[0])), 7, 145, "c", _GREATEST) for row in rows.inserted]
    rows.audited = [AuditLine(1, "C", 0, frozenset({1}), "{}")]
    given = WaveRows(inserted=list(rows.inserted), dates=list(rows.dates), logged=list(rows.logged))
    keys = [row[0] for row in given.inserted]
    await write_wave(connection, rows)
    found = [
        await connection.fetch("select * from resource where key = any($1) order by key", keys),
        await connection.fetch(
            "select key, low, high, parameter from index_date where key = any($1) order by key", keys
        ),
        await connection.fetch(
            "select key, version, type, operation, at from change_log where key = any($1) order by sequence", keys
        ),
    ]
    audited = await connection.fetchval("select count(*) from audit_row where at = 1")
    assert audited == 1
    return given, [[tuple(record) for record in records] for records in found]


@pytest.mark.parametrize("count", [3, _MANY_ROWS - 1, _MANY_ROWS, 700])
async def test_rows_are_read_back_as_they_were_given(connection: asyncpg.Connection, count: int) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        given, (resources, dates, logged) = await _written(connection, count)
    finally:
        await transaction.rollback()
    assert resources == given.inserted
    assert dates == given.dates
    assert logged == given.logged


async def test_a_taken_key_is_a_unique_violation_either_way(connection: asyncpg.Connection) -> None:
    for count in (1, _MANY_ROWS):
        transaction = connection.transaction()
        await transaction.start()
        try:
            await _written(connection, 1)
            with pytest.raises(asyncpg.UniqueViolationError):
                await _written(connection, count)
        finally:
            await transaction.rollback()


async def test_dates_of_a_version_that_replaces_another_outlive_the_old_ones(connection: asyncpg.Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        await _written(connection, 1)
        changed = _row(1_000_000)
        rows = WaveRows(inserted=[_row(2_000_000 + number) for number in range(_MANY_ROWS)])
        rows.changed, rows.changed_keys = [changed], [1_000_000]
        rows.dates = [(key, 1, 2, 3) for key in (1_000_000, 2_000_000)]
        await write_wave(connection, rows)
        found = await connection.fetch("select key, low from index_date where key in (1000000, 2000000) order by key")
    finally:
        await transaction.rollback()
    assert [tuple(record) for record in found] == [(1_000_000, 1), (2_000_000, 1)]
