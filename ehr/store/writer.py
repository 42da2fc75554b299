"""Writes: concurrent requests share one transaction and one fsync; what conflicts is redone alone (DESIGN 4.5).

A transaction takes five round trips whatever the number of requests: begin; lock the rows in place, in order of their
keys; people and projections; one statement for all rows; commit.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import asyncpg

from ehr.audit_note import AuditNote
from ehr.changes import Projection
from ehr.errors import Conflict, Forbidden, Issue, KanglianError, Malformed, StaleScope, Unavailable
from ehr.indexing import Implied
from ehr.keys import new_resource_id, organisation_key, row_key
from ehr.scopes import WriteScope
from ehr.store import audit
from ehr.store.clock import now_us
from ehr.store.coalescing import Coalescer, fail
from ehr.store.conditions import MatchingKeys, require_expected, resolve
from ehr.store.database import database_errors, is_connection_lost
from ehr.store.operations import PatientMerge, Settlement, WriteOutcome, named
from ehr.store.people import People
from ehr.store.planning import Meeting, Plan, needs_visibility, plan
from ehr.store.preparation import PreparedOperation
from ehr.store.scope_sql import RenderedFilter
from ehr.store.write_rows import AuditLine, WaveRows, holders_of, write_wave

_MOST_OPERATIONS = 256
_ATTEMPTS_TOGETHER = 2
_ATTEMPTS_ALONE = 4
_MET_OTHERS = (asyncpg.UniqueViolationError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

# a transaction of its own, over at once: a large one would keep all others waiting that bring the same terms
_IMPLY = """insert into implied_term (implied, term) select * from unnest($1::bigint[], $2::bigint[])
on conflict do nothing"""

# the writer sees every row in place (the mark of `row_filter.Everything`): what callers learn of it, planning decides
_LOCKED = """select r.*, s.epoch as epoch_now, s.highest_class as highest_now from policy_state s left join (
  select key, id, type, version, last_version, deleted, last_updated, holder, others, custodian, labels, class, body,
    dictionary, order_key
  from resource w where w.key = any($1::bigint[]) and (w.key is not null) order by w.key for update
) r on true"""


@dataclass(slots=True, eq=False)
class WriteRequest:
    """One caller's operations, written together or not at all."""

    scope: WriteScope
    operations: list[PreparedOperation]
    note: AuditNote
    settlements: Sequence[Settlement]
    merges: Sequence[PatientMerge]
    future: "asyncio.Future[object]"
    weight: int = 1
    entry: str = ""
    outcomes: list[WriteOutcome | None] = field(default_factory=list)
    holders: set[int] = field(default_factory=set)
    matched: dict[int, int] = field(default_factory=dict)
    refusal: KanglianError | None = None

    def begin(self) -> None:
        """Forget what an earlier attempt found."""
        self.outcomes = [None] * len(self.operations)
        self.holders = set()
        self.matched = {}
        self.refusal = None

    @property
    def keys(self) -> set[int]:
        """Of the rows that it writes, as far as they are known before the transaction."""
        return {each.key for each in self.operations} - {0}

    @property
    def is_conditional(self) -> bool:
        """Whether keys are known only inside the transaction."""
        return any(each.operation.condition is not None for each in self.operations)


Step = tuple[WriteRequest, int]
Planned = tuple[WriteRequest, int, Plan]


def waves(requests: Sequence[WriteRequest]) -> list[list[Step]]:
    """Operations in steps in which each key occurs once; the order of a key's operations and of a request is kept."""
    result: list[list[Step]] = []
    last_wave: dict[int, int] = {}
    for request in requests:
        wave = 0
        for place, prepared in enumerate(request.operations):
            key = request.matched.get(place) or prepared.key
            wave = max(wave, last_wave.get(key, -1) + 1) if key else wave
            while len(result) <= wave:
                result.append([])
            result[wave].append((request, place))
            if key:
                last_wave[key] = wave
    return result


