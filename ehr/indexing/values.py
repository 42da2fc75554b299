"""Normal forms of strings and ranges of numbers (https://hl7.org/fhir/R4/search.html#string, #number)."""

import unicodedata
from decimal import Decimal
from functools import lru_cache

LONGEST_PREFIX = 16
"""Characters of the longest prefix that has a term of its own."""
TEXT_LENGTHS = (8, 4, 2)
"""Lengths at which the beginnings of a token's text have terms; search re-checks what lies between."""
GRAM = 3
"""Characters of the pieces that `:contains` is looked up by."""
LONGEST_TEXT = 2000
"""Characters of a string, from its start, that are indexed by pieces."""


@lru_cache(maxsize=8192)
def normalise_string(text: str) -> str:
    """Case folded, without accents (NFKD), white space collapsed; Chinese, Japanese and Korean characters stay."""
    if text.isascii():
        return " ".join(text.casefold().split())
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return " ".join(unicodedata.normalize("NFC", bare.casefold()).split())


def prefixes(normalised: str) -> list[str]:
    """The beginnings of a normalised string, of 1 to 16 characters."""
    return [normalised[:length] for length in range(1, min(len(normalised), LONGEST_PREFIX) + 1)]


def text_prefixes(normalised: str) -> list[str]:
    """The beginnings of a token's normalised text that have terms."""
    return [normalised[:length] for length in TEXT_LENGTHS if length <= len(normalised)]


def text_prefix(normalised: str) -> str:
    """The longest beginning of a searched `:text` that has a term, or ""; matches of a shorter one are candidates."""
    return next((normalised[:length] for length in TEXT_LENGTHS if length <= len(normalised)), "")


def grams(normalised: str) -> set[str]:
    """All pieces of three characters."""
    text = normalised[:LONGEST_TEXT]
    return {text[start : start + GRAM] for start in range(len(text) - GRAM + 1)}


def decimal_range(value: str | Decimal | int) -> tuple[Decimal, Decimal]:
    """The range [low, high) that the written precision implies: 5.4 is [5.35, 5.45), 100 is [99.5, 100.5)."""
    number = Decimal(value)
    exponent = number.as_tuple().exponent
    if not isinstance(exponent, int):
        raise ValueError("not a finite number")  # noqa: TRY004 - the value is wrong, not its type
    half = Decimal(5).scaleb(exponent - 1)
    return number - half, number + half
