"""Tokens with wrong everything: attack group 15."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ehr.errors import Unauthenticated
from fhir_api.access_token import TokenVerifier
from fhir_api.issuer import Issuer
from fhir_api.jose import encode_segment, parse, public_jwk, read_jwk, read_key_set, sign
from fhir_api.key_sets import FixedKeySet

BASE = "http://127.0.0.1:8000"


class NoRevocations:
    """Nothing is withdrawn."""

    epoch = 0

    def holds(self, identifiers: object) -> bool:  # noqa: ARG002 - the signature of Revocations
        return False


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Issuer:
    return Issuer.open(tmp_path_factory.mktemp("keys"), BASE, embedded_default=True)


@pytest.fixture
def verifier(issuer: Issuer) -> TokenVerifier:
    return TokenVerifier(
        FixedKeySet(issuer.issuer, issuer.signing_keys()),
        issuer.audience,
        NoRevocations(),  # type: ignore[arg-type]  # the table of withdrawn tokens needs no database here
        foreign=False,
        clients=frozenset(issuer.directory.clients),
    )


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {
        "iss": f"{BASE}/auth",
        "aud": f"{BASE}/fhir",
        "sub": "dr.wang",
        "client_id": "kanglian",
        "iat": now,
        "nbf": now,
        "exp": now + 600,
        "jti": "one",
        "scope": "user/*.cruds",
        "roles": ["physician"],
        "organisation": "first-hospital",
        "purpose_of_use": "TREAT",
    }
    return {name: value for name, value in (base | changed).items() if value is not None}


def signed(issuer: Issuer, **changed: Any) -> str:
    return sign(claims(**changed), issuer._key, kid=issuer.kid, algorithm="RS256", kind="at+jwt")


def assembled(header: dict[str, Any], payload: bytes, signature: bytes) -> str:
    return f"{encode_segment(json.dumps(header).encode())}.{encode_segment(payload)}.{encode_segment(signature)}"


async def refused(verifier: TokenVerifier, token: str) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.session(f"Bearer {token}".encode())


async def test_a_good_token_names_its_caller(issuer: Issuer, verifier: TokenVerifier) -> None:
    session = await verifier.session(f"Bearer {signed(issuer)}".encode())
    assert session.caller.subject == "dr.wang"
    assert session.caller.organisation == "first-hospital"
    assert session.caller.scopes == ("user/*.cruds",)
    assert session.caller.purpose_of_use == "TREAT"


def test_issued_tokens_follow_the_accounts(issuer: Issuer) -> None:
    token = issuer.issue_token(account="zhang.wei")
    found = parse(token).claims
    assert found["patient"] == "zhang.wei"
    assert found["fhirUser"] == f"{BASE}/fhir/Patient/zhang.wei"
    assert found["exp"] - found["iat"] >= 3600
    assert parse(issuer.issue_token(client="loader")).claims["scope"] == "system/*.cruds"


@pytest.mark.parametrize(
    "changed",
    [
        {"iss": "http://127.0.0.1:8000/other"},
        {"iss": None},
        {"aud": "http://127.0.0.1:8000/fhir/"},
        {"aud": "http://evil.example/fhir"},
        {"aud": None},
        {"aud": ["x", 5]},
        {"exp": int(time.time()) - 1},
        {"exp": None},
        {"exp": "9999999999"},
        {"exp": True},
        {"exp": 1e300},
        {"nbf": int(time.time()) + 600},
        {"iat": int(time.time()) + 600, "exp": int(time.time()) + 1200},
        {"iat": None},
        {"sub": None},
        {"sub": {"a": 1}},
        {"sub": ""},
        {"sub": "x" * 2000},
        {"sub": "a\r\nb"},
        {"jti": None},
        {"roles": "physician"},
        {"roles": [1]},
        {"scope": ["user/*.cruds"]},
        {"client_id": "unknown-client"},
        {"client_id": "kanglian", "azp": "demo-app"},
        {"client_id": None},
        {"organisation": ["first-hospital"]},
        {"typ": "ID"},
        {"typ": "Refresh"},
    ],
)
async def test_wrong_claims(issuer: Issuer, verifier: TokenVerifier, changed: dict[str, Any]) -> None:
    await refused(verifier, signed(issuer, **changed))


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "nOnE", "HS256", "HS384", "RS512", "PS256", "ES512", "EdDSA", "", None, 5]
)
async def test_other_algorithms(issuer: Issuer, verifier: TokenVerifier, algorithm: object) -> None:
    header = {"alg": algorithm, "kid": issuer.kid, "typ": "at+jwt"}
    await refused(verifier, assembled(header, json.dumps(claims()).encode(), b"x" * 256))
    await refused(verifier, assembled(header, json.dumps(claims()).encode(), b"x" * 256).rsplit(".", 1)[0] + ".")


async def test_hmac_with_the_public_key(issuer: Issuer, verifier: TokenVerifier) -> None:
    public = issuer._key.public_key()
    texts = [
        public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(issuer.jwk).encode(),
    ]
    for algorithm in ("HS256", "RS256"):
        header = {"alg": algorithm, "kid": issuer.kid, "typ": "at+jwt"}
        head = f"{encode_segment(json.dumps(header).encode())}.{encode_segment(json.dumps(claims()).encode())}"
        for text in texts:
            mark = hmac.new(text, head.encode(), hashlib.sha256).digest()
            await refused(verifier, f"{head}.{encode_segment(mark)}")


@pytest.mark.parametrize(
    "extra",
    [
        {"jku": "http://127.0.0.1:1/jwks"},
        {"x5u": "http://127.0.0.1:1/cert"},
        {"x5c": ["MII"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"zip": "DEF"},
        {"kid": "../../dev/null"},
        {"kid": "' or 1=1 --"},
        {"kid": None},
        {"kid": 5},
        {"kid": ["a"]},
        {"typ": "JWT"},
        {"typ": None},
        {"typ": 1},
    ],
    ids=str,
)
async def test_header_tricks(issuer: Issuer, verifier: TokenVerifier, extra: dict[str, Any]) -> None:
    header = {"alg": "RS256", "kid": issuer.kid, "typ": "at+jwt"} | extra
    head = f"{encode_segment(json.dumps(header).encode())}.{encode_segment(json.dumps(claims()).encode())}"
    from fhir_api.jose import _ALGORITHMS  # noqa: PLC0415 - signs what the public function refuses to sign

    signature = _ALGORITHMS["RS256"].sign(head.encode(), issuer._key)  # type: ignore[arg-type]  # an RSA key
    await refused(verifier, f"{head}.{encode_segment(signature)}")


async def test_a_key_that_the_token_brings(issuer: Issuer, verifier: TokenVerifier) -> None:
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    header = {
        "alg": "RS256",
        "kid": "own",
        "typ": "at+jwt",
        "jwk": public_jwk(own.public_key(), kid="own", algorithm="RS256"),
    }
    head = f"{encode_segment(json.dumps(header).encode())}.{encode_segment(json.dumps(claims()).encode())}"
    from fhir_api.jose import _ALGORITHMS  # noqa: PLC0415 - as above

    await refused(verifier, f"{head}.{encode_segment(_ALGORITHMS['RS256'].sign(head.encode(), own))}")  # type: ignore[arg-type]  # an RSA key
    for kid in (issuer.kid, "own"):
        await refused(verifier, sign(claims(), own, kid=kid, algorithm="RS256", kind="at+jwt"))


async def test_an_algorithm_that_the_key_does_not_allow(issuer: Issuer, verifier: TokenVerifier) -> None:
    await refused(verifier, sign(claims(), issuer._key, kid=issuer.kid, algorithm="RS384", kind="at+jwt"))
    curve = ec.generate_private_key(ec.SECP256R1())
    await refused(verifier, sign(claims(), curve, kid=issuer.kid, algorithm="ES256", kind="at+jwt"))


@pytest.mark.parametrize(
    "payload",
    [
        b'{"sub":"dr.wang","sub":"admin"}',
        b"[]",
        b'"x"',
        b"{",
        b"\xff\xfe",
        b'{"exp":NaN}',
        b'{"exp":Infinity}',
        b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b"1" * 5000,
    ],
    ids=lambda payload: repr(payload[:24]),
)
def test_payloads_that_are_no_claims(issuer: Issuer, payload: bytes) -> None:
    header = {"alg": "RS256", "kid": issuer.kid, "typ": "at+jwt"}
    with pytest.raises(Unauthenticated):
        parse(assembled(header, payload, b"x"))


async def test_doubled_claims_even_well_signed(issuer: Issuer, verifier: TokenVerifier) -> None:
    from fhir_api.jose import _ALGORITHMS  # noqa: PLC0415 - as above

    text = json.dumps(claims())[:-1] + ',"sub":"admin"}'
    header = {"alg": "RS256", "kid": issuer.kid, "typ": "at+jwt"}
    head = f"{encode_segment(json.dumps(header).encode())}.{encode_segment(text.encode())}"
    await refused(verifier, f"{head}.{encode_segment(_ALGORITHMS['RS256'].sign(head.encode(), issuer._key))}")  # type: ignore[arg-type]  # an RSA key


@pytest.mark.parametrize("change", ["padding", "space", "newline", "dots", "four", "tail", "alphabet"])
async def test_encodings_that_are_not_canonical(issuer: Issuer, verifier: TokenVerifier, change: str) -> None:
    token = signed(issuer)
    head, payload, signature = token.split(".")
    changed = {
        "padding": f"{head}.{payload}=.{signature}",
        "space": f"{head} .{payload}.{signature}",
        "newline": f"{head}\n.{payload}.{signature}",
        "dots": f"{head}..{signature}",
        "four": f"{token}.x",
        "tail": f"{head}.{payload}.{signature}A",
        "alphabet": f"{head}.{payload}.{signature[:-2]}+/",
    }[change]
    await refused(verifier, changed)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic YTpi",
        b"bearer x",
        b"Bearer \xff\xff",
        b"Bearer " + b"a" * 9000,
        b"Bearer a.b.c",
    ],
)
async def test_headers_that_hold_no_token(verifier: TokenVerifier, authorization: bytes | None) -> None:
    with pytest.raises(Unauthenticated):
        await verifier.session(authorization)


async def test_an_id_token_opens_nothing(issuer: Issuer, verifier: TokenVerifier) -> None:
    account = issuer.account("dr.wang")
    await refused(verifier, issuer.id_token(account, "demo-app", "n", ("openid", "fhirUser")))


async def test_huge_tokens_are_refused_fast(verifier: TokenVerifier) -> None:
    started = time.perf_counter()
    await refused(verifier, "a" * 10_000_000)
    assert time.perf_counter() - started < 0.5


def test_key_sets_drop_what_names_no_one_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    jwk = public_jwk(key, kid="a", algorithm="RS256")
    assert set(read_key_set({"keys": [jwk]})) == {"a"}
    assert read_key_set({"keys": [jwk, jwk]}) == {}
    assert read_key_set({"keys": "x"}) == {}
    assert read_jwk({"kty": "oct", "k": base64.b64encode(b"x" * 32).decode(), "kid": "h"}) is None
    assert read_jwk(jwk | {"use": "enc"}) is None
    assert read_jwk(jwk | {"alg": "HS256"}) is None
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()  # noqa: S505 - weak on purpose
    assert read_jwk(public_jwk(weak, kid="w", algorithm="RS256")) is None


def test_demo_accounts_are_refused_outside_the_embedded_default(tmp_path: Path) -> None:
    from ehr.errors import Forbidden  # noqa: PLC0415 - only here

    issuer = Issuer.open(tmp_path, BASE, embedded_default=False)
    with pytest.raises(Forbidden):
        issuer.issue_token(account="dr.wang")
    with pytest.raises(Forbidden):
        issuer.issue_token(client="loader")
    assert not issuer.password_fits("kanglian-demo")
    assert not issuer.password_fits("")
