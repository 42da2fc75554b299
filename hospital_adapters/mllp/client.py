"""An MLLP sender: messages out, answers in, one at a time; for the command line, the demo and tests."""

import socket
from collections.abc import Iterable, Iterator

from hospital_adapters.mllp.frames import FrameDecoder

_LIMIT_BYTES = 1024 * 1024


def answers_of(host: str, port: int, messages: Iterable[bytes], *, timeout_s: float = 60.0) -> Iterator[bytes]:
    """Send each message and yield its first answer, without the framing; framing bytes inside a message are left out.

    Raises:
        OSError: no connection, or no answer in time; ConnectionError where it was closed without one.
    """
    decoder = FrameDecoder(_LIMIT_BYTES)
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        for message in messages:
            connection.sendall(b"\x0b" + message.translate(None, b"\x0b\x1c") + b"\x1c\r")
            yield _answer(connection, decoder)


def _answer(connection: socket.socket, decoder: FrameDecoder) -> bytes:
    while True:
        data = connection.recv(65_536)
        if not data:
            raise ConnectionError("the connection was closed without an answer")
        for frame in decoder.feed(data):
            return frame.content
