import asyncio
import http.server
import os
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import asyncpg
import pytest

from ehr.store import migrate
from kanglian.commands import doctor
from kanglian.commands.doctor import Finding
from kanglian.ownership import Ownership
from kanglian.settings import Settings

_Usage = namedtuple("_Usage", "total used free")  # noqa: PYI024 - as shutil's own


def _settings(data_dir: Path, **more: str) -> Settings:
    ports = {}
    for name in ("KANGLIAN_PORT", "KANGLIAN_MLLP_PORT"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports[name] = str(free.getsockname()[1])
    return Settings.read({"KANGLIAN_DATA_DIR": str(data_dir), **ports, **more})


def _wrong(settings: Settings) -> dict[str, str]:
    return {finding.what: finding.words for finding in doctor.examine(settings) if not finding.well}


def test_nothing_is_wrong_before_a_first_start(tmp_path: Path) -> None:
    assert _wrong(_settings(tmp_path / "data")) == {}


def test_a_taken_port_is_found_with_its_holder(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    with http.server.HTTPServer(("127.0.0.1", settings.port), http.server.BaseHTTPRequestHandler):
        (words,) = _wrong(settings).values()
    assert f"process {os.getpid()}" in words
    assert "KANGLIAN_PORT" in words


@pytest.mark.parametrize(("free_bytes", "word"), [(1 << 20, "full: "), (600 << 20, "nearly full: ")])
def test_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_bytes: int, word: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: _Usage(1 << 40, (1 << 40) - free_bytes, free_bytes))
    assert _wrong(_settings(tmp_path))["disk"].startswith(word)


@pytest.mark.skipif(os.geteuid() != 0, reason="root lends another user's eyes")
def test_a_folder_of_another_user_is_found(tmp_path: Path) -> None:
    checkout = Path(__file__).resolve().parents[2]
    (tmp_path / "data").mkdir(mode=0o755)
    done = subprocess.run(
        [sys.executable, "-c", _AS_ANOTHER, str(tmp_path / "data")],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "may not write" in done.stdout, done.stderr


_AS_ANOTHER = """
import os, sys
from pathlib import Path
from kanglian.commands import doctor
os.setuid(65534)
finding = doctor._permission(Path(sys.argv[1]))
print(finding.well, finding.words)
"""


def test_a_dead_child_is_found(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    unburied = subprocess.Popen(["true"])
    os.waitid(os.P_PID, unburied.pid, os.WEXITED | os.WNOWAIT)  # its parent hangs: it stays a zombie
    owner = Ownership(tmp_path)
    owner.take(base_url="http://127.0.0.1:1", database_url="postgresql://kanglian@127.0.0.1:1/kanglian")
    children = {"http-1": os.getpid(), "jobs": ended.pid, "analytics": unburied.pid}
    owner.say("running", children=children, expected=[*children, "feeds"])
    try:
        wrong = _wrong(_settings(tmp_path, KANGLIAN_BASE_URL="http://127.0.0.1:1"))
    finally:
        owner.release()
        unburied.wait()
    assert {name for name in wrong if name.startswith("process")} == {
        "process feeds",
        "process jobs",
        "process analytics",
    }
    assert "does not answer" in wrong["readiness"]


def test_a_stopped_process_is_found(tmp_path: Path) -> None:
    stopped = subprocess.Popen(["sleep", "60"])
    owner = Ownership(tmp_path)
    owner.take(base_url="http://127.0.0.1:1", database_url="postgresql://kanglian@127.0.0.1:1/kanglian")
    owner.say("running", pid=stopped.pid, children={"jobs": stopped.pid}, expected=["jobs"])
    try:
        os.kill(stopped.pid, signal.SIGSTOP)
        os.waitpid(stopped.pid, os.WUNTRACED)
        wrong = _wrong(_settings(tmp_path, KANGLIAN_BASE_URL="http://127.0.0.1:1"))
    finally:
        owner.release()
        stopped.kill()
        stopped.wait()
    assert f"kill -CONT {stopped.pid}" in wrong["platform"]
    assert "was stopped" in wrong["process jobs"]


@pytest.mark.database
async def test_messages_that_wait_for_long_are_found(database_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    connection = await asyncpg.connect(database_url)
    owner = Ownership(tmp_path)
    owner.take(base_url="http://127.0.0.1:1", database_url=database_url)
    settings = _settings(tmp_path)
    try:
        assert await asyncio.to_thread(doctor._conversion, settings) == Finding("conversion", True, "no message waits")  # noqa: FBT003 - as it prints
        await connection.execute(_WAITING, time.time_ns() // 1000 - 90_000_000)
        found = await asyncio.to_thread(doctor._conversion, settings)
        assert not found.well
        assert found.words.startswith("1 of first-hospital wait, the oldest for 9")
    finally:
        owner.release()
        await connection.close()


_WAITING = """insert into inbox
(feed, custodian, sender, control_id, content, trace, message_type, received_at, state, body) values
('first-hospital', 'first-hospital', 'HIS', '1', '', 'HIS|1', 'ADT^A01', $1, 'waiting', '')"""


def test_an_unreachable_database_is_found(tmp_path: Path) -> None:
    settings = _settings(
        tmp_path,
        KANGLIAN_DATABASE_URL="postgresql://kanglian@127.0.0.1:1/kanglian",
        KANGLIAN_OIDC_ISSUER="https://sso.example.cn",
    )
    assert "cannot be reached" in _wrong(settings)["database"]
    assert doctor.run(doctor.argparse.Namespace(), settings) == 1


def test_a_misspelt_setting_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KANGLIAN_PROT", "8010")
    assert "KANGLIAN_PROT" in _wrong(_settings(tmp_path))["settings"]


def test_a_start_is_not_taken_for_a_fault(tmp_path: Path) -> None:
    owner = Ownership(tmp_path)
    owner.take(base_url="http://127.0.0.1:1")
    try:
        findings = {
            each.what: each for each in doctor.examine(_settings(tmp_path, KANGLIAN_BASE_URL="http://127.0.0.1:1"))
        }
    finally:
        owner.release()
    assert findings["database"].well
    assert "being started" in findings["database"].words
    assert findings["readiness"].well
    assert "is starting" in findings["readiness"].words
