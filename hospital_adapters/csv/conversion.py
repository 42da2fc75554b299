"""CSV rows in the inbox: taking a file in row by row, and converting one row."""

import hashlib
from collections.abc import Iterator
from datetime import datetime

import msgspec

from ehr.errors import Invalid, Malformed
from ehr.store.inbox import InboxMessage, InboxRow
from ehr.store.operations import OrderKey
from hospital_adapters.conversion import Converted, NotConverted, line_of, provenance, put
from hospital_adapters.csv.layout import csv_layout
from hospital_adapters.csv.rows import BadRow, event_time, read_rows, resources_of, unread_columns
from hospital_adapters.feeds import Feed

_LONGEST_ID = 200


def messages_of_file(feed: Feed, name: str, data: bytes) -> Iterator[InboxMessage]:
    """One inbox message a row; rows that cannot be read are quarantined with their line.

    Raises:
        Invalid: the feed's layout is wrong, or the header lacks a column; nothing was taken.
    """
    layout = csv_layout(feed)
    for row in read_rows(layout, data):
        if isinstance(row, BadRow):
            body = row.text.encode("utf-8", "surrogatepass")
            yield _message(feed, name, row.line, f"line-{row.line}", body, state="quarantined", cause=row.cause)
        else:
            control_id = "|".join(row.values.get(column, "") for column in layout.row)
            yield _message(feed, name, row.line, _short(control_id), msgspec.json.encode(row.values))


def _short(control_id: str) -> str:
    """A control id that an index can hold."""
    if len(control_id) <= _LONGEST_ID:
        return control_id
    return f"{control_id[:_LONGEST_ID]} {hashlib.sha256(control_id.encode()).hexdigest()[:16]}"


def _message(
    feed: Feed, name: str, line: int, control_id: str, body: bytes, *, state: str = "waiting", cause: str | None = None
) -> InboxMessage:
    return InboxMessage(
        feed=feed.name,
        custodian=feed.organisation,
        sender=name,
        control_id=control_id,
        content=hashlib.sha256(body).digest(),
        trace=f"{feed.name}:{name}:{line}",
        message_type="csv-row",
        body=body,
        state=state,
        cause=cause,
        place=f"line {line}",
    )


def convert_row(feed: Feed, row: InboxRow) -> Converted | NotConverted:
    """Convert one row; a fault names column and value."""
    place = line_of(row)
    try:
        values = msgspec.json.decode(row.body, type=dict[str, str])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return NotConverted(row.cause or "the row was not readable as CSV: send the file again, mended", place)
    layout = csv_layout(feed)
    try:
        resources = resources_of(feed, layout, values)
        at = event_time(feed, layout, values)
    except (Invalid, Malformed) as error:
        return NotConverted(str(error), place)
    at_us = int(datetime.fromisoformat(at).timestamp() * 1_000_000) if at else row.received_at_us
    order_key = OrderKey(at_us, row.control_id, again=row.converted)
    operations = [put(resource, order_key) for resource in resources]
    written = [*operations, provenance(feed, row, operations, order_key)]
    return Converted(written, loss=unread_columns(layout, values))
