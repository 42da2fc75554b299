"""When each hospital's feeds were last heard, and how long what they sent has been waiting.

Read by hops in the indexes of the inbox, and remembered for a few seconds: a statement about a feed is made beside many
answers.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import asyncpg

from ehr.keys import organisation_key
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.scope_sql import require_fresh

SILENT_AFTER_S = 24 * 3600.0
"""A feed that sent nothing for so long is told of."""
LATE_AFTER_S = 300.0
"""Likewise one of which a message has waited for so long to enter the record."""
_REMEMBERED_S = 10.0

_CLOCKS = """with recursive feeds(feed) as (
  (select feed from inbox order by feed limit 1)
  union all
  select (select i.feed from inbox i where i.feed > f.feed order by i.feed limit 1) from feeds f
  where f.feed is not null
)
select f.feed, l.custodian, l.received_at,
  (select i.received_at from inbox i where i.state = 'waiting' and i.feed = f.feed and i.attempts = 0
    order by i.inbox limit 1) as waiting_since
from feeds f cross join lateral (
  select n.custodian, n.received_at from (values ('waiting'), ('done'), ('quarantined'), ('replaced')) s(state)
  cross join lateral (select i.inbox, i.custodian, i.received_at from inbox i
    where i.feed = f.feed and i.state = s.state order by i.inbox desc limit 1) n
  order by n.inbox desc limit 1
) l where f.feed is not null"""


@dataclass(frozen=True, slots=True)
class FeedTrouble:
    """A feed whose newest data the record may lack."""

    feed: str
    organisation: str
    kind: Literal["silent", "late"]
    since_us: int
    """Silent: when it was last heard; late: since when its oldest message has waited."""


class FeedClock:
    """Reads the clocks of all feeds."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Take a pool for keyed statements."""
        self._pool = pool
        self._troubles: tuple[FeedTrouble, ...] = ()
        self._read_at = float("-inf")

    async def troubles(self) -> tuple[FeedTrouble, ...]:
        """The feeds that are silent or late, by name; as old as ten seconds."""
        if time.monotonic() - self._read_at > _REMEMBERED_S:
            self._read_at = time.monotonic()
            with database_errors():
                rows = await self._pool.fetch(_CLOCKS)
            now = now_us()
            found = (_trouble(row, now) for row in sorted(rows, key=lambda row: str(row["feed"])))
            self._troubles = tuple(each for each in found if each is not None)
        return self._troubles

    async def seen_of_person(
        self, scope: ReadScope, patient: int, organisations: Collection[str], *, whole_person: bool
    ) -> frozenset[str]:
        """Of these organisations those of whose rows about a Patient the caller sees at least one.

        Raises:
            StaleScope: decide again, once.
        """
        parameters = Parameters()
        keys = {organisation_key(name): name for name in organisations}
        holder = parameters.add(patient, "bigint")
        holders = f"array[{holder}]"
        if whole_person:
            holders = (
                f"array(select {holder} union select b.holder from holder_person a"
                f" join holder_person b on b.person = a.person where a.holder = {holder})"
            )
        statement = (
            f"select s.epoch, s.highest_class, o.custodian from policy_state s"
            f" left join unnest({parameters.add(list(keys), 'bigint[]')}) as o(custodian) on exists ("
            f"select 1 from resource r where r.holder = any({holders}) and r.custodian = o.custodian"
            f" and not r.deleted and {scope.row_filter.sql('r', parameters)})"
        )
        with database_errors():
            rows = await self._pool.fetch(statement, *parameters.values)
        require_fresh(scope, rows[0]["epoch"], rows[0]["highest_class"])
        return frozenset(keys[row["custodian"]] for row in rows if row["custodian"] is not None)


def _trouble(row: asyncpg.Record, now: int) -> FeedTrouble | None:
    feed, organisation, heard, waiting = row["feed"], row["custodian"], row["received_at"], row["waiting_since"]
    if waiting is not None and now - waiting > LATE_AFTER_S * 1_000_000:
        return FeedTrouble(feed, organisation, "late", waiting)
    if now - heard > SILENT_AFTER_S * 1_000_000:
        return FeedTrouble(feed, organisation, "silent", heard)
    return None
