"""Running PostgreSQL's programs for one embedded cluster, as the account that owns it."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kanglian.embedded_place import SYSTEM_USER, EmbeddedError, Place

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: int) -> Callable[[], None]:
    """Make a function for a fresh child: the kernel sends it `number` when the thread that started it ends (Linux)."""
    parent = os.getpid()
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), number)

    return ask


def as_server_user(place: Place) -> dict[str, Any]:
    """Arguments of subprocess: another account where root runs us, a plain environment, a folder all may enter."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(place.cluster.parent)}
    common: dict[str, Any] = {"cwd": "/", "env": environment, "umask": 0o077, "stdin": subprocess.DEVNULL}
    if not place.user.switch:
        return common
    return {**common, "user": place.user.uid, "group": place.user.gid, "extra_groups": []}


def run(place: Place, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one program of the installation to its end, whatever its exit code.

    Raises:
        EmbeddedError: it cannot be run at all.
    """
    try:
        return subprocess.run(
            [str(place.programs / "bin" / program), *arguments],
            capture_output=True,
            text=True,
            check=False,
            **as_server_user(place),
        )
    except OSError as error:
        raise EmbeddedError(f"cannot run {program} of {place.programs}: {error}") from error


def make_cluster(place: Place, folder: Path) -> None:
    """Let initdb make a cluster in a folder that is not there; EmbeddedError with its last words where it cannot."""
    arguments = ("-D", str(folder), "-U", SYSTEM_USER, "--encoding=UTF8", "--locale=C", "--auth=trust")
    done = run(place, "initdb", *arguments, "--no-instructions")
    if done.returncode != 0:
        raise EmbeddedError(f"initdb failed in {folder.parent}: {last_words(done.stderr or done.stdout)}")


def spawn_server(place: Place, programs: Path, folder: Path, log: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start PostgreSQL on a cluster; the kernel tells it to shut down when this process dies."""
    with log.open("wb") as first_words:
        return subprocess.Popen(
            [str(programs / "bin" / "postgres"), "-D", str(folder), *options],
            stdout=first_words,
            stderr=first_words,
            start_new_session=True,  # Ctrl-C is for us: the database ends after its users
            preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509 - the owner has no other threads
            **as_server_user(place),
        )


def last_words(text: str) -> str:
    """The lines of a program's output that say why it ended."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if any(word in line for word in ("FATAL", "PANIC", "unrecognized", "invalid", "error", "ERROR", "HINT"))
    ]
    return "; ".join((telling or lines)[-3:])
