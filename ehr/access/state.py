"""What decisions are made from: policy state, classes, the tree of organisations, practitioners' roles, emergencies."""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from ehr.definitions import type_number
from ehr.keys import TermHasher, organisation_key, row_key


@dataclass(frozen=True, slots=True)
class PolicyState:
    """The one row of `policy_state`, and the classes above those already known."""

    epoch: int
    highest_class: int
    new_classes: tuple[tuple[int, str], ...]
    in_doubt: bool
    """Some stored row may lack a label."""
    population: tuple[tuple[int, int], ...]
    """(class, about how many persons)."""


_STATE = """select s.epoch, s.highest_class, l.in_doubt, c.class, c.rules::text as rules
from policy_state s cross join label_state l left join consent_class c on c.class > $1 and c.class <= s.highest_class"""


async def read_state(connection: asyncpg.Connection | asyncpg.Pool, known_class: int) -> PolicyState:
    """Epoch, highest class, and the classes above `known_class`, in one snapshot."""
    rows = await connection.fetch(_STATE, known_class)
    classes = tuple((row["class"], row["rules"]) for row in rows if row["class"] is not None)
    return PolicyState(rows[0]["epoch"], rows[0]["highest_class"], classes, rows[0]["in_doubt"], ())


async def class_populations(connection: asyncpg.Connection | asyncpg.Pool) -> dict[int, int]:
    """Persons by class, from the planner's statistics: an order of magnitude, without reading the table."""
    total = await connection.fetchval("select greatest(reltuples, 0)::bigint from pg_class where relname = 'person'")
    rows = await connection.fetch(
        """select v.class::integer as class, v.frequency from pg_stats s cross join lateral unnest(
          s.most_common_vals::text::integer[], s.most_common_freqs) as v(class, frequency)
        where s.tablename = 'person' and s.attname = 'class' and s.most_common_vals is not null"""
    )
    return {row["class"]: int(row["frequency"] * total) for row in rows}


_PARTS = """select c.id as part, p.id as whole, c.custodian, p.custodian as whole_custodian from resource p
join resource c on c.terms @> array[p.key # $1::bigint]
where p.type = $2::smallint and c.type = $2::smallint and p.key is not null and c.key is not null
  and not p.deleted and not c.deleted"""


async def read_organisations(
    connection: asyncpg.Connection | asyncpg.Pool, hasher: TermHasher
) -> list[tuple[str, str]]:
    """(part, whole) of organisations where the platform, the whole, or the keeper of both rows says so.

    Nobody becomes part of another organisation by saying so alone.
    """
    rows = await connection.fetch(_PARTS, hasher.reference_salt("Organization", "partof"), type_number("Organization"))
    platform = organisation_key("platform")
    return [
        (row["part"], row["whole"])
        for row in rows
        if row["custodian"] in (platform, organisation_key(row["whole"]), row["whole_custodian"])
    ]


async def read_practitioner_roles(
    connection: asyncpg.Connection | asyncpg.Pool, hasher: TermHasher, practitioner: str, trusted: Sequence[str]
) -> list[str]:
    """Ids of the PractitionerRoles of a Practitioner that one of the trusted custodians keeps."""
    rows = await connection.fetch(
        """select r.id from resource r where r.terms @> array[$1::bigint] and r.type = $2::smallint
        and r.custodian = any($3::bigint[]) and r.key is not null and not r.deleted""",
        hasher.reference("PractitionerRole", "practitioner", "Practitioner", practitioner),
        type_number("PractitionerRole"),
        [organisation_key(name) for name in trusted],
    )
    return [row["id"] for row in rows]


async def person_of(connection: asyncpg.Connection | asyncpg.Pool, patient_id: str) -> tuple[int, list[int]] | None:
    """(person, all holders of the person) of a Patient id; None where no such Patient was ever named."""
    rows = await connection.fetch(
        """select b.person, b.holder from holder_person a join holder_person b on b.person = a.person
        where a.holder = $1""",
        row_key("Patient", patient_id),
    )
    return (rows[0]["person"], [row["holder"] for row in rows]) if rows else None
