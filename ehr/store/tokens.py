"""Tokens withdrawn before their time and single-use identifiers that were spent: the table `revoked_token`.

https://www.rfc-editor.org/rfc/rfc7009. Identifiers are "jti:...", "family:..." (withdrawn) and "spent:..." (codes,
assertions, refresh tokens used once). A row is forgotten when what it names would have expired anyway.
"""

from typing import TYPE_CHECKING

from ehr.store.database import database_errors

if TYPE_CHECKING:
    from ehr.store import Store

_SPENT = "spent:"


async def revoked(store: "Store", now_us: int) -> list[str]:
    """The identifiers of tokens withdrawn and not yet expired at `now_us` (microseconds since 1970 UTC)."""
    with database_errors():
        async with store.search_pool.acquire() as connection:
            rows = await connection.fetch(
                "select identifier from revoked_token where until > $1 and not starts_with(identifier, $2)",
                now_us,
                _SPENT,
            )
    return [row["identifier"] for row in rows]


async def revoke(store: "Store", identifier: str, until_us: int) -> None:
    """Withdraw a token or family until the instant; durable on return."""
    with database_errors():
        async with store.search_pool.acquire() as connection:
            await connection.execute(
                "insert into revoked_token as t (identifier, until) values ($1, $2)"
                " on conflict (identifier) do update set until = greatest(t.until, excluded.until)",
                identifier,
                until_us,
            )


async def spend(store: "Store", identifier: str, until_us: int) -> bool:
    """Use a single-use identifier; False where it was used before. Holds across processes."""
    with database_errors():
        async with store.search_pool.acquire() as connection:
            used = await connection.fetchval(
                "insert into revoked_token (identifier, until) values ($1, $2)"
                " on conflict (identifier) do nothing returning identifier",
                _SPENT + identifier,
                until_us,
            )
    return used is not None


async def forget_expired(store: "Store", now_us: int) -> None:
    """Delete what would have expired by now."""
    with database_errors():
        async with store.search_pool.acquire() as connection:
            await connection.execute("delete from revoked_token where until <= $1", now_us)
