"""FHIR entries in the inbox: taking a file in entry by entry."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from ehr.store.inbox import InboxMessage
from hospital_adapters.feeds import Feed
from hospital_adapters.fhir.files import read_entries


def messages_of_file(feed: Feed, path: Path) -> Iterator[InboxMessage]:
    """One inbox message a Bundle or resource; duplicates of an entry are told by its content.

    Raises:
        Malformed: the file's gzip stream is broken; what came before it was taken.
        TooCostly: an entry is over 64 MiB.
    """
    for entry in read_entries(path):
        content = hashlib.sha256(entry.content).digest()
        yield InboxMessage(
            feed=feed.name,
            custodian=feed.organisation,
            sender=path.name,
            control_id=f"line-{entry.line}",
            content=content,
            trace=f"{feed.name}:{path.name}:{entry.line}",
            message_type="fhir",
            body=entry.content,
            place=f"line {entry.line}",
        )
