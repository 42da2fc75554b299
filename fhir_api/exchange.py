"""One HTTP exchange on the hot routes: reads the ASGI scope, sends one answer. No framework in between.

https://asgi.readthedocs.io/en/latest/specs/www.html, https://hl7.org/fhir/R4/http.html
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from ehr.errors import Malformed, TooCostly
from fhir_api.content_coding import SMALLEST_BYTES, chosen, codings_of, opened, packed, pieces_of
from fhir_api.operation_outcome import TooLarge, TooSlow

AsgiScope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

LIMIT_BYTES = 64 * 1024 * 1024
LIMIT_QUERY_BYTES = 256 * 1024
LIMIT_PAIRS = 1_000
CHUNK_TIMEOUT_S = 30.0
BODY_TIMEOUT_S = 60.0
SLOWEST_BYTES_A_SECOND = 16 * 1024

_BODILESS = frozenset({204, 304})
JSON_TYPE: Header = (b"content-type", b"application/fhir+json; charset=utf-8")
NO_STORE: Header = (b"cache-control", b"no-store")

_BROKEN_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Exchange:
    """A request and the one answer to it.

    Attributes:
        method: HTTP method in capitals.
        segments: decoded path segments after `/fhir`, or None where the path cannot be read.
        trace: the id under which logs, audit row and answer are found.
        audited: True once the store has taken over the duty to write the audit row.
    """

    __slots__ = ("_headers", "_receive", "_send", "audited", "method", "query_string", "scope", "status", "trace")

    def __init__(self, scope: AsgiScope, receive: Receive, send: Send, trace: str) -> None:
        """Wrap the ASGI triple."""
        self.scope = scope
        self._receive = receive
        self._send = send
        self._headers: dict[bytes, bytes] | None = None
        self.method: str = scope["method"]
        self.query_string: bytes = scope["query_string"]
        self.trace = trace
        self.audited = False
        self.status = 0

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Header values by lower-case name; repeated ones joined with commas (RFC 9110 section 5.3)."""
        if self._headers is None:
            found: dict[bytes, bytes] = {}
            for name, value in self.scope["headers"]:
                found[name] = found[name] + b", " + value if name in found else value
            self._headers = found
        return self._headers

    def header(self, name: bytes) -> str | None:
        """One header as text (latin-1), or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def pairs(self) -> list[tuple[str, str]]:
        """The query's name=value pairs in order; Malformed on broken percent-encoding, NUL or bytes not UTF-8."""
        return parse_pairs(self.query_string) if self.query_string else []

    async def body(self) -> bytes:
        """The whole body, at most 64 MiB packed and opened, each piece within 30 s, after a minute at 16 KiB/s.

        Raises:
            TooLarge: it is larger.
            TooSlow: it does not come in time.
            UnsupportedMediaType: it is packed in a way that is not taken.
            Malformed: it does not open, or the connection closed.
        """
        announced = self.headers.get(b"content-length")
        if announced is not None and announced.isdigit() and int(announced[:12]) > LIMIT_BYTES:
            raise TooLarge(f"The body is over {LIMIT_BYTES} bytes.")
        codings = codings_of(self.headers.get(b"content-encoding"))
        pieces: list[bytes] = []
        size = 0
        more = True
        started = time.monotonic()
        while more:
            if time.monotonic() - started > BODY_TIMEOUT_S + size / SLOWEST_BYTES_A_SECOND:
                raise TooSlow("The body did not arrive in time.")
            try:
                async with asyncio.timeout(CHUNK_TIMEOUT_S):
                    message = await self._receive()
            except TimeoutError as error:
                raise TooSlow("The body did not arrive in time.") from error
            if message["type"] == "http.disconnect":
                raise Malformed("The connection closed before the body was complete.")
            piece = message.get("body", b"")
            size += len(piece)
            if size > LIMIT_BYTES:
                raise TooLarge(f"The body is over {LIMIT_BYTES} bytes.")
            pieces.append(piece)
            more = message.get("more_body", False)
        return await opened(pieces[0] if len(pieces) == 1 else b"".join(pieces), codings, LIMIT_BYTES)

    async def answer(self, status: int, body: bytes = b"", headers: list[Header] | None = None) -> None:
        """Send the one answer; the trace id goes with it."""
        self.status = status
        lines = headers if headers is not None else []
        if len(body) >= SMALLEST_BYTES:
            lines.append((b"vary", b"accept-encoding"))
            accepted = self.headers.get(b"accept-encoding")
            coding = chosen(accepted) if accepted is not None else None
            if coding is not None:
                body = await packed(body, coding)
                lines.append((b"content-encoding", coding.encode()))
        if status not in _BODILESS:
            lines.append((b"content-length", b"%d" % len(body)))
        lines.append((b"x-request-id", self.trace.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": lines})
        await self._send({"type": "http.response.body", "body": b"" if self.method == "HEAD" else body})

    async def answer_file(self, status: int, path: Path, headers: list[Header]) -> None:
        """Send a file piece by piece, in the coding that the client takes; nothing of it is kept in memory."""
        self.status = status
        coding = chosen(self.headers.get(b"accept-encoding", b""))
        headers.append((b"vary", b"accept-encoding"))
        if coding is not None:
            headers.append((b"content-encoding", coding.encode()))
        headers.append((b"x-request-id", self.trace.encode()))
        with path.open("rb") as file:
            if coding is None:
                headers.append((b"content-length", b"%d" % os.fstat(file.fileno()).st_size))
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            if self.method != "HEAD":
                pieces = iter(pieces_of(file, coding))
                while piece := await asyncio.to_thread(next, pieces, b""):
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})


def decode_component(data: bytes) -> str:
    """Percent-decode one name or value of a query; Malformed where it is no text."""
    if _BROKEN_PERCENT.search(data):
        raise Malformed("The query holds a percent sign that is no percent-encoding.")
    try:
        text = unquote_to_bytes(data.replace(b"+", b" ")).decode()
    except UnicodeDecodeError as error:
        raise Malformed("The query is not UTF-8.") from error
    if "\x00" in text:
        raise Malformed("The query holds a NUL character.")
    return text


def parse_pairs(data: bytes) -> list[tuple[str, str]]:
    """Read application/x-www-form-urlencoded; TooCostly over 256 KiB or 1,000 pairs."""
    if len(data) > LIMIT_QUERY_BYTES:
        raise TooCostly(f"The query is over {LIMIT_QUERY_BYTES} bytes.")
    pieces = data.split(b"&")
    if len(pieces) > LIMIT_PAIRS:
        raise TooCostly(f"The query has over {LIMIT_PAIRS} parameters.")
    pairs = []
    for piece in pieces:
        if piece:
            name, _, value = piece.partition(b"=")
            pairs.append((decode_component(name), decode_component(value)))
    return pairs


def decode_segment(data: bytes) -> str | None:
    """Percent-decode one path segment; None where it is broken (such an address names nothing)."""
    if b"%" not in data:
        return data.decode("ascii") if data.isascii() else None
    if _BROKEN_PERCENT.search(data):
        return None
    try:
        return unquote_to_bytes(data).decode()
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> bytes:
    """Seconds since 1970 as an HTTP date (RFC 9110 section 5.6.7)."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True).encode()


def seconds_of_http_date(text: str) -> int | None:
    """An HTTP date as seconds since 1970; None where it cannot be read (then the header is ignored, RFC 9110)."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())


@lru_cache(maxsize=256)
def instant_text(microseconds: int) -> str:
    """Microseconds since 1970 as a FHIR instant in UTC with milliseconds."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + (
        f".{microseconds % 1_000_000 // 1000:03d}Z"
    )
