"""A small HTTP/1.1 load client: keep-alive connections, as many requests at once as asked, nothing parsed but lengths.

Its own CPU is never counted; benchmarks count the CPU seconds of the server and its database.
"""

import asyncio
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One request; `expect` are the statuses that count as right."""

    method: str
    path: str
    body: bytes = b""
    expect: tuple[int, ...] = (200,)
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class Outcome:
    """What a run gave: latencies in seconds, unexpected answers, wall seconds."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    def percentile(self, share: float) -> float:
        """Latency in milliseconds below which `share` of the answers were."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")

    @property
    def median_ms(self) -> float:
        """Median latency in milliseconds."""
        return statistics.median(self.seconds) * 1000 if self.seconds else float("nan")


class _Connection:
    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def ask(self, request: Request, common: str) -> tuple[int, bytes]:
        if self.writer is None or self.reader is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=2**26)
        extra = "".join(f"{name}: {value}\r\n" for name, value in request.headers)
        head = f"{request.method} {request.path} HTTP/1.1\r\nHost: {self.host}\r\n{common}{extra}"
        if request.body or request.method in ("POST", "PUT"):
            head += f"Content-Type: application/fhir+json\r\nContent-Length: {len(request.body)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + request.body)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        status = int(answer[9:12])
        lower = answer.lower()
        start = lower.find(b"content-length:")
        length = int(lower[start + 15 : lower.index(b"\r\n", start)]) if start >= 0 else 0
        if start < 0 and b"transfer-encoding: chunked" in lower:
            body = await self._chunks(self.reader)
        else:
            body = await self.reader.readexactly(length) if length and request.method != "HEAD" else b""
        if b"connection: close" in lower:  # some servers end a connection after a hundred answers
            self.writer.close()
            self.reader = self.writer = None
        return status, body

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        parts: list[bytes] = []
        while length := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append(await reader.readexactly(length))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)


async def run(base: str, token: str | None, requests: Iterable[Request], clients: int) -> Outcome:
    """Send all requests over `clients` connections, each with one request at a time."""
    parts = urlsplit(base)
    common = f"Authorization: Bearer {token}\r\n" if token else ""
    outcome = Outcome()
    queue: Iterator[Request] = iter(requests)

    async def client() -> None:
        connection = _Connection(parts.hostname or "127.0.0.1", parts.port or 80)
        for request in queue:
            started = time.perf_counter()
            status, body = await connection.ask(request, common)
            outcome.seconds.append(time.perf_counter() - started)
            if status not in request.expect:
                outcome.errors.append(f"{request.method} {request.path}: {status} {body[:200]!r}")
        if connection.writer is not None:
            connection.writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    outcome.wall_s = time.perf_counter() - started
    return outcome
