"""The issuer's addresses under `/auth`, and how its refusals are shown."""

from collections.abc import Awaitable, Callable
from html import escape

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from ehr.errors import KanglianError, Malformed, TooCostly
from fhir_api.access_token import TokenVerifier
from fhir_api.issuer.authorize import AuthorizeEndpoint, Record
from fhir_api.issuer.discovery import key_set, openid_configuration
from fhir_api.issuer.forms import OAuthError, answer
from fhir_api.issuer.introspection import TokenState
from fhir_api.issuer.issuer import Issuer
from fhir_api.issuer.token import TokenEndpoint
from fhir_api.markup import page
from fhir_api.operation_outcome import status_of
from fhir_api.revocations import Revocations

Endpoint = Callable[[Request], Awaitable[Response]]


def _refusing(endpoint: Endpoint, *, as_page: bool) -> Endpoint:
    """Turn refusals into OAuth's JSON, or into a page where a browser asked."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except OAuthError as error:
            refusal = error
        except (Malformed, TooCostly) as error:
            refusal = OAuthError("invalid_request", str(error))
        except KanglianError as error:
            refusal = OAuthError("temporarily_unavailable", "The issuer cannot answer now.", status_of(error))
        if not as_page:
            return refusal.answer()
        text = f"<h1>Not possible 无法继续</h1><p class='refused'>{escape(refusal.description)}</p>"
        return page("Not possible", text, refusal.status)

    return guarded


async def signed_in(_request: Request) -> Response:
    """Where the demonstration app's sign-in ends when it has no address of its own."""
    return page("Signed in", "<h1>Signed in 已登录</h1><p>The app takes the code from this page's address.</p>")


def issuer_router(issuer: Issuer, revocations: Revocations, verifier: TokenVerifier, record: Record) -> APIRouter:
    """All routes of the embedded issuer, with whole paths."""
    router = APIRouter()
    authorize = AuthorizeEndpoint(issuer, record)
    token = TokenEndpoint(issuer, revocations)
    state = TokenState(issuer, revocations, verifier)

    async def discovery(_request: Request) -> Response:
        return answer(openid_configuration(issuer))

    async def jwks(_request: Request) -> Response:
        return answer(key_set(issuer))

    for path, method, endpoint in (
        ("/.well-known/openid-configuration", "GET", discovery),
        ("/jwks", "GET", jwks),
        ("/signed-in", "GET", signed_in),
        ("/authorize", "GET", _refusing(authorize.show, as_page=True)),
        ("/authorize", "POST", _refusing(authorize.sign_in, as_page=True)),
        ("/token", "POST", _refusing(token.grant, as_page=False)),
        ("/introspect", "POST", _refusing(state.introspect, as_page=False)),
        ("/revoke", "POST", _refusing(state.revoke, as_page=False)),
    ):
        router.add_route(f"/auth{path}", endpoint, methods=[method])
    return router
