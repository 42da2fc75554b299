import os
import subprocess
import sys
from pathlib import Path

import pytest

from kanglian import ownership
from kanglian.ownership import OwnedError, Ownership, is_owned, read_owner

_OWNER = """
import sys
from pathlib import Path
from kanglian.ownership import Ownership
owner = Ownership(Path(sys.argv[1]))
owner.take(base_url="http://127.0.0.1:1")
owner.say(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def _hold(data_dir: Path, state: str) -> subprocess.Popen[str]:
    other = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(data_dir), state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


def _end(other: subprocess.Popen[str]) -> None:
    other.kill()
    other.communicate()


def test_a_running_owner_is_named(tmp_path: Path) -> None:
    other = _hold(tmp_path, "running")
    assert is_owned(tmp_path)
    with pytest.raises(OwnedError, match=f"process {other.pid}, http://127.0.0.1:1"):
        Ownership(tmp_path).take()
    _end(other)


def test_a_killed_owner_leaves_no_lock(tmp_path: Path) -> None:
    _end(_hold(tmp_path, "running"))
    assert not is_owned(tmp_path)
    mine = Ownership(tmp_path)
    mine.take(base_url="x")
    assert read_owner(tmp_path)["pid"] == os.getpid()
    mine.release()
    assert read_owner(tmp_path)["state"] == "ended"


def test_an_ending_owner_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _hold(tmp_path, "ending")
    monkeypatch.setattr(ownership.time, "sleep", lambda _: _end(other))
    mine = Ownership(tmp_path)
    mine.take()
    mine.release()
