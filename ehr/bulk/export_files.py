"""The files of an export: NDJSON by type, beside each the keys of its lines, cut back to what is durable on a resume.

https://hl7.org/fhir/R4/nd-json.html
"""

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

LINES = 1_000_000
"""From so many lines on, the next batch begins another file."""
_BLOCK_LINES = 20_000
_BUFFERS = 1_024
"""What one call of writev takes (IOV_MAX of Linux)."""


class OutputFile(msgspec.Struct):
    """One file: what is durable of it."""

    type: str
    name: str
    count: int = 0
    size_bytes: int = 0


class ExportFolder:
    """The folder of one export, which one worker at a time writes."""

    def __init__(self, path: Path, files: list[OutputFile], *, with_keys: bool) -> None:
        """Take the files as they are durable; `with_keys` keeps the rows' keys beside the lines."""
        self.path = path
        self.files = files
        self._with_keys = with_keys

    def recover(self) -> None:
        """Cut off what was written behind the last progress made durable."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = {file.name: file for file in self.files}
        for found in self.path.iterdir():
            file = known.get(found.stem + ".ndjson")
            if file is None:
                found.unlink()
            else:
                os.truncate(found, file.count * 16 if found.suffix == ".keys" else file.size_bytes)

    def append(self, resource_type: str, bodies: Sequence[bytes], keys: Sequence[int]) -> None:
        """Write lines of a type behind those there are; durable on return."""
        file = self._open_file(resource_type)
        lengths = array("q", map(len, bodies))
        _append_lines(self.path / file.name, bodies)
        if self._with_keys:
            places = array("q", bytes(16 * len(keys)))
            places[0::2], places[1::2] = array("q", keys), lengths
            _append(self._keys_of(file), places.tobytes())
        file.count += len(bodies)
        file.size_bytes += sum(lengths) + len(bodies)

    def _open_file(self, resource_type: str) -> OutputFile:
        mine = [file for file in self.files if file.type == resource_type]
        if mine and mine[-1].count < LINES:
            return mine[-1]
        file = OutputFile(resource_type, f"{resource_type}.{len(mine) + 1}.ndjson")
        self.files.append(file)
        return file

    def _keys_of(self, file: OutputFile) -> Path:
        return (self.path / file.name).with_suffix(".keys")

    def keys(self, file: OutputFile) -> Iterator[tuple[list[int], list[int]]]:
        """The keys and lengths of a file's lines, in blocks."""
        with self._keys_of(file).open("rb") as stored:
            while data := stored.read(16 * _BLOCK_LINES):
                both = array("q", data)
                yield both[0::2].tolist(), both[1::2].tolist()

    def without(self, file: OutputFile, hidden: set[int]) -> OutputFile:
        """Write the file anew without the lines of these keys, under another name; the old one stays."""
        kept = OutputFile(file.type, _next_name(file.name))
        with (self.path / file.name).open("rb") as old:
            for keys, lengths in self.keys(file):
                lines = [(key, old.read(length + 1)) for key, length in zip(keys, lengths, strict=True)]
                shown = [(key, line) for key, line in lines if key not in hidden]
                data = b"".join(line for _, line in shown)
                _append(self.path / kept.name, data)
                pairs = array("q", [part for key, line in shown for part in (key, len(line) - 1)])
                _append(self._keys_of(kept), pairs.tobytes())
                kept.count += len(shown)
                kept.size_bytes += len(data)
        return kept

    def finish(self) -> None:
        """Remove all but the files themselves."""
        names = {file.name for file in self.files}
        for found in self.path.iterdir():
            if found.name not in names:
                found.unlink()


def _next_name(name: str) -> str:
    """The name on disk of a file written anew; clients know files by their place (`published`)."""
    stem, number, suffix = name.rsplit(".", 2)
    return f"{stem}.{int(number) + 1_000}.{suffix}"


def published(files: Sequence[OutputFile]) -> dict[str, OutputFile]:
    """The files that have lines, by the names under which clients see them: type and place."""
    shown: dict[str, OutputFile] = {}
    places: dict[str, int] = {}
    for file in files:
        if file.count:
            places[file.type] = places.get(file.type, 0) + 1
            shown[f"{file.type}.{places[file.type]}.ndjson"] = file
    return shown


def _append_lines(path: Path, bodies: Sequence[bytes]) -> None:
    """As `_append`, straight from where the lines lie: joining them first takes longer than writing."""
    with path.open("ab", buffering=0) as file:
        for start in range(0, len(bodies), _BUFFERS // 2):
            part = bodies[start : start + _BUFFERS // 2]
            buffers = [b"\n"] * (2 * len(part))
            buffers[0::2] = part
            length = sum(map(len, part)) + len(part)
            written = os.writev(file.fileno(), buffers)
            if written < length:  # a signal came, or the disk is full: the rest tells which
                rest = memoryview(b"".join(buffers))[written:]
                while rest:
                    rest = rest[file.write(rest) :]
        os.fsync(file.fileno())


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())
