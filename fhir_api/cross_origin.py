"""Cross-origin requests of browsers' apps, for the origins that are configured.

https://fetch.spec.whatwg.org/#http-cors-protocol, https://hl7.org/fhir/R4/security.html#cors
No credentials of a browser are taken along: an app sends its token itself, so that naming an origin gives its pages no
more than any other client has.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fhir_api.exchange import AsgiScope, Header, Receive, Send

ANY_ORIGIN = "*"
_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
_REQUEST_HEADERS = (
    b"accept, accept-encoding, authorization, content-encoding, content-type, if-match, if-modified-since,"
    b" if-none-exist, if-none-match, prefer, x-request-id"
)
_SHOWN_HEADERS = b"allow, content-location, etag, last-modified, location, retry-after, x-progress, x-request-id"
_LASTS_S = b"600"
_NAVIGATED = "/auth/authorize"
"""A page that a browser goes to; no script needs to read it."""


class CrossOrigin:
    """Answers preflights and marks the answers that a page of an allowed origin may read."""

    def __init__(self, app: Callable[[AsgiScope, Receive, Send], Awaitable[None]], origins: frozenset[str]) -> None:
        """Take the application behind, and origins such as `https://app.example.cn`, or `*`."""
        self._app = app
        self._any = ANY_ORIGIN in origins
        self._origins = {origin.encode("latin-1") for origin in origins}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["path"] == _NAVIGATED:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        marks = self._marks(headers.get(b"origin"))
        if _allows(marks) and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await send({"type": "http.response.start", "status": 204, "headers": [*marks, *_preflight()]})
            await send({"type": "http.response.body", "body": b""})
            return

        async def marked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *marks, *_shown(marks)]
            await send(message)

        await self._app(scope, receive, marked)

    def _marks(self, origin: bytes | None) -> list[Header]:
        """What an answer says to the browser; its text depends on the origin unless any may read it."""
        if self._any:
            return [] if origin is None else [(b"access-control-allow-origin", b"*")]
        varies = (b"vary", b"origin")
        if origin is None or origin not in self._origins:
            return [varies]
        return [varies, (b"access-control-allow-origin", origin)]


def _preflight() -> list[Header]:
    return [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _REQUEST_HEADERS),
        (b"access-control-max-age", _LASTS_S),
    ]


def _shown(marks: list[Header]) -> list[Header]:
    return [(b"access-control-expose-headers", _SHOWN_HEADERS)] if _allows(marks) else []


def _allows(marks: list[Header]) -> bool:
    return any(name == b"access-control-allow-origin" for name, _ in marks)
