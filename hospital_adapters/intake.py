"""Files of any feed kind, cut into inbox messages."""

from collections.abc import Iterator
from pathlib import Path

from ehr.errors import Invalid
from ehr.store.inbox import InboxMessage
from hospital_adapters.csv import conversion as csv_conversion
from hospital_adapters.feeds import Feed
from hospital_adapters.fhir import conversion as fhir_conversion


def messages_of_file(feed: Feed, path: Path) -> Iterator[InboxMessage]:
    """What a file holds, as messages for the inbox, in the file's order.

    Raises:
        KanglianError: the file is unreadable, or not of the feed's form; the text says where.
    """
    if not path.is_file():
        raise Invalid(f"{path}: there is no such file")
    if feed.kind == "csv":
        yield from csv_conversion.messages_of_file(feed, path.name, path.read_bytes())
    elif feed.kind == "fhir":
        yield from fhir_conversion.messages_of_file(feed, path)
    else:
        from hospital_adapters.mllp.door import messages_of_file as hl7v2_messages  # noqa: PLC0415 - loads the rule tables

        yield from hl7v2_messages(feed, path)
