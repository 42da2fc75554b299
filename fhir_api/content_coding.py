"""Compressed bodies both ways: which coding an answer takes, and requests opened within a bound.

https://www.rfc-editor.org/rfc/rfc9110#section-8.4, https://www.rfc-editor.org/rfc/rfc8878,
https://hl7.org/fhir/R4/http.html#mime-type. A token travels in a header that no browser adds by itself, so that nobody
can let another's browser ask for many answers and measure their sizes.
"""

import asyncio
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, BinaryIO

import zstandard

from ehr.errors import Malformed
from fhir_api.operation_outcome import TooLarge, UnsupportedMediaType

_OFFERED = "gzip, zstd"
SMALLEST_BYTES = 1_400
"""What fits into one packet gains nothing."""
_IN_PLACE_BYTES = 256 * 1024
"""More than this is packed and opened beside the event loop."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1_024
"""At the highest ratio of the formats such a piece opens to 32 MiB."""
_FILE_PIECE_BYTES = 1024 * 1024
_MOST_MEMBERS = 4_096
"""Programs that pack in parallel write a body of members."""
_WIDEST_WINDOW = 8 * 1024 * 1024
"""What RFC 8878 asks every decoder to have, and what HTTP allows at most (RFC 9659)."""
_LONGEST_HEADER = 1_024


@lru_cache(maxsize=256)
def chosen(accept_encoding: bytes) -> str | None:
    """The coding of an answer by the Accept-Encoding header: zstd, gzip, or None for none."""
    if len(accept_encoding) > _LONGEST_HEADER:
        return None
    weights: dict[str, float] = {}
    for part in accept_encoding.decode("latin-1").lower().split(","):
        name, _, parameter = part.partition(";")
        label, _, weight = parameter.strip().partition("=")
        try:
            weights[name.strip()] = float(weight) if label == "q" else 1.0
        except ValueError:
            return None
    anything = weights.get("*", 0.0)
    offered = {"zstd": weights.get("zstd", anything), "gzip": weights.get("gzip", weights.get("x-gzip", anything))}
    best = max(offered, key=lambda name: offered[name])
    return best if offered[best] > 0 and offered[best] >= weights.get("identity", 0.0) else None


async def packed(body: bytes, coding: str) -> bytes:
    """The body in a coding."""
    if len(body) > _IN_PLACE_BYTES:
        return await asyncio.to_thread(_packed, body, coding)
    return _packed(body, coding)


def _packed(body: bytes, coding: str) -> bytes:
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(body)
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW)
    return packer.compress(body) + packer.flush()


def pieces_of(file: BinaryIO, coding: str | None) -> Iterator[bytes]:
    """What a file sends in a coding, or as it is, in pieces that are not empty."""
    packer: Any = None
    if coding is not None:
        gzip = coding == "gzip"
        packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP_WINDOW) if gzip else zstandard.ZstdCompressor(1).compressobj()
    while read := file.read(_FILE_PIECE_BYTES):
        if piece := packer.compress(read) if packer is not None else read:
            yield piece
    if packer is not None and (rest := packer.flush()):
        yield rest


def codings_of(header: bytes | None) -> tuple[str, ...]:
    """The codings of a request's body in the order in which they were applied; UnsupportedMediaType for others."""
    names = tuple(name.strip().lower() for name in (header or b"").decode("latin-1").split(",") if name.strip())
    kept = tuple(name.removeprefix("x-") for name in names if name != "identity")
    if len(kept) > 1 or any(name not in {"gzip", "zstd"} for name in kept):
        text = f"Bodies are taken in one of these codings or in none: {_OFFERED}."
        raise UnsupportedMediaType(text, taken=(b"accept-encoding", _OFFERED.encode()))
    return kept


async def opened(body: bytes, codings: tuple[str, ...], limit_bytes: int) -> bytes:
    """The body without its coding; TooLarge where it opens to more than the bound, Malformed where it does not open."""
    if not codings:
        return body
    if len(body) > _IN_PLACE_BYTES:
        return await asyncio.to_thread(_opened, body, codings[0], limit_bytes)
    return _opened(body, codings[0], limit_bytes)


def _opened(body: bytes, coding: str, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _pieces(body, coding):
            size += len(piece)
            if size > limit_bytes:
                raise TooLarge(f"The body opens to more than {limit_bytes} bytes.")
            pieces.append(piece)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise Malformed(f"The body is not the {coding} that its Content-Encoding says.") from error
    return b"".join(pieces)


def _pieces(body: bytes, coding: str) -> Iterator[bytes]:
    """Member after member (RFC 1952 section 2.2, RFC 8878 section 3.1); EOFError where one is cut or too many come."""
    place = 0
    for _ in range(_MOST_MEMBERS):
        if place >= len(body):
            return
        member = _member(coding)
        while not member.eof:
            if place >= len(body):
                raise EOFError
            piece = body[place : place + _PIECE_BYTES]
            place += len(piece)
            yield member.decompress(piece)
        place -= len(member.unused_data)
    raise EOFError


def _member(coding: str) -> Any:
    if coding == "gzip":
        return zlib.decompressobj(_GZIP_WINDOW)
    return zstandard.ZstdDecompressor(max_window_size=_WIDEST_WINDOW).decompressobj()
