"""Broken glass: which actor opened whose record, until when."""

import asyncpg

_OPEN = """insert into emergency (actor, person, organisation, opened, until, reason)
values ($1, $2, $3, $4, $5, $6)
on conflict (actor, person) do update
set organisation = excluded.organisation, opened = excluded.opened, until = excluded.until, reason = excluded.reason
where emergency.until <= excluded.opened
returning true"""


async def open_emergency(
    pool: asyncpg.Pool,
    *,
    actor: str,
    person: int,
    organisation: int,
    opened: int,
    until: int,
    reason: str,
    since: int,
    at_most: int,
) -> bool | None:
    """Open the record; False where this actor has it open already, None where he opened `at_most` others `since`.

    An actor's openings take turns, so that a thousand at once are counted like a thousand one after the other.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtextextended('emergency of ' || $1, 0))", actor)
        if await openings_since(connection, actor, since, but=person) >= at_most:
            return None
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


async def openings_since(
    connection: asyncpg.Connection | asyncpg.Pool, actor: str, since_us: int, *, but: int | None = None
) -> int:
    """How many records the actor opened since then, without that of one person."""
    return int(
        await connection.fetchval(
            "select count(*) from emergency where actor = $1 and opened > $2 and person is distinct from $3",
            actor,
            since_us,
            but,
        )
    )
