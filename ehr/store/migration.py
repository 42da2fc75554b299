"""Brings a database to the newest schema: Alembic writes the SQL, one asyncpg transaction runs it."""

import asyncio
import io
from pathlib import Path

import asyncpg

from ehr.errors import Unavailable
from ehr.store.database import COMMON_SETTINGS, database_errors

_FOLDER = Path(__file__).parent / "migrations"
_NUMBERS = """select pg_snapshot_xmax(pg_current_snapshot())::text as next, greatest(
  coalesce((select transaction::text::bigint from change_log order by transaction desc limit 1), 0),
  coalesce((select transaction::text::bigint from audit_row order by transaction desc limit 1), 0),
  coalesce((select horizon::text::bigint - 1 from audit_seal order by seal desc limit 1), 0)) as named"""
_LOCK = 0x6B616E67  # "kang": one migration at a time, whichever process starts it


async def migrate(url: str) -> None:
    """Create or upgrade all tables; a database at the newest revision is left as it is.

    Raises:
        Unavailable: the database cannot be reached, or its transactions are numbered behind those that its rows name.
    """
    connection = await _connect(url)
    with database_errors():
        try:
            async with connection.transaction():
                await connection.execute(f"select pg_advisory_xact_lock({_LOCK})")
                current = await _current_revision(connection)
                statements = await asyncio.to_thread(_upgrade_sql, current)
                if statements.strip():
                    await connection.execute(statements)
                await _check_transactions(connection)
        finally:
            await connection.close()


async def _connect(url: str) -> asyncpg.Connection:
    """The first connection of a start: what keeps us from it is the operator's to mend, so it is said as it is."""
    try:
        return await asyncpg.connect(url, server_settings=COMMON_SETTINGS, timeout=10)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        cause = str(error) or type(error).__name__
        raise Unavailable(
            f"The database cannot be reached ({cause}): see that the server runs and that the address is right "
            "(KANGLIAN_DATABASE_URL); `kanglian doctor` looks again"
        ) from error


async def _check_transactions(connection: asyncpg.Connection) -> None:
    """A dump restored elsewhere keeps the numbers of its old server's transactions: readers would pass by new rows."""
    row = await connection.fetchrow(_NUMBERS)
    named, next_number = int(row["named"]), int(row["next"])
    if named >= next_number:
        raise Unavailable(
            f"This database was restored from a dump: its rows name transactions up to {named}, the server is at "
            f"{next_number} only, and the audit's seals and the analytics would miss what is written now. Stop the "
            f"server, run `pg_resetwal -e {(named >> 32) + 1} -D <its data directory>`, start it again "
            "(docs/operations.md, Restore)."
        )


async def _current_revision(connection: asyncpg.Connection) -> str | None:
    if await connection.fetchval("select to_regclass('alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("select version_num from alembic_version")
    return revision


def _upgrade_sql(current: str | None) -> str:
    from alembic import command  # noqa: PLC0415 - alembic takes 0.2 s to import and is needed once a start
    from alembic.config import Config  # noqa: PLC0415 - likewise
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - likewise

    printed = io.StringIO()
    config = Config(output_buffer=printed)
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    head = ScriptDirectory.from_config(config).get_current_head()
    if current == head:
        return ""
    config.attributes["starting_rev"] = current
    command.upgrade(config, f"{current}:{head}" if current else "head", sql=True)
    return printed.getvalue()
