"""Introspection and revocation: asked by machine clients with an assertion, or by the holder of the token itself.

https://www.rfc-editor.org/rfc/rfc7662, https://www.rfc-editor.org/rfc/rfc7009
"""

import time

from starlette.requests import Request
from starlette.responses import Response

from ehr.errors import Unauthenticated
from fhir_api.access_token import TokenVerifier
from fhir_api.issuer.client_assertion import authenticated_client
from fhir_api.issuer.forms import OAuthError, answer, check_host, form_of
from fhir_api.issuer.issuer import ACCESS_TOKEN_S, Issuer
from fhir_api.issuer.token import REFRESH_S
from fhir_api.revocations import Revocations

_SHOWN = ("iss", "aud", "sub", "client_id", "iat", "nbf", "exp", "jti", "scope", "fhirUser", "patient", "organisation",
          "purpose_of_use")  # fmt: skip


class TokenState:
    """POST /auth/introspect and POST /auth/revoke."""

    def __init__(self, issuer: Issuer, revocations: Revocations, verifier: TokenVerifier) -> None:
        """Take the issuer, the withdrawn tokens and the check of access tokens."""
        self._issuer = issuer
        self._revocations = revocations
        self._verifier = verifier

    async def introspect(self, request: Request) -> Response:
        """Say whether a token holds; `{"active": false}` for all that do not, without a reason."""
        check_host(request, self._issuer.base_url)
        form = await form_of(request)
        if "client_assertion" in form:
            await authenticated_client(form, self._issuer, self._revocations)
        else:
            try:
                await self._verifier.session(request.headers.get("authorization", "").encode("latin-1"))
            except Unauthenticated as error:
                raise OAuthError("invalid_client", "Introspection needs a client assertion or a token.", 401) from error
        try:
            claims = await self._verifier.claims(form.get("token", ""))
        except Unauthenticated:
            return answer({"active": False})
        shown = {name: claims[name] for name in _SHOWN if name in claims}
        return answer({"active": True, "token_type": "Bearer"} | shown)

    async def revoke(self, request: Request) -> Response:
        """Withdraw an access or refresh token that the sender holds; 200 whatever it was (RFC 7009 section 2.2)."""
        check_host(request, self._issuer.base_url)
        form = await form_of(request)
        token = form.get("token", "")
        client_id = form.get("client_id")
        if "client_assertion" in form:
            client_id = (await authenticated_client(form, self._issuer, self._revocations)).client_id
        try:
            claims = await self._verifier.claims(token)
        except Unauthenticated:
            await self._revoke_refresh(token, client_id)
            return answer({})
        if client_id is None or claims.get("client_id") == client_id:
            await self._revocations.revoke(f"jti:{claims['jti']}", float(claims["exp"]))
        return answer({})

    async def _revoke_refresh(self, token: str, client_id: str | None) -> None:
        try:
            content = self._issuer.unseal("refresh", token)
        except Unauthenticated:
            return
        if client_id is None or content["client_id"] == client_id:
            await self._revocations.revoke(f"family:{content['family']}", time.time() + REFRESH_S + ACCESS_TOKEN_S)
