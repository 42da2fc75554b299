"""HL7 v2 messages in the inbox: converting one to the writes of its records."""

from datetime import datetime

from ehr.store.inbox import InboxRow
from ehr.store.operations import OrderKey, PatientMerge, WriteOperation
from hospital_adapters.conversion import Converted, NotConverted
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import OrderKey as MessageOrder
from hospital_adapters.hl7v2.convert import convert
from hospital_adapters.hl7v2.parse import parse
from hospital_adapters.hl7v2.problems import ParseProblem


def convert_message(feed: Feed, row: InboxRow) -> Converted | NotConverted:
    """Convert one message; what is not understood names its segment and field."""
    message = parse(row.body)
    conversion = message if isinstance(message, ParseProblem) else convert(message, feed)
    if isinstance(conversion, ParseProblem):
        return NotConverted(conversion.cause, place_of(conversion))
    keys = {order: _order_key(order, row) for order in set(conversion.order_keys)}
    operations = []
    for entry, body, order in zip(conversion.bundle["entry"], conversion.bodies, conversion.order_keys, strict=True):
        resource = entry["resource"]
        kind, identity = resource["resourceType"], resource["id"]
        operations.append(WriteOperation("update", kind, identity, body, resource, order_key=keys[order]))
    # a replay does not merge again: people may have taken the merge back since
    merged = () if row.converted else conversion.merged
    merges = [PatientMerge(_id(survivor), _id(retired), row.trace) for retired, survivor in merged]
    return Converted(operations, merges, [lost.line for lost in conversion.loss])


def place_of(problem: ParseProblem) -> str | None:
    """The segment and field of a problem, as `PID[1]-3`."""
    if problem.segment is None:
        return None
    return f"{problem.segment}[{problem.sequence}]" + (f"-{problem.field}" if problem.field is not None else "")


def _order_key(order: MessageOrder, row: InboxRow) -> OrderKey:
    moment = order.event_time
    at_us = int(datetime.fromisoformat(moment).timestamp() * 1_000_000) if moment else row.received_at_us
    return OrderKey(at_us, order.control_id, weak=order.weight == 0, again=row.converted)


def _id(reference: str) -> str:
    return reference.rpartition("/")[2]
