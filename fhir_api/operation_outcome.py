"""The only place that knows HTTP statuses of errors, and how an OperationOutcome is written.

https://hl7.org/fhir/R4/operationoutcome.html, https://hl7.org/fhir/R4/http.html#summary
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ehr.errors import (
    BadSearch,
    Conflict,
    Expired,
    Forbidden,
    Gone,
    Invalid,
    Issue,
    KanglianError,
    Malformed,
    MultipleMatches,
    NoRoom,
    NotAllowed,
    NotFound,
    PreconditionFailed,
    StaleScope,
    TooCostly,
    Unauthenticated,
    Unavailable,
)


class TooLarge(KanglianError):
    """The body is over the bound."""

    code = "too-long"


class MethodNotOffered(NotAllowed):
    """The address exists, the method does not; `allowed` are the methods that do."""

    def __init__(self, allowed: str) -> None:
        """Take the methods as the header Allow lists them."""
        super().__init__(f"This address answers {allowed} only.")
        self.allowed = allowed


class NotAcceptable(KanglianError):
    """The answer was asked for in a form that is not offered."""

    code = "not-supported"


class UnsupportedMediaType(KanglianError):
    """The body came in a form that is not taken; `taken` is the header that says what is, if one does."""

    code = "not-supported"

    def __init__(self, *issues: Issue | str, taken: tuple[bytes, bytes] | None = None) -> None:
        """Take issues, and Accept-Encoding or Accept-Patch (RFC 9110 section 15.5.16, RFC 5789 section 2.2)."""
        super().__init__(*issues)
        self.taken = taken


class TooSlow(KanglianError):
    """The body did not arrive within its time."""

    code = "timeout"


_STATUSES: tuple[tuple[type[KanglianError], int], ...] = (
    (Malformed, 400),
    (BadSearch, 400),
    (TooCostly, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (NotAllowed, 405),
    (NotAcceptable, 406),
    (TooSlow, 408),
    (Conflict, 409),
    (Gone, 410),
    (Expired, 410),
    (MultipleMatches, 412),
    (PreconditionFailed, 412),
    (TooLarge, 413),
    (UnsupportedMediaType, 415),
    (Invalid, 422),
    (StaleScope, 503),
    (NoRoom, 507),
    (Unavailable, 503),
)

_OUTCOME = msgspec.json.Encoder()

NOT_FOUND_TEXT = "No resource is known by this address."
UNAUTHENTICATED_TEXT = "A valid access token is needed."
UNEXPECTED_TEXT = "The server met an error that it did not expect; the trace id finds it in the log."


def status_of(error: KanglianError) -> int:
    """The HTTP status of an error; the first class of the table that fits, 500 where none does."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return 500


def issues_of(error: KanglianError) -> tuple[Issue, ...]:
    """The issues that may leave: constant for 401, 404 and 410, so that hidden and absent read alike."""
    if isinstance(error, Unauthenticated):
        return (Issue("error", "login", UNAUTHENTICATED_TEXT),)
    if isinstance(error, NotFound):
        return (Issue("error", "not-found", NOT_FOUND_TEXT),)
    if isinstance(error, Gone):
        return (Issue("error", "deleted", "The resource was deleted."),)
    return error.issues or (Issue("error", error.code, type(error).__name__),)


def _issue(issue: Issue) -> dict[str, Any]:
    entry: dict[str, Any] = {"severity": issue.severity, "code": issue.code, "diagnostics": issue.diagnostics}
    if issue.expression:
        entry["expression"] = [issue.expression]
    return entry


def outcome_resource(issues: Iterable[Issue]) -> dict[str, Any]:
    """An OperationOutcome as a dictionary; never empty, as the specification asks for at least one issue."""
    entries = [_issue(issue) for issue in issues]
    if not entries:
        entries = [{"severity": "information", "code": "informational", "diagnostics": "All OK"}]
    return {"resourceType": "OperationOutcome", "issue": entries}


def outcome_bytes(issues: Iterable[Issue]) -> bytes:
    """An OperationOutcome as compact JSON; lone surrogates in texts are replaced."""
    resource = outcome_resource(issues)
    try:
        return _OUTCOME.encode(resource)
    except UnicodeEncodeError:
        for entry in resource["issue"]:
            for name in ("diagnostics", "expression"):
                if name in entry:
                    text = entry[name] if name == "diagnostics" else entry[name][0]
                    clean = text.encode("utf-8", "replace").decode()
                    entry[name] = clean if name == "diagnostics" else [clean]
        return _OUTCOME.encode(resource)


NOT_FOUND_BODY = outcome_bytes((Issue("error", "not-found", NOT_FOUND_TEXT),))
UNAUTHENTICATED_BODY = outcome_bytes((Issue("error", "login", UNAUTHENTICATED_TEXT),))
UNEXPECTED_BODY = outcome_bytes((Issue("fatal", "exception", UNEXPECTED_TEXT),))
