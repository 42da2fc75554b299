"""Scopes of the platform itself: readers and writers that act for no caller, from a closed list of reasons."""

from datetime import UTC, datetime
from functools import lru_cache

from ehr.definitions import RESOURCE_TYPES
from ehr.keys import organisation_key
from ehr.row_filter import EVERYTHING, AllOf, CustodianIn, RowRule
from ehr.scopes import ReadScope, WriteScope

READ_REASONS = frozenset({"matching", "indexing", "relabel", "jobs", "audit", "analytics", "people", "explain", "feed"})
WRITE_REASONS = frozenset({"break-glass", "demo", "provenance", "people", "jobs"})
STORED_TYPES = frozenset(RESOURCE_TYPES) - {"AuditEvent", "Parameters"}
"""What the server's own doors write; AuditEvents are shown from the audit table and never stored."""
_EVER = datetime(9999, 1, 1, tzinfo=UTC)


def internal_scope(reason: str) -> ReadScope:
    """Every row, for work of the platform itself; ValueError for a reason that is not on the list."""
    if reason not in READ_REASONS:
        raise ValueError(f"no internal reader {reason}")
    return _reader(reason, EVERYTHING)


def _reader(reason: str, row_filter: RowRule) -> ReadScope:
    return ReadScope(
        actor=f"internal:{reason}",
        organisation=None,
        purpose_of_use="HSYSADMIN",
        shape="all",
        row_filter=row_filter,
        epoch=0,
        highest_class=0,
        valid_until=_EVER,
        decision=f"internal: {reason}",
        internal=True,
    )


def internal_write_scope(reason: str, custodian: str = "platform") -> WriteScope:
    """Writes of the platform itself; ValueError for a reason that is not on the list."""
    if reason not in WRITE_REASONS:
        raise ValueError(f"no internal writer {reason}")
    return WriteScope(
        actor=f"internal:{reason}",
        custodian=custodian,
        types=STORED_TYPES,
        id_prefix="",
        may_change_any_custodian=True,
        consents="counted",
        read=internal_scope("matching"),
    )


@lru_cache(maxsize=256)
def feed_write_scope(feed: str, custodian: str) -> WriteScope:
    """Writes of a hospital's feed, whose records the hospital keeps: ids start with its id, Encounters open reach."""
    return WriteScope(
        actor=f"feed:{feed}",
        custodian=custodian,
        types=STORED_TYPES,
        id_prefix=f"{custodian}.",
        opens_reach=True,
        opens_referral=True,
        consents="attested",
        read=_reader("feed", AllOf((EVERYTHING, CustodianIn(frozenset({organisation_key(custodian)}))))),
    )
