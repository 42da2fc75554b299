"""Page links: opaque tokens that hold a place in the order and are bound to subject, purpose and query.

Results of up to 100,000 ids are listed, so that pages are those of one moment (decision record 0020); of others a place
is the sort values and key of the last match shown, not an offset, so that no row appears twice and no unchanged row is
left out while others come and go. The token is sealed (AES-GCM): it cannot be altered, read or used by
another caller, and holds no text in the clear. https://hl7.org/fhir/R4/http.html#paging
"""

import hashlib
import os
from array import array
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
REFUSAL = "This page link does not hold; start the search again."


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
    unlisted: bool = False
    """Whether the result has too many ids to list them."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What follows of a result whose ids were listed; each row is authorised again when it is fetched."""

    keys: tuple[int, ...]
    """Row keys in order, where the link itself holds them."""
    stored: bytes
    """The name of a stored list, where there is one."""
    place: int
    """How many of the stored list come before."""
    started_us: int
    large: bool


class _Token(msgspec.Struct, array_like=True, tag="place"):
    values: list[Any]
    key: int
    started_us: int
    snapshot: str
    large: bool
    unlisted: bool


class _ListToken(msgspec.Struct, array_like=True, tag="list"):
    keys: bytes
    stored: bytes
    place: int
    started_us: int
    large: bool


@lru_cache(maxsize=8)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(hashlib.blake2b(key, digest_size=32, person=b"page link").digest())


def self_query(pairs: Sequence[tuple[str, str]]) -> str:
    """The canonical text of a query: its parameters as understood, URL encoded, in the order given."""
    return urlencode(pairs)


def seal(key: bytes, binding: str, following: Position | Listed) -> str:
    """Make the token of what follows; `binding` is what the token may be used with."""
    if isinstance(following, Listed):
        keys = array("q", following.keys).tobytes()
        token: _Token | _ListToken = _ListToken(
            keys, following.stored, following.place, following.started_us, following.large
        )
    else:
        values = list(following.values)
        token = _Token(
            values, following.key, following.started_us, following.snapshot, following.large, following.unlisted
        )
    nonce = os.urandom(_NONCE)
    sealed = nonce + _cipher(key).encrypt(nonce, msgspec.msgpack.encode(token), binding.encode())
    return urlsafe_b64encode(sealed).rstrip(b"=").decode()


def unseal(key: bytes, binding: str, token: str, now_us: int) -> Position:
    """Read the token of a place; Expired where it was altered, made for something else, or is a day old."""
    read = unseal_any(key, binding, token, now_us)
    if isinstance(read, Listed):
        raise Expired(REFUSAL)
    return read


def unseal_any(key: bytes, binding: str, token: str, now_us: int) -> Position | Listed:
    """Read the token of a place or of a list; Expired likewise."""
    if len(token) > _LONGEST:
        raise Expired(REFUSAL)
    try:
        sealed = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        plain = _cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], binding.encode())
        read = msgspec.msgpack.decode(plain, type=_Token | _ListToken)
    except (ValueError, InvalidTag, msgspec.DecodeError) as error:
        raise Expired(REFUSAL) from error
    if now_us - read.started_us > limits.LINK_AGE_S * 1_000_000:
        raise Expired(REFUSAL)
    if isinstance(read, _ListToken):
        keys = array("q")
        keys.frombytes(read.keys)
        return Listed(tuple(keys), read.stored, read.place, read.started_us, read.large)
    return Position(tuple(read.values), read.key, read.started_us, read.snapshot, read.large, read.unlisted)
