"""Sign-in, codes, PKCE, client assertions, refresh, revocation: attack group 16."""

import base64
import hashlib
import html
import json
import re
import secrets
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fhir_api.issuer import keys
from fhir_api.jose import parse, sign
from tests.fhir_api.conftest import Platform

pytestmark = pytest.mark.database

REDIRECT = "http://127.0.0.1:8765/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def asked(platform: Platform, **changed: str | None) -> dict[str, str]:
    base = {
        "response_type": "code",
        "client_id": "demo-app",
        "redirect_uri": REDIRECT,
        "state": "s" * 24,
        "scope": "openid fhirUser launch/patient offline_access user/*.rs patient/*.rs system/*.cruds user/*.read",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "aud": f"{platform.base_url}/fhir",
        "nonce": "n1",
    }
    return {name: value for name, value in (base | changed).items() if value is not None}


def sealed_request(page: httpx.Response) -> str:
    found = re.search(r'name="request" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return html.unescape(found[1])


def signed_in(platform: Platform, account: str = "dr.wang", **changed: str | None) -> httpx.Response:
    browser = platform.anonymous()
    page = browser.get("/auth/authorize", params=asked(platform, **changed))
    assert page.status_code == 200, page.text
    form = {"request": sealed_request(page), "account": account, "password": "kanglian-demo", "decision": "allow"}
    return browser.post("/auth/authorize", data=form)


def code_of(answer: httpx.Response) -> str:
    assert answer.status_code == 303, answer.text
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["state"] == ["s" * 24]
    return query["code"][0]


def exchanged(platform: Platform, made: str, /, **changed: str | None) -> httpx.Response:
    form = {
        "grant_type": "authorization_code",
        "code": made,
        "redirect_uri": REDIRECT,
        "client_id": "demo-app",
        "code_verifier": VERIFIER,
    }
    kept = {name: value for name, value in (form | changed).items() if value is not None}
    return platform.anonymous().post("/auth/token", data=kept)


def assertion(platform: Platform, client: str = "first-hospital", **changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": client,
        "sub": client,
        "aud": f"{platform.base_url}/auth/token",
        "exp": now + 240,
        "iat": now,
        "jti": secrets.token_hex(8),
    } | changed
    key = keys.client_key(platform.keys_path, client)
    kid = keys.key_id(key.public_key())
    kept = {name: value for name, value in claims.items() if value is not None}
    return sign(kept, key, kid=kid, algorithm="ES384", kind="JWT")


def client_grant(platform: Platform, text: str, **changed: str) -> httpx.Response:
    form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": text}
    return platform.anonymous().post("/auth/token", data=form | changed)


def test_a_clinician_signs_in_without_scripts(platform: Platform) -> None:
    answer = signed_in(platform)
    location = urlsplit(answer.headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == REDIRECT
    assert parse_qs(location.query)["iss"] == [f"{platform.base_url}/auth"]
    tokens = exchanged(platform, code_of(answer)).json()
    assert tokens["token_type"] == "Bearer"
    assert tokens["scope"].split() == ["openid", "fhirUser", "offline_access", "user/*.rs"]
    claims = parse(tokens["access_token"]).claims
    assert (claims["sub"], claims["organisation"], claims["purpose_of_use"]) == ("dr.wang", "first-hospital", "TREAT")
    identity = parse(tokens["id_token"]).claims
    assert (identity["aud"], identity["nonce"]) == ("demo-app", "n1")
    assert identity["fhirUser"] == f"{platform.base_url}/fhir/Practitioner/dr.wang"


def test_a_resident_gets_patient_scopes_and_the_patient(platform: Platform) -> None:
    tokens = exchanged(platform, code_of(signed_in(platform, "zhang.wei"))).json()
    assert tokens["patient"] == "zhang.wei"
    assert tokens["scope"].split() == ["openid", "fhirUser", "launch/patient", "offline_access", "patient/*.rs"]


def test_the_sign_in_page_runs_nothing_and_is_framed_nowhere(platform: Platform) -> None:
    page = platform.anonymous().get("/auth/authorize", params=asked(platform))
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "HttpOnly" in page.headers["set-cookie"]
    assert "SameSite=strict" in page.headers["set-cookie"]
    assert page.headers["cache-control"] == "no-store"


def test_purpose_and_reason_reach_the_token(platform: Platform) -> None:
    answer = signed_in(platform, purpose_of_use="BTG", reason="unconscious after an accident")
    claims = parse(exchanged(platform, code_of(answer)).json()["access_token"]).claims
    assert (claims["purpose_of_use"], claims["reason"]) == ("BTG", "unconscious after an accident")


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "unknown"},
        {"client_id": "first-hospital"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": REDIRECT + "/"},
        {"redirect_uri": REDIRECT + "?x=1"},
        {"redirect_uri": "http://127.0.0.1:8765/callback/../evil"},
        {"redirect_uri": "http://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1:8765@evil.example/callback"},
        {"redirect_uri": "HTTP://127.0.0.1:8765/callback"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
    ids=str,
)
def test_unknown_clients_and_addresses_are_never_redirected_to(
    platform: Platform, changed: dict[str, str | None]
) -> None:
    answer = platform.anonymous().get("/auth/authorize", params=asked(platform, **changed))
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"state": None}, "invalid_request"),
        ({"state": "a\r\nx: y"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"aud": "https://evil.example/fhir"}, "invalid_request"),
        ({"scope": ""}, "invalid_scope"),
        ({"purpose_of_use": "CURIOSITY"}, "invalid_request"),
        ({"reason": "x" * 501}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"nonce": "\x07"}, "invalid_request"),
    ],
    ids=str,
)
def test_wrong_requests_go_back_with_an_error(platform: Platform, changed: dict[str, str | None], error: str) -> None:
    answer = platform.anonymous().get("/auth/authorize", params=asked(platform, **changed))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith(REDIRECT + "?")
    assert parse_qs(urlsplit(answer.headers["location"]).query)["error"] == [error]


