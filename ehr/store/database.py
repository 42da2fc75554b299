"""Connections to PostgreSQL: pools without a reset query, session settings, and errors as the platform names them.

https://www.postgresql.org/docs/current/runtime-config-client.html
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from ehr.errors import Unavailable

_log = logging.getLogger(__name__)
COMMON_SETTINGS = {
    "application_name": "kanglian",
    "client_encoding": "UTF8",
    "jit": "off",
    "timezone": "UTC",
    "synchronous_commit": "on",
}
KEYED_SETTINGS = {
    **COMMON_SETTINGS,
    # rows are asked for by key only: a plan cached while the tables were small must not scan them later
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": "5000",
}
WRITE_SETTINGS = {
    **COMMON_SETTINGS,
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "lock_timeout": "400",
    "statement_timeout": "30000",
    "idle_in_transaction_session_timeout": "60000",
}
SEARCH_SETTINGS = {
    **COMMON_SETTINGS,
    "plan_cache_mode": "force_custom_plan",
    # index pages lie in memory or on solid state: the default of 4 makes scans of whole tables look cheap
    "random_page_cost": "1.1",
    "statement_timeout": "20000",
}
KEYED_SEARCH_SETTINGS = {
    **KEYED_SETTINGS,
    # searches that rare terms or keys answer: one plan serves all values, and planning is most of their work
    "random_page_cost": "1.1",
    "statement_timeout": "20000",
}

# SQLSTATE classes and codes that say "not now": connection, resources, operator intervention, system error,
# read only, lock and statement time-outs, serialisation (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_NOT_NOW_CLASSES = ("08", "53", "57", "58", "XX")
_NOT_NOW_CODES = frozenset({"25006", "55P03", "40001", "40P01"})


statement_listeners: list[Callable[[str], None]] = []
"""Told the text of every statement of connections opened from then on; empty but where statements are examined."""


class Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    """A connection that is handed back to its pool without a reset query: no session state is changed on it."""

    __slots__ = ()

    def __init__(self, *arguments: Any) -> None:
        """Open as asyncpg does, and let the listeners hear."""
        super().__init__(*arguments)
        for listener in statement_listeners:
            self.add_query_logger(lambda logged, listener=listener: listener(logged.query))

    def get_reset_query(self) -> str:
        """Return no query; an open transaction is still rolled back by asyncpg."""
        return ""


async def open_pool(url: str, settings: dict[str, str], *, most: int) -> asyncpg.Pool:
    """Open a pool of at most `most` connections with these session settings; connections are made when asked for."""
    with database_errors():
        pool = await asyncpg.create_pool(
            url,
            # asyncpg tells of each attempt to restore a floor with a traceback: pages of them when the database is away
            min_size=0,
            max_size=most,
            connection_class=Connection,
            server_settings=settings,
            statement_cache_size=512,
            max_cached_statement_lifetime=0,
            max_inactive_connection_lifetime=0,
            timeout=5,
        )
        async with pool.acquire():
            return pool


def is_not_now(error: BaseException) -> bool:
    """Say whether the error means that the database is away, full or too slow rather than that the request is bad."""
    if isinstance(error, asyncpg.PostgresError):
        state = getattr(error, "sqlstate", None) or ""
        return state.startswith(_NOT_NOW_CLASSES) or state in _NOT_NOW_CODES
    return isinstance(error, OSError | asyncio.TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def is_connection_lost(error: BaseException) -> bool:
    """Say whether the outcome of the statement is unknown, since the connection ended under it."""
    if isinstance(error, asyncpg.PostgresError):
        return (getattr(error, "sqlstate", None) or "").startswith(("08", "57P"))
    return is_not_now(error)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn errors that mean "not now" into `Unavailable`; the text names no row and no statement."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as error:
        if is_not_now(error):
            raise Unavailable("The record cannot be reached now; nothing was shown and nothing was taken.") from error
        raise


async def keep_doing(
    url: str, work: Callable[[asyncpg.Connection], Awaitable[object]], *, name: str, every_s: float, stop: asyncio.Event
) -> None:
    """Do the work again and again on a connection of its own until `stop` is set; a lost database is waited for."""
    while not stop.is_set():
        try:
            with database_errors():
                connection = await asyncpg.connect(url, server_settings=COMMON_SETTINGS, timeout=5)
                try:
                    while not stop.is_set():
                        await work(connection)
                        await _pause(stop, every_s)
                finally:
                    await connection.close()
        except Unavailable:
            _log.warning("%s: waiting for the database", name)
            await _pause(stop, every_s)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
