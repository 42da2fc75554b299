"""Versions of all resources, or of one type: what changed, in the order of `lastUpdated`.

A version is visible by its own access columns and by those of the current row (DESIGN 4.3).
https://hl7.org/fhir/R4/http.html#history
"""

from dataclasses import dataclass

import asyncpg

from ehr.audit_note import AuditNote
from ehr.definitions import RESOURCE_TYPES, type_name, type_number
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.store import audit
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.reads import version_of
from ehr.store.scope_sql import require_fresh

_COLUMNS = (
    "key", "id", "type", "version", "last_updated", "deleted", "body", "dictionary",
    "holder", "others", "custodian", "labels",
)  # fmt: skip
Place = tuple[int, int, int]
"""(last_updated, key, version) of a version: where it stands in the order."""


@dataclass(frozen=True, slots=True)
class HistoryQuestion:
    """What part of the history is asked for; None = not restricted."""

    resource_type: str | None = None
    count: int = 50
    since_us: int | None = None
    """Versions made at or after this moment."""
    current_in: tuple[int, int] | None = None
    """Versions that were current at some moment of this half-open range (`_at`)."""
    behind: Place | None = None
    """The last version of the page before."""
    ascending: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of versions in the order asked for, and the place behind which more are, if any."""

    versions: tuple[StoredVersion, ...]
    more_behind: Place | None


def _conditions(scope: ReadScope, question: HistoryQuestion, alias: str, parameters: Parameters) -> str:
    conditions = [f"{alias}.type = t.type"]
    if question.since_us is not None:
        conditions.append(f"{alias}.last_updated >= {parameters.add(question.since_us, 'bigint')}")
    if question.current_in is not None:
        low, high = (parameters.add(moment, "bigint") for moment in question.current_in)
        # a version ends where the next visible one of its resource begins
        replaced = (
            f"exists (select from resource_history n where n.key = {alias}.key and n.version > {alias}.version "
            f"and n.last_updated <= {low} and {scope.row_filter.sql('n', parameters)})"
        )
        if alias == "h":
            replaced = f"({replaced} or r.last_updated <= {low})"
        conditions.append(f"{alias}.last_updated < {high} and not {replaced}")
    if question.behind is not None:
        place = ", ".join(parameters.add(part, "bigint") for part in question.behind)
        sign = ">" if question.ascending else "<"
        conditions.append(f"({alias}.last_updated, {alias}.key, {alias}.version) {sign} ({place})")
    return " and ".join(conditions)


def _statement(scope: ReadScope, question: HistoryQuestion, note: AuditNote, parameters: Parameters) -> str:
    """For each type by its index the first versions of the page, then the page of all of them."""
    direction = "asc" if question.ascending else "desc"
    limit, one_more = (parameters.add(number, "bigint") for number in (question.count, question.count + 1))

    def ordered(alias: str, most: str) -> str:
        names = ("last_updated", "key", "version")
        return "order by " + ", ".join(f"{alias}.{name} {direction}" for name in names) + f" limit {most}"

    def columns(alias: str) -> str:
        return ", ".join(f"{alias}.{name}" for name in _COLUMNS)

    names = RESOURCE_TYPES if question.resource_type is None else (question.resource_type,)
    types = parameters.add([type_number(name) for name in names], "smallint[]")
    current, past = scope.row_filter.sql("r", parameters), scope.row_filter.sql("h", parameters)
    now = f"select {columns('r')} from resource r where {_conditions(scope, question, 'r', parameters)} and {current}"
    before = (
        f"select {columns('h')} from resource_history h join resource r on r.key = h.key "
        f"where {_conditions(scope, question, 'h', parameters)} and {past} and {current}"
    )
    versions = f"({now} {ordered('r', one_more)}) union all ({before} {ordered('h', one_more)})"
    holders = (
        "(select coalesce(array_agg(distinct u.holder), '{}') from (select unnest("
        f"{audit.holders_sql('f')}) as holder from (select * from v {ordered('v', limit)}) f) u)"
    )
    logged = audit.insert_sql(
        parameters,
        note,
        now_us(),
        outcome_sql=str(audit.SUCCESS),
        holders_sql=holders,
        where_sql="false" if scope.internal else audit.fresh_sql(scope, parameters),
    )
    return (
        f"with v as materialized (select e.* from unnest({types}) t(type) cross join lateral ({versions}) e "
        f"{ordered('e', one_more)}), logged as ({logged}) "
        f"select v.*, s.epoch, s.highest_class from policy_state s left join v on true {ordered('v', one_more)}"
    )


async def changes(pool: asyncpg.Pool, scope: ReadScope, question: HistoryQuestion, note: AuditNote) -> Changes:
    """A page of what changed, deletions included; one statement that writes its audit row itself.

    Raises:
        StaleScope: decide again, once.
        Unavailable: the database is down, full or too slow.
    """
    parameters = Parameters()
    statement = _statement(scope, question, note, parameters)
    with database_errors():
        async with pool.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters.values)
    require_fresh(scope, rows[0]["epoch"], rows[0]["highest_class"])
    found = [row for row in rows if row["version"] is not None]
    shown = found[: question.count]
    last = shown[-1] if len(found) > len(shown) else None
    return Changes(
        tuple(version_of(row, type_name(row["type"]), row["id"], row["key"]) for row in shown),
        None if last is None else (last["last_updated"], last["key"], last["version"]),
    )