def test_a_parameter_given_twice_is_refused(platform: Platform) -> None:
    pairs = [*asked(platform).items(), ("redirect_uri", "http://evil.example")]
    answer = platform.anonymous().get("/auth/authorize", params=pairs)
    assert answer.status_code == 400


def test_scopes_that_nobody_gives_are_refused(platform: Platform) -> None:
    answer = signed_in(platform, scope="system/*.cruds user/*.read patient/*.write")
    assert parse_qs(urlsplit(answer.headers["location"]).query)["error"] == ["invalid_scope"]


def test_wrong_passwords_show_the_form_again_and_stop_at_ten(platform: Platform) -> None:
    browser = platform.anonymous()
    page = browser.get("/auth/authorize", params=asked(platform))
    for turn in range(12):
        form = {"request": sealed_request(page), "account": "admin", "password": f"wrong{turn}"}
        page = browser.post("/auth/authorize", data=form)
        assert page.status_code == 401
    assert "wait five minutes" in page.text
    form = {"request": sealed_request(page), "account": "admin", "password": "kanglian-demo"}
    assert browser.post("/auth/authorize", data=form).status_code == 401


def test_a_form_shown_in_another_browser_is_refused(platform: Platform) -> None:
    page = platform.anonymous().get("/auth/authorize", params=asked(platform))
    form = {"request": sealed_request(page), "account": "dr.wang", "password": "kanglian-demo"}
    other = platform.anonymous()
    assert other.post("/auth/authorize", data=form).status_code == 400
    other.get("/auth/authorize", params=asked(platform))
    assert other.post("/auth/authorize", data=form).status_code == 400


def test_altered_forms_are_refused(platform: Platform) -> None:
    browser = platform.anonymous()
    sealed = sealed_request(browser.get("/auth/authorize", params=asked(platform)))
    payload, _, mark = sealed.partition(".")
    content = json.loads(base64.urlsafe_b64decode(payload + "=="))
    content["redirect_uri"] = "http://evil.example"
    forged = base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
    for text in (f"{forged}.{mark}", f"{payload}.", payload, "", f"{payload}.{mark[:-1]}"):
        answer = browser.post(
            "/auth/authorize", data={"request": text, "account": "dr.wang", "password": "kanglian-demo"}
        )
        assert answer.status_code == 400, text


