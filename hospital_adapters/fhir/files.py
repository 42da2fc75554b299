"""Reading FHIR files: a JSON Bundle or resource, or NDJSON with one of them a line; gzip where the content says so.

https://hl7.org/fhir/R4/nd-json.html
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ehr.errors import Invalid, Malformed, TooCostly

_GZIP = b"\x1f\x8b"
MOST_LINE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One Bundle or resource of a file with the line on which it stands (1 for a whole file)."""

    line: int
    content: bytes


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield what a file holds, a line at a time for NDJSON; never more than one entry in memory.

    Raises:
        Invalid: the file cannot be opened.
        Malformed: the gzip stream is broken; the text names the line.
        TooCostly: a line, or the whole of a `.json` file, is over 64 MiB.
    """
    with _opened(path) as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        stream: BinaryIO = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]  # reads alike
        names = path.suffixes
        yield from _lines(stream) if ".ndjson" in names or ".jsonl" in names else _whole(stream)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}") from error


def _whole(stream: BinaryIO) -> Iterator[Entry]:
    content = _read(stream, 1, whole=True)
    if content.strip():
        yield Entry(1, content)


def _lines(stream: BinaryIO) -> Iterator[Entry]:
    number = 0
    while True:
        number += 1
        content = _read(stream, number, whole=False)
        if not content:
            return
        if content.strip():
            yield Entry(number, content.strip())


def _read(stream: BinaryIO, line: int, *, whole: bool) -> bytes:
    try:
        content = stream.read(MOST_LINE_BYTES + 1) if whole else stream.readline(MOST_LINE_BYTES + 1)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise Malformed(f"line {line}: the gzip stream is broken: {error}") from error
    if len(content) > MOST_LINE_BYTES:
        raise TooCostly(f"line {line}: over {MOST_LINE_BYTES // 1024 // 1024} MiB")
    return content
