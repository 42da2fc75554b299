"""The errors of the platform: one base class, one subclass per outcome that a caller can act on.

HTTP statuses are assigned in `fhir_api.operation_outcome`, HL7 v2 codes in the acknowledgement module; nothing here
knows either.
"""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem, as OperationOutcome.issue states it (https://hl7.org/fhir/R4/operationoutcome.html).

    `code` is an IssueType code, `expression` a FHIRPath expression naming the element ("Patient.name[0].given").
    """

    severity: Severity
    code: str
    diagnostics: str
    expression: str | None = None


class KanglianError(Exception):
    """Base of every error that the platform raises on purpose; carries at least one issue."""

    def __init__(self, *issues: Issue | str) -> None:
        """Take issues, or plain sentences that become issues of severity error and this class's code."""
        self.issues = tuple(i if isinstance(i, Issue) else Issue("error", self.code, i) for i in issues)
        super().__init__("; ".join(issue.diagnostics for issue in self.issues))

    code = "exception"


class Malformed(KanglianError):
    """The input is not readable: bad JSON, a duplicate key, a wrong content type's bytes."""

    code = "structure"


class Invalid(KanglianError):
    """The input was read, but breaks a rule of FHIR R4 or of the platform."""

    code = "invalid"


class BadSearch(KanglianError):
    """A search parameter, modifier or value that is unknown or unusable; the text names it."""

    code = "not-supported"


class TooCostly(KanglianError):
    """The request would take more than its share of the server."""

    code = "too-costly"


class NotFound(KanglianError):
    """Absent, or hidden from the caller: the two look alike everywhere."""

    code = "not-found"


class Gone(KanglianError):
    """The resource was deleted, and the caller may know that it existed."""

    code = "deleted"


class Expired(KanglianError):
    """A page link or download link that no longer holds."""

    code = "not-found"


class NotAllowed(KanglianError):
    """The interaction is not offered on this resource or id (HTTP's 405)."""

    code = "not-supported"


class Conflict(KanglianError):
    """Two writes met, and this one lost."""

    code = "conflict"


class MultipleMatches(KanglianError):
    """A conditional criterion matched more than one of the rows that the caller may touch."""

    code = "multiple-matches"


class PreconditionFailed(KanglianError):
    """If-Match named another version than the current one."""

    code = "conflict"


class Unauthenticated(KanglianError):
    """No token, or one that does not hold; the text never says why in detail."""

    code = "login"


class Forbidden(KanglianError):
    """The caller is known, and the scope or role does not allow this kind of request at all."""

    code = "forbidden"


class Unavailable(KanglianError):
    """The database is down, full or too slow: nothing is shown and nothing is taken."""

    code = "transient"


class NoRoom(Unavailable):
    """The disk is nearly full: nothing is written, reading goes on."""

    code = "no-store"


class StaleScope(KanglianError):
    """Policies, roles or consent classes changed after the scope was built: decide again, once."""

    code = "transient"
