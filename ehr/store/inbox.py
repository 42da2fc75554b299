"""The inbox: messages are durable here before they are acknowledged, and stay until their records are written.

A duplicate (same feed, sender, control id and content) is stored once and gets the stored answer again (DESIGN 4.7).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg
import msgspec

from ehr.errors import NotFound
from ehr.store.clock import now_us
from ehr.store.coalescing import Coalescer
from ehr.store.database import database_errors
from ehr.store.operations import Settlement
from ehr.store.room import HasRoom, always, require_room

_MOST_MESSAGES = 512
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """A message as received. `content` is its SHA-256; `answer` the acknowledgement that it will get."""

    feed: str
    custodian: str
    sender: str
    control_id: str
    content: bytes
    trace: str
    message_type: str
    body: bytes
    answer: bytes | None = None
    state: str = "waiting"
    cause: str | None = None
    place: str | None = None


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What became of a message: its row, and whether it was there before (then `answer` is the stored one)."""

    inbox: int
    answer: bytes | None
    duplicate: bool


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message as kept."""

    inbox: int
    feed: str
    custodian: str
    sender: str
    control_id: str
    trace: str
    message_type: str
    received_at_us: int
    state: str
    cause: str | None
    place: str | None
    attempts: int
    body: bytes
    converted: bool
    """Its records were written before: this is a replay."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of a feed waits for conversion."""

    feed: str
    waiting: int
    oldest_s: float
    """For how long the oldest message has waited, replays apart."""


@dataclass(slots=True, eq=False)
class _Arrival:
    message: InboxMessage
    future: "asyncio.Future[Acceptance]"
    weight: int = field(default=1)


_ACCEPT = """with given as (
  select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::text[], $7::text[],
    $8::bytea[], $9::bytea[], $10::text[], $11::text[], $12::text[]) with ordinality
    as g(feed, custodian, sender, control_id, content, trace, message_type, body, answer, state, cause, place, n)
), added as (
  insert into inbox (feed, custodian, sender, control_id, content, trace, message_type, received_at, body, answer,
    state, cause, place)
  select feed, custodian, sender, control_id, content, trace, message_type, $13::bigint, body, answer, state, cause,
    place from given order by n
  on conflict on constraint inbox_duplicate do nothing returning inbox, feed, sender, control_id, content
)
select g.n, a.inbox, min(g.n) over (partition by a.inbox) as first from given g
join added a using (feed, sender, control_id, content)"""

_STORED = """select g.n, i.inbox, i.answer from
  unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::integer[]) as g(feed, sender, control_id, content, n)
  join inbox i using (feed, sender, control_id, content)"""

# the feeds of which something waits, found by hops in the index inbox_waiting
_FEEDS = """feeds(feed) as (
  (select feed from inbox where state = 'waiting' order by feed limit 1)
  union all
  select (select i.feed from inbox i where i.state = 'waiting' and i.feed > f.feed order by i.feed limit 1)
  from feeds f where f.feed is not null
)"""

_COLUMNS = (
    "inbox, feed, custodian, sender, control_id, trace, message_type, received_at, state, cause, place, attempts, body"
    ", loss is not null as converted"
)
_TURNS = f"""with recursive {_FEEDS}, turns as materialized (
  select w.inbox, w.turn from feeds f cross join lateral (
    (select inbox, row_number() over (order by inbox) as turn from inbox
      where state = 'waiting' and feed = f.feed and attempts = 0 order by inbox limit $1)
    union all
    (select inbox, row_number() over (order by attempts, inbox) from inbox
      where state = 'waiting' and feed = f.feed and attempts > 0 order by attempts, inbox limit $1)
  ) w order by w.turn, w.inbox limit $1
)
select {_COLUMNS} from turns t join inbox i using (inbox) order by t.turn, inbox"""

_OLDEST = (
    "(select received_at from inbox where state = 'waiting' and feed = {feed} and attempts = 0 order by inbox limit 1)"
)
_BACKLOG = f"""with recursive {_FEEDS}
select f.feed, (select count(*) from inbox where state = 'waiting' and feed = f.feed) as waiting,
  {_OLDEST.format(feed="f.feed")} as oldest from feeds f where f.feed is not null"""

_BACKLOG_OF = f"""select count(*) as waiting, {_OLDEST.format(feed="$1")} as oldest from inbox
where state = 'waiting' and feed = $1 and attempts = 0"""

_KEY = ("feed", "sender", "control_id", "content")
_STORED_FIELDS = (
    *("feed", "custodian", "sender", "control_id", "content", "trace", "message_type"),
    *("body", "answer", "state", "cause", "place"),
)


