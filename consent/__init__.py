"""Consent decides who may see and write what; the record enforces it (DESIGN 4.3, decision record 0004)."""

from consent.caller import Caller
from consent.explaining import Explanation
from consent.internal import feed_write_scope, internal_scope, internal_write_scope
from consent.service import Consent

__all__ = ["Caller", "Consent", "Explanation", "feed_write_scope", "internal_scope", "internal_write_scope"]
