"""The token endpoint: authorization_code with PKCE, client_credentials by private_key_jwt, refresh_token.

https://www.rfc-editor.org/rfc/rfc6749#section-4.1.3, https://www.rfc-editor.org/rfc/rfc7636#section-4.6,
https://www.rfc-editor.org/rfc/rfc9700 (a code or refresh token used twice revokes its family)
"""

import hashlib
import hmac
import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ehr.errors import Forbidden, Invalid, Unauthenticated
from fhir_api.issuer.accounts import Account, Client
from fhir_api.issuer.client_assertion import authenticated_client
from fhir_api.issuer.forms import OAuthError, answer, check_host, form_of
from fhir_api.issuer.issuer import ACCESS_TOKEN_S, Grant, Issuer
from fhir_api.issuer.purposes import check_purpose, check_reason
from fhir_api.issuer.scopes import granted
from fhir_api.jose import encode_segment
from fhir_api.revocations import Revocations

REFRESH_S = 8 * 3_600
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")


class TokenEndpoint:
    """POST /auth/token."""

    def __init__(self, issuer: Issuer, revocations: Revocations) -> None:
        """Take the issuer and the table of what was spent and withdrawn."""
        self._issuer = issuer
        self._revocations = revocations

    async def grant(self, request: Request) -> Response:
        """Answer a token request; every refusal is an OAuth error, uncached."""
        check_host(request, self._issuer.base_url)
        form = await form_of(request)
        match form.get("grant_type"):
            case "authorization_code":
                return await self._from_code(form)
            case "client_credentials":
                return await self._for_client(form)
            case "refresh_token":
                return await self._from_refresh(form)
            case _:
                raise OAuthError("unsupported_grant_type", "grant_type is none of the offered.")

    async def _from_code(self, form: dict[str, str]) -> Response:
        content = self._unsealed("code", form.get("code", ""))
        client = self._public_client(form, content)
        verifier = form.get("code_verifier", "")
        challenge = encode_segment(hashlib.sha256(verifier.encode()).digest())
        if (
            form.get("redirect_uri") != content["redirect_uri"]
            or not _VERIFIER.match(verifier)
            or not hmac.compare_digest(challenge, content["code_challenge"])
        ):
            raise OAuthError("invalid_grant", "The code does not hold.")
        await self._spend_once(content, f"code:{content['jti']}")
        return self._answer(content, client, content["nonce"])

    async def _from_refresh(self, form: dict[str, str]) -> Response:
        content = self._unsealed("refresh", form.get("refresh_token", ""))
        client = self._public_client(form, content)
        if self._revocations.holds([f"family:{content['family']}"]):
            raise OAuthError("invalid_grant", "The refresh token was withdrawn.")
        asked = form["scope"].split() if "scope" in form else content["scopes"]
        if not set(asked) <= set(content["scopes"]):
            raise OAuthError("invalid_scope", "A refresh asks for no more than was given.")
        await self._spend_once(content, f"refresh:{content['jti']}")
        return self._answer(content | {"scopes": asked}, client, None)

    async def _for_client(self, form: dict[str, str]) -> Response:
        client = await authenticated_client(form, self._issuer, self._revocations)
        scopes = granted(form["scope"].split(), client, client) if "scope" in form else client.scopes
        if not scopes:
            raise OAuthError("invalid_scope", "No scope can be given.")
        try:
            purpose = check_purpose(form.get("purpose_of_use") or client.purpose_of_use)
            reason = check_reason(form.get("reason"))
        except Invalid as error:
            raise OAuthError("invalid_request", str(error)) from error
        token = self._issuer.access_token(Grant(client, client.client_id, scopes, purpose, reason))
        return answer(
            {
                "access_token": token,
                "token_type": "Bearer",
                "expires_in": ACCESS_TOKEN_S,
                "scope": " ".join(scopes),
            }
        )

    def _unsealed(self, kind: str, text: str) -> dict[str, Any]:
        try:
            return self._issuer.unseal(kind, text)
        except Unauthenticated as error:
            raise OAuthError("invalid_grant", "The code or refresh token does not hold.") from error

    def _public_client(self, form: dict[str, str], content: dict[str, Any]) -> Client:
        if form.get("client_id") != content["client_id"]:
            raise OAuthError("invalid_grant", "The code or refresh token is another client's.")
        try:
            return self._issuer.client(content["client_id"])
        except Forbidden as error:
            raise OAuthError("invalid_client", "The client is not known.", 401) from error

    async def _spend_once(self, content: dict[str, Any], identifier: str) -> None:
        """Use up a code or refresh token; a second use withdraws everything that came of the sign-in."""
        if not await self._revocations.spend(identifier, content["exp"] + 60):
            await self._revocations.revoke(f"family:{content['family']}", time.time() + REFRESH_S + ACCESS_TOKEN_S)
            raise OAuthError("invalid_grant", "The code or refresh token was used before.")

    def _answer(self, content: dict[str, Any], client: Client, nonce: str | None) -> Response:
        account: Account = self._issuer.account(content["account"])
        scopes = tuple(content["scopes"])
        grant = Grant(
            account, client.client_id, scopes, content["purpose_of_use"], content["reason"], content["family"]
        )
        members: dict[str, Any] = {
            "access_token": self._issuer.access_token(grant),
            "token_type": "Bearer",
            "expires_in": ACCESS_TOKEN_S,
            "scope": " ".join(scopes),
        }
        if account.patient is not None:
            members["patient"] = account.patient
        if "openid" in scopes:
            members["id_token"] = self._issuer.id_token(account, client.client_id, nonce, scopes)
        if {"offline_access", "online_access"} & set(scopes):
            kept = {
                name: content[name] for name in ("client_id", "account", "scopes", "purpose_of_use", "reason", "family")
            }
            members["refresh_token"] = self._issuer.seal("refresh", kept, lifetime_s=REFRESH_S)
        return answer(members)
