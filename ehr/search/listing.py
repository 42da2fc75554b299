"""Lists of the ids of a result, from which its pages are read (decision record 0020).

A short list lies in the page link itself, a longer one in a table without a write-ahead log: a crash of the database
forgets it, and its links are expired. A list shows nothing by itself: each row is fetched under the caller's scope.
"""

import os
from collections.abc import Sequence

import asyncpg

from ehr.errors import Expired
from ehr.search import limits
from ehr.search.page import REFUSAL, Listed
from ehr.store.clock import now_us

_SWEPT_EACH = 20
_kept = 0


async def kept(pool: asyncpg.Pool, listed: Listed) -> Listed:
    """The same as a page link can hold it: stored where it is long."""
    global _kept  # noqa: PLW0603 - how many this process stored since it last threw old ones away
    if len(listed.keys) <= limits.LISTED_IN_LINK:
        return listed
    name = os.urandom(16)
    await pool.execute(
        "insert into search_list (list, at, size, keys) values ($1, $2, $3, $4)",
        name,
        listed.started_us,
        len(listed.keys),
        list(listed.keys),
    )
    _kept += 1
    if _kept % _SWEPT_EACH == 0:
        await sweep(pool)
    return Listed((), name, 0, listed.started_us, listed.large)


async def sweep(pool: asyncpg.Pool) -> None:
    """Throw away the lists whose links are expired, and the oldest where all of them together are too long."""
    await pool.execute(
        "delete from search_list where at < $1 or list in (select s.list from (select list, sum(size) over"
        " (order by at desc, list) as ids from search_list) s where s.ids > $2)",
        now_us() - limits.LINK_AGE_S * 1_000_000,
        limits.STORED_IDS,
    )


async def next_keys(pool: asyncpg.Pool, listed: Listed, number: int) -> tuple[Sequence[int], Listed | None]:
    """The keys of a page, and what follows it.

    Raises:
        Expired: the list is not there any more.
    """
    if not listed.stored:
        rest = listed.keys[number:]
        following = Listed(rest, b"", 0, listed.started_us, listed.large) if rest else None
        return listed.keys[:number], following
    row = await pool.fetchrow(
        "select size, keys[$2 + 1 : $2 + $3] as keys from search_list where list = $1",
        listed.stored,
        listed.place,
        number,
    )
    if row is None:
        raise Expired(REFUSAL)
    place = listed.place + number
    more = place < row["size"]
    return row["keys"], Listed((), listed.stored, place, listed.started_us, listed.large) if more else None
