"""A file that takes up room beside the embedded cluster, so that a full disk can still be written to (record 0012).

While the disk is nearly full the record takes no writes; once PostgreSQL itself is about to run out, the file goes,
and what it held is left to the audit of reads and refusals. It is made again when there is room.
"""

import contextlib
import os
import time
from pathlib import Path

from kanglian.embedded_place import home_of
from kanglian.settings import Settings

_MEBIBYTE = 1 << 20
_LOOK_AGAIN_S = 0.25
NAME = "ballast"


class Ballast:
    """The file of one cluster. One process tends it; any process asks whether there is room."""

    def __init__(self, home: Path, mebibytes: int) -> None:
        """Take the folder that holds the cluster, and the size; a size of 0 keeps no file and always has room."""
        self.path = home / NAME
        self.size_bytes = mebibytes * _MEBIBYTE
        self._room = True
        self._look_at = 0.0

    @property
    def low_bytes(self) -> int:
        """Free room under which nothing is written: a quarter of the file."""
        return self.size_bytes // 4

    @property
    def release_bytes(self) -> int:
        """Free room under which the file goes: half of that, two segments of PostgreSQL's log at the default size."""
        return self.size_bytes // 8

    @property
    def wanted_bytes(self) -> int:
        """Free room at which the file is made: it must not bring the disk back to the edge."""
        return self.size_bytes + 2 * self.low_bytes

    def free_bytes(self) -> int:
        """What PostgreSQL's account may still fill on this file system."""
        found = os.statvfs(self.path.parent)
        return found.f_bavail * found.f_frsize

    def lies(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def has_room(self) -> bool:
        """Whether writes may be taken: the file lies there and the disk is not nearly full; looked at each 0.25 s."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + _LOOK_AGAIN_S
            try:
                self._room = not self.size_bytes or (self.lies() and self.free_bytes() >= self.low_bytes)
            except OSError:  # not ours to look at: PostgreSQL will say
                self._room = True
        return self._room

    def tend(self) -> str | None:
        """Release or make the file as the disk asks; the news in a line, None when nothing changed."""
        free = self.free_bytes()
        if self.size_bytes and self.lies() and self.path.stat().st_size != self.size_bytes:
            self.path.unlink()  # the setting changed
            free = self.free_bytes()
        if not self.lies():
            if self.size_bytes and free >= self.wanted_bytes and self._make():
                return (
                    f"{self._says(free)}: a ballast of {self.size_bytes // _MEBIBYTE} MiB lies ready, writes are taken"
                )
            return None
        if self.size_bytes and free >= self.release_bytes:
            return None
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        if not self.size_bytes:
            return "the ballast is released: KANGLIAN_BALLAST_MIB is 0"
        return f"the disk is full ({self._says(free)}): the ballast is released for the audit, writes are refused"

    def _says(self, free: int) -> str:
        return f"{free // _MEBIBYTE} MiB free at {self.path.parent}"

    def _make(self) -> bool:
        draft = self.path.with_name(f"{NAME}.draft")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.size_bytes)
            finally:
                os.close(descriptor)
            draft.rename(self.path)
        except OSError:  # somebody else took the room meanwhile
            draft.unlink(missing_ok=True)
            return False
        return True


def ballast_of(settings: Settings) -> Ballast:
    """The ballast of a platform's embedded database; another database has room until PostgreSQL says otherwise."""
    return Ballast(home_of(settings.data_dir), 0 if settings.database_url else settings.ballast_mib)
