"""The conversion worker: what waits in the inbox becomes records, and each message is settled with its records.

A message whose conversion or writing is refused goes to quarantine with the cause; where the database is away the
message simply waits. Many messages are converted at once: the order of their arrival does not matter (DESIGN 4.7).
"""

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

from consent.internal import feed_write_scope
from ehr import json_text, transaction
from ehr.audit_note import AuditNote
from ehr.errors import Conflict, Invalid, KanglianError, StaleScope, Unavailable
from ehr.store import Store
from ehr.store.inbox import InboxRow
from ehr.store.operations import OrderKey, Settlement, WriteOperation
from ehr.store.room import require_room
from hospital_adapters.conversion import Converted, NotConverted, line_of
from hospital_adapters.csv.conversion import convert_row
from hospital_adapters.feeds import Feed
from hospital_adapters.fhir.bundles import as_bundle
from hospital_adapters.hl7v2.convert import convert, warm_up
from hospital_adapters.hl7v2.parse import parse
from hospital_adapters.hl7v2.problems import ParseProblem
from hospital_adapters.hl7v2.records import convert_message, place_of

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_AT_ONCE = 192
"""Messages of a batch: a quarter less work a message than with 64, since more of them say the same of a patient."""
_POLL_S = 0.1
_AWAY_S = 1.0
_ATTEMPTS = 4


@dataclass(slots=True)
class ConversionWorker:
    """Converts what waits in the inbox of one database; run one at a time."""

    store: Store
    feeds: Callable[[], Mapping[str, Feed]]
    """Reads the feed files anew, so that a changed map holds from the next batch on."""
    _known: Mapping[str, Feed] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Convert until `stop` is set; a lost database is waited for."""
        await asyncio.to_thread(warm_up)
        while not stop.is_set():
            pause_s = _POLL_S
            try:
                converted = await self.convert_waiting()
            except Unavailable as error:
                _log.warning("conversion waits: %s", error)
                converted, pause_s = 0, _AWAY_S
            if not converted:
                try:
                    await asyncio.wait_for(stop.wait(), pause_s)
                except TimeoutError:
                    continue

    async def convert_waiting(self) -> int:
        """Convert the oldest messages that wait; says how many were taken up.

        What several messages of a batch say alike about a resource (their hospital, its wards, the doctor) is written
        once. Where one of them is refused, each is written alone and whole.

        Raises:
            Unavailable: the database is away, or its disk has no room; what was not settled waits on.
        """
        require_room(self.store.has_room)  # asked once here: each write that is refused leaves an audit row
        rows = await self.store.inbox.waiting(_AT_ONCE)
        if not rows:
            return 0
        with _collected_later():
            await self._convert_all(rows)
        return len(rows)

    async def _convert_all(self, rows: Sequence[InboxRow]) -> None:
        feeds = self._read_feeds()
        prepared = [self._convert(feeds, row) for row in rows]
        shared = without_repetitions([each.operations if isinstance(each, Converted) else [] for each in prepared])
        refused = await _all(
            self._together(feeds[row.feed], row, each, operations)
            for row, each, operations in zip(rows, prepared, shared, strict=True)
            if isinstance(each, Converted)
        )
        await _all(
            self._alone(feeds, row, each)
            for row, each in zip(rows, prepared, strict=True)
            if any(refused) or not isinstance(each, Converted)
        )
        files = [row.inbox for row in rows if row.feed in feeds and feeds[row.feed].kind == "csv"]
        if files:
            await self.store.inbox.replace_quarantined(files)

    def _read_feeds(self) -> Mapping[str, Feed]:
        """The feeds as described now, or as last understood where a file is being edited."""
        try:
            self._known = self.feeds()
        except Invalid as error:
            if self._known is None:
                raise Unavailable(str(error)) from error
            _log.warning("the feeds stay as they were: %s", error)
        return self._known

    def _convert(self, feeds: Mapping[str, Feed], row: InboxRow) -> Converted | NotConverted | None:
        """The writes of a message, why there are none, or None for FHIR, which is written as it is."""
        feed = feeds.get(row.feed)
        if feed is None:
            return NotConverted(f"there is no feed '{row.feed}' any more")
        if feed.kind == "fhir":
            return None
        try:
            return convert_row(feed, row) if feed.kind == "csv" else convert_message(feed, row)
        except KanglianError as error:
            return NotConverted(str(error)[:2000])
        except Exception as error:  # noqa: BLE001 - one message must not stop the others; it is kept, and logged
            _log.exception("message %s (%s) could not be converted", row.inbox, row.trace)
            return NotConverted(f"a fault of the converter: {type(error).__name__}")

    async def _together(
        self, feed: Feed, row: InboxRow, converted: Converted, operations: list[WriteOperation]
    ) -> bool:
        """Write what is left of a message beside its neighbours; whether it was refused."""
        try:
            await self._write_converted(feed, row, replace(converted, operations=operations))
        except Unavailable:
            raise
        except KanglianError:
            return True
        return False

    async def _alone(self, feeds: Mapping[str, Feed], row: InboxRow, prepared: Converted | NotConverted | None) -> None:
        if isinstance(prepared, NotConverted):
            await self._quarantine(row, prepared)
            return
        feed = feeds[row.feed]
        for attempt in range(_ATTEMPTS):
            try:
                await (self._write_fhir(feed, row) if prepared is None else self._write_converted(feed, row, prepared))
            except (StaleScope, Conflict):
                if attempt + 1 == _ATTEMPTS:
                    raise Unavailable(f"message {row.inbox} met other writes again and again") from None
                continue
            except Unavailable:
                raise
            except KanglianError as error:
                element = next((issue.expression for issue in error.issues if issue.expression), None)
                lines = [] if feed.kind == "hl7v2" else [line_of(row)]
                place = ", ".join([*lines, *([element] if element else [])]) or None
                await self._quarantine(row, NotConverted(str(error)[:2000], place))
            return

    async def _write_converted(self, feed: Feed, row: InboxRow, converted: Converted) -> None:
        await self.store.write(
            feed_write_scope(feed.name, feed.organisation),
            converted.operations,
            _note(feed, row),
            settlements=[Settlement(row.inbox, "done", loss=converted.loss)],
            merges=converted.merges,
        )

    async def _write_fhir(self, feed: Feed, row: InboxRow) -> None:
        """A transaction is settled with its records; a batch's good entries go in, and its faults are the cause."""
        scope = feed_write_scope(feed.name, feed.organisation)
        bundle = as_bundle(row.body)
        done = [Settlement(row.inbox, "done", loss=[])]

        order_keys = [OrderKey(row.received_at_us, row.control_id, again=row.converted)] * len(bundle.get("entry", ()))
        whole = bundle.get("type") == "transaction"
        results = await transaction.run(
            self.store, scope, bundle, _note(feed, row), order_keys=order_keys, settlements=done if whole else ()
        )
        if whole:
            return
        faults = [f"entry {n}: {result.error}" for n, result in enumerate(results) if result.error is not None]
        if faults:
            await self._quarantine(row, NotConverted("; ".join(faults)[:2000], line_of(row)))
        else:
            await self.store.inbox.settle(done)

    async def _quarantine(self, row: InboxRow, why: NotConverted) -> None:
        _log.warning("message %s (%s) is in quarantine", row.inbox, row.trace)
        await self.store.inbox.settle([Settlement(row.inbox, "quarantined", cause=why.cause, place=why.place)])


