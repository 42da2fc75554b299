"""The one statement that writes a wave of planned versions: rows, history, index, change log, audit, inbox.

Rows travel as arrays of the tables' own row types, so the statement has a handful of parameters whatever the number
of rows. All parts of the statement see the rows as they were before it. Many new rows go ahead of it by COPY.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import asyncpg
import msgspec

from ehr.changes import Change, RowAccess
from ehr.indexing import IndexEntries
from ehr.store import binary_rows, schema
from ehr.store.bodies import NEWEST_DICTIONARY, pack_body
from ehr.store.operations import Settlement
from ehr.store.planning import Plan

_RESOURCE_COLUMNS = tuple(column.name for column in schema.resource.columns)
_HISTORY_COLUMNS = tuple(column.name for column in schema.resource_history.columns)
_FIXED = ("key", "type", "id")
_NO_ENTRIES = IndexEntries()
_MANY_ROWS = 32
"""From how many new rows on COPY's own round trips cost less than it saves."""
_LETTER = {"create": "c", "update": "u", "delete": "d"}


@dataclass(slots=True)
class AuditLine:
    """One audit row to write with the wave."""

    at_us: int
    action: str
    outcome: int
    holders: frozenset[int]
    entry: str


@dataclass(slots=True)
class WaveRows:
    """The rows of one wave, sorted by key where they meet rows in place."""

    inserted: list[tuple[object, ...]] = field(default_factory=list)
    changed: list[tuple[object, ...]] = field(default_factory=list)
    changed_keys: list[int] = field(default_factory=list)
    superseded: list[tuple[object, ...]] = field(default_factory=list)
    bumped: list[tuple[int, int, str | None]] = field(default_factory=list)
    """(key, last_version, order_key) of rows whose current version stays."""
    dates: list[tuple[object, ...]] = field(default_factory=list)
    numbers: list[tuple[object, ...]] = field(default_factory=list)
    quantities: list[tuple[object, ...]] = field(default_factory=list)
    logged: list[tuple[int, int, int, str, int]] = field(default_factory=list)
    """(key, version, type, operation, at) of the change log"""
    audited: list[AuditLine] = field(default_factory=list)
    settled: list[Settlement] = field(default_factory=list)

    def add(self, plan: Plan) -> None:
        """Add what the plan writes."""
        prepared = plan.prepared
        if plan.place == "order_key":
            self.bumped.append((prepared.key, plan.last_version, plan.order_key))
            return
        change = plan.change
        if change is None:
            return
        if plan.place == "history":
            self.superseded.append(_history_row(plan, change))
            self.bumped.append((prepared.key, plan.last_version, None))
            return
        if plan.replaces:
            self.changed.append(_resource_row(plan, change))
            self.changed_keys.append(prepared.key)
        else:
            self.inserted.append(_resource_row(plan, change))
        self._index(prepared.key, prepared.entries or _NO_ENTRIES)
        self.logged.append(
            (
                prepared.key,
                change.version,
                prepared.type_number,
                _LETTER[change.operation],
                plan.outcome.last_updated_us,
            )
        )

    def _index(self, key: int, entries: IndexEntries) -> None:
        self.dates += [(key, low, high, parameter) for parameter, low, high in entries.dates]
        self.numbers += [(key, parameter, low, high) for parameter, low, high in entries.numbers]
        self.quantities += [
            (key, system_code, code, unit, parameter, low, high)
            for parameter, system_code, code, unit, low, high in entries.quantities
        ]


def _resource_row(plan: Plan, change: Change) -> tuple[object, ...]:
    """In the order of the table's columns."""
    prepared, access, outcome = plan.prepared, change.access, plan.outcome
    entries = prepared.entries or _NO_ENTRIES
    return (
        prepared.key,
        outcome.last_updated_us,
        access.holder,
        access.custodian,
        access.labels,
        entries.until,
        entries.at,
        change.version,
        access.consent_class,
        prepared.type_number,
        NEWEST_DICTIONARY,
        outcome.body is None,
        prepared.resource_id,
        None if outcome.body is None else pack_body(outcome.body),
        entries.terms,
        access.others,
        plan.last_version,
        plan.order_key,
    )


def _history_row(plan: Plan, change: Change) -> tuple[object, ...]:
    """In the order of the history table's columns."""
    prepared, access, outcome = plan.prepared, change.access, plan.outcome
    entries = prepared.entries or _NO_ENTRIES
    return (
        prepared.key,
        change.version,
        outcome.last_updated_us,
        access.holder,
        access.others,
        access.custodian,
        access.labels,
        access.consent_class,
        entries.at,
        prepared.type_number,
        NEWEST_DICTIONARY,
        outcome.body is None,
        prepared.resource_id,
        None if outcome.body is None else pack_body(outcome.body),
        entries.terms,
    )


def holders_of(access: RowAccess) -> set[int]:
    """The source Patients whom a row is about."""
    return ({access.holder} if access.holder else set()) | set(access.others or ())


@lru_cache(maxsize=256)
def _statement(parts: tuple[str, ...]) -> str:
    """The statement with these parts; each takes the parameters that `_values` gives for it."""
    texts: list[str] = []
    number = 0
    for part in parts:
        text, count = _PARTS[part]
        texts.append(text.format(*(f"${number + place}" for place in range(1, count + 1))))
        number += count
    return "with " + ",\n".join(texts) + "\nselect 1"


def _names(columns: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}" for name in columns)


