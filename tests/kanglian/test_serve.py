"""The whole platform as its operator meets it: start, commands, ends; one data directory serves all tests."""

import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.flow.running import Running, data_directory, until

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]


@dataclass
class Interrupted:
    """A first start that was ended while the demo was being loaded."""

    running: Running
    code: int
    left: list[str]


def _left(running: Running, known: dict[str, int]) -> list[str]:
    """The processes of a platform that live: those it named, and all that have its environment."""
    found = [f"{name} ({pid})" for name, pid in known.items() if psutil.pid_exists(pid)]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("KANGLIAN_DATA_DIR") == str(running.data_dir):
                found.append(f"{process.name()} ({process.pid})")
    return found


def _gone(running: Running, known: dict[str, int]) -> list[str]:
    """What still lives five seconds later: PostgreSQL's own children take a moment."""
    with contextlib.suppress(AssertionError):
        until(lambda: not _left(running, known), 5)
    return _left(running, known)


@pytest.fixture(scope="module")
def interrupted() -> Iterator[Interrupted]:
    with data_directory() as running:
        process = running.launch()
        until(lambda: "demo: first-hospital" in running.log.read_text(), 120)
        known = running.pids()
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        yield Interrupted(running, process.returncode, _gone(running, known))


@pytest.fixture(scope="module")
def platform(interrupted: Interrupted) -> Running:
    running = interrupted.running
    assert running.start() == f"kanglian ready: {running.base_url}\n"
    return running


def test_ctrl_c_while_the_demo_is_loaded_ends_all_and_the_next_start_goes_on(
    interrupted: Interrupted, platform: Running
) -> None:
    assert (interrupted.code, interrupted.left) == (0, [])
    done = platform.run("get", "Patient?_summary=count", "--client", "loader")
    assert json.loads(done.stdout)["total"] >= 20


def test_it_is_ready_and_the_doctor_finds_nothing(platform: Running) -> None:
    assert platform.is_ready()
    assert "nothing wrong was found" in platform.run("doctor").stdout


def test_a_request_as_somebody_prints_json_and_a_refusal_exits_1(platform: Running) -> None:
    assert json.loads(platform.run("get", "Patient", "--user", "zhang.wei").stdout)["total"] == 1
    refused = platform.run("get", "Patient/nobody", "--user", "dr.wang", ok=False)
    assert refused.returncode == 1
    assert "HTTP 404" in refused.stderr
    assert json.loads(refused.stdout)["resourceType"] == "OperationOutcome"


def test_a_token_stands_alone_on_the_last_line(platform: Running) -> None:
    assert platform.run("token", "--client", "loader").stdout.splitlines()[-1].count(".") == 2


def test_what_nobody_gave_is_not_withdrawn(platform: Running) -> None:
    nothing = platform.run("consent", "withdraw", "--user", "liu.yang", "--to", "county-hospital", ok=False)
    assert nothing.returncode == 1
    assert "no consent in force" in nothing.stderr


def test_the_audit_log_is_whole(platform: Running) -> None:
    until(lambda: "whole up to seal" in platform.run("audit", "verify").stdout, 10)


def test_a_second_start_on_the_same_data_or_port_says_who_holds_it(platform: Running) -> None:
    assert platform.process is not None
    again = platform.run("serve", ok=False)
    assert again.returncode == 1
    assert f"process {platform.process.pid}" in again.stderr
    with tempfile.TemporaryDirectory() as folder:
        other = Running(Path(folder), platform.port, platform.mllp_port).run("serve", ok=False)
    assert other.returncode == 1
    assert f"port {platform.port} on 127.0.0.1 is taken by process {platform.process.pid}" in other.stderr
    assert platform.is_ready()


def test_a_killed_supervisor_takes_all_along_and_the_next_start_loads_no_demo(platform: Running) -> None:
    assert {"http-1", "feeds", "jobs", "analytics", "postgres"} <= platform.pids().keys()
    known = platform.pids()
    platform.end(signal.SIGKILL)
    until(lambda: not _left(platform, known), 15)
    platform.start()
    assert "demo:" not in platform.log.read_text().rpartition("database ready")[2]


@pytest.mark.parametrize(
    ("number", "times"),
    [
        pytest.param(signal.SIGHUP, 1, id="closed terminal"),
        pytest.param(signal.SIGINT, 2, id="Ctrl-C twice"),
        pytest.param(signal.SIGTERM, 1, id="SIGTERM"),
    ],
)
def test_every_end_ends_every_process(platform: Running, number: signal.Signals, times: int) -> None:
    assert platform.process is not None
    if platform.process.poll() is not None:
        platform.start()
    known = platform.pids()
    for _ in range(times):
        os.killpg(platform.process.pid, number)
    platform.process.communicate(timeout=60)
    assert platform.process.returncode == 0
    assert _gone(platform, known) == []
    assert platform.run("doctor").returncode == 0