@contextmanager
def _collected_later() -> Iterator[None]:
    """Look for cycles after the batch only: all that is made for it lives until it is written, and is let go then."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def without_repetitions(messages: Sequence[Sequence[WriteOperation]]) -> list[list[WriteOperation]]:
    """The operations of each message, less those that a later event of the batch says again.

    Of the versions of one resource, ordered by their events, one is left out where the next one has the same content:
    it would leave no history, and the next one carries the later order key. All operations carry one.
    """
    versions: dict[tuple[str, str | None], list[WriteOperation]] = {}
    for operations in messages:
        for operation in operations:
            versions.setdefault((operation.resource_type, operation.resource_id), []).append(operation)
    repeated: set[int] = set()
    for listed in versions.values():
        if len(listed) > 1:
            listed.sort(key=lambda each: each.order_key.text() if each.order_key else "")
            repeated |= {id(first) for first, second in pairwise(listed) if _is_same(first, second)}
    return [[each for each in operations if id(each) not in repeated] for operations in messages]


def _is_same(first: WriteOperation, second: WriteOperation) -> bool:
    """Whether two writes bring the same content; what is encoded already need not be compared element by element."""
    if first.body is not None and second.body is not None:
        return first.body == second.body
    return first.resource == second.resource


async def _all(work: Iterable[Awaitable[_T]]) -> list[_T]:
    """Do all of it, then raise the first error, if any: nothing is left running."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _note(feed: Feed, row: InboxRow) -> AuditNote:
    return AuditNote(
        action="C",
        interaction="feed",
        actor=f"feed:{feed.name}",
        client=feed.name,
        organisation=feed.organisation,
        roles=("feed",),
        purpose_of_use="TREAT",
        reason=None,
        query=f"{row.message_type} {row.trace}",
        trace=row.trace,
        decision="custodian's own feed",
    )


def bundle_of(feed: Feed, data: bytes) -> bytes:
    """The Bundle that an HL7 v2 message becomes, as JSON; writes nothing.

    Raises:
        KanglianError: the message is not understood; the text names segment and field.
    """
    message = parse(data)
    conversion = message if isinstance(message, ParseProblem) else convert(message, feed)
    if isinstance(conversion, ParseProblem):
        place = place_of(conversion)
        raise KanglianError(f"{f'{place}: ' if place else ''}{conversion.cause}")
    return json_text.encode(conversion.bundle)
