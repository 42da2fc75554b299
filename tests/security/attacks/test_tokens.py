"""Attack 15: every door that takes tokens refuses what is not what it says, by one constant answer, fetching nothing.

Doors for access tokens: FHIR reads, writes and Bundles, analytics, introspection (as the asker's own and as the token
asked about). Doors for client assertions: the token endpoint, introspection and revocation.
"""

import base64
import hmac
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from fhir_api.issuer import keys
from fhir_api.issuer.client_assertion import ASSERTION_TYPE
from fhir_api.jose import public_jwk
from tests.security.attacks.conftest import Twins
from tests.security.attacks.tables import table

pytestmark = pytest.mark.database
CASES = table("15_tokens.yaml")["cases"]
CLIENT = "county-hospital"
FORM = {"content-type": "application/x-www-form-urlencoded"}
_HASHES = {"HS256": "sha256", "HS512": "sha512"}


@dataclass(frozen=True)
class Maker:
    """A good token of one kind, and the key that signs it."""

    kind: str
    key: Any
    header: dict[str, Any]
    claims: Callable[[], dict[str, Any]]
    stranger: Any


@dataclass(frozen=True)
class Door:
    """One way in: sends a token and gives the answer; what a refusal looks like."""

    name: str
    kind: str
    send: Callable[[str], httpx.Response]
    status: int = 401


