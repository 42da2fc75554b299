"""Claims of hospitals to treat Patients whom other hospitals keep: how many are believed in a day."""

from collections.abc import Sequence

import asyncpg

_DAY_US = 86_400_000_000

# Whom the organisation reaches by another source already, nobody gains by naming again.
_KNOWN = """select g.organisation, g.holder, c.holder is not null or exists (
    select from reach x where x.organisation = g.organisation and x.person = g.person and x.kind in (1, 2)
      and x.until > $4 and not x.source = any($5::bigint[])) as believed
from unnest($1::bigint[], $2::bigint[], $3::bigint[]) as g(organisation, holder, person)
left join stranger_claim c on c.organisation = g.organisation and c.holder = g.holder"""
_TODAY = """select organisation, count(*) as claims from stranger_claim
where organisation = any($1::bigint[]) and at > $2 group by organisation"""


async def believed_claims(
    connection: asyncpg.Connection,
    claims: Sequence[tuple[int, int, int]],
    *,
    sources: Sequence[int],
    now_us: int,
    at_most: int,
) -> set[tuple[int, int]]:
    """Those (organisation, holder) of the claims (organisation, holder, person) that are believed.

    Args:
        connection: in the transaction that writes the Encounters.
        claims: in the order in which they are made.
        sources: row keys of the Encounters that claim.
        now_us: when.
        at_most: new ones that an organisation is believed within a day.
    """
    organisations = sorted({organisation for organisation, _, _ in claims})
    await connection.execute("select pg_advisory_xact_lock(o) from unnest($1::bigint[]) as o", organisations)
    columns = [list(column) for column in zip(*claims, strict=True)]
    rows = await connection.fetch(_KNOWN, *columns, now_us, list(sources))
    believed = {(row["organisation"], row["holder"]) for row in rows if row["believed"]}
    today = {
        row["organisation"]: row["claims"] for row in await connection.fetch(_TODAY, organisations, now_us - _DAY_US)
    }
    new: dict[tuple[int, int], None] = {}
    for organisation, holder, _ in claims:
        made = today.get(organisation, 0)
        if (organisation, holder) not in believed and (organisation, holder) not in new and made < at_most:
            today[organisation] = made + 1
            new[organisation, holder] = None
    if new:
        await connection.execute(
            "insert into stranger_claim (organisation, holder, at)"
            " select o, h, $3 from unnest($1::bigint[], $2::bigint[]) as g(o, h)",
            [organisation for organisation, _ in new],
            [holder for _, holder in new],
            now_us,
        )
    return believed | set(new)
