"""Where the keys come from that access tokens are checked with: the embedded issuer, or a configured one's JWKS.

https://openid.net/specs/openid-connect-discovery-1_0.html, https://www.rfc-editor.org/rfc/rfc7517
Only the addresses of the configured issuer are ever fetched; nothing that a token names.
"""

import asyncio
import json
import logging
import time
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from ehr.errors import Unavailable
from fhir_api.jose import SigningKey, read_key_set

_LOG = logging.getLogger(__name__)
FRESH_S = 600.0
KEEP_S = 24 * 3600.0
UNKNOWN_KEY_PAUSE_S = 10.0
LIMIT_DOCUMENT_BYTES = 1_000_000


class KeySet(Protocol):
    """The keys of one issuer."""

    issuer: str

    async def key(self, kid: str) -> SigningKey | None:
        """The key of this id, or None; Unavailable where the issuer cannot be asked and nothing is remembered."""


class FixedKeySet:
    """The embedded issuer's own keys."""

    def __init__(self, issuer: str, keys: dict[str, SigningKey]) -> None:
        """Take the keys by kid."""
        self.issuer = issuer
        self._keys = keys

    async def key(self, kid: str) -> SigningKey | None:
        """The key of this id, or None."""
        return self._keys.get(kid)


class RemoteKeySet:
    """A configured issuer's JWKS, fetched through its discovery document and remembered.

    Fetched anew after 10 minutes, and for an unknown kid at most every 10 s; where the issuer does not answer, known
    keys hold for 24 hours.
    """

    def __init__(self, issuer: str) -> None:
        """Take the issuer as its tokens name it."""
        self.issuer = issuer
        self._keys: dict[str, SigningKey] = {}
        self._discovery: dict[str, Any] = {}
        self._fetched = float("-inf")
        self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> SigningKey | None:
        """The key of this id, or None; Unavailable where no keys could ever be fetched."""
        await self._keep_fresh(wanted=kid not in self._keys)
        return self._keys.get(kid)

    async def discovery(self) -> dict[str, Any]:
        """What the issuer says of itself; Unavailable where it could never be asked."""
        await self._keep_fresh(wanted=False)
        return self._discovery

    async def _keep_fresh(self, *, wanted: bool) -> None:
        now = time.monotonic()
        stale = now - self._fetched > FRESH_S
        if (stale or wanted) and now - self._tried > UNKNOWN_KEY_PAUSE_S:
            async with self._lock:
                if time.monotonic() - self._tried > UNKNOWN_KEY_PAUSE_S:
                    await self._fetch()
        if time.monotonic() - self._fetched > KEEP_S:
            raise Unavailable("The token issuer cannot be reached.")

    async def _fetch(self) -> None:
        self._tried = time.monotonic()
        try:
            async with httpx.AsyncClient(timeout=5.0, follow_redirects=False) as client:
                discovery = await _document(client, self.issuer.rstrip("/") + "/.well-known/openid-configuration")
                keys = read_key_set(await _document(client, self._key_address(discovery)))
        except (httpx.HTTPError, ValueError, KeyError) as error:
            _LOG.warning("keys of the token issuer not fetched: %s", type(error).__name__)
            return
        self._keys, self._discovery = keys, discovery
        self._fetched = time.monotonic()

    def _key_address(self, discovery: dict[str, Any]) -> str:
        if discovery.get("issuer") != self.issuer:
            raise ValueError("the discovery document names another issuer")
        address = str(discovery["jwks_uri"])
        issuer, keys = urlsplit(self.issuer), urlsplit(address)
        if (issuer.scheme, issuer.hostname) != (keys.scheme, keys.hostname):
            raise ValueError("the JWKS lies on another host than the issuer")
        return address


async def _document(client: httpx.AsyncClient, address: str) -> dict[str, Any]:
    async with client.stream("GET", address) as answer:
        answer.raise_for_status()
        data = b""
        async for piece in answer.aiter_bytes():
            data += piece
            if len(data) > LIMIT_DOCUMENT_BYTES:
                raise ValueError("the document is too large")
    document = json.loads(data)
    if not isinstance(document, dict):
        raise ValueError("the document is no object")  # noqa: TRY004 - an answer's content, not a programmer's type
    return document
