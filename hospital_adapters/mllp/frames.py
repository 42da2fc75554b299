"""MLLP framing: bytes as they arrive from a socket, cut into messages.

A message is enclosed as `<VT> message <FS><CR>` (HL7 Minimal Lower Layer Protocol, Release 1). Senders in the
field leave out the CR, put LF there, lose an end block or start anew inside a message; each of these has an outcome
here, none of them an exception.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

START = 0x0B
END = 0x1C
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Frame:
    """One message cut from the stream.

    `fault` is None for a whole message; "no-end-block" where the next start block or the end of waiting came first;
    "too-large" where the message passed the bound, and `content` is then its first 4,096 bytes only.
    """

    content: bytes
    fault: Literal["no-end-block", "too-large"] | None = None


class FrameDecoder:
    """Cuts a byte stream into frames; holds at most `limit_bytes` of an unfinished message."""

    def __init__(self, limit_bytes: int) -> None:
        """Start outside of any message; `limit_bytes` bounds one message's content."""
        self._limit = limit_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._inside = False

    @property
    def inside(self) -> bool:
        """Whether a start block was seen whose end is still missing."""
        return self._inside

    @property
    def held_bytes(self) -> int:
        """Content bytes of the unfinished message seen so far, dropped ones included."""
        return self._size

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take the next bytes of the stream and yield each frame that they complete.

        Bytes outside of a message (the CR after an end block, line noise) are dropped.
        """
        position = 0
        while position < len(data):
            if not self._inside:
                start = data.find(START, position)
                if start < 0:
                    return
                self._inside = True
                position = start + 1
                continue
            end = data.find(END, position)
            start = data.find(START, position, end if end >= 0 else len(data))
            stop = start if start >= 0 else end
            if stop < 0:
                self._keep(data[position:])
                return
            self._keep(data[position:stop])
            self._inside = start >= 0  # before the yield: a caller may leave the rest, as a sender of one message does
            position = stop + 1
            yield self._take("no-end-block" if start >= 0 else None)

    def give_up(self) -> Frame | None:
        """Take what is held of an unfinished message, when no more will come; None where nothing is held."""
        if not self._inside or not self._size:
            return None
        self._inside = False
        return self._take("no-end-block")

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._limit:
            self._parts.append(bytes(part))
        elif len(self._parts) != 1 or len(self._parts[0]) > _HEAD_BYTES:
            self._parts = [b"".join([*self._parts, part[:_HEAD_BYTES]])[:_HEAD_BYTES]]

    def _take(self, fault: Literal["no-end-block"] | None) -> Frame:
        content, size = b"".join(self._parts), self._size
        self._parts, self._size = [], 0
        return Frame(content, "too-large" if size > self._limit else fault)
