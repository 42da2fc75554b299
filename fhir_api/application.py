"""The application: FastAPI with its cold routes, and the hot FHIR routes beside it.

https://fastapi.tiangolo.com/, https://hl7.org/fhir/R4/http.html
"""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ehr.errors import Issue, KanglianError, Unavailable
from fhir_api.access_token import TokenVerifier
from fhir_api.analytics_questions import analytics_router
from fhir_api.capabilities import capability_statement
from fhir_api.cross_origin import CrossOrigin
from fhir_api.exchange import AsgiScope, Exchange, Receive, Send
from fhir_api.fhir_application import FhirApplication, refusal
from fhir_api.fhir_request import Answer
from fhir_api.interactions.registered import register_all
from fhir_api.issuer.routes import issuer_router
from fhir_api.key_sets import FixedKeySet, KeySet, RemoteKeySet
from fhir_api.metrics import Metrics, backlog_text
from fhir_api.negotiation import presentation, pretty
from fhir_api.openapi import openapi_document
from fhir_api.operation_outcome import UNEXPECTED_BODY, MethodNotOffered, outcome_bytes
from fhir_api.revocations import Revocations
from fhir_api.services import Services
from fhir_api.smart_configuration import of_embedded_issuer, of_foreign_issuer
from fhir_api.welcome import welcome

_DESCRIPTION = (
    "The FHIR interface lies under `/fhir`; which search parameters a type takes is in its "
    "[CapabilityStatement](/fhir/metadata)."
)
_LOG = logging.getLogger(__name__)
_PUBLIC = frozenset({"/fhir/metadata", "/fhir/.well-known/smart-configuration"})
_PUBLIC_METHODS = "GET, HEAD, OPTIONS"


class Application:
    """Tells the hot routes from the cold ones; everything else is FastAPI's."""

    def __init__(self, services: Services) -> None:
        """Wire routes to services."""
        register_all()
        self.services = services
        self.metrics = Metrics()
        self.revocations = Revocations(services.store)
        keys = _key_set(services)
        self.verifier = _verifier(services, keys, self.revocations)
        self._foreign = keys if isinstance(keys, RemoteKeySet) else None
        self.fhir = FhirApplication(services, self.verifier, self.revocations, self.metrics)
        self.api = self._cold_routes()
        self._answer = CrossOrigin(self._routed, services.cors_origins) if services.cors_origins else self._routed
        self._metadata = msgspec.json.encode(capability_statement(services))

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        await self._answer(scope, receive, send)

    async def _routed(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith("/fhir/") or path == "/fhir":
                if path in _PUBLIC:
                    await self._public_document(Exchange(scope, receive, send, "public"), path)
                else:
                    await self.fhir(scope, receive, send)
                return
        try:
            await self.api(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - answered already; the log gets places in the code, no values
            places = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("unexpected %s on a cold route\n%s", type(error).__name__, places)

    async def _public_document(self, exchange: Exchange, path: str) -> None:
        try:
            if exchange.method == "OPTIONS":
                await exchange.answer(204, b"", [(b"allow", _PUBLIC_METHODS.encode())])
                return
            if exchange.method not in {"GET", "HEAD"}:
                raise MethodNotOffered(_PUBLIC_METHODS)
            shown = presentation(exchange.pairs(), exchange.header(b"accept"))
            body, kind = self._metadata, b"application/fhir+json; charset=utf-8"
            if path != "/fhir/metadata":
                body, kind = msgspec.json.encode(await self._smart_configuration()), b"application/json"
            headers = [(b"content-type", kind), (b"cache-control", b"public, max-age=60")]
            answer = Answer(200, pretty(body) if shown.pretty else body, headers)
        except KanglianError as error:
            answer = refusal(error)
        await exchange.answer(answer.status, answer.body, answer.headers)

    async def _smart_configuration(self) -> dict[str, Any]:
        if self._foreign is None:
            return of_embedded_issuer(self.services.base_url)
        return of_foreign_issuer(await self._foreign.discovery())

    def _cold_routes(self) -> FastAPI:
        services = self.services
        api = FastAPI(
            title="Kanglian 康联",
            version=services.version,
            description=_DESCRIPTION,
            lifespan=self._lifespan,
            redoc_url=None,
            docs_url="/docs",
        )

        @api.get("/", include_in_schema=False)
        async def first_page() -> Response:
            return welcome(services)

        @api.get("/health/live", tags=["operation"])
        async def live() -> Response:
            return JSONResponse({"status": "live"})

        @api.get("/health/ready", tags=["operation"])
        async def ready() -> Response:
            missing = await _missing(services)
            if missing is None:
                return JSONResponse({"status": "ready"})
            return JSONResponse({"status": "not ready", "missing": missing}, 503, headers={"retry-after": "1"})

        @api.get("/metrics", tags=["operation"])
        async def metrics() -> Response:
            try:
                waiting = backlog_text(await services.store.inbox.backlog())
            except Unavailable:
                waiting = ""  # the other figures are wanted then most of all
            return PlainTextResponse(self.metrics.text() + waiting, media_type="text/plain; version=0.0.4")

        if services.issuer is not None:
            api.include_router(issuer_router(services.issuer, self.revocations, self.verifier, services.store.record))
        if services.analytics is not None:
            api.include_router(analytics_router(services.analytics, self.verifier))
        described = api.openapi
        api.openapi = lambda: openapi_document(described())  # type: ignore[method-assign]  # as FastAPI's manual shows
        api.add_exception_handler(KanglianError, _known_error)
        api.add_exception_handler(StarletteHTTPException, _http_error)
        api.add_exception_handler(Exception, _unknown_error)
        return api

    @asynccontextmanager
    async def _lifespan(self, _api: FastAPI) -> AsyncIterator[None]:
        await self.revocations.refresh()
        refreshing = asyncio.create_task(self.revocations.keep_fresh())
        try:
            yield
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)


async def _known_error(_request: Request, error: Exception) -> Response:
    answer = refusal(error if isinstance(error, KanglianError) else KanglianError("unexpected"))
    headers: Mapping[str, Any] = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(answer.body, answer.status, headers=headers)


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, StarletteHTTPException) else 500
    body = outcome_bytes((Issue("error", "not-found" if status == 404 else "processing", "Nothing answers here."),))
    headers = error.headers if isinstance(error, StarletteHTTPException) else None
    return Response(body, status, headers=headers, media_type="application/fhir+json")


async def _unknown_error(_request: Request, _error: Exception) -> Response:
    return Response(UNEXPECTED_BODY, 500, media_type="application/fhir+json")


async def _missing(services: Services) -> str | None:
    if not await services.store.is_reachable():
        return "the database cannot be reached"
    return await services.readiness()


def _key_set(services: Services) -> KeySet:
    if services.oidc_issuer is not None:
        return RemoteKeySet(services.oidc_issuer)
    if services.issuer is not None:
        return FixedKeySet(services.issuer.issuer, services.issuer.signing_keys())
    return FixedKeySet(f"{services.base_url}/auth", {})


def _verifier(services: Services, keys: KeySet, revocations: Revocations) -> TokenVerifier:
    clients: frozenset[str] | None = frozenset()
    if services.oidc_issuer is not None:
        clients = None
    elif services.issuer is not None:
        clients = frozenset(services.issuer.directory.clients)
    return TokenVerifier(
        keys, f"{services.base_url}/fhir", revocations, foreign=services.oidc_issuer is not None, clients=clients
    )


def create_app(services: Services) -> Application:
    """The ASGI application of the platform (DESIGN 4.6); serve it with `fhir_api.server.server_configuration`."""
    return Application(services)