@pytest.fixture(scope="module")
def trap() -> Iterator[tuple[str, socket.socket]]:
    """An address at which a server that fetches what a token names would be caught."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/jwks", listening


@pytest.fixture(scope="module")
def makers(twins: Twins) -> dict[str, Maker]:
    """Both kinds of tokens."""
    issuer = twins.full.platform.issuer
    path = twins.full.platform.keys_path

    def access() -> dict[str, Any]:
        middle = issuer.issue_token(account="dr.li").split(".")[1]
        found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(middle + "=="))
        return found

    def assertion() -> dict[str, Any]:
        now = int(time.time())
        return {"iss": CLIENT, "sub": CLIENT, "aud": f"{issuer.issuer}/token", "exp": now + 200, "iat": now,
                "jti": secrets.token_urlsafe(8)}  # fmt: skip

    own = keys.client_key(path, CLIENT)
    return {
        "access": Maker("access", keys.signing_key(path), {"alg": "RS256", "kid": issuer.kid, "typ": "at+jwt"}, access,
                        rsa.generate_private_key(public_exponent=65_537, key_size=2_048)),
        "assertion": Maker("assertion", own, {"alg": "ES384", "kid": keys.key_id(own.public_key()), "typ": "JWT"},
                           assertion, ec.generate_private_key(ec.SECP384R1())),
    }  # fmt: skip


@pytest.fixture(scope="module")
def doors(twins: Twins) -> list[Door]:
    """Every door of the server."""
    client = twins.full.platform.anonymous()
    asker = twins.full.client("dr.li").headers["authorization"]

    def bearing(method: str, address: str, **more: Any) -> Callable[[str], httpx.Response]:
        def send(token: str) -> httpx.Response:
            headers = {"authorization": b"Bearer " + token.encode(), **more.get("headers", {})}
            return client.request(method, address, headers=headers, content=more.get("content"))

        return send

    def asserting(address: str, **form: str) -> Callable[[str], httpx.Response]:
        def send(token: str) -> httpx.Response:
            return client.post(
                address, data={"client_assertion_type": ASSERTION_TYPE, "client_assertion": token, **form}
            )

        return send

    def asked_about(token: str) -> httpx.Response:
        return client.post("/auth/introspect", headers={"authorization": asker}, data={"token": token})

    fhir, question = {"content-type": "application/fhir+json"}, {"content-type": "application/json"}
    basic, batch = b'{"resourceType":"Basic","code":{"text":"x"}}', b'{"resourceType":"Bundle","type":"batch"}'
    return [
        Door("read", "access", bearing("GET", "/fhir/Patient/county-hospital.a")),
        Door("search", "access", bearing("GET", "/fhir/Patient")),
        Door("create", "access", bearing("POST", "/fhir/Basic", headers=fhir, content=basic)),
        Door("bundle", "access", bearing("POST", "/fhir", headers=fhir, content=batch)),
        Door("analytics", "access", bearing("POST", "/analytics/queries", headers=question, content=b"{}")),
        Door("introspection by", "access", bearing("POST", "/auth/introspect", headers=FORM, content=b"token=x")),
        Door("introspection of", "access", asked_about, status=200),
        Door("token", "assertion", asserting("/auth/token", grant_type="client_credentials")),
        Door("introspection", "assertion", asserting("/auth/introspect", token="x")),
        Door("revocation", "assertion", asserting("/auth/revoke", token="x")),
    ]


def _changed(members: dict[str, Any], changes: dict[str, Any], marks: dict[str, str]) -> dict[str, Any]:
    found = members | {name: _value(value, marks) for name, value in changes.items()}
    return {name: value for name, value in found.items() if value is not None}


def _value(value: Any, marks: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_value(each, marks) for each in value]
    if isinstance(value, dict):
        return {_value(name, marks): each for name, each in value.items()}
    if not isinstance(value, str):
        return value
    if value.startswith("now") and value[3:].lstrip("+-").isdigit():
        return int(time.time()) + int(value[3:])
    filled = {"huge": "h" * 9_000, "long": "l" * 5_000, "many": ["physician"] * 1_000}
    for name, text in marks.items():
        value = value.replace(f"{{{name}}}", text)
    return filled.get(value, value)


def _segment(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _token(case: dict[str, Any], maker: Maker, trap_address: str) -> str:
    if "raw" in case:
        return "a" * 10_000 if case["raw"] == "a-10000" else str(case["raw"])
    claims = maker.claims()
    marks = {"trap": trap_address, "iss": claims["iss"], "aud": claims["aud"]}
    header = _changed(maker.header, case.get("header", {}), marks)
    if header.get("jwk") == "stranger":
        header["jwk"] = public_jwk(maker.stranger.public_key(), kid=header["kid"], algorithm=header["alg"])
    text = json.dumps(_changed(claims, case.get("claims", {}), marks), separators=(",", ":"))
    if "text" in case:
        before, after = case["text"]
        text = text.replace(before, after.replace("deep", "[" * 2_000 + "]" * 2_000), 1)
    signed = f"{_segment(json.dumps(header).encode())}.{_segment(text.encode())}"
    return f"{signed}.{_segment(_signature(case['sign'], maker, header, signed.encode()))}".removesuffix(".") + (
        "." if case["sign"] == "none" else ""
    )


def _signature(how: str, maker: Maker, header: dict[str, Any], signed: bytes) -> bytes:
    if how == "none":
        return b""
    public = maker.key.public_key()
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    encodings = {"public-pem": serialization.Encoding.PEM, "public-der": serialization.Encoding.DER}
    key = maker.stranger if how == "stranger" else maker.key
    if how in encodings or how in {"empty", "public-jwk"}:
        jwk = json.dumps(public_jwk(public, kid=maker.header["kid"], algorithm=maker.header["alg"])).encode()
        secret = public.public_bytes(encodings[how], kind) if how in encodings else {"public-jwk": jwk}.get(how, b"")
        return hmac.new(secret, signed, _HASHES.get(header.get("alg", ""), "sha256")).digest()
    method = jwt.algorithms.get_default_algorithms()[maker.header["alg"]]
    signature: bytes = method.sign(signed, key)
    return signature[: len(signature) // 2] if how == "cut" else signature


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"15-{case['name']}")
def test_what_is_wrong_is_refused_alike_at_every_door(
    twins: Twins, makers: dict[str, Maker], doors: list[Door], trap: tuple[str, socket.socket], case: dict[str, Any]
) -> None:
    for door in doors:
        if door.kind not in case.get("only", ("access", "assertion")):
            continue
        before = len(twins.lines.texts)
        answer = door.send(_token(case, makers[door.kind], trap[0]))
        assert answer.status_code == door.status, (door.name, answer.status_code, answer.text)
        assert answer.content == _refusal(door).content, door.name
        assert not twins.lines.texts[before:], "a refusal is no event for the log"
    with pytest.raises(BlockingIOError):
        trap[1].accept()


_refusals: dict[str, httpx.Response] = {}


def _refusal(door: Door) -> httpx.Response:
    """What the door answers to plain nonsense."""
    if door.name not in _refusals:
        _refusals[door.name] = door.send("nonsense")
        assert _refusals[door.name].status_code == door.status
    return _refusals[door.name]


def test_the_tokens_that_the_attacks_change_are_good(makers: dict[str, Maker], doors: list[Door]) -> None:
    for door in doors:
        answer = door.send(_token({"sign": "own"}, makers[door.kind], "x"))
        assert answer.status_code != 401, (door.name, answer.text)
        assert answer.content != _refusal(door).content, door.name
