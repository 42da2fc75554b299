"""Which PostgreSQL processes run on a cluster, and how to end them.

They are found in /proc: every one of them has the cluster as its working folder.
"""

import contextlib
import os
import signal
import time
from pathlib import Path

FAST, IMMEDIATE = signal.SIGINT, signal.SIGQUIT
"""PostgreSQL's shutdown modes (https://www.postgresql.org/docs/18/server-shutdown.html)."""


def processes_in(cluster: Path) -> list[int]:
    """Process ids of all live PostgreSQL processes on this cluster, or on a removed folder of the same path."""
    entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [int(entry.name) for entry in entries if _lives_in(entry, cluster)]


def _lives_in(entry: Path, cluster: Path) -> bool:
    try:
        if str((entry / "cwd").readlink()) not in {str(cluster), f"{cluster} (deleted)"}:
            return False
        program = (entry / "exe").readlink().name.removesuffix(" (deleted)")
    except OSError:
        return False
    return program == "postgres" and not is_zombie(int(entry.name))


def is_zombie(pid: int) -> bool:
    """Whether the process has ended and only waits for its parent to look."""
    return _state(pid) in {"Z", None}


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped the process (SIGSTOP, SIGTSTP); a debugger's stop is another state."""
    return _state(pid) == "T"


def _state(pid: int) -> str | None:
    """The letter of ps, None for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None


def continue_stopped(cluster: Path, before: frozenset[int]) -> tuple[list[int], frozenset[int]]:
    """Let the PostgreSQL processes go on that were stopped (SIGSTOP) at this look and the one before.

    A stopped process keeps its locks, or lets new connections wait, and no time-out of PostgreSQL sees it. Returns
    those that were continued, and those that are stopped now, for the next look.
    """
    stopped = frozenset(pid for pid in processes_in(cluster) if is_stopped(pid))
    continued = sorted(stopped & before)
    for pid in continued:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    return continued, stopped - before


def programs_of(pid: int) -> Path | None:
    """The installation (the folder above bin/) that a process runs from."""
    try:
        return Path(f"/proc/{pid}/exe").readlink().parent.parent
    except OSError:
        return None


def postmaster(cluster: Path) -> tuple[int, str] | None:
    """Process id and status ("starting", "ready", "stopping", ...) from postmaster.pid, if that process lives here."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        pid = int(lines[0])
    except (OSError, ValueError, IndexError):
        return None
    if not _lives_in(Path(f"/proc/{pid}"), cluster):
        return None
    return pid, lines[7].strip() if len(lines) > 7 else "starting"


def end(pid: int, cluster: Path, patience_s: float = 30.0) -> None:
    """End a postmaster: fast shutdown, then immediate, then kill; returns when all its processes are gone."""
    for number, wait_s in ((FAST, patience_s), (IMMEDIATE, 5.0), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        for stopped in filter(is_stopped, processes_in(cluster)):  # they would not hear it
            with contextlib.suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)
        if _wait_until_gone(cluster, wait_s):
            return


def end_all(cluster: Path) -> None:
    """End every PostgreSQL process on this cluster, whatever postmaster.pid says; the cluster recovers from its log."""
    for number in (IMMEDIATE, signal.SIGKILL):
        for pid in processes_in(cluster):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if _wait_until_gone(cluster, 5.0):
            return


def _wait_until_gone(cluster: Path, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while processes_in(cluster):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
