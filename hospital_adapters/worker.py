"""The conversion worker: what waits in the inbox becomes records, and each message is settled with its records.

A message whose conversion or writing is refused goes to quarantine with the cause; where the database is away the
message simply waits. Many messages are converted at once: the order of their arrival does not matter (DESIGN 4.7).
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consent.internal import feed_write_scope
from ehr import json_text, transaction
from ehr.audit_note import AuditNote
from ehr.errors import Conflict, KanglianError, StaleScope, Unavailable
from ehr.scopes import WriteScope
from ehr.store import Store
from ehr.store.inbox import InboxRow
from ehr.store.operations import OrderKey, Settlement
from hospital_adapters.conversion import Converted, NotConverted, line_of
from hospital_adapters.csv.conversion import convert_row
from hospital_adapters.feeds import Feed
from hospital_adapters.fhir.bundles import as_bundle
from hospital_adapters.hl7v2.convert import convert, warm_up
from hospital_adapters.hl7v2.parse import parse
from hospital_adapters.hl7v2.problems import ParseProblem
from hospital_adapters.hl7v2.records import convert_message, place_of

_log = logging.getLogger(__name__)
_AT_ONCE = 48
_POLL_S = 0.1
_ATTEMPTS = 4


@dataclass(slots=True)
class ConversionWorker:
    """Converts what waits in the inbox of one database; run one at a time."""

    store: Store
    feeds: Callable[[], Mapping[str, Feed]]
    """Reads the feed files anew, so that a changed map holds from the next batch on."""

    async def run(self, stop: asyncio.Event) -> None:
        """Convert until `stop` is set; a lost database is waited for."""
        await asyncio.to_thread(warm_up)
        while not stop.is_set():
            try:
                converted = await self.convert_waiting()
            except Unavailable as error:
                _log.warning("conversion waits: %s", error)
                converted = 0
            if not converted:
                try:
                    await asyncio.wait_for(stop.wait(), _POLL_S)
                except TimeoutError:
                    continue

    async def convert_waiting(self) -> int:
        """Convert the oldest messages that wait; says how many were taken up.

        Raises:
            Unavailable: the database is away; what was not settled waits on.
        """
        rows = await self.store.inbox.waiting(_AT_ONCE)
        if not rows:
            return 0
        feeds = self.feeds()
        results = await asyncio.gather(*(self._one(feeds, row) for row in rows), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return len(rows)

    async def _one(self, feeds: Mapping[str, Feed], row: InboxRow) -> None:
        feed = feeds.get(row.feed)
        if feed is None:
            await self._quarantine(row, NotConverted(f"there is no feed '{row.feed}' any more"))
            return
        for attempt in range(_ATTEMPTS):
            try:
                await self._write(feed, row)
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
            except Exception as error:  # noqa: BLE001 - one message must not stop the others; it is kept, and logged
                _log.exception("message %s (%s) could not be converted", row.inbox, row.trace)
                await self._quarantine(row, NotConverted(f"a fault of the converter: {type(error).__name__}"))
            return

    async def _write(self, feed: Feed, row: InboxRow) -> None:
        scope = feed_write_scope(feed.name, feed.organisation)
        if feed.kind == "fhir":
            await self._write_fhir(feed, row, scope)
            return
        converted = convert_row(feed, row) if feed.kind == "csv" else convert_message(feed, row)
        if isinstance(converted, NotConverted):
            await self._quarantine(row, converted)
            return
        await self._write_converted(feed, row, scope, converted)

    async def _write_converted(self, feed: Feed, row: InboxRow, scope: WriteScope, converted: Converted) -> None:
        await self.store.write(
            scope,
            converted.operations,
            _note(feed, row),
            settlements=[Settlement(row.inbox, "done", loss=converted.loss)],
            merges=converted.merges,
        )

    async def _write_fhir(self, feed: Feed, row: InboxRow, scope: WriteScope) -> None:
        """A transaction is settled with its records; a batch's good entries go in, and its faults are the cause."""
        bundle = as_bundle(row.body)
        done = [Settlement(row.inbox, "done", loss=[])]

        order_keys = [OrderKey(row.received_at_us, row.control_id)] * len(bundle.get("entry", ()))
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
