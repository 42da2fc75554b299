"""Consent decides who may see and write what; the record enforces it (DESIGN 4.3, decision record 0004).

The names below are imported when they are first asked for: the command line needs the caller's roles alone, at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from consent.caller import Caller
    from consent.explaining import Explanation
    from consent.internal import feed_write_scope, internal_scope, internal_write_scope
    from consent.service import Consent

__all__ = ["Caller", "Consent", "Explanation", "feed_write_scope", "internal_scope", "internal_write_scope"]

_HOMES = {
    "Caller": "consent.caller",
    "Consent": "consent.service",
    "Explanation": "consent.explaining",
    "feed_write_scope": "consent.internal",
    "internal_scope": "consent.internal",
    "internal_write_scope": "consent.internal",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(_HOMES[name]), name)
