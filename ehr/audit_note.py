"""What one request will be remembered by: the content of an audit row, before the persons touched are known."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AuditNote:
    """Who asks what and why; becomes `audit_row.entry` and, for the resident, a BALP AuditEvent.

    `action` is AuditEvent.action (C R U D E), `interaction` a restful-interaction code (read, vread, search-type ...).
    """

    action: Literal["C", "R", "U", "D", "E"]
    interaction: str
    actor: str
    client: str
    organisation: str | None
    roles: tuple[str, ...]
    purpose_of_use: str
    reason: str | None
    query: str
    """The request as asked ("GET Observation?patient=x"), without token."""
    trace: str
    decision: str
    """From ReadScope.decision: policy and rule."""
    project: str | None = None
    """Research project, for analytics."""
