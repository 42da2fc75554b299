"""ReadScope and WriteScope: the only tickets to read or write records; only `consent` builds them.

Every read of `ehr` takes a ReadScope first, every write a WriteScope, undefaulted (decision record 0004).
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from ehr.row_filter import RowFilter

Interaction = Literal["create", "read", "update", "delete", "search", "export"]
"""An export reads and searches: it needs what both need."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ReadScope:
    """What one caller, for one purpose, may see, as decided at one policy epoch.

    A scope is compared by identity: requests of the same actor context share one object, and statements that serve
    several requests group them by it. `row_filter` holds per row; `epoch` and `highest_class` are compared with
    `policy_state` inside each statement, and `StaleScope` is raised where they differ.
    """

    actor: str
    """The token's subject, or `internal:<reason>`."""
    organisation: str | None
    purpose_of_use: str
    shape: Literal["own", "narrow", "broad", "all", "none"]
    row_filter: RowFilter
    epoch: int
    highest_class: int
    valid_until: datetime
    decision: str
    """A short text for the audit row: the policy and the rule that led to this scope."""
    internal: bool = False
    """True for `consent.internal_scope`: no freshness check, no audit row of its own."""
    lasting: bool = False
    """True where neither policies nor classes, roles or organisations enter the filter (`loader`): none is compared."""

    @property
    def follows_policy(self) -> bool:
        """Whether statements compare `epoch` and `highest_class` with those in force."""
        return not (self.internal or self.lasting)


@dataclass(frozen=True, slots=True, eq=False)
class WriteScope:
    """Whose rows a caller may write, of which types, and which ids it may choose.

    `custodian` is stamped on every row written. `may_change_any_custodian` is for `loader` and internal jobs.
    `id_prefix`: None = ids are made by the server; "" = any id (loader); "first-hospital." = ids with this prefix.
    `types` None = all storable types but the server's own (AuditEvent, Provenance).
    """

    actor: str
    custodian: str
    types: frozenset[str] | None
    refused_types: frozenset[str] = field(default_factory=frozenset)
    refused_methods: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """(type, create | update | delete) that the token's SMART scopes leave out of `types`."""
    id_prefix: str | None = None
    may_change_any_custodian: bool = False
    opens_reach: bool = False
    """True for a hospital's feed or machine client: its Encounters open reach; a clinician's do not."""
    opens_referral: bool = False
    """True where the organisation's ServiceRequests may open the receiver's reach (consent checks its own)."""
    own_person_holders: frozenset[int] | None = None
    """For residents: only rows about these holders may be written."""
    consents: Literal["counted", "attested", "recorded"] = "recorded"
    """What a Consent written with this scope does: a resident's or loader's counts in full; one that an organisation's
    feed or machine client attests opens nothing to that organisation; a clinician's is kept and decides nothing."""
    read: ReadScope | None = None
    """What the writer may see: conditional criteria match only this and the custodian's own rows."""