def test_sign_ins_are_in_the_log(platform: Platform) -> None:
    signed_in(platform, "nurse.zhao")
    browser = platform.anonymous()
    page = browser.get("/auth/authorize", params=asked(platform))
    browser.post("/auth/authorize", data={"request": sealed_request(page), "account": "nobody", "password": "x"})
    auditor = platform.client(account="audit.lin")
    events = [each["resource"] for each in auditor.get("/fhir/AuditEvent?_count=50").json()["entry"]]
    logins = {
        each["agent"][2]["who"]["display"]: each["outcome"] for each in events if each["type"]["code"] == "110114"
    }
    assert (logins["nurse.zhao"], logins["nobody"]) == ("0", "4")


def test_saying_no_goes_back_with_access_denied(platform: Platform) -> None:
    browser = platform.anonymous()
    page = browser.get("/auth/authorize", params=asked(platform))
    answer = browser.post("/auth/authorize", data={"request": sealed_request(page), "decision": "deny"})
    assert "error=access_denied" in answer.headers["location"]


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": None},
        {"code_verifier": "w" * 64},
        {"code_verifier": CHALLENGE},
        {"code_verifier": "v" * 42},
        {"redirect_uri": None},
        {"redirect_uri": "http://localhost:8765/callback"},
        {"client_id": None},
        {"client_id": "first-hospital"},
        {"grant_type": "password"},
        {"grant_type": None},
        {"code": "x.y"},
        {"code": None},
    ],
    ids=str,
)
def test_codes_hold_only_for_whom_they_were_made(platform: Platform, changed: dict[str, str | None]) -> None:
    code = code_of(signed_in(platform))
    answer = exchanged(platform, code, **changed)
    assert answer.status_code in {400, 401}
    assert answer.headers["cache-control"] == "no-store"
    assert "access_token" not in answer.json()


def test_a_code_used_twice_withdraws_what_came_of_it(platform: Platform) -> None:
    code = code_of(signed_in(platform))
    tokens = exchanged(platform, code).json()
    reader = platform.anonymous()
    reader.headers["authorization"] = f"Bearer {tokens['access_token']}"
    assert reader.get("/fhir/Patient/none").status_code == 404
    assert exchanged(platform, code).json()["error"] == "invalid_grant"
    assert reader.get("/fhir/Patient/none").status_code == 401
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "demo-app"}
    assert platform.anonymous().post("/auth/token", data=refresh).json()["error"] == "invalid_grant"


def test_refresh_tokens_turn_and_are_used_once(platform: Platform) -> None:
    tokens = exchanged(platform, code_of(signed_in(platform))).json()
    refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_id": "demo-app"}
    browser = platform.anonymous()
    wider = browser.post("/auth/token", data=refresh | {"scope": "user/*.cruds"})
    assert wider.json()["error"] == "invalid_scope"
    second = browser.post("/auth/token", data=refresh).json()
    assert second["refresh_token"] != tokens["refresh_token"]
    assert browser.post("/auth/token", data=refresh).json()["error"] == "invalid_grant"
    again = browser.post("/auth/token", data=refresh | {"refresh_token": second["refresh_token"]})
    assert again.json()["error"] == "invalid_grant"


def test_a_hospital_gets_a_token_by_its_key(platform: Platform) -> None:
    answer = client_grant(platform, assertion(platform), scope="system/Patient.rs")
    assert answer.status_code == 200, answer.text
    claims = parse(answer.json()["access_token"]).claims
    assert (claims["sub"], claims["organisation"], claims["scope"]) == (
        "first-hospital",
        "first-hospital",
        "system/Patient.rs",
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": int(time.time()) + 3600},
        {"exp": int(time.time()) - 5},
        {"exp": None},
        {"exp": "soon"},
        {"aud": "https://evil.example/token"},
        {"aud": None},
        {"iss": "county-hospital"},
        {"sub": "county-hospital", "iss": "county-hospital"},
        {"sub": "demo-app", "iss": "demo-app"},
        {"sub": "unknown", "iss": "unknown"},
        {"jti": None},
        {"jti": ""},
        {"jti": "a\x00b"},
        {"nbf": int(time.time()) + 3600},
    ],
)
def test_wrong_assertions(platform: Platform, changed: dict[str, Any]) -> None:
    answer = client_grant(platform, assertion(platform, **changed))
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_client", "error_description": "The client assertion does not hold."}


