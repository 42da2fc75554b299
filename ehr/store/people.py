"""Who is the same person: `holder_person`, kept when Patients are written (DESIGN 4.4).

Hospitals' Patients stay as they were sent. A person is a connected set of holders: by the same valid identity number
with birth date and sex agreeing (GB 11643-1999), or by a merge. Merging and parting move no record.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg

from ehr.changes import Change, PeopleProjection
from ehr.errors import Forbidden, NotFound
from ehr.keys import TermHasher
from ehr.store.clock import now_us

IDENTITY_NUMBER_SYSTEM = "urn:oid:2.16.156.10011.1.3"
_IDENTITY_NUMBER_TYPES = frozenset({"NNCHN", "NI"})
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK_DIGITS = "10X98765432"


def is_valid_identity_number(number: str) -> bool:
    """Whether the 18 characters end in the check digit of GB 11643-1999 (ISO 7064 MOD 11-2)."""
    digits = number[:17]
    if len(number) != 18 or not (digits.isascii() and digits.isdigit()):
        return False
    total = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=True))
    return _CHECK_DIGITS[total % 11] == number[17].upper()


def identity_number(patient: dict[str, Any]) -> str | None:
    """The Patient's identity card number where it is valid and agrees with birth date and sex; else None."""
    birth_date, gender = patient.get("birthDate"), patient.get("gender")
    for identifier in patient.get("identifier", ()):
        number = str(identifier.get("value", "")).strip().upper()
        if not _names_identity_numbers(identifier) or not is_valid_identity_number(number):
            continue
        born = f"{number[6:10]}-{number[10:12]}-{number[12:14]}"
        if born == birth_date and gender == ("male" if int(number[16]) % 2 else "female"):
            return number
    return None


def _names_identity_numbers(identifier: dict[str, Any]) -> bool:
    if identifier.get("system") == IDENTITY_NUMBER_SYSTEM:
        return True
    codings = identifier.get("type", {}).get("coding", ())
    return any(coding.get("code") in _IDENTITY_NUMBER_TYPES for coding in codings)


