"""The Bundle while it is made: resources by deterministic id, merged where named twice, each with its weight."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.parse import Message
from hospital_adapters.identifiers import resource_id

DIRECTORY = frozenset({"Organization", "Practitioner", "PractitionerRole", "Location", "Device"})
SNAPSHOT, STATED = 0, 1


@dataclass(slots=True)
class Draft:
    """State of one conversion; handed to every rule."""

    feed: Feed
    message: Message
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    site: str = ""
    patient: str = ""
    encounter: str = ""
    scope: tuple[str, ...] = ()
    snapshot: bool = False

    def add(self, resource: dict[str, Any], *keys: str, weight: int | None = None) -> str:
        """Put a resource into the Bundle under the id of its identity `keys`; return "Type/id".

        A resource named before is completed: what is missing is filled in, what is there stays. One that brings an id
        keeps it.
        """
        kind = str(resource["resourceType"])
        identifier = resource.get("id") or resource_id(self.feed.organisation, kind, *keys)
        reference = f"{kind}/{identifier}"
        known = self.resources.get(reference)
        if known is None:
            self.resources[reference] = {"resourceType": kind, "id": identifier, **resource}
            if weight is None:
                weight = SNAPSHOT if self.snapshot and kind in DIRECTORY else STATED
            self.weights[reference] = weight
        else:
            complete(known, resource)
        return reference

    def local_uri(self, kind: str, name: str) -> str:
        """A stable URI for something that only this feed's hospital has a name for."""
        return f"urn:kanglian:{self.feed.name}:{kind}:{quote(name.strip(), safe='')}"


def complete(known: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Fill `known` with what only `other` has; items of lists are added unless already there."""
    for key, value in other.items():
        mine = known.get(key)
        if mine is None:
            known[key] = value
        elif isinstance(mine, list) and isinstance(value, list):
            mine.extend(item for item in value if item not in mine)
        elif isinstance(mine, dict) and isinstance(value, dict):
            complete(mine, value)
