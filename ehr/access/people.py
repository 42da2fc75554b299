"""The people behind holders: everybody with their class, for counts, and what joins the Patients of one person."""

from dataclasses import dataclass

import asyncpg

from ehr.keys import row_key


async def people_with_class(connection: asyncpg.Connection | asyncpg.Pool) -> list[tuple[int, int, int]]:
    """(holder, person, class) of every holder."""
    rows = await connection.fetch(
        'select h.holder, h.person, p."class" from holder_person h join person p on p.person = h.person'
    )
    return [(row["holder"], row["person"], row["class"]) for row in rows]


@dataclass(frozen=True, slots=True)
class MergedPatients:
    """Two Patients that somebody's word joins."""

    survivor: str
    retired: str
    at_us: int
    source: str
    """Trace of the A40, or who decided."""


@dataclass(frozen=True, slots=True)
class OnePerson:
    """The Patients of one person and what joins them."""

    person: int
    holders: tuple[int, ...]
    patients: tuple[str, ...]
    same_number: tuple[str, ...]
    """Those that a valid identity number joins."""
    merges: tuple[MergedPatients, ...]
    under_review: bool
    """Merged and not reviewed yet: of the former persons' consents the strictest wins."""


_MEMBERS = """select h.holder, h.person, h.patient_id, p.under_review, exists (
    select from identity_claim a join identity_claim b on b.digest = a.digest and b.holder <> a.holder
    where a.holder = h.holder) as same_number
from holder_person n join holder_person h on h.person = n.person join person p on p.person = h.person
where n.holder = $1 order by h.patient_id"""
_MERGES = """select s.patient_id as survivor, r.patient_id as retired, m.at, m.source from person_merge m
join holder_person s on s.holder = m.survivor join holder_person r on r.holder = m.retired
where m.survivor = any($1::bigint[]) order by m.at, s.patient_id, r.patient_id"""


async def one_person(connection: asyncpg.Connection, patient_id: str) -> OnePerson | None:
    """The person to whom a Patient belongs; None where no such Patient was ever named."""
    members = await connection.fetch(_MEMBERS, row_key("Patient", patient_id))
    if not members:
        return None
    holders = tuple(row["holder"] for row in members)
    merges = await connection.fetch(_MERGES, holders)
    return OnePerson(
        members[0]["person"],
        holders,
        tuple(row["patient_id"] for row in members),
        tuple(row["patient_id"] for row in members if row["same_number"]),
        tuple(MergedPatients(row["survivor"], row["retired"], row["at"], row["source"]) for row in merges),
        members[0]["under_review"],
    )
