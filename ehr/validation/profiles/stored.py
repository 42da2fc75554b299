"""Profiles and value sets from the record, as far as the caller may see them."""

from collections.abc import Sequence
from typing import Protocol

import asyncpg

from ehr.keys import TermHasher
from ehr.scopes import ReadScope
from ehr.search.terminology import Terminology
from ehr.store.database import database_errors
from ehr.store.scope_sql import require_fresh
from ehr.validation.profiles.loading import Loaded, load

_MOST_READS = 400


class ReadableStore(Protocol):
    """What of `ehr.store.Store` is read."""

    hasher: TermHasher

    @property
    def search_pool(self) -> asyncpg.Pool:
        """Where rows are found by their canonical addresses."""


async def load_stored(store: ReadableStore, scope: ReadScope, asked: Sequence[str]) -> Loaded:
    """Read what a check against these profiles needs.

    Raises:
        TooCostly: profiles name too many others, or too many value sets.
        StaleScope: decide again, once.
        Unavailable: the database is away or too slow.
    """
    with database_errors():
        async with store.search_pool.acquire() as connection:
            loaded = await load(asked, Terminology(connection, scope.row_filter, store.hasher, _MOST_READS))
            state = await connection.fetchrow("select s.epoch, s.highest_class from policy_state s")
    require_fresh(scope, state["epoch"], state["highest_class"])
    return loaded
