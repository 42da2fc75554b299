"""Access tokens: checked locally, turned into the `consent.Caller` that every decision starts from.

https://www.rfc-editor.org/rfc/rfc6750, https://www.rfc-editor.org/rfc/rfc9068,
https://hl7.org/fhir/smart-app-launch/STU2.2/ (scopes and fhirUser)
"""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consent import Caller
from ehr.errors import Unauthenticated
from fhir_api.jose import LIMIT_TOKEN_CHARACTERS, Parsed, check_signature, parse
from fhir_api.key_sets import KeySet
from fhir_api.revocations import Revocations

LEEWAY_S = 10
LIMIT_REMEMBERED = 20_000
LIMIT_CLAIM_CHARACTERS = 1_024
_ACCESS_TOKEN_KINDS = frozenset({"at+jwt", "application/at+jwt"})
# Keycloak writes "JWT" in the header and says in the claim `typ` what the token is for.
_FOREIGN_KINDS = _ACCESS_TOKEN_KINDS | {"jwt"}


@dataclass(slots=True)
class Session:
    """A token that held: the caller, and what revocation knows it by."""

    caller: Caller
    roles: tuple[str, ...]
    expires_at: float
    identifiers: tuple[str, ...]
    revocation_epoch: int


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value or len(value) > LIMIT_CLAIM_CHARACTERS or not value.isprintable():
        raise Unauthenticated
    return value


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise Unauthenticated
    return float(value)


def _roles(claims: Mapping[str, Any]) -> frozenset[str]:
    value = claims.get("roles", [])
    if not isinstance(value, list) or len(value) > 100 or not all(isinstance(role, str) for role in value):
        raise Unauthenticated
    return frozenset(value)


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """The caller that checked claims describe; Unauthenticated where a claim is of the wrong shape."""
    subject, client = _text(claims, "sub"), _text(claims, "client_id") or _text(claims, "azp")
    jti, expires_at = _text(claims, "jti"), _instant(claims, "exp")
    scope = claims.get("scope", "")
    if subject is None or client is None or jti is None or expires_at is None or not isinstance(scope, str):
        raise Unauthenticated
    return Caller(
        subject=subject,
        client=client,
        organisation=_text(claims, "organisation"),
        roles=_roles(claims),
        patient=_text(claims, "patient"),
        fhir_user=_text(claims, "fhirUser"),
        purpose_of_use=_text(claims, "purpose_of_use") or "",
        reason=_text(claims, "reason"),
        scopes=tuple(scope.split()),
        jti=jti,
        expires_at=expires_at,
    )


class TokenVerifier:
    """Checks access tokens against one issuer's keys and remembers those that held until they expire."""

    def __init__(
        self, keys: KeySet, audience: str, revocations: Revocations, *, foreign: bool, clients: frozenset[str] | None
    ) -> None:
        """Take the issuer's keys and the audience (`BASE/fhir`).

        Args:
            keys: keys and name of the issuer.
            audience: what `aud` must be or contain.
            revocations: identifiers of tokens withdrawn before their time.
            foreign: True for a configured issuer, whose header `typ` may be "JWT" and whose `typ` claim is then read.
            clients: the clients that tokens may be for; None = the issuer's business.
        """
        self._keys = keys
        self._audience = audience
        self._revocations = revocations
        self._kinds = _FOREIGN_KINDS if foreign else _ACCESS_TOKEN_KINDS
        self._clients = clients
        self._remembered: dict[bytes, Session] = {}

    async def session(self, authorization: bytes | None) -> Session:
        """The caller of an Authorization header; Unauthenticated without a reason for whatever is wrong."""
        if (
            authorization is None
            or authorization[:7].lower() != b"bearer "
            or len(authorization) > (LIMIT_TOKEN_CHARACTERS + 7)
        ):
            raise Unauthenticated
        token = authorization[7:].strip()
        digest = hashlib.blake2b(token, digest_size=32).digest()
        session = self._remembered.get(digest)
        if session is None:
            session = await self._check(token)
            self._remember(digest, session)
        elif session.expires_at <= time.time():
            self._remembered.pop(digest, None)
            raise Unauthenticated
        if session.revocation_epoch != self._revocations.epoch:
            if self._revocations.holds(session.identifiers):
                raise Unauthenticated
            session.revocation_epoch = self._revocations.epoch
        return session

    async def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token that holds (introspection); Unauthenticated."""
        parsed = parse(token)
        await self._check_parsed(parsed)
        caller_of(parsed.claims)  # what no door takes is not active
        if self._revocations.holds(_identifiers(parsed.claims)):
            raise Unauthenticated
        return parsed.claims

    def _remember(self, digest: bytes, session: Session) -> None:
        if len(self._remembered) >= LIMIT_REMEMBERED:
            now = time.time()
            self._remembered = {d: s for d, s in self._remembered.items() if s.expires_at > now}
            if len(self._remembered) >= LIMIT_REMEMBERED:
                self._remembered.clear()
        self._remembered[digest] = session

    async def _check(self, token: bytes) -> Session:
        if not token.isascii():
            raise Unauthenticated
        parsed = parse(token.decode("ascii"))
        await self._check_parsed(parsed)
        caller = caller_of(parsed.claims)
        return Session(
            caller, tuple(sorted(caller.roles)), float(parsed.claims["exp"]), _identifiers(parsed.claims), -1
        )

    async def _check_parsed(self, parsed: Parsed) -> None:
        claims = parsed.claims
        kid, kind = parsed.header.get("kid"), parsed.header.get("typ")
        if not isinstance(kid, str) or not isinstance(kind, str) or kind.lower() not in self._kinds:
            raise Unauthenticated
        if claims.get("iss") != self._keys.issuer or not self._is_for_us(claims):
            raise Unauthenticated
        _check_times(claims, time.time())
        key = await self._keys.key(kid)
        if key is None:
            raise Unauthenticated
        check_signature(parsed, key)

    def _is_for_us(self, claims: Mapping[str, Any]) -> bool:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        client, party = _text(claims, "client_id"), _text(claims, "azp")
        return (
            self._audience in audiences
            and claims.get("typ", "Bearer") in ("Bearer", "DPoP")
            and (client is None or party is None or client == party)
            and (self._clients is None or (client or party) in self._clients)
        )


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires_at, issued_at, not_before = (_instant(claims, name) for name in ("exp", "iat", "nbf"))
    if (
        expires_at is None
        or issued_at is None
        or expires_at <= now
        or issued_at > now + LEEWAY_S
        or issued_at > expires_at
        or (not_before is not None and not_before > now + LEEWAY_S)
    ):
        raise Unauthenticated


def _identifiers(claims: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}:{claims[name]}" for name in ("jti", "family") if isinstance(claims.get(name), str))
