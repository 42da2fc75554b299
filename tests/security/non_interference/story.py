"""What happens in a region, step by step: played to the platform through its own doors, and to the oracle as data."""

from dataclasses import dataclass
from typing import Any

from consent import Caller

LOADER = "loader"


@dataclass(frozen=True, slots=True)
class Write:
    """A resource written under its own id; `writer`: `loader`, or a hospital whose feed sends it."""

    writer: str
    resource: dict[str, Any]


@dataclass(frozen=True, slots=True)
class File:
    """A Consent is filed, in the short form of `tests.consent.cases`; `writer`: `resident`, or a hospital's feed.

    The server makes the id of a resident's Consent; a feed's is `resource_id`.
    """

    writer: str
    patient: str
    consent: dict[str, Any]
    resource_id: str


@dataclass(frozen=True, slots=True)
class Delete:
    """A row is deleted by its hospital's feed."""

    writer: str
    resource_type: str
    resource_id: str


@dataclass(frozen=True, slots=True)
class Merge:
    """A40 of two Patients of one hospital."""

    organisation: str
    survivor: str
    retired: str


@dataclass(frozen=True, slots=True)
class Unmerge:
    """The merge is taken back."""

    survivor: str
    retired: str


@dataclass(frozen=True, slots=True)
class Review:
    """Somebody looked at the merges of a person: they hold."""

    patient: str


@dataclass(frozen=True, slots=True)
class BreakGlass:
    """A clinician opens one person's record."""

    caller: Caller
    patient: str


Step = Write | File | Delete | Merge | Unmerge | Review | BreakGlass
Name = tuple[str, str]
"""(resource type, id)."""
