"""The HTTP/1.1 protocol of our uvicorn servers: bounded request heads, in size and in time.

https://www.rfc-editor.org/rfc/rfc9110#section-15.5.22, https://www.uvicorn.org/settings/
httptools itself takes heads of any size and waits for ever.
"""

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ehr.errors import Issue
from fhir_api.operation_outcome import outcome_bytes

LIMIT_HEAD_BYTES = 64 * 1024
LIMIT_FED_BYTES = 512 * 1024
LIMIT_URL_BYTES = 32 * 1024
LIMIT_HEADERS = 128
HEAD_TIMEOUT_S = 30.0
KEEP_ALIVE_S = 75


class BoundedHttpProtocol(HttpToolsProtocol):
    """Refuses heads over 64 KiB (431), addresses over 32 KiB (414), more than 128 headers, and slow heads (408)."""

    _head_bytes = 0
    _in_head = False
    _fed_bytes = 0
    _refused = False
    _head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on until the connection was refused.

        httptools keeps a header's value to itself until it is complete: what was fed since the head began is bounded.
        """
        if self._refused:
            return
        super().data_received(data)
        if self._in_head and not self._refused:
            self._fed_bytes += len(data)
            if self._fed_bytes > LIMIT_FED_BYTES:
                self._refuse(431, "The request's head is too large.")

    def on_message_begin(self) -> None:
        """Start the clock for a further head."""
        super().on_message_begin()
        self._head_bytes, self._fed_bytes, self._in_head = 0, 0, True
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def on_url(self, url: bytes) -> None:
        """Collect the address up to its bound."""
        super().on_url(url)
        if len(self.url) > LIMIT_URL_BYTES:
            self._refuse(414, "The address is too long.")
            raise ValueError("address too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header up to the bound of the head."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > LIMIT_HEAD_BYTES or len(self.headers) >= LIMIT_HEADERS:
            self._refuse(431, "The request's head is too large.")
            raise ValueError("head too large")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._in_head = False
        self._stop_clock()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer bytes that are no HTTP request, as an OperationOutcome."""
        if not self._refused:
            self._refuse(400, "The bytes received are no HTTP request.")

    def _stop_clock(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _too_slow(self) -> None:
        self._head_deadline = None
        self._refuse(408, "The request did not arrive in time.")

    def _refuse(self, status: int, text: str) -> None:
        self._refused = True
        self._stop_clock()
        if self.transport is None or self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            body = outcome_bytes((Issue("error", "structure", text),))
            self.transport.write(
                b"HTTP/1.1 %d Refused\r\ncontent-type: application/fhir+json; charset=utf-8\r\n"
                b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(body), body)
            )
        self.transport.close()


def server_configuration(app: Any, *, host: str, port: int, **options: Any) -> uvicorn.Config:
    """Uvicorn's settings for this application: uvloop, bounded heads, no access log (audit and metrics do that).

    Args:
        app: what `create_app` made.
        host: address to listen on.
        port: TCP port; 0 = a free one.
        options: further uvicorn settings, such as `fd`.
    """
    settings: dict[str, Any] = {
        "host": host,
        "port": port,
        "http": BoundedHttpProtocol,
        "loop": "uvloop",
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_S,
        "timeout_graceful_shutdown": 10,
    }
    return uvicorn.Config(app, **(settings | options))
