"""The authorization endpoint: sign-in by a form that works without scripts, PKCE S256 always, then a code.

https://www.rfc-editor.org/rfc/rfc6749#section-4.1, https://www.rfc-editor.org/rfc/rfc7636,
https://www.rfc-editor.org/rfc/rfc9207 (iss), https://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html
"""

import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ehr.audit_note import AuditNote
from ehr.errors import Forbidden, Invalid, Unauthenticated
from ehr.store.audit import REFUSED, SUCCESS
from fhir_api.issuer.accounts import Account, Client
from fhir_api.issuer.forms import OAuthError, check_host, form_of, query_of
from fhir_api.issuer.issuer import Issuer
from fhir_api.issuer.purposes import PURPOSES, check_purpose, check_reason
from fhir_api.issuer.scopes import granted
from fhir_api.markup import SECURITY_HEADERS, hidden, page

CODE_S = 60
SIGN_IN_S = 600
COOKIE = "kanglian_sign_in"
LIMIT_FAILURES = 10
FAILURES_FORGOTTEN_S = 300.0
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,512}\Z")
_STATE_TEXT = "state is 1 to 512 printable ASCII characters"


Record = Callable[[AuditNote, int], Awaitable[None]]


def _note(
    name: str, client: Client, purpose: str, account: Account | None = None, reason: str | None = None
) -> AuditNote:
    return AuditNote(
        action="E",
        interaction="login",
        actor=name[:64] if name.isprintable() else "?",
        client=client.client_id,
        organisation=account.organisation if account else None,
        roles=account.roles if account else (),
        purpose_of_use=purpose,
        reason=reason,
        query="POST /auth/authorize",
        trace=secrets.token_hex(8),
        decision="password",
    )


class Attempts:
    """Failed sign-ins by account, forgotten after five minutes: guessing stops at ten."""

    def __init__(self) -> None:
        """Start with none."""
        self._failures: dict[str, list[float]] = {}

    def exhausted(self, account: str) -> bool:
        """True where the account has to wait."""
        since = time.monotonic() - FAILURES_FORGOTTEN_S
        recent = [moment for moment in self._failures.get(account, ()) if moment > since]
        return len(recent) >= LIMIT_FAILURES

    def failed(self, account: str) -> None:
        """Remember one failure."""
        since = time.monotonic() - FAILURES_FORGOTTEN_S
        if len(self._failures) > 1_000:
            self._failures = {name: times for name, times in self._failures.items() if times[-1] > since}
        self._failures[account] = [*self._failures.get(account, ())[-LIMIT_FAILURES:], time.monotonic()]


