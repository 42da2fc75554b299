"""The MLLP listener: many connections, each frame handed to the door, each answer sent in the order of its frame.

An answer is what the door returns after its commit; where the door cannot commit, nothing is sent and the connection
closes, so that the sender keeps its message and tries again.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ehr.errors import Unavailable
from hospital_adapters.mllp.frames import Frame, FrameDecoder

Door = Callable[[Frame], Awaitable[bytes]]
"""Takes a frame durably and returns the bytes to send back, framed; empty for no answer; raises Unavailable."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a listener; a message that breaks one gets its answer, or its connection closes."""

    message_bytes: int = 32 * 1024 * 1024
    held_bytes: int = 256 * 1024 * 1024
    connections: int = 4096
    unanswered: int = 64
    silence_s: float = 60.0
    """An unfinished message is given up after this long without a byte."""
    message_s: float = 900.0
    """An unfinished message is given up this long after its first byte, however slowly it still comes."""


class Listener:
    """Serves one feed's MLLP port."""

    def __init__(self, door: Door, limits: Limits | None = None) -> None:
        """Hand each frame to `door`."""
        self.door = door
        self.limits = limits or Limits()
        self.held_bytes = 0
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port (the one given, or a free one for 0)."""
        return await self.start_on(socket.create_server((host, port), backlog=1024))

    async def start_on(self, listening: socket.socket) -> int:
        """Serve a socket that listens already, and return its port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=listening, backlog=1024)
        self._watch = loop.create_task(self._give_up_the_silent())
        return int(listening.getsockname()[1])

    async def stop(self) -> None:
        """Stop listening; answers on their way are sent first, unfinished messages are dropped unanswered."""
        if self._server is not None:
            self._server.close()
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*(connection.finish() for connection in list(self.connections)))

    async def _give_up_the_silent(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self.limits.silence_s / 4))
            now = asyncio.get_running_loop().time()
            for connection in list(self.connections):
                connection.give_up_if_silent(now)


class _Connection(asyncio.Protocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._decoder = FrameDecoder(listener.limits.message_bytes)
        self._answers: deque[asyncio.Task[bytes]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._last_byte = self._first_byte = 0.0
        self._held = 0
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # TCP gives a full transport
        if len(self._listener.connections) >= self._listener.limits.connections:
            _log.warning("MLLP connection refused: %d are open", len(self._listener.connections))
            self._closing = True
            self._transport.close()
            return
        self._listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        self._closing = True
        self._account(0)
        self._listener.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        now = asyncio.get_running_loop().time()
        if not self._decoder.inside:
            self._first_byte = now
        self._last_byte = now
        for frame in self._decoder.feed(data):
            self._first_byte = now
            self._take(frame)
        self._account(min(self._decoder.held_bytes, self._listener.limits.message_bytes))
        if self._listener.held_bytes > self._listener.limits.held_bytes:
            _log.warning("MLLP connection closed: unfinished messages hold %d bytes", self._listener.held_bytes)
            self._close()

    def give_up_if_silent(self, now: float) -> None:
        """Answer and close where an unfinished message has been silent, or unfinished, for too long."""
        limits = self._listener.limits
        if self._closing or not self._decoder.inside:
            return
        if now - self._last_byte < limits.silence_s and now - self._first_byte < limits.message_s:
            return
        frame = self._decoder.give_up()
        if frame is not None:
            self._take(frame)
        self._closing = True
        if self._sender is None:
            self._close()

    async def finish(self) -> None:
        """Send what is on its way, then close."""
        self._closing = True
        if self._sender is not None:
            await self._sender
        self._close()

    def _account(self, held: int) -> None:
        self._listener.held_bytes += held - self._held
        self._held = held

    def _take(self, frame: Frame) -> None:
        loop = asyncio.get_running_loop()
        self._answers.append(loop.create_task(_answer(self._listener.door, frame)))
        if len(self._answers) >= self._listener.limits.unanswered:
            self._transport.pause_reading()
        if self._sender is None:
            self._sender = loop.create_task(self._send())

    async def _send(self) -> None:
        while self._answers:
            try:
                answer = await self._answers[0]
            except Unavailable as error:
                _log.error("MLLP connection closed without answer: %s", error)
                self._close()
                break
            except Exception:  # noqa: BLE001 - a fault of ours must not look like an answer; the sender keeps its message
                _log.exception("MLLP connection closed without answer")
                self._close()
                break
            self._answers.popleft()
            if answer and not self._transport.is_closing():
                self._transport.write(answer)
            if len(self._answers) < self._listener.limits.unanswered and not self._transport.is_closing():
                self._transport.resume_reading()
        self._sender = None
        self._answers.clear()
        if self._closing:
            self._close()

    def _close(self) -> None:
        self._closing = True
        if not self._transport.is_closing():
            self._transport.close()


async def _answer(door: Door, frame: Frame) -> bytes:
    return await door(frame)
