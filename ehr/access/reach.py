"""Who treats whom: rows of `reach`, each tied to the Encounter, referral or Consent it comes from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import asyncpg

ENCOUNTER = 1
REFERRAL = 2
NAMED = 3
"""A grantee named in a Consent, who may read that Consent."""


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