_SETTABLE = tuple(name for name in _RESOURCE_COLUMNS if name not in _FIXED)
_SAID = ("at", "until", "terms")
"""What decisions read of a row's content: a deletion keeps it, so that it is as hidden as what it deleted."""
_SET = ", ".join(
    f"case when n.deleted then r.{name} else n.{name} end" if name in _SAID else f"n.{name}" for name in _SETTABLE
)
_PARTS: dict[str, tuple[str, int]] = {
    "inserted": ("inserted as (insert into resource select n.* from unnest({0}::resource[]) n)", 1),
    "changed": (
        (
            f"moved as (insert into resource_history ({_names(_HISTORY_COLUMNS)}) "
            f"select {_names(_HISTORY_COLUMNS, 'r.')} from resource r where r.key = any({{1}}::bigint[])),\n"
            f"changed as (update resource r set ({_names(_SETTABLE)}) = row({_SET}) "
            "from unnest({0}::resource[]) n where r.key = n.key),\n"
            "no_dates as (delete from index_date where key = any({1}::bigint[])),\n"
            "no_numbers as (delete from index_number where key = any({1}::bigint[])),\n"
            "no_quantities as (delete from index_quantity where key = any({1}::bigint[]))"
        ),
        2,
    ),
    "superseded": (
        "superseded as (insert into resource_history select n.* from unnest({0}::resource_history[]) n)",
        1,
    ),
    "bumped": (
        (
            "bumped as (update resource r set last_version = n.last_version, "
            "order_key = coalesce(n.order_key, r.order_key) from unnest({0}::bigint[], {1}::integer[], {2}::text[]) "
            "n(key, last_version, order_key) where r.key = n.key)"
        ),
        3,
    ),
    "dates": ("dates as (insert into index_date select n.* from unnest({0}::index_date[]) n)", 1),
    "numbers": ("numbers as (insert into index_number select n.* from unnest({0}::index_number[]) n)", 1),
    "quantities": ("quantities as (insert into index_quantity select n.* from unnest({0}::index_quantity[]) n)", 1),
    "logged": (
        (
            "logged as (insert into change_log (key, version, type, operation, at) "
            "select * from unnest({0}::bigint[], {1}::integer[], {2}::smallint[], {3}::text[], {4}::bigint[]))"
        ),
        5,
    ),
    "audited": (
        (
            "audited as (insert into audit_row (at, action, outcome, holders, entry) "
            "select n.at, n.action, n.outcome, n.holders::bigint[], n.entry::json from "
            "unnest({0}::bigint[], {1}::text[], {2}::smallint[], {3}::text[], {4}::text[]) "
            "n(at, action, outcome, holders, entry))"
        ),
        5,
    ),
    "settled": (
        (
            "settled as (update inbox i set state = n.state, cause = n.cause, place = n.place, loss = n.loss::jsonb, "
            "attempts = i.attempts + 1 from unnest({0}::bigint[], {1}::text[], {2}::text[], {3}::text[], {4}::text[]) "
            "n(inbox, state, cause, place, loss) where i.inbox = n.inbox)"
        ),
        5,
    ),
}


def _columns(rows: list[tuple[object, ...]], count: int) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(count)]


async def write_wave(connection: asyncpg.Connection, rows: WaveRows) -> None:
    """Write the wave inside the caller's transaction: in one round trip, or with COPY where many rows are new."""
    if len(rows.inserted) >= _MANY_ROWS:
        await _copy_new_rows(connection, rows)
    parts: list[str] = []
    values: list[object] = []
    given: dict[str, list[object]] = {
        "inserted": [sorted(rows.inserted)] if rows.inserted else [],
        "changed": [rows.changed, rows.changed_keys] if rows.changed else [],
        "superseded": [rows.superseded] if rows.superseded else [],
        "bumped": list(_columns(list(rows.bumped), 3)) if rows.bumped else [],
        "dates": [rows.dates] if rows.dates else [],
        "numbers": [rows.numbers] if rows.numbers else [],
        "quantities": [rows.quantities] if rows.quantities else [],
        "logged": list(_columns(list(rows.logged), 5)) if rows.logged else [],
        "audited": _audit_values(rows.audited) if rows.audited else [],
        "settled": _settlement_values(rows.settled) if rows.settled else [],
    }
    for part, part_values in given.items():
        if part_values:
            parts.append(part)
            values += part_values
    if parts:
        await connection.fetch(_statement(tuple(parts)), *values)


async def _copy_new_rows(connection: asyncpg.Connection, rows: WaveRows) -> None:
    """Write what only adds rows, and take it out of the wave; index rows of versions that replace others stay."""
    await binary_rows.copy_resources(connection, sorted(rows.inserted))
    rows.inserted = []
    await binary_rows.copy_changes(connection, rows.logged)
    rows.logged = []
    if not rows.changed:
        await binary_rows.copy_dates(connection, rows.dates)
        rows.dates = []


def _audit_values(lines: list[AuditLine]) -> list[object]:
    return [
        [line.at_us for line in lines],
        [line.action for line in lines],
        [line.outcome for line in lines],
        ["{" + ",".join(map(str, sorted(line.holders))) + "}" for line in lines],
        [line.entry for line in lines],
    ]


def _settlement_values(settlements: list[Settlement]) -> list[object]:
    return [
        [settlement.inbox for settlement in settlements],
        [settlement.state for settlement in settlements],
        [settlement.cause for settlement in settlements],
        [settlement.place for settlement in settlements],
        [
            None if settlement.loss is None else msgspec.json.encode(settlement.loss).decode()
            for settlement in settlements
        ],
    ]
