"""One owner for each data directory: a lock that dies with its process, and a word about who holds it."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ehr.errors import KanglianError

_WAIT_ENDING_S = 30.0
_WAIT_RUNNING_S = 1.5
"""A platform that was told to end a moment ago has said so by then."""


class OwnedError(KanglianError):
    """Another platform holds the data directory."""

    code = "lock-error"


class Ownership:
    """Holds `serve.lock` of a data directory; its text says process, state and address, for people and `doctor`."""

    def __init__(self, data_dir: Path) -> None:
        """Take the data directory, which exists."""
        self._path = data_dir / "serve.lock"
        self._descriptor = -1
        self._facts: dict[str, Any] = {}

    def take(self, say: Callable[[str], None] = lambda _: None, **facts: Any) -> None:
        """Become the owner; waits up to 30 s for one that is ending, and says for whom.

        Raises:
            OwnedError: a running platform holds the directory; the text names its process.
        """
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        started = time.monotonic()
        told = False
        while not self._locked():
            held = read_owner(self._path.parent)
            waited = time.monotonic() - started
            limit = _WAIT_ENDING_S if held.get("state") == "ending" else _WAIT_RUNNING_S
            if waited > limit:
                os.close(self._descriptor)
                raise OwnedError(_words(self._path.parent, held))
            if not told and waited > _WAIT_RUNNING_S:
                told = True
                say(
                    f"{self._path.parent} is held by process {held.get('pid', 'unknown')}, which is ending; "
                    f"waiting for it, up to {limit:.0f} s"
                )
            time.sleep(0.1)
        self._facts = {"pid": os.getpid(), **facts}
        self.say("starting")

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def say(self, state: str, **facts: Any) -> None:
        """Write the state: starting, running or ending, and further facts such as the children's process ids."""
        self._facts |= {"state": state, **facts}
        text = json.dumps(self._facts).encode()
        os.pwrite(self._descriptor, text.ljust(4096), 0)

    def leave_to_parent(self) -> None:
        """In a forked child: let go of the descriptor, so that the lock dies with the owner alone."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def release(self) -> None:
        """Give the directory free."""
        if self._descriptor >= 0:
            self.say("ended", children={})
            os.close(self._descriptor)
            self._descriptor = -1


def _words(data_dir: Path, held: dict[str, Any]) -> str:
    doing = "that is ending" if held.get("state") == "ending" else "is running and"
    return (
        f"a platform {doing} holds {data_dir}: process {held.get('pid', 'unknown')}, "
        f"{held.get('base_url', 'address unknown')}; end it (kill {held.get('pid', 'PID')}), "
        "or set KANGLIAN_DATA_DIR, KANGLIAN_PORT and KANGLIAN_MLLP_PORT for another"
    )


def read_owner(data_dir: Path) -> dict[str, Any]:
    """What the last owner wrote, {} when there is none."""
    try:
        facts = json.loads((data_dir / "serve.lock").read_text() or "{}")
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def is_owned(data_dir: Path) -> bool:
    """Whether a live process holds the data directory."""
    try:
        descriptor = os.open(data_dir / "serve.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
