"""private_key_jwt: a machine client proves itself by a signed assertion, each used once.

https://www.rfc-editor.org/rfc/rfc7523, https://hl7.org/fhir/smart-app-launch/STU2.2/client-confidential-asymmetric.html
"""

import time
from collections.abc import Mapping
from typing import Any

from ehr.errors import Forbidden, Unauthenticated
from fhir_api.issuer.accounts import Client
from fhir_api.issuer.forms import OAuthError
from fhir_api.issuer.issuer import Issuer
from fhir_api.jose import Parsed, check_signature, parse
from fhir_api.revocations import Revocations

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
LONGEST_LIFE_S = 300
LEEWAY_S = 10
_ALGORITHMS = frozenset({"RS384", "ES384"})
_REFUSAL = OAuthError("invalid_client", "The client assertion does not hold.", 401)


async def authenticated_client(form: Mapping[str, str], issuer: Issuer, revocations: Revocations) -> Client:
    """The machine client whose assertion the form carries.

    Raises:
        OAuthError: invalid_client with one text for whatever is wrong: signature, algorithm, iss, sub, aud, a life of
            more than five minutes, a jti used before.
    """
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        raise _REFUSAL
    try:
        parsed = parse(form.get("client_assertion", ""))
        client = _checked(parsed, issuer)
    except (Unauthenticated, Forbidden) as error:
        raise _REFUSAL from error
    if form.get("client_id", client.client_id) != client.client_id:
        raise _REFUSAL
    identifier = f"assertion:{client.client_id}:{parsed.claims['jti']}"
    if not await revocations.spend(identifier, float(parsed.claims["exp"]) + LEEWAY_S):
        raise _REFUSAL
    return client


def _checked(parsed: Parsed, issuer: Issuer) -> Client:
    claims = parsed.claims
    if parsed.header["alg"] not in _ALGORITHMS or parsed.header.get("typ", "JWT") != "JWT":
        raise Unauthenticated
    subject, jti = claims.get("sub"), claims.get("jti")
    if not isinstance(subject, str) or claims.get("iss") != subject:
        raise Unauthenticated
    if not isinstance(jti, str) or not 1 <= len(jti) <= 256 or "\x00" in jti:
        raise Unauthenticated
    _check_times(claims)
    if claims.get("aud") != f"{issuer.issuer}/token":
        raise Unauthenticated
    client = issuer.client(subject)
    if "client_credentials" not in client.grants:
        raise Unauthenticated
    key = issuer.client_key(subject)
    if parsed.header.get("kid", key.kid) != key.kid:
        raise Unauthenticated
    check_signature(parsed, key)
    return client


def _check_times(claims: Mapping[str, Any]) -> None:
    now = time.time()
    expires_at = claims.get("exp")
    if isinstance(expires_at, bool) or not isinstance(expires_at, int | float):
        raise Unauthenticated
    if not now < expires_at <= now + LONGEST_LIFE_S + LEEWAY_S:
        raise Unauthenticated
    for name in ("nbf", "iat"):
        moment = claims.get(name, 0)
        if isinstance(moment, bool) or not isinstance(moment, int | float) or moment > now + LEEWAY_S:
            raise Unauthenticated
