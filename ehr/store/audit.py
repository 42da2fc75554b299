"""Who looked: rows written in the statement that they describe, and read for the resident and the auditor.

Rows become BALP AuditEvents (https://profiles.ihe.net/ITI/BALP/) above; here they are a note, an outcome and the
source Patients (holders) whose rows were in the answer. Holders never change; persons follow through `holder_person`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec

from ehr.audit_note import AuditNote
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.store.clock import now_us

SUCCESS = 0
REFUSED = 4
FAILURE = 8

_encode = msgspec.json.Encoder().encode


def note_json(note: AuditNote) -> str:
    """The note as the row keeps it; absent values are left out."""
    entry: dict[str, Any] = {
        "interaction": note.interaction,
        "actor": note.actor,
        "client": note.client,
        "roles": note.roles,
        "purpose_of_use": note.purpose_of_use,
        "query": note.query,
        "trace": note.trace,
        "decision": note.decision,
    }
    for name in ("organisation", "reason", "project"):
        value = getattr(note, name)
        if value is not None:
            entry[name] = value
    return _encode(entry).decode()


def holders_sql(alias: str) -> str:
    """The holders of one row as bigint[]; empty for rows about nobody."""
    return f"(case when {alias}.holder = 0 then '{{}}'::bigint[] else array[{alias}.holder] || {alias}.others end)"


def fresh_sql(scope: ReadScope, parameters: Parameters) -> str:
    """A condition that holds while the scope's epoch and classes are those in force."""
    if not scope.follows_policy:
        return "true"
    epoch, highest = parameters.add(scope.epoch, "bigint"), parameters.add(scope.highest_class, "integer")
    return f"exists (select from policy_state s where s.epoch = {epoch} and s.highest_class = {highest})"


def insert_sql(
    parameters: Parameters, note: AuditNote, at_us: int, *, outcome_sql: str, holders_sql: str, where_sql: str = "true"
) -> str:
    """The text of an `insert into audit_row` for a CTE of the statement that it describes.

    Args:
        parameters: Of the whole statement.
        note: Who asks what and why.
        at_us: Now, microseconds since 1970 UTC.
        outcome_sql: Expression giving 0 (success), 4 (refused or not found) or 8 (failure).
        holders_sql: Expression giving the distinct holders in the answer as bigint[].
        where_sql: `fresh_sql(...)`: no row is logged for an answer that is thrown away as stale.
    """
    return (
        "insert into audit_row (at, action, outcome, holders, entry) "
        f"select {parameters.add(at_us, 'bigint')}, {parameters.add(note.action, 'text')}, {outcome_sql}, "
        f"{holders_sql}, {parameters.add(note_json(note), 'text')}::json where {where_sql}"
    )


async def record(connection: asyncpg.Connection, note: AuditNote, outcome: int, holders: Sequence[int]) -> None:
    """Write one row for something that happened outside a statement of the store (a refusal, a sign-in)."""
    await connection.execute(
        "insert into audit_row (at, action, outcome, holders, entry) values ($1, $2, $3, $4::bigint[], $5::text::json)",
        now_us(),
        note.action,
        outcome,
        sorted(set(holders)),
        note_json(note),
    )


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One audit row as read: `persons` are those whom the holders belong to now."""

    position: tuple[int, int]
    """Transaction and sequence: the place in the log, for paging."""
    at_us: int
    action: str
    outcome: int
    persons: tuple[int, ...]
    patients: tuple[str, ...]
    """Ids of the source Patients in the answer."""
    entry: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditQuestion:
    """What part of the log is asked for; None = not restricted. `person` is any holder or person number."""

    person: int | None = None
    since_us: int | None = None
    until_us: int | None = None
    actor: str | None = None
    organisation: str | None = None
    action: str | None = None
    outcome: int | None = None
    before: tuple[int, int] | None = None
    """Paging: rows before this position, newest first."""
    limit: int = 50


def _conditions(question: AuditQuestion, parameters: Parameters) -> str:
    conditions = ["true"]
    if question.person is not None:
        person = parameters.add(question.person, "bigint")
        conditions.append(
            f"a.holders && (select array_agg(h.holder) || {person} from holder_person h where h.person = "
            f"coalesce((select p.person from holder_person p where p.holder = {person}), {person}))"
        )
    tests = (
        ("a.at >= ", question.since_us, "bigint"),
        ("a.at < ", question.until_us, "bigint"),
        ("a.entry->>'actor' = ", question.actor, "text"),
        ("a.entry->>'organisation' = ", question.organisation, "text"),
        ("a.action = ", question.action, "text"),
        ("a.outcome = ", question.outcome, "smallint"),
    )
    conditions += [test + parameters.add(value, kind) for test, value, kind in tests if value is not None]
    if question.before is not None:
        transaction, sequence = question.before
        conditions.append(
            f"(a.transaction, a.sequence) < ({parameters.add(str(transaction), 'text')}::xid8, "
            f"{parameters.add(sequence, 'bigint')})"
        )
    return " and ".join(conditions)


async def events(connection: asyncpg.Connection, question: AuditQuestion) -> list[AuditRecord]:
    """The newest rows that the question asks for.

    The caller of this function has decided that the asker is that resident or the auditor (nobody else may see them).
    """
    parameters = Parameters()
    rows = await connection.fetch(
        "select a.transaction::text as transaction, a.sequence, a.at, a.action, a.outcome, a.entry::text as entry, "
        "(select coalesce(array_agg(distinct coalesce(h.person, u.holder)), '{}') from unnest(a.holders) u(holder) "
        "left join holder_person h on h.holder = u.holder) as persons, "
        "(select coalesce(array_agg(h.patient_id order by h.patient_id), '{}') from holder_person h "
        "where h.holder = any(a.holders)) as patients "
        f"from audit_row a where {_conditions(question, parameters)} "
        f"order by a.transaction desc, a.sequence desc limit {parameters.add(question.limit, 'bigint')}",
        *parameters.values,
    )
    return [
        AuditRecord(
            (int(row["transaction"]), row["sequence"]),
            row["at"],
            row["action"],
            row["outcome"],
            tuple(row["persons"]),
            tuple(row["patients"]),
            msgspec.json.decode(row["entry"]),
        )
        for row in rows
    ]


async def count(connection: asyncpg.Connection, question: AuditQuestion) -> int:
    """How many rows the question asks for, whatever its paging."""
    parameters = Parameters()
    return int(
        await connection.fetchval(
            f"select count(*) from audit_row a where {_conditions(question, parameters)}", *parameters.values
        )
    )
