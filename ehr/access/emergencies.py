"""Broken glass: which actor opened whose record, until when."""

import asyncpg

_OPEN = """insert into emergency (actor, person, organisation, opened, until, reason)
values ($1, $2, $3, $4, $5, $6)
on conflict (actor, person) do update
set organisation = excluded.organisation, opened = excluded.opened, until = excluded.until, reason = excluded.reason
where emergency.until <= excluded.opened
returning true"""


async def open_emergency(
    connection: asyncpg.Connection | asyncpg.Pool,
    *,
    actor: str,
    person: int,
    organisation: int,
    opened: int,
    until: int,
    reason: str,
) -> bool:
    """Open the record; False where this actor has it open already."""
    return bool(await connection.fetchval(_OPEN, actor, person, organisation, opened, until, reason))


async def is_open(connection: asyncpg.Connection | asyncpg.Pool, actor: str, person: int, now_us: int) -> bool:
    """Whether the actor has the person's record open."""
    return bool(
        await connection.fetchval(
            "select true from emergency where actor = $1 and person = $2 and until > $3", actor, person, now_us
        )
    )


async def close_emergency(connection: asyncpg.Connection | asyncpg.Pool, actor: str, person: int) -> None:
    """Take an opening back, where its notice could not be written."""
    await connection.execute("delete from emergency where actor = $1 and person = $2", actor, person)


async def openings_since(connection: asyncpg.Connection | asyncpg.Pool, actor: str, since_us: int) -> int:
    """How many records the actor opened since then."""
    return int(
        await connection.fetchval("select count(*) from emergency where actor = $1 and opened > $2", actor, since_us)
    )
