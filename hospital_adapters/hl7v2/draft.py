"""The Bundle while it is made: resources by deterministic id, merged where named twice, each with its weight."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.memory import Added, Copies, Memory, copied
from hospital_adapters.hl7v2.parse import Marks, Message
from hospital_adapters.identifiers import resource_id

DIRECTORY = frozenset({"Organization", "Practitioner", "PractitionerRole", "Location", "Device"})
SNAPSHOT, STATED = 0, 1
AS_SENT = "urn:kanglian:extension:as-sent"
COMPARED = 200
"""Of a list's last items, so many are looked at for one that is there already: a message takes time by its length."""


@dataclass(slots=True)
class Draft:
    """State of one conversion; handed to every rule."""

    feed: Feed
    message: Message
    memory: Memory
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    site: str = ""
    method: str = ""
    """The coding method of the diagnosis or procedure that is being read (DG1-2, PR1-2)."""
    patient: str = ""
    encounter: str = ""
    snapshot: bool = False
    numbers: dict[tuple[str, int, str], tuple[dict[str, Any], Marks]] = field(default_factory=dict)
    """Numbers of orders that were read, and what reading them marks."""
    journal: list[Added] | None = None
    """Where the resources are noted that a rule adds, while what it does is to be remembered."""
    repeatable: bool = True
    """Nothing but the field's text decided what the rule has made of it."""

    def add(self, resource: dict[str, Any], *keys: str, weight: int | None = None) -> str:
        """Put a resource into the Bundle under the id of its identity `keys`; return "Type/id".

        A resource named before is completed: what is missing is filled in, what is there stays. One that brings an id
        keeps it.
        """
        kind = str(resource["resourceType"])
        identifier = resource.get("id") or resource_id(self.feed.organisation, kind, *keys)
        reference = f"{kind}/{identifier}"
        if self.journal is not None:
            named = copied({"resourceType": kind, "id": identifier, **resource})
            self.journal.append(Added(reference, named, Copies(named)))
        known = self.resources.get(reference)
        if known is None:
            self.resources[reference] = {"resourceType": kind, "id": identifier, **resource}
            if weight is None:
                weight = SNAPSHOT if self.snapshot and kind in DIRECTORY else STATED
            self.weights[reference] = weight
        else:
            complete(known, resource, kind)
        return reference

    def add_again(self, added: Added) -> None:
        """Put a resource into the Bundle that a rule is remembered to have added."""
        known = self.resources.get(added.reference)
        if known is None:
            kind = added.resource["resourceType"]
            self.resources[added.reference] = added.copies.next()
            self.weights[added.reference] = SNAPSHOT if self.snapshot and kind in DIRECTORY else STATED
        elif known != added.resource:
            complete(known, copied(added.resource), added.resource["resourceType"])

    def local_uri(self, kind: str, name: str) -> str:
        """A stable URI for something that only this feed's hospital has a name for."""
        return f"urn:kanglian:{self.feed.name}:{kind}:{_quoted(name)}"


@lru_cache(maxsize=4096)
def _quoted(name: str) -> str:
    return quote(name.strip(), safe="")


def complete(known: dict[str, Any], other: Mapping[str, Any], name: str = "") -> None:
    """Fill `known` with what only `other` has; items of lists are added unless already there.

    With the `name` of a resource, a single value that `other` has instead of the one in place is kept as it was sent.
    """
    differing: list[tuple[str, Any]] = []
    _complete(known, other, name, differing)
    if name and differing:
        keep_as_sent(known, ((place, str(value)) for place, value in differing))


def _complete(known: dict[str, Any], other: Mapping[str, Any], path: str, differing: list[tuple[str, Any]]) -> None:
    for key, value in other.items():
        mine = known.get(key)
        if mine is None:
            known[key] = value
        elif isinstance(mine, list) and isinstance(value, list):
            recent = mine[-COMPARED:]
            mine.extend(item for item in value if item not in recent)
        elif isinstance(mine, dict) and isinstance(value, dict):
            _complete(mine, value, f"{path}.{key}", differing)
        elif mine != value and key not in ("id", "resourceType"):
            differing.append((f"{path}.{key}", value))


def keep_as_sent(resource: dict[str, Any], values: Iterable[tuple[str, str]]) -> None:
    """Keep (place, text) in the one extension of a resource for what does not fit its elements."""
    extensions: list[dict[str, Any]] = resource.setdefault("extension", [])
    found = next((each for each in extensions if each["url"] == AS_SENT), None)
    if found is None:
        found = {"url": AS_SENT, "extension": []}
        extensions.append(found)
    for place, text in values:
        item = {"url": place, "valueString": text}
        if item not in found["extension"][-COMPARED:]:
            found["extension"].append(item)
