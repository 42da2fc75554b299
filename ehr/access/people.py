"""Everybody with their class, for counts."""

import asyncpg


async def people_with_class(connection: asyncpg.Connection | asyncpg.Pool) -> list[tuple[int, int, int]]:
    """(holder, person, class) of every holder."""
    rows = await connection.fetch(
        'select h.holder, h.person, p."class" from holder_person h join person p on p.person = h.person'
    )
    return [(row["holder"], row["person"], row["class"]) for row in rows]
