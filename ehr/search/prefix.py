"""Prefixes of ordered parameters: https://hl7.org/fhir/R4/search.html#prefix."""

from typing import cast

from ehr.search.query import PREFIXES, Prefix


def split_prefix(text: str) -> tuple[Prefix, str]:
    """Split `ge2020` into its prefix and value; without prefix it is `eq`."""
    if text[:2] in PREFIXES:
        return cast("Prefix", text[:2]), text[2:]
    return "eq", text
