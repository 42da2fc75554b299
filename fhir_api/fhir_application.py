"""The hot FHIR routes as a plain ASGI application: authenticate, route, answer, account for it.

https://hl7.org/fhir/R4/http.html
"""

import itertools
import logging
import re
import secrets
import time
import traceback

from ehr.errors import KanglianError, NotFound, Unauthenticated, Unavailable
from ehr.store.audit import FAILURE, REFUSED
from fhir_api.access_token import Session, TokenVerifier
from fhir_api.exchange import JSON_TYPE, NO_STORE, AsgiScope, Exchange, Receive, Send, decode_segment
from fhir_api.fhir_request import Answer, FhirRequest
from fhir_api.metrics import Metrics
from fhir_api.negotiation import Presentation, check_accept, presentation, pretty
from fhir_api.operation_outcome import (
    UNAUTHENTICATED_BODY,
    UNEXPECTED_BODY,
    MethodNotOffered,
    UnsupportedMediaType,
    issues_of,
    outcome_bytes,
    status_of,
)
from fhir_api.revocations import Revocations
from fhir_api.routing import Route, allowed_besides, allowed_methods, route
from fhir_api.services import Services

_LOG = logging.getLogger(__name__)
_PREFIX_BYTES = len("/fhir/")
_TRACE = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
_CHALLENGE = (b"www-authenticate", b'Bearer realm="fhir", error="invalid_token"')


class FhirApplication:
    """Answers everything under `/fhir/` but the public documents."""

    def __init__(self, services: Services, verifier: TokenVerifier, revocations: Revocations, metrics: Metrics) -> None:
        """Take the services and the check of tokens."""
        self._services = services
        self._verifier = verifier
        self._revocations = revocations
        self._metrics = metrics
        self._trace_prefix = secrets.token_hex(6)
        self._traces = itertools.count(1)

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        exchange = Exchange(scope, receive, send, f"{self._trace_prefix}-{next(self._traces):x}")
        name = "unrouted"
        try:
            if exchange.method == "OPTIONS":
                # by the form of the address alone: no token is asked for, no row looked at
                name, answer = "options", Answer(204, b"", [(b"allow", allowed_methods(_segments(exchange)).encode())])
            else:
                name, answer = await self._answered(exchange, await self._session(exchange))
        except Unauthenticated:
            answer = Answer(401, UNAUTHENTICATED_BODY, [JSON_TYPE, NO_STORE, _CHALLENGE])
        except KanglianError as error:
            answer = refusal(error)
        if answer.file is not None:
            await exchange.answer_file(answer.status, answer.file, answer.headers)
        else:
            await exchange.answer(answer.status, answer.body, answer.headers)
        self._metrics.count(name, answer.status, time.perf_counter() - started)

    async def _session(self, exchange: Exchange) -> Session:
        given = exchange.headers.get(b"x-request-id")
        if given is not None and _TRACE.match(given.decode("latin-1")):
            exchange.trace = given.decode("latin-1")
        return await self._verifier.session(exchange.headers.get(b"authorization"))

    async def _answered(self, exchange: Exchange, session: Session) -> tuple[str, Answer]:
        """The answer with its audit row durable, whatever it is."""
        path: bytes = exchange.scope["raw_path"]
        target = path[_PREFIX_BYTES:] + (b"?" + exchange.query_string if exchange.query_string else b"")
        request = FhirRequest(
            services=self._services,
            session=session,
            method=exchange.method,
            target=target.decode("latin-1"),
            pairs=[],
            headers=exchange.headers,
            trace=exchange.trace,
            body=exchange.body,
            check_again=lambda: self._checked_again(exchange),
        )
        try:
            found = self._routed(exchange, request)
            shown = self._presentation(exchange) if found.is_json else Presentation(exchange.pairs())
            request.pairs, request.pretty = shown.rest, shown.pretty
            answer = await found.handler(request)
        except KanglianError as error:
            answer = await self._refused(request, error)
        except Exception as error:  # noqa: BLE001 - the last line: whatever it is, one 500 without details
            answer = await self._unexpected(request, error)
        if request.pretty and answer.body:
            answer.body = pretty(answer.body)
        return request.interaction, answer

    def _routed(self, exchange: Exchange, request: FhirRequest) -> Route:
        found = route(exchange.method, _segments(exchange))
        request.resource_type, request.resource_id = found.resource_type, found.resource_id
        request.version, request.interaction, request.action = found.version, found.name, found.action
        return found

    def _presentation(self, exchange: Exchange) -> Presentation:
        accept = exchange.headers.get(b"accept")
        text = None if accept is None else accept.decode("latin-1")
        if not exchange.query_string:
            check_accept(text, None)
            return Presentation([])
        return presentation(exchange.pairs(), text)

    async def _checked_again(self, exchange: Exchange) -> Session:
        await self._revocations.refresh()
        return await self._verifier.session(exchange.headers.get(b"authorization"))

    async def _refused(self, request: FhirRequest, error: KanglianError) -> Answer:
        """The answer to an error, its audit row durable: by the store, or else by a row of its own."""
        if not request.audited and not isinstance(error, Unavailable):
            try:
                await self._services.store.record(request.note(), REFUSED)
            except KanglianError as failed:
                return refusal(failed)
        answer = refusal(error)
        if answer.status == 405 and not isinstance(error, MethodNotOffered):
            allowed = allowed_besides(request.method, request.resource_type, request.resource_id)
            answer.headers.append((b"allow", allowed.encode()))
        return answer

    async def _unexpected(self, request: FhirRequest, error: Exception) -> Answer:
        # Messages of errors may quote values of a resource: the log gets places in the code and the type only.
        places = "".join(traceback.format_tb(error.__traceback__))
        _LOG.error("unexpected %s, trace %s\n%s", type(error).__name__, request.trace, places)
        try:
            await self._services.store.record(request.note(), FAILURE)
        except KanglianError as refused:
            return refusal(refused)
        return Answer(500, UNEXPECTED_BODY)


def _segments(exchange: Exchange) -> list[str | None]:
    path: bytes = exchange.scope["raw_path"]
    return [decode_segment(part) for part in path[_PREFIX_BYTES:].split(b"/")]


def refusal(error: KanglianError) -> Answer:
    """The answer to an error: its status and its issues, alike for hidden and absent."""
    answer = Answer(status_of(error), outcome_bytes(issues_of(error)))
    if isinstance(error, MethodNotOffered):
        answer.headers.append((b"allow", error.allowed.encode()))
    elif isinstance(error, UnsupportedMediaType) and error.taken is not None:
        answer.headers.append(error.taken)
    elif answer.status == 503:
        answer.headers.append((b"retry-after", b"1"))
    elif answer.status == 401:
        answer.headers.append(_CHALLENGE)
    return answer


def not_found() -> Answer:
    """The constant 404."""
    return refusal(NotFound())
