"""SMART v2 scopes: which of those asked for an account or client is given.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
What a scope opens is intersected with consent later, in `consent`; here only the kind of holder is checked: `patient/`
needs a patient, `system/` a machine client. Scopes of version 1 (`patient/*.read`) are not given.
"""

import re
from collections.abc import Iterable

from fhir_api.issuer.accounts import Account, Client

_RESOURCE_SCOPE = re.compile(
    r"(?P<context>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]{1,63})\.(?P<letters>c?r?u?d?s?)"
    r"(?P<filter>\?[A-Za-z0-9_.:,|=&/%-]{1,500})?\Z"
)
IDENTITY_SCOPES = frozenset({"openid", "fhirUser", "profile", "launch/patient", "offline_access", "online_access"})
SUPPORTED = [*sorted(IDENTITY_SCOPES), "patient/*.cruds", "user/*.cruds", "system/*.cruds"]
LIMIT_SCOPES = 100


def default_scopes(holder: Account | Client) -> tuple[str, ...]:
    """What a token from the command line carries."""
    if isinstance(holder, Client):
        return holder.scopes
    if holder.patient is not None:
        return ("openid", "fhirUser", "launch/patient", "patient/*.cruds")
    return ("openid", "fhirUser", "user/*.cruds")


def _contexts(holder: Account | Client) -> frozenset[str]:
    if isinstance(holder, Client):
        return frozenset({"system"})
    return frozenset({"patient"}) if holder.patient is not None else frozenset({"user"})


def _allowed_letters(client: Client, context: str, resource_type: str) -> frozenset[str]:
    letters: set[str] = set()
    for scope in client.scopes:
        match = _RESOURCE_SCOPE.match(scope)
        if match and match["context"] == context and match["type"] in {"*", resource_type} and not match["filter"]:
            letters.update(match["letters"])
    return frozenset(letters)


def granted(asked: Iterable[str], client: Client, holder: Account | Client) -> tuple[str, ...]:
    """The scopes given of those asked, in order, narrowed to what the client is registered for.

    A resident's `user/` scope is given as `patient/`; a scope of another context, of version 1 or unknown is left out.
    """
    given: dict[str, None] = {}
    for scope in list(asked)[:LIMIT_SCOPES]:
        if scope in IDENTITY_SCOPES:
            if scope in client.scopes and (scope != "launch/patient" or _has_patient(holder)):
                given[scope] = None
            continue
        match = _RESOURCE_SCOPE.match(scope)
        if match is None or not match["letters"]:
            continue
        context = "patient" if match["context"] == "user" and _has_patient(holder) else match["context"]
        allowed = _allowed_letters(client, context, match["type"])
        letters = "".join(letter for letter in match["letters"] if letter in allowed)
        if context in _contexts(holder) and letters:
            given[f"{context}/{match['type']}.{letters}{match['filter'] or ''}"] = None
    return tuple(given)


def _has_patient(holder: Account | Client) -> bool:
    return isinstance(holder, Account) and holder.patient is not None
