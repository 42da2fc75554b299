"""Who treats whom: rows of `reach`, each tied to the Encounter, referral or Consent it comes from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg

from ehr.definitions import type_number
from ehr.keys import TermHasher

ENCOUNTER = 1
REFERRAL = 2
NAMED = 3
"""A grantee named in a Consent, who may read that Consent."""
WAITING = 4
"""A referral by an organisation that has no reach by an Encounter: it opens nothing until there is one."""


@dataclass(frozen=True, slots=True)
class Reach:
    """One row; `until` in microseconds since 1970 UTC."""

    organisation: int
    person: int
    source: int
    holder: int
    kind: int
    until: int


_REPLACE = """with gone as (
  delete from reach r where r.source = any($1::bigint[]) and not exists (
    select from unnest($2::bigint[], $3::bigint[], $4::bigint[]) as k(organisation, person, source)
    where (k.organisation, k.person, k.source) = (r.organisation, r.person, r.source))
)
insert into reach (organisation, person, source, holder, kind, until)
select * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[], $7::bigint[])
on conflict (organisation, person, source) do update
set holder = excluded.holder, kind = excluded.kind, until = excluded.until"""


async def replace_reach(connection: asyncpg.Connection, sources: Iterable[int], rows: Sequence[Reach]) -> None:
    """Make the reach of these sources exactly these rows."""
    keys = sorted(set(sources))
    if keys:
        await connection.execute(
            _REPLACE,
            keys,
            [row.organisation for row in rows],
            [row.person for row in rows],
            [row.source for row in rows],
            [row.holder for row in rows],
            [row.kind for row in rows],
            [row.until for row in rows],
        )


async def encounter_reach(
    connection: asyncpg.Connection, pairs: Sequence[tuple[int, int]], now_us: int
) -> set[tuple[int, int]]:
    """Which (organisation, person) have reach by an Encounter now."""
    if not pairs:
        return set()
    rows = await connection.fetch(
        """select distinct r.organisation, r.person from reach r
        join unnest($1::bigint[], $2::bigint[]) as g(organisation, person)
          on (r.organisation, r.person) = (g.organisation, g.person)
        where r.kind = 1 and r.until > $3""",
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
        now_us,
    )
    return {(row["organisation"], row["person"]) for row in rows}


# Encounters and referrals come in any order: a referral counts while the referring organisation has, or had when the
# referral was recorded, reach by an Encounter that still stands.
_SETTLE = """with due as (
  select x.organisation, x.person, x.source, case when exists (
    select from reach e where e.organisation = r.custodian and e.person = x.person and e.kind = 1
      and e.until > r.last_updated) then 2 else 4 end as kind
  from reach x join resource r on r.key = x.source
  where x.kind in (2, 4) and r.key is not null
    and x.person in (
      select unnest($1::bigint[]) union select h.person from holder_person h where h.holder = any($2::bigint[]))
)
update reach x set kind = d.kind from due d
where (x.organisation, x.person, x.source) = (d.organisation, d.person, d.source) and x.kind <> d.kind"""


async def settle_referrals(connection: asyncpg.Connection, persons: Sequence[int], holders: Sequence[int]) -> None:
    """Open the waiting referrals of these persons whose organisation has reach now, close those that lost theirs."""
    await connection.execute(_SETTLE, list(persons), list(holders))


_ROLES = """select r.key, r.custodian, o.id as organisation
from resource r cross join lateral unnest(r.terms) as t(term)
join resource o on o.key = t.term # $2::bigint and o.type = $3::smallint
where r.key = any($1::bigint[]) and r.key is not null and o.key is not null and not r.deleted and not o.deleted
order by r.key, o.id"""


async def role_organisations(
    connection: asyncpg.Connection, roles: Sequence[int], hasher: TermHasher
) -> list[tuple[int, int, str]]:
    """(row key, custodian, id of its organisation) of stored PractitionerRoles."""
    if not roles:
        return []
    salt = hasher.reference_salt("PractitionerRole", "organization")
    rows = await connection.fetch(_ROLES, list(roles), salt, type_number("Organization"))
    return [(row["key"], row["custodian"], row["organisation"]) for row in rows]