class Writer:
    """Serves writes from one pool."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        projections: Sequence[Projection],
        people: People,
        matching_keys: MatchingKeys,
        implied: Implied,
    ) -> None:
        """Take the write pool, what takes part in each transaction, and where implied terms are collected."""
        self._pool = pool
        self._projections = projections
        self._people = people
        self._matching_keys = matching_keys
        self._implied = implied
        self._queue: Coalescer[WriteRequest] = Coalescer(
            self._serve, most=_MOST_OPERATIONS, patience_s=0.05, rows=lambda request: request.keys
        )

    async def close(self) -> None:
        """Write what waits, then take no more."""
        await self._queue.close()

    async def submit(self, request: WriteRequest) -> list[WriteOutcome]:
        """Queue the request; its rows are durable when this returns."""
        request.weight = max(1, len(request.operations))
        request.entry = audit.note_json(request.note)
        await self._queue.submit(request)
        return [outcome for outcome in request.outcomes if outcome is not None]

    async def rehearse(self, request: WriteRequest) -> None:
        """Do all that writing the request does, and undo it; raises what the write would raise.

        What was found stands in the request. No row, version or audit row is left.
        """
        request.begin()
        request.entry = audit.note_json(request.note)
        with database_errors():
            async with self._pool.acquire() as connection:
                await connection.execute("begin")
                try:
                    await self._write(connection, [request])
                except _MET_OTHERS as error:
                    raise Unavailable("Others write these rows now; try again.") from error
                finally:
                    if not connection.is_closed():
                        await connection.execute("rollback")
        if request.refusal is not None:
            raise request.refusal

    async def _serve(self, batch: list[WriteRequest]) -> None:
        together = [request for request in batch if not request.is_conditional and not request.merges]
        alone = [request for request in batch if request.is_conditional or request.merges]
        if len(together) > 1 and not await self._serve_together(together):
            alone = [*together, *alone]
        elif len(together) <= 1:
            alone = batch
        for request in alone:
            if not request.future.done():
                await self._serve_alone(request)

    async def _serve_together(self, batch: list[WriteRequest]) -> bool:
        """Whether the batch got its answers; where not, whoever caused it is found out by redoing each alone.

        A batch that met another one's rows is tried once more as it is: they are in place then, and redoing some dozens
        of requests one by one takes longer than both batches did.
        """
        for _ in range(_ATTEMPTS_TOGETHER):
            try:
                await self._transaction(batch)
            except _MET_OTHERS:
                continue
            except Exception as error:  # noqa: BLE001 - it is told to those who caused it
                if is_connection_lost(error):
                    _fail_all(batch, error)
                return False
            return True
        return False

    async def _serve_alone(self, request: WriteRequest) -> None:
        for attempt in range(_ATTEMPTS_ALONE):
            try:
                await self._transaction([request])
            except asyncpg.UniqueViolationError as error:
                if attempt + 1 == _ATTEMPTS_ALONE:
                    request.future.set_exception(
                        Conflict("Another write was faster.").with_traceback(error.__traceback__)
                    )
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                if attempt + 1 == _ATTEMPTS_ALONE:
                    _fail_all([request], error)
            except KanglianError as error:
                await self._refuse(request, error)
            except Exception as error:  # noqa: BLE001 - it belongs to this request alone
                _fail_all([request], error)
            if request.future.done():
                return

    async def _refuse(self, request: WriteRequest, error: KanglianError) -> None:
        """Write down that the request was refused, then say so."""
        if not isinstance(error, StaleScope | Unavailable):
            try:
                await self.record(request.note, audit.REFUSED, ())
            except KanglianError as away:
                error = away
        if not request.future.done():
            request.future.set_exception(error)

    async def record(self, note: AuditNote, outcome: int, holders: Sequence[int]) -> None:
        """Write one bare audit row."""
        with database_errors():
            async with self._pool.acquire() as connection:
                await audit.record(connection, note, outcome, holders)

    async def _transaction(self, requests: list[WriteRequest]) -> None:
        for request in requests:
            request.begin()
        async with self._pool.acquire() as connection:
            implied = sorted(self._implied.unwritten)
            if implied:
                await connection.execute(_IMPLY, *map(list, zip(*implied, strict=True)))
                self._implied.written(implied)
            await connection.execute("begin")
            try:
                await self._write(connection, requests)
            except BaseException:
                if not connection.is_closed():
                    await connection.execute("rollback")
                raise
            await connection.execute("commit")
        for request in requests:
            if request.future.done():
                continue
            if request.refusal is not None:
                request.future.set_exception(request.refusal)
            else:
                request.future.set_result(None)

    async def _write(self, connection: asyncpg.Connection, requests: list[WriteRequest]) -> None:
        for request in requests:
            if request.is_conditional:
                request.matched = await resolve(connection, request.scope, request.operations, self._matching_keys)
        steps = waves(requests) or [[]]
        for number, wave in enumerate(steps):
            rows = WaveRows()
            plans = await self._plan_wave(connection, wave, first=number == 0)
            changes = [each.change for _, _, each in plans if each.change is not None]
            if changes:
                await self._people.patients_written(connection, changes)
                for projection in self._projections:
                    await projection.in_transaction(connection, changes)
            for request, place, each in plans:
                _accept(request, place, each, rows)
            if number + 1 == len(steps):
                await self._merge(connection, requests)
                _conclude(requests, rows)
            await write_wave(connection, rows)

    async def _merge(self, connection: asyncpg.Connection, requests: list[WriteRequest]) -> None:
        for request in requests:
            for merge in request.merges:
                await self._people.merge(
                    connection,
                    row_key("Patient", merge.survivor_id),
                    row_key("Patient", merge.retired_id),
                    custodian=organisation_key(request.scope.custodian),
                    source=merge.source,
                )

    async def _plan_wave(self, connection: asyncpg.Connection, wave: list[Step], *, first: bool) -> list[Planned]:
        keys = sorted({request.matched.get(place) or request.operations[place].key for request, place in wave} - {0})
        rows = await connection.fetch(_LOCKED, keys)
        in_place = {row["key"]: row for row in rows if row["key"] is not None}
        visible = await self._visible(connection, wave, in_place)
        at_us = now_us()
        plans: list[Planned] = []
        for request, place in wave:
            if request.refusal is not None:
                continue
            try:
                _require_fresh(request, rows[0])
                meeting = _meeting(request, place, in_place, visible, at_us)
                if meeting is not None:
                    plans.append((request, place, plan(meeting)))
            except KanglianError as error:
                if not first:
                    raise  # earlier waves are written: the transaction is undone and the request redone alone
                request.refusal = named(error, request.operations[place].operation.place)
        return [planned for planned in plans if planned[0].refusal is None]

    async def _visible(
        self, connection: asyncpg.Connection, wave: list[Step], in_place: dict[int, asyncpg.Record]
    ) -> set[tuple[WriteRequest, int]]:
        """Which rows in place the writers see, asked only where it matters."""
        asked: dict[WriteScope, list[tuple[WriteRequest, int]]] = {}
        for request, place in wave:
            prepared = request.operations[place]
            current = in_place.get(prepared.key)
            if current is not None and needs_visibility(request.scope, prepared, current):
                asked.setdefault(request.scope, []).append((request, prepared.key))
        seen: set[tuple[WriteRequest, int]] = set()
        for scope, wanted in asked.items():
            if scope.read is None:
                continue
            predicate = RenderedFilter(scope.read.row_filter, ("r",))
            rows = await connection.fetch(
                "select r.key from resource r where r.key = any($1::bigint[]) and "
                + RenderedFilter.place(predicate.text, 1),
                [key for _, key in wanted],
                *predicate.values,
            )
            keys = {row["key"] for row in rows}
            seen |= {(request, key) for request, key in wanted if key in keys}
        return seen


def _require_fresh(request: WriteRequest, state: asyncpg.Record) -> None:
    read = request.scope.read
    if read is None or not read.follows_policy:
        return
    if read.epoch != state["epoch_now"] or read.highest_class != state["highest_now"]:
        raise StaleScope("Policies or consents changed; decide again.")


def _meeting(
    request: WriteRequest,
    place: int,
    in_place: dict[int, asyncpg.Record],
    visible: set[tuple[WriteRequest, int]],
    at_us: int,
) -> Meeting | None:
    """The operation and the row in place, or None where a conditional delete found nothing."""
    prepared = request.operations[place]
    matched = request.matched.get(place)
    if matched is None:
        current = in_place.get(prepared.key)
        return Meeting(request.scope, prepared, current, at_us, visible=(request, prepared.key) in visible)
    operation = prepared.operation
    current = in_place.get(matched) if matched else None
    require_expected(prepared, current["id"] if current is not None else "")
    if current is None:
        if operation.method == "delete":
            request.outcomes[place] = WriteOutcome("nothing", operation.resource_type, "")
            return None
        named = prepared if prepared.resource_id else _named(prepared, new_resource_id())
        return Meeting(request.scope, named, in_place.get(named.key), at_us)
    if operation.method == "update" and prepared.resource_id not in {"", current["id"]}:
        raise Malformed(
            Issue("error", "invalid", "The body's id is not the id that the criteria match.", "Resource.id")
        )
    return Meeting(request.scope, _named(prepared, current["id"]), current, at_us, visible=True, matched=True)


def _named(prepared: PreparedOperation, resource_id: str) -> PreparedOperation:
    """The operation with the id that its condition led to."""
    resource = None if prepared.resource is None else {**prepared.resource, "id": resource_id}
    key = row_key(prepared.operation.resource_type, resource_id)
    return replace(prepared, resource_id=resource_id, key=key, resource=resource)


def _accept(request: WriteRequest, place: int, each: Plan, rows: WaveRows) -> None:
    """Take the plan's rows into the wave, after the projections have said whom they are about."""
    request.outcomes[place] = each.outcome
    holders = each.holders if each.change is None else each.holders | holders_of(each.change.access)
    own = request.scope.own_person_holders
    if own is not None and not (holders and holders <= own):
        raise Forbidden("A resident writes about himself only.")
    request.holders |= holders
    rows.add(each)


def _conclude(requests: Sequence[WriteRequest], rows: WaveRows) -> None:
    """Add what is written once a request: its audit row and the inbox rows that it settles."""
    for request in requests:
        if isinstance(request.refusal, StaleScope):
            continue
        refused = request.refusal is not None
        outcome = audit.REFUSED if refused else audit.SUCCESS
        holders = frozenset() if refused else frozenset(request.holders)
        rows.audited.append(AuditLine(now_us(), request.note.action, outcome, holders, request.entry))
        if not refused:
            rows.settled += request.settlements


def _fail_all(requests: Sequence[WriteRequest], error: BaseException) -> None:
    """Give the error to the requests; errors of the database that mean "not now" as Unavailable."""
    try:
        with database_errors():
            raise error  # noqa: TRY301 - raised only to be named
    except Exception as named:  # noqa: BLE001 - handed to whoever waits
        fail(list(requests), named)
