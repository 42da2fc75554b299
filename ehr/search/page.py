"""Page links: opaque tokens that hold a place in the order and are bound to subject, purpose and query.

A place is the sort values and key of the last match shown, not an offset, so that no row appears twice and no
unchanged row is left out while others come and go. The token is sealed (AES-GCM): it cannot be altered, read or used by
another caller, and holds no text in the clear. https://hl7.org/fhir/R4/http.html#paging
"""

import hashlib
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ehr.errors import Expired
from ehr.search import limits

_NONCE = 12
_LONGEST = 8192
_REFUSAL = "This page link does not hold; start the search again."


@dataclass(frozen=True, slots=True)
class Position:
    """Where the next page starts."""

    values: tuple[Any, ...]
    """Sort values of the last match shown: int, str or None, one for each sort key."""
    key: int
    """Row key of that match."""
    started_us: int
    """When the first page was read, microseconds since 1970 UTC."""
    snapshot: str
    """The database's snapshot of the first page, where rows may move in the order; else empty."""
    large: bool
    """Whether the first page found too many matches to count."""


class _Token(msgspec.Struct, array_like=True):
    values: list[Any]
    key: int
    started_us: int
    snapshot: str
    large: bool


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(hashlib.blake2b(key, digest_size=32, person=b"page link").digest())


def self_query(pairs: Sequence[tuple[str, str]]) -> str:
    """The canonical text of a query: its parameters as understood, URL encoded, in the order given."""
    return urlencode(pairs)


def seal(key: bytes, binding: str, position: Position) -> str:
    """Make the token of a place; `binding` is what the token may be used with."""
    token = _Token(list(position.values), position.key, position.started_us, position.snapshot, position.large)
    nonce = os.urandom(_NONCE)
    sealed = nonce + _cipher(key).encrypt(nonce, msgspec.msgpack.encode(token), binding.encode())
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def unseal(key: bytes, binding: str, token: str, now_us: int) -> Position:
    """Read a token; Expired where it was altered, made for something else, or is a day old."""
    if len(token) > _LONGEST:
        raise Expired(_REFUSAL)
    try:
        sealed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        plain = _cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], binding.encode())
        read = msgspec.msgpack.decode(plain, type=_Token)
    except (ValueError, InvalidTag, msgspec.DecodeError) as error:
        raise Expired(_REFUSAL) from error
    if now_us - read.started_us > limits.LINK_AGE_S * 1_000_000:
        raise Expired(_REFUSAL)
    return Position(tuple(read.values), read.key, read.started_us, read.snapshot, read.large)
