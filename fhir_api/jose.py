"""Signed JSON tokens, read strictly: one algorithm table, own keys only, nothing fetched that a token names.

https://www.rfc-editor.org/rfc/rfc7515 (JWS), https://www.rfc-editor.org/rfc/rfc7517 (JWK),
https://www.rfc-editor.org/rfc/rfc8725 (best current practice)
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from ehr.errors import Unauthenticated

LIMIT_TOKEN_CHARACTERS = 8_192
LIMIT_HEADER_CHARACTERS = 1_024

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_ALGORITHMS: dict[str, RSAAlgorithm | ECAlgorithm] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
}
ALGORITHMS = frozenset(_ALGORITHMS)
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1"}
_MINIMUM_RSA_BITS = 2_048
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+\Z")
# A header that brings its own key, or asks for an extension, is no header of ours.
_REFUSED_HEADERS = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "zip", "b64"})


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key of an issuer or client, with what its JWK allows."""

    kid: str
    key: PublicKey
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A token that was split and decoded, its signature not yet checked."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes


def encode_segment(data: bytes) -> str:
    """Base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_segment(text: str) -> bytes:
    """Undo `encode_segment`; Unauthenticated for any other alphabet, padding or non-canonical ending."""
    if not _SEGMENT.match(text):
        raise Unauthenticated
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated from error
    if encode_segment(data) != text:
        raise Unauthenticated
    return data


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unauthenticated
    return found


def _refuse_constant(_text: str) -> float:
    raise Unauthenticated


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode(), object_pairs_hook=_object_without_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Unauthenticated from error
    if not isinstance(value, dict):
        raise Unauthenticated
    return value


def parse(token: str) -> Parsed:
    """Split and decode a compact JWS.

    Raises:
        Unauthenticated: over 8,192 characters, not three canonical base64url segments, JSON with duplicate names,
            an algorithm outside RS256, RS384, ES256, ES384, or a header naming its own key (jku, jwk, x5u, x5c) or
            an extension (crit).
    """
    if len(token) > LIMIT_TOKEN_CHARACTERS:
        raise Unauthenticated
    segments = token.split(".")
    if len(segments) != 3 or len(segments[0]) > LIMIT_HEADER_CHARACTERS:
        raise Unauthenticated
    header = _json_object(decode_segment(segments[0]))
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS or _REFUSED_HEADERS & header.keys():
        raise Unauthenticated
    return Parsed(
        header,
        _json_object(decode_segment(segments[1])),
        f"{segments[0]}.{segments[1]}".encode("ascii"),
        decode_segment(segments[2]),
    )


def check_signature(parsed: Parsed, key: SigningKey) -> None:
    """Pass where the key signed the token by an algorithm that the key allows; Unauthenticated otherwise."""
    algorithm = parsed.header["alg"]
    if algorithm not in key.algorithms:
        raise Unauthenticated
    method = _ALGORITHMS[algorithm]
    if not method.verify(parsed.signing_input, key.key, parsed.signature):  # type: ignore[arg-type]  # the key's kind fits its algorithms by construction
        raise Unauthenticated


def sign(claims: Mapping[str, Any], key: PrivateKey, *, kid: str, algorithm: str, kind: str) -> str:
    """Sign claims as a compact JWS; `kind` is the header's typ ("at+jwt", "JWT")."""
    header = {"alg": algorithm, "kid": kid, "typ": kind}
    signing_input = ".".join(
        encode_segment(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims)
    )
    signature = _ALGORITHMS[algorithm].sign(signing_input.encode(), key)  # type: ignore[arg-type]  # as above
    return f"{signing_input}.{encode_segment(signature)}"


def public_jwk(key: PublicKey, *, kid: str, algorithm: str) -> dict[str, Any]:
    """The public key as a JWK with use, kid and alg."""
    if isinstance(key, rsa.RSAPublicKey):
        jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key, as_dict=True)
    return {name: value for name, value in jwk.items() if name != "key_ops"} | {
        "kid": kid,
        "alg": algorithm,
        "use": "sig",
    }


def read_jwk(jwk: Mapping[str, Any]) -> SigningKey | None:
    """A JWK as a key for checking signatures; None where it is of another kind, use or strength."""
    kid = jwk.get("kid")
    if not isinstance(kid, str) or jwk.get("use", "sig") != "sig" or "k" in jwk:
        return None
    try:
        if jwk.get("kty") == "RSA":
            key: Any = RSAAlgorithm.from_jwk({n: jwk[n] for n in ("kty", "n", "e")})
            possible = frozenset({"RS256", "RS384"}) if key.key_size >= _MINIMUM_RSA_BITS else frozenset()
        elif jwk.get("kty") == "EC":
            key = ECAlgorithm.from_jwk({n: jwk[n] for n in ("kty", "crv", "x", "y")})
            possible = frozenset(name for name, curve in _CURVES.items() if key.curve.name == curve)
        else:
            return None
    except (InvalidKeyError, KeyError, ValueError, TypeError):
        return None
    stated = jwk.get("alg")
    algorithms = possible if stated is None else possible & {stated}
    return SigningKey(kid, key, algorithms) if algorithms else None


def read_key_set(document: Mapping[str, Any]) -> dict[str, SigningKey]:
    """The usable keys of a JWK set by kid; a kid given twice is dropped, since it names no one key."""
    found: dict[str, SigningKey] = {}
    doubled: set[str] = set()
    entries = document.get("keys")
    for entry in entries if isinstance(entries, list) else []:
        key = read_jwk(entry) if isinstance(entry, dict) else None
        if key is not None:
            if key.kid in found:
                doubled.add(key.kid)
            found[key.kid] = key
    return {kid: key for kid, key in found.items() if kid not in doubled}
