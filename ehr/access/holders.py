"""Persons of holders, and what other rows say about whom they are about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from ehr.row_filter import Parameters, RowFilter


@dataclass(frozen=True, slots=True)
class HolderState:
    """The person behind a holder, that person's consent class, and whose Patient the holder is."""

    person: int
    consent_class: int
    custodian: int
    """0 until the Patient arrives."""
    patient_id: str


# The transaction id is taken before any class is read: the job that re-stamps rows waits for all older transactions.
_PERSONS = """select h.holder, h.person, p."class", h.custodian, h.patient_id from (select pg_current_xact_id()) as x
cross join unnest($1::bigint[]) as wanted(holder)
join holder_person h on h.holder = wanted.holder join person p on p.person = h.person"""

_FIRST_MENTION = """with given as (
  select * from unnest($1::bigint[], $2::text[]) as g(holder, patient_id)
), mapped as (
  insert into holder_person (holder, person, custodian, patient_id) select holder, holder, 0, patient_id
  from given order by holder on conflict do nothing
)
insert into person (person) select holder from given order by holder on conflict do nothing"""


async def ensure_holders(connection: asyncpg.Connection, patients: Mapping[int, str]) -> dict[int, HolderState]:
    """The state of these holders (row key: Patient id); one named for the first time becomes a person of its own."""
    if not patients:
        return {}
    found = await _states(connection, list(patients))
    missing = {holder: identity for holder, identity in patients.items() if holder not in found}
    if missing:
        await connection.execute(_FIRST_MENTION, list(missing), list(missing.values()))
        found |= await _states(connection, list(missing))
    return found


async def _states(connection: asyncpg.Connection, holders: Sequence[int]) -> dict[int, HolderState]:
    rows = await connection.fetch(_PERSONS, holders)
    return {
        row["holder"]: HolderState(row["person"], row["class"], row["custodian"], row["patient_id"]) for row in rows
    }


@dataclass(frozen=True, slots=True)
class RowState:
    """The access columns of a stored row."""

    key: int
    holder: int
    others: tuple[int, ...]
    custodian: int
    labels: int


@dataclass(frozen=True, slots=True)
class Custody:
    """Who keeps a row and whom it is about: what decides whether labels pass between two rows."""

    custodian: int
    persons: frozenset[int]

    def shares_with(self, other: "Custody") -> bool:
        """Whether one organisation keeps both rows, or both are about one person."""
        return self.custodian == other.custodian or not self.persons.isdisjoint(other.persons)


async def custody_of(connection: asyncpg.Connection, keys: Sequence[int]) -> dict[int, Custody]:
    """Custodian and persons of the current rows among `keys`."""
    if not keys:
        return {}
    rows = await connection.fetch(
        """select r.key, r.custodian, array(
          select h.person from holder_person h where h.holder = r.holder or h.holder = any(r.others)
        ) as persons from resource r where r.key = any($1::bigint[]) and r.key is not null""",
        keys,
    )
    return {row["key"]: Custody(row["custodian"], frozenset(row["persons"])) for row in rows}


_ROWS = """select r.key, r.holder, r.others, r.custodian, r.labels, false as pending from resource r
where r.key = any($1::bigint[]) and r.key is not null
union all select l.key, 0, null, 0, l.labels, true from pending_label l where l.key = any($2::bigint[])"""


async def rows_by_key(
    connection: asyncpg.Connection, keys: Sequence[int], written: Sequence[int]
) -> tuple[dict[int, RowState], dict[int, int]]:
    """The access columns of the current rows among `keys`, and labels that waited for the rows being `written`."""
    if not keys and not written:
        return {}, {}
    rows = await connection.fetch(_ROWS, keys, written)
    found = {
        row["key"]: RowState(row["key"], row["holder"], tuple(row["others"] or ()), row["custodian"], row["labels"])
        for row in rows
        if not row["pending"]
    }
    return found, {row["key"]: row["labels"] for row in rows if row["pending"]}


async def visible_keys(connection: asyncpg.Connection, row_filter: RowFilter, keys: Sequence[int]) -> list[int]:
    """Those of the keys whose current rows the filter admits, in order."""
    parameters = Parameters()
    wanted, predicate = parameters.add(list(keys), "bigint[]"), row_filter.sql("r", parameters)
    rows = await connection.fetch(
        f"select r.key from resource r where r.key = any({wanted}) and {predicate} order by r.key", *parameters.values
    )
    return [row["key"] for row in rows]