def test_an_assertion_is_used_once(platform: Platform) -> None:
    text = assertion(platform)
    assert client_grant(platform, text).status_code == 200
    assert client_grant(platform, text).status_code == 401


def test_an_assertion_by_another_key(platform: Platform) -> None:
    now = int(time.time())
    claims = {
        "iss": "loader",
        "sub": "loader",
        "aud": f"{platform.base_url}/auth/token",
        "exp": now + 60,
        "jti": secrets.token_hex(8),
    }
    foreign = ec.generate_private_key(ec.SECP384R1())
    kid = keys.key_id(keys.client_key(platform.keys_path, "loader").public_key())
    assert client_grant(platform, sign(claims, foreign, kid=kid, algorithm="ES384", kind="JWT")).status_code == 401
    issuers_own = sign(claims, platform.issuer._key, kid=platform.issuer.kid, algorithm="RS256", kind="JWT")
    assert client_grant(platform, issuers_own).status_code == 401


def test_introspection_and_revocation(platform: Platform) -> None:
    token = platform.issuer.issue_token(account="dr.li")
    anyone = platform.anonymous()
    assert anyone.post("/auth/introspect", data={"token": token}).status_code == 401
    asker = {"client_assertion_type": ASSERTION_TYPE}
    shown = anyone.post("/auth/introspect", data=asker | {"client_assertion": assertion(platform), "token": token})
    assert shown.json()["active"] is True
    assert shown.json()["sub"] == "dr.li"
    reader = platform.anonymous()
    reader.headers["authorization"] = f"Bearer {token}"
    assert reader.get("/fhir/Patient/none").status_code == 404
    assert anyone.post("/auth/revoke", data={"token": token}).status_code == 200
    assert reader.get("/fhir/Patient/none").status_code == 401
    shown = anyone.post("/auth/introspect", data=asker | {"client_assertion": assertion(platform), "token": token})
    assert shown.json() == {"active": False}
    assert anyone.post("/auth/revoke", data={"token": "nonsense"}).status_code == 200


def test_discovery_names_only_what_is_there(platform: Platform) -> None:
    browser = platform.anonymous()
    found = browser.get("/auth/.well-known/openid-configuration").json()
    assert found["issuer"] == f"{platform.base_url}/auth"
    assert found["code_challenge_methods_supported"] == ["S256"]
    jwks = browser.get(found["jwks_uri"]).json()
    assert [set(key) & {"d", "p", "q"} for key in jwks["keys"]] == [set()]
    for name in ("token", "introspect", "revoke"):
        assert browser.get(f"/auth/{name}").status_code == 405
    smart = browser.get("/fhir/.well-known/smart-configuration").json()
    assert smart["token_endpoint"] == found["token_endpoint"]
    assert "permission-v2" in smart["capabilities"]


def test_foreign_host_names_are_refused(platform: Platform) -> None:
    browser = platform.anonymous()
    answer = browser.get("/auth/authorize", params=asked(platform), headers={"host": "rebound.example"})
    assert answer.status_code == 400
    data = {"grant_type": "client_credentials"}
    assert browser.post("/auth/token", data=data, headers={"host": "rebound.example"}).status_code == 400


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"grant_type":"client_credentials"}'),
        ("multipart/form-data; boundary=x", b"--x--"),
        ("application/x-www-form-urlencoded", b"a=%zz"),
        ("application/x-www-form-urlencoded", b"a=%00"),
        ("application/x-www-form-urlencoded", b"a=%ff"),
        ("application/x-www-form-urlencoded", b"grant_type=a&grant_type=b"),
        ("application/x-www-form-urlencoded", b"a=" + b"x" * 100_000),
        ("application/x-www-form-urlencoded", b"a&" * 2000),
        ("application/x-www-form-urlencoded", b""),
    ],
)
def test_forms_that_are_none(platform: Platform, content_type: str, body: bytes) -> None:
    answer = platform.anonymous().post("/auth/token", content=body, headers={"content-type": content_type})
    assert 400 <= answer.status_code < 500
    assert "error" in answer.json()