class AuthorizeEndpoint:
    """GET shows the sign-in form, POST checks it and redirects with a code."""

    def __init__(self, issuer: Issuer, record: Record) -> None:
        """Take the issuer and what makes audit rows durable: each sign-in, good or failed, has one."""
        self._issuer = issuer
        self._record = record
        self._attempts = Attempts()

    async def show(self, request: Request) -> Response:
        """Check the request and show the form; an unknown client or address is never redirected to."""
        check_host(request, self._issuer.base_url)
        query = query_of(request)
        client = self._client(query)
        try:
            asked = self._asked(query, client)
        except OAuthError as error:
            return self._back(query, {"error": error.error, "error_description": error.description})
        return self._form(asked, client)

    async def sign_in(self, request: Request) -> Response:
        """Check cookie, form and password; redirect with a code, or show the form again."""
        check_host(request, self._issuer.base_url)
        form = await form_of(request)
        try:
            asked = self._issuer.unseal("sign-in", form.get("request", ""))
        except Unauthenticated as error:
            raise OAuthError("invalid_request", "The form is too old; start again from the app.") from error
        if not hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), str(asked["browser"]).encode()):
            raise OAuthError("invalid_request", "The form was not shown in this browser; start again from the app.")
        client = self._issuer.client(asked["client_id"])
        if form.get("decision") == "deny":
            return self._back(asked, {"error": "access_denied", "error_description": "The person said no."})
        name = form.get("account", "")
        if self._attempts.exhausted(name):
            return self._form(asked, client, "Too many attempts; wait five minutes. 尝试过多，请五分钟后再试。")
        if not self._issuer.password_fits(form.get("password", "")) or name not in self._issuer.directory.accounts:
            self._attempts.failed(name)
            await self._record(_note(name, client, asked["purpose_of_use"] or ""), REFUSED)
            return self._form(asked, client, "Account or password is wrong. 账号或密码不对。")
        return await self._with_code(asked, client, name, form)

    def _client(self, query: dict[str, str]) -> Client:
        try:
            client = self._issuer.client(query.get("client_id", ""))
        except Forbidden as error:
            raise OAuthError("invalid_request", "The client is not known.") from error
        if "authorization_code" not in client.grants or query.get("redirect_uri") not in client.redirect_uris:
            raise OAuthError("invalid_request", "redirect_uri is not one that the client registered.")
        return client

    def _asked(self, query: dict[str, str], client: Client) -> dict[str, Any]:
        if query.get("response_type") != "code":
            raise OAuthError("unsupported_response_type", "response_type is code.")
        if not _PRINTABLE.match(query.get("state", "")):
            raise OAuthError("invalid_request", _STATE_TEXT)
        if query.get("code_challenge_method") != "S256" or not _CHALLENGE.match(query.get("code_challenge", "")):
            raise OAuthError("invalid_request", "PKCE with S256 is needed.")
        if query.get("aud") != self._issuer.audience:
            raise OAuthError("invalid_request", f"aud is {self._issuer.audience}.")
        if "request" in query or "request_uri" in query:
            raise OAuthError("request_not_supported", "Request objects are not taken.")
        nonce = query.get("nonce")
        if nonce is not None and not _PRINTABLE.match(nonce):
            raise OAuthError("invalid_request", "nonce is 1 to 512 printable ASCII characters.")
        try:
            purpose = check_purpose(query["purpose_of_use"]) if "purpose_of_use" in query else None
            reason = check_reason(query.get("reason"))
        except Invalid as error:
            raise OAuthError("invalid_request", str(error)) from error
        if not query.get("scope", "").split():
            raise OAuthError("invalid_scope", "scope is needed.")
        return {
            "client_id": client.client_id,
            "redirect_uri": query["redirect_uri"],
            "state": query["state"],
            "scope": query["scope"],
            "code_challenge": query["code_challenge"],
            "nonce": nonce,
            "purpose_of_use": purpose,
            "reason": reason,
            "browser": secrets.token_urlsafe(24),
        }

    def _form(self, asked: dict[str, Any], client: Client, refusal: str = "") -> Response:
        asked = {name: value for name, value in asked.items() if name not in {"kind", "exp", "jti"}}
        sealed = self._issuer.seal("sign-in", asked, lifetime_s=SIGN_IN_S)
        chosen, reason = asked["purpose_of_use"] or "", escape(asked["reason"] or "")
        options = "".join(
            f'<option value="{code}"{" selected" if code == chosen else ""}>{code or "–"} {escape(text)}</option>'
            for code, text in [("", "the account's own 账号默认"), *PURPOSES.items()]
        )
        answer = page(
            "Sign in 登录",
            f"<h1>Sign in to Kanglian 登录康联</h1><p>{escape(client.name)} asks for {escape(asked['scope'])}.</p>"
            + (f'<p class="refused" role="alert">{escape(refusal)}</p>' if refusal else "")
            + f'<form method="post" action="{escape(self._issuer.issuer)}/authorize">{hidden("request", sealed)}'
            '<label>Account 账号<br><input name="account" autocomplete="username" required></label>'
            '<label>Password 密码<br><input name="password" type="password" autocomplete="current-password"></label>'
            f'<label>Purpose of use 用途<br><select name="purpose_of_use">{options}</select></label>'
            f'<label>Reason 理由<br><input name="reason" maxlength="500" value="{reason}"></label>'
            '<button name="decision" value="allow">Sign in 登录</button> '
            '<button name="decision" value="deny" formnovalidate>Cancel 取消</button></form>',
            401 if refusal else 200,
        )
        answer.set_cookie(
            COOKIE,
            asked["browser"],
            max_age=SIGN_IN_S,
            path="/auth",
            httponly=True,
            samesite="strict",
            secure=self._issuer.base_url.startswith("https:"),
        )
        return answer

    async def _with_code(self, asked: dict[str, Any], client: Client, name: str, form: dict[str, str]) -> Response:
        account = self._issuer.account(name)
        scopes = granted(asked["scope"].split(), client, account)
        if not scopes:
            return self._back(asked, {"error": "invalid_scope", "error_description": "No scope can be given."})
        try:
            purpose = check_purpose(form.get("purpose_of_use") or asked["purpose_of_use"] or account.purpose_of_use)
            reason = check_reason(form.get("reason") or asked["reason"])
        except Invalid as error:
            return self._form(asked, client, str(error))
        await self._record(_note(name, client, purpose, account, reason), SUCCESS)
        code = self._issuer.seal(
            "code",
            {
                "client_id": client.client_id,
                "redirect_uri": asked["redirect_uri"],
                "code_challenge": asked["code_challenge"],
                "nonce": asked["nonce"],
                "account": name,
                "scopes": list(scopes),
                "purpose_of_use": purpose,
                "reason": reason,
                "family": secrets.token_urlsafe(16),
            },
            lifetime_s=CODE_S,
        )
        return self._back(asked, {"code": code})

    def _back(self, asked: dict[str, Any], members: dict[str, str]) -> Response:
        """Redirect to the client's registered address with state and iss (RFC 9207)."""
        query = dict(members)
        state = asked.get("state", "")
        if _PRINTABLE.match(state):
            query["state"] = state
        query["iss"] = self._issuer.issuer
        answer = RedirectResponse(f"{asked['redirect_uri']}?{urlencode(query)}", 303, headers=SECURITY_HEADERS)
        answer.delete_cookie(COOKIE, path="/auth")
        return answer