class People:
    """Keeps `holder_person` and tells the projections who changed."""

    def __init__(self, hasher: TermHasher, projections: Sequence[object]) -> None:
        """Take the keyed hasher, and the projections of which those for people are told."""
        self._hasher = hasher
        self._projections = [projection for projection in projections if isinstance(projection, PeopleProjection)]

    async def patients_written(self, connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
        """Bring the map up to date for the Patients among the changes, before their rows are written."""
        written = [c for c in changes if c.resource_type == "Patient" and not c.superseded and c.resource is not None]
        if written:
            await self._register(connection, written)

    async def _register(self, connection: asyncpg.Connection, patients: Sequence[Change]) -> None:
        """Make every new holder a person of its own, then follow its identity number."""
        claims = {
            change.key: self._hasher.digest("identity_number", number)
            for change in patients
            if _may_link(change) and (number := identity_number(change.resource or {})) is not None
        }
        if claims:
            # two hospitals that claim the same number at the same moment must see each other
            locks = sorted(int.from_bytes(digest[:8], "big", signed=True) for digest in claims.values())
            await connection.execute("select pg_advisory_xact_lock(l) from unnest($1::bigint[]) l", locks)
        linkable = [change.key for change in patients if _may_link(change)]
        touched = await connection.fetch(
            _REGISTER,
            [change.key for change in patients],
            [change.access.custodian for change in patients],
            [change.resource_id for change in patients],
            linkable,
            list(claims),
            list(claims.values()),
        )
        if touched:
            await self._regroup(connection, {row["holder"] for row in touched})

    async def merge(
        self, connection: asyncpg.Connection, survivor: int, retired: int, *, custodian: int, source: str
    ) -> None:
        """Link two holders of one hospital as it says (A40).

        Raises:
            Forbidden: one of them is not this hospital's.
            NotFound: one of them is unknown.
        """
        rows = await connection.fetch(
            "select holder, custodian from holder_person where holder = any($1::bigint[])", [survivor, retired]
        )
        if len({row["holder"] for row in rows}) < len({survivor, retired}):
            raise NotFound("A Patient of the merge is not here.")
        if any(row["custodian"] != custodian for row in rows):
            raise Forbidden("A hospital merges its own Patients only.")
        await self.link(connection, survivor, retired, source=source)

    async def link(self, connection: asyncpg.Connection, survivor: int, retired: int, *, source: str) -> None:
        """Link two holders, whichever hospitals they are of; for decisions made by people."""
        await connection.execute(
            "insert into person_merge (survivor, retired, at, source) values ($1, $2, $3, $4) on conflict do nothing",
            survivor,
            retired,
            now_us(),
            source,
        )
        await self._regroup(connection, {survivor, retired})

    async def unmerge(self, connection: asyncpg.Connection, survivor: int, retired: int) -> None:
        """Take a merge back; the holders stay one person only where other links still join them.

        Raises:
            NotFound: there is no such merge.
        """
        gone = await connection.fetchval(
            "delete from person_merge where (survivor, retired) in (($1::bigint, $2::bigint), ($2, $1)) returning true",
            survivor,
            retired,
        )
        if not gone:
            raise NotFound("There is no such merge.")
        await self._regroup(connection, {survivor, retired})

    async def _regroup(self, connection: asyncpg.Connection, holders: Iterable[int]) -> None:
        """Form the persons of these holders anew from their links, and tell the projections whom it changed."""
        rows = await connection.fetch(_COMPONENT, list(holders))
        before = {row["holder"]: row["person"] for row in rows}
        parents = {holder: holder for holder in before}

        def root(holder: int) -> int:
            while parents[holder] != holder:
                holder = parents[holder]
            return holder

        for row in rows:
            for linked in row["linked"] or ():
                first, second = sorted((root(row["holder"]), root(linked))) if linked in parents else (0, 0)
                if first != second:
                    parents[second] = first
        now = {holder: root(holder) for holder in before}
        moved = {holder: person for holder, person in now.items() if before[holder] != person}
        if not moved:
            return
        await connection.execute(_MOVE, list(moved), list(moved.values()))
        persons = sorted(set(moved.values()) | {before[holder] for holder in moved})
        for projection in self._projections:
            await projection.people_changed(connection, persons)


def _may_link(change: Change) -> bool:
    """Only hospitals' systems and migrations say who somebody is: a clinician must not write himself into reach."""
    return change.scope.opens_reach or change.scope.may_change_any_custodian


_REGISTER = """with given as (
  select * from unnest($1::bigint[], $2::bigint[], $3::text[]) as g(holder, custodian, patient_id)
), known as (
  insert into holder_person (holder, person, custodian, patient_id) select holder, holder, custodian, patient_id
  from given order by holder
  on conflict (holder) do update set custodian = excluded.custodian, patient_id = excluded.patient_id
  where holder_person.custodian <> excluded.custodian or holder_person.patient_id <> excluded.patient_id
), persons as (
  insert into person (person) select holder from given order by holder on conflict do nothing
), claimed as (
  select * from unnest($5::bigint[], $6::bytea[]) as c(holder, digest)
), dropped as (
  delete from identity_claim i using unnest($4::bigint[]) as l(holder) where i.holder = l.holder
    and not exists (select from claimed c where c.holder = i.holder and c.digest = i.digest) returning i.holder
), added as (
  insert into identity_claim (digest, holder) select digest, holder from claimed order by digest
  on conflict do nothing returning holder, digest
)
select holder from dropped
union select a.holder from added a where
  exists (select from identity_claim i where i.digest = a.digest and i.holder <> a.holder)
  or exists (select from added b where b.digest = a.digest and b.holder <> a.holder)"""

_LINKED = """(
    select m.retired as other from person_merge m where m.survivor = {0}
    union all select m.survivor from person_merge m where m.retired = {0}
    union all select b.holder from identity_claim a join identity_claim b on b.digest = a.digest where a.holder = {0}
  )"""

_COMPONENT = f"""with recursive reached(holder) as (
  select p.holder from holder_person h join holder_person p on p.person = h.person where h.holder = any($1::bigint[])
  union select l.other from reached r cross join lateral {_LINKED.format("r.holder")} l
)
select h.holder, h.person, array(select l.other from {_LINKED.format("h.holder")} l) as linked
from holder_person h where h.holder in (select holder from reached) order by h.holder for update of h"""

_MOVE = """with moved as (select * from unnest($1::bigint[], $2::bigint[]) as m(holder, person)), followed as (
  update reach r set person = m.person from moved m where r.holder = m.holder and r.person <> m.person
), kept as (
  insert into person (person) select distinct person from moved on conflict do nothing
)
update holder_person h set person = m.person from moved m where h.holder = m.holder"""
