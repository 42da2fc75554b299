"""The record in PostgreSQL: versions, index, audit, people, inbox, jobs (DESIGN 4.1, 4.5)."""

from ehr.store.migration import migrate
from ehr.store.operations import (
    OrderKey,
    PatientMerge,
    Settlement,
    StoredVersion,
    WriteOperation,
    WriteOutcome,
)
from ehr.store.record_store import Store

__all__ = [
    "OrderKey",
    "PatientMerge",
    "Settlement",
    "Store",
    "StoredVersion",
    "WriteOperation",
    "WriteOutcome",
    "migrate",
]
