"""Consent decides who may see and write what; the record enforces it (DESIGN 4.3, decision record 0004)."""

from consent.caller import Caller

__all__ = ["Caller"]
