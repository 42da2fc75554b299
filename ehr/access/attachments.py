"""Which rows point to a Binary by an attachment, so that persons and labels follow whichever of the two comes first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, slots=True)
class Referrer:
    """The access columns of a row that points to a Binary which the same custodian keeps."""

    binary: int
    custodian: int
    holder: int
    others: tuple[int, ...]
    consent_class: int
    labels: int


async def remember(connection: asyncpg.Connection, rows: Sequence[tuple[int, int, int]]) -> None:
    """Keep (referrer, binary, custodian of the referrer); what was once attached stays so."""
    if rows:
        await connection.execute(
            """insert into attachment (referrer, "binary", custodian)
            select * from unnest($1::bigint[], $2::bigint[], $3::bigint[])
            on conflict (referrer, "binary") do update set custodian = excluded.custodian
            where attachment.custodian <> excluded.custodian""",
            *([row[column] for row in rows] for column in range(3)),
        )


async def referrers_of(connection: asyncpg.Connection, binaries: Sequence[int]) -> list[Referrer]:
    """The stored rows that point to these Binaries, in an order that does not depend on who came first."""
    if not binaries:
        return []
    rows = await connection.fetch(
        """select a."binary", r.custodian, r.holder, r.others, r."class", r.labels
        from attachment a join resource r on r.key = a.referrer and r.custodian = a.custodian
        where a."binary" = any($1::bigint[]) and r.key is not null and not r.deleted order by a."binary", a.referrer""",
        list(binaries),
    )
    return [
        Referrer(
            row["binary"], row["custodian"], row["holder"], tuple(row["others"] or ()), row["class"], row["labels"]
        )
        for row in rows
    ]


async def attached_to(connection: asyncpg.Connection, labels: Mapping[int, int]) -> dict[int, int]:
    """The labels that stored Binaries take from referring rows (key: labels) of their own custodian."""
    rows = await connection.fetch(
        """select a.referrer, a."binary" from attachment a
        join resource b on b.key = a."binary" and b.custodian = a.custodian
        where a.referrer = any($1::bigint[]) and b.key is not null""",
        list(labels),
    )
    found: dict[int, int] = {}
    for row in rows:
        found[row["binary"]] = found.get(row["binary"], 0) | labels[row["referrer"]]
    return found


async def adopt(connection: asyncpg.Connection, rows: Sequence[Referrer]) -> None:
    """Give stored Binaries about nobody the persons of the row that points to them, where one custodian keeps both."""
    if rows:
        await connection.execute(
            """update resource r set holder = g.holder, "class" = g.class,
              others = nullif(string_to_array(g.others, ',')::bigint[], '{}')
            from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::integer[])
              as g(key, custodian, holder, others, class)
            where r.key = g.key and r.custodian = g.custodian and r.holder = 0""",
            [row.binary for row in rows],
            [row.custodian for row in rows],
            [row.holder for row in rows],
            [",".join(map(str, row.others)) for row in rows],
            [row.consent_class for row in rows],
        )
