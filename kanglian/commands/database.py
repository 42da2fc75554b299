"""The running platform's database, for commands of the operator on the same machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from ehr.errors import Unavailable
from kanglian.ownership import is_owned, read_owner
from kanglian.settings import Settings

if TYPE_CHECKING:
    from ehr.store.inbox import Inbox


def database_url(settings: Settings) -> str:
    """The address of the configured database, or of the embedded one of the running platform.

    Raises:
        Unavailable: nothing is configured and nothing runs.
    """
    if settings.database_url is not None:
        return settings.database_url
    if is_owned(settings.data_dir):
        url = read_owner(settings.data_dir).get("database_url")
        if url:
            return str(url)
    raise Unavailable(
        f"the platform of {settings.data_dir} is not running: start it (make run), or set KANGLIAN_DATA_DIR"
    )


@asynccontextmanager
async def opened_inbox(settings: Settings) -> AsyncIterator["Inbox"]:
    """The inbox, closed at the end."""
    from ehr.store.database import WRITE_SETTINGS, open_pool
    from ehr.store.inbox import Inbox
    from kanglian.ballast import ballast_of

    pool = await open_pool(database_url(settings), WRITE_SETTINGS, most=2)
    inbox = Inbox(pool, ballast_of(settings).has_room)
    try:
        yield inbox
    finally:
        await inbox.close()
        await pool.close()
