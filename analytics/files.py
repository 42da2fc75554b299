"""The analytics files: Parquet parts per resource type, a snapshot of people, and the manifest that makes them one.

A part is written and synced before the manifest names it, and the manifest is replaced as a whole, so that a reader
sees either the state before a refresh or the one after it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


class Manifest(msgspec.Struct):
    """What the folder holds: change-log position, parts by resource type, the people snapshot, the gazetteer."""

    transaction: int = 0
    sequence: int = 0
    number: int = 0
    parts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    people: str | None = None
    gazetteer: dict[str, str] = msgspec.field(default_factory=dict)
    refreshed_at: str | None = None


class AnalyticsFiles:
    """A folder of analytics files; one writer at a time (the refresh job), any number of readers."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made, readable by its owner only, where missing."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def manifest(self) -> Manifest:
        """The current manifest; an empty one before the first refresh."""
        try:
            data = (self.folder / "manifest.json").read_bytes()
        except FileNotFoundError:
            return Manifest()
        return msgspec.json.decode(data, type=Manifest)

    def write_part(self, name: str, table: pa.Table) -> str:
        """Write one Parquet file, synced to disk, and return its name for the manifest."""
        path = self.folder / f"{name}.parquet"
        pq.write_table(table, path, compression="zstd")
        _sync(path)
        return path.name

    def newest_rows(self, names: Sequence[str], schema: pa.Schema) -> pa.Table:
        """The newest state of each row in some parts, later sequences winning."""
        table = pa.concat_tables([pq.read_table(self.folder / name, schema=schema) for name in names])
        ordered = table.sort_by([("row", "ascending"), ("sequence", "ascending")])
        rows = ordered.column("row").to_numpy()
        last = np.append(rows[1:] != rows[:-1], len(rows) > 0) if len(rows) else np.array([], dtype=bool)
        return ordered.filter(pa.array(last))

    def commit(self, manifest: Manifest) -> None:
        """Make `manifest` the current one, then remove files that it no longer names."""
        fresh = self.folder / "manifest.json.new"
        fresh.write_bytes(msgspec.json.encode(manifest))
        _sync(fresh)
        fresh.replace(self.folder / "manifest.json")
        _sync(self.folder)
        named = {name for parts in manifest.parts.values() for name in parts} | {manifest.people}
        for path in self.folder.glob("*.parquet"):
            if path.name not in named:
                path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
