"""What stood in a field that has a place in the record, but did not fit its element: kept as it was sent, and reported.

A birth date that is no date, a code that no map knows, components that the type does not have, a second value where the
element takes one. The resource of the segment keeps them in one extension, by field and component:

    {"url": "urn:kanglian:extension:as-sent", "extension": [{"url": "PID-7.1", "valueString": "about 1950"}]}

Fields without any rule and segments that nobody knows are left to the loss report alone.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from hospital_adapters.hl7v2.draft import keep_as_sent
from hospital_adapters.hl7v2.loss import LostValue, unread_values
from hospital_adapters.hl7v2.parse import Message, readable
from hospital_adapters.hl7v2.tables import segment_tables

_MOST_PLACES = 10_000
_BY_FUNCTIONS = {"OBX": (2, 5, 6, 7, 23, 24, 25), "ORC": (12, 21, 22, 23, 24), "OBR": (16,), "NTE": (3,)}


@lru_cache(maxsize=1)
def _fields() -> Mapping[str, frozenset[int]]:
    """Segment to the fields that some rule or function puts into the record."""
    found: dict[str, set[int]] = {name: set(numbers) for name, numbers in _BY_FUNCTIONS.items()}
    for name, table in segment_tables().items():
        found.setdefault(name[:3], set()).update(field for field, _ in table.rules)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def keep(message: Message, resources: Mapping[str, dict[str, Any]], homes: Mapping[int, str]) -> list[LostValue]:
    """Put what was not read into the resources of its segments (`homes`: id of a segment to a reference).

    Returns the loss report: all that was not read, what was kept as sent marked as such; its first 10,000 places.
    """
    report: list[LostValue] = []
    for segment, lost, raw in islice(unread_values(message), _MOST_PLACES):
        home = resources.get(homes.get(id(segment), ""))
        text = readable(message.delimiters.unescape(raw))
        if home is None or not text or lost.field not in _fields().get(segment.name, ()):
            report.append(lost)
            continue
        inner = f".{lost.subcomponent}" if lost.subcomponent else ""
        place = f"{lost.segment}-{lost.field}.{lost.component}{inner}"
        keep_as_sent(home, [(place, text)])
        report.append(lost.as_sent())
    return report