class Inbox:
    """The inbox of one database; `accept` calls that come together share a commit."""

    def __init__(self, pool: asyncpg.Pool, has_room: HasRoom = always) -> None:
        """Take the write pool, and what says whether the disk takes messages."""
        self._pool = pool
        self._has_room = has_room
        self.taken: Counter[str] = Counter()
        """New messages that this process has stored, by feed."""
        self._queue: Coalescer[_Arrival] = Coalescer(self._serve, most=_MOST_BYTES, patience_s=0.05)

    async def close(self) -> None:
        """Store what waits, then take no more."""
        await self._queue.close()

    async def accept(self, messages: Sequence[InboxMessage]) -> list[Acceptance]:
        """Store messages; they are durable when this returns.

        Raises:
            Unavailable: the database is down or full: give no answer and close the connection.
        """
        require_room(self._has_room)
        loop = asyncio.get_running_loop()
        arrivals = [
            _Arrival(message, loop.create_future(), max(len(message.body), _MOST_BYTES // _MOST_MESSAGES))
            for message in messages
        ]
        await asyncio.gather(*(self._queue.submit(arrival) for arrival in arrivals))
        return [arrival.future.result() for arrival in arrivals]

    async def _serve(self, batch: list[_Arrival]) -> None:
        messages = [arrival.message for arrival in batch]
        columns = [[getattr(message, name) for message in messages] for name in _STORED_FIELDS]
        with database_errors():
            async with self._pool.acquire() as connection:
                added = await connection.fetch(_ACCEPT, *columns, now_us())
                answers: dict[int, Acceptance] = {}
                for row in added:
                    duplicate = row["n"] != row["first"]
                    answer = messages[row["first"] - 1].answer
                    answers[row["n"] - 1] = Acceptance(row["inbox"], answer, duplicate=duplicate)
                    if not duplicate and messages[row["n"] - 1].state == "waiting":
                        self.taken[messages[row["n"] - 1].feed] += 1
                known = [place for place in range(len(messages)) if place not in answers]
                if known:
                    keys = [[getattr(messages[place], name) for place in known] for name in _KEY]
                    for row in await connection.fetch(_STORED, *keys, known):
                        answers[row["n"]] = Acceptance(row["inbox"], row["answer"], duplicate=True)
        for place, arrival in enumerate(batch):
            if not arrival.future.done() and place in answers:
                arrival.future.set_result(answers[place])

    async def waiting(self, limit: int) -> list[InboxRow]:
        """Messages that wait, the oldest of each feed first.

        Each feed has its turn, and of a feed new messages and replays have: a file of ten thousand rows, or a replay of
        as many, keeps nobody else's message waiting behind it.
        """
        with database_errors():
            rows = await self._pool.fetch(_TURNS, limit)
        return [InboxRow(*row.values()) for row in rows]

    async def backlog(self) -> list[Backlog]:
        """What waits for conversion, by feed; feeds of which nothing waits are left out."""
        with database_errors():
            rows = await self._pool.fetch(_BACKLOG)
        return [Backlog(row["feed"], row["waiting"], _since_s(row["oldest"])) for row in rows]

    async def backlog_of(self, feed: str) -> Backlog:
        """What waits of one feed, replays apart."""
        with database_errors():
            row = await self._pool.fetchrow(_BACKLOG_OF, feed)
        return Backlog(feed, row["waiting"], _since_s(row["oldest"]))

    async def quarantined(self, limit: int, *, feed: str | None = None) -> list[InboxRow]:
        """Messages that could not be turned into records, oldest first."""
        with database_errors():
            rows = await self._pool.fetch(
                f"select {_COLUMNS} from inbox where state = 'quarantined' and ($2::text is null or feed = $2) "
                "order by inbox limit $1",
                limit,
                feed,
            )
        return [InboxRow(*row.values()) for row in rows]

    async def replace_quarantined(self, inbox: Sequence[int]) -> None:
        """Take out of quarantine what these messages, where they are converted, say in its stead: a file sent again.

        A row is replaced by one of the same feed and file with the same control id, and where it could not be read at
        all (`line-N`), by one on the same line. It stays in the inbox, as replaced.
        """
        with database_errors():
            await self._pool.execute(
                "update inbox q set state = 'replaced' from inbox n where n.inbox = any($1::bigint[]) "
                "and n.state = 'done' and q.state = 'quarantined' and q.feed = n.feed and q.sender = n.sender "
                "and q.inbox < n.inbox "
                "and (q.control_id = n.control_id or (q.control_id like 'line-%' and q.trace = n.trace))",
                list(inbox),
            )

    async def converted(self, limit: int, *, feed: str | None = None) -> list[int]:
        """Numbers of messages whose records are written, oldest first."""
        with database_errors():
            rows = await self._pool.fetch(
                "select inbox from inbox where state = 'done' and ($2::text is null or feed = $2) "
                "order by inbox limit $1",
                limit,
                feed,
            )
        return [row["inbox"] for row in rows]

    async def counts(self, *, feed: str | None = None) -> dict[tuple[str, str], int]:
        """How many messages are in each state, by (feed, state)."""
        with database_errors():
            rows = await self._pool.fetch(
                "select feed, state, count(*) as n from inbox where $1::text is null or feed = $1 group by feed, state",
                feed,
            )
        return {(row["feed"], row["state"]): row["n"] for row in rows}

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        """Settle messages that bring no records (quarantine); with records, give settlements to `Store.write`."""
        from ehr.store.write_rows import WaveRows, write_wave  # noqa: PLC0415 - the writer imports this module

        with database_errors():
            async with self._pool.acquire() as connection:
                await write_wave(connection, WaveRows(settled=list(settlements)))

    async def release_for_replay(self, inbox: Sequence[int]) -> int:
        """Let messages wait again, whatever became of them; says how many there were.

        Raises:
            NotFound: none of them exists.
        """
        with database_errors():
            rows = await self._pool.fetch(
                "update inbox set state = 'waiting', cause = null, place = null where inbox = any($1::bigint[]) "
                "and state <> 'replaced' returning inbox",
                list(inbox),
            )
        if not rows:
            raise NotFound("There is no such message.")
        return len(rows)

    async def losses(self, limit: int, *, feed: str | None = None) -> list[tuple[str, list[object]]]:
        """Trace and loss report of the newest settled messages."""
        with database_errors():
            rows = await self._pool.fetch(
                "select trace, loss::text as loss from inbox where loss is not null "
                "and ($2::text is null or feed = $2) order by inbox desc limit $1",
                limit,
                feed,
            )
        return [(row["trace"], msgspec.json.decode(row["loss"])) for row in rows]


def _since_s(received_at_us: int | None) -> float:
    """Seconds until now; 0 for None, and for an instant ahead of a clock that was set back."""
    return 0.0 if received_at_us is None else max(0, now_us() - received_at_us) / 1_000_000
