"""The supervisor over real processes: deaths, ends, killed parents."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

_PARENT = """
import asyncio, json, os, sys, time
from pathlib import Path
from kanglian import heartbeat, supervise
from kanglian.supervise import Child, Supervisor
from ehr.errors import KanglianError

news = Path(sys.argv[1])

def sleep():
    time.sleep(600)

def deaf():
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)

def fail():
    raise KanglianError("no table")

heartbeat.SILENT_S, heartbeat._COMPUTES_S, supervise._OWN_STOP_S = 3.0, 0.03, 2.0  # else 8, 0.2 and 5
beating, busy = heartbeat.Heartbeat(), heartbeat.Heartbeat()

def beat():
    asyncio.run(beating.keep())

def compute():
    while True:
        pass

children = {
    "hanging": [Child("one", beat, heartbeat=beating), Child("two", compute, heartbeat=busy), Child("three", sleep)],
    "plain": [Child("one", sleep), Child("two", sleep)],
    "deaf": [Child("one", deaf)],
    "once": [Child("one", sleep), Child("opening", lambda: None, once=True)],
    "failing": [Child("one", sleep), Child("opening", fail, once=True)],
}[sys.argv[2]]

def changed(pids):
    draft = news.with_suffix(".draft")
    draft.write_text(json.dumps(pids))
    draft.replace(news)

supervisor = Supervisor(
    children, None, say=lambda line: print(line, file=sys.stderr, flush=True), changed=changed,
    complete=lambda: print("complete", flush=True), ending=lambda: print("ending", flush=True),
)
try:
    sys.exit(supervisor.run())
except KanglianError as error:
    print(error, file=sys.stderr)
    sys.exit(1)
"""


class _Running:
    def __init__(self, folder: Path, kind: str) -> None:
        self._news = folder / "pids.json"
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PARENT, str(self._news), kind],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def pids(self) -> dict[str, int]:
        deadline = time.monotonic() + 10
        while not self._news.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        pids: dict[str, int] = json.loads(self._news.read_text())
        return pids

    def end(self, number: signal.Signals) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    with contextlib.suppress(OSError, ValueError):
        for pid in json.loads((tmp_path / "pids.json").read_text()).values():
            os.kill(pid, signal.SIGKILL)


def _wait_gone(pids: list[int], within_s: float = 5.0) -> None:
    deadline = time.monotonic() + within_s
    while any(psutil.pid_exists(pid) for pid in pids):
        assert time.monotonic() < deadline, "processes were left"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all(folder: Path, number: signal.Signals) -> None:
    running = _Running(folder, "plain")
    pids = running.pids()
    assert set(pids) == {"one", "two"}
    assert {os.getpgid(pid) for pid in pids.values()} == {running.process.pid}
    code, out, _ = running.end(number)
    assert code == 0
    assert out.endswith("ending\n")
    _wait_gone(list(pids.values()))


def test_a_dead_child_is_back_within_a_second_and_the_other_stays(folder: Path) -> None:
    running = _Running(folder, "plain")
    before = running.pids()
    os.kill(before["one"], signal.SIGKILL)
    killed = time.monotonic()
    while (after := running.pids()).get("one") in (None, before["one"]):
        assert time.monotonic() - killed < 1.0
        time.sleep(0.01)
    assert after["two"] == before["two"]
    _, _, err = running.end(signal.SIGTERM)
    assert "one was ended by SIGKILL, starting it again" in err


def test_a_stopped_child_is_replaced_and_one_that_computes_is_not(folder: Path) -> None:
    running = _Running(folder, "hanging")
    before = running.pids()
    os.kill(before["one"], signal.SIGSTOP)
    stopped = time.monotonic()
    while (after := running.pids()).get("one") in (None, before["one"]):
        assert time.monotonic() - stopped < 12
        time.sleep(0.05)
    time.sleep(2)
    assert running.pids() == after | {"two": before["two"], "three": before["three"]}
    _, _, err = running.end(signal.SIGTERM)
    assert f"one (process {before['one']}) has hung for" in err
    assert err.count("has hung") == 1
    _wait_gone([*before.values(), *after.values()])


def test_a_stopped_child_hears_that_the_end_has_come(folder: Path) -> None:
    running = _Running(folder, "plain")
    pids = running.pids()
    os.kill(pids["one"], signal.SIGSTOP)
    while psutil.Process(pids["one"]).status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    started = time.monotonic()
    running.end(signal.SIGTERM)
    assert time.monotonic() - started < 6
    _wait_gone(list(pids.values()))


def test_children_that_were_stopped_with_their_supervisor_go_on(folder: Path) -> None:
    running = _Running(folder, "hanging")
    before = running.pids()
    time.sleep(2.5)  # the start is over, and was seen
    os.killpg(running.process.pid, signal.SIGSTOP)  # as Ctrl-Z does
    time.sleep(4)
    running.process.send_signal(signal.SIGCONT)  # the supervisor looks before the children run
    time.sleep(0.5)
    os.killpg(running.process.pid, signal.SIGCONT)
    time.sleep(1.5)
    assert running.pids() == before
    _, _, err = running.end(signal.SIGTERM)
    assert "has hung" not in err
    _wait_gone(list(before.values()))


def test_children_end_with_a_killed_supervisor(folder: Path) -> None:
    running = _Running(folder, "deaf")
    pids = running.pids()
    running.process.kill()
    running.process.communicate()
    _wait_gone(list(pids.values()))


def test_a_second_signal_does_not_wait_for_a_deaf_child(folder: Path) -> None:
    running = _Running(folder, "deaf")
    pids = running.pids()
    time.sleep(0.3)
    running.process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert running.process.poll() is None
    started = time.monotonic()
    running.end(signal.SIGINT)
    assert time.monotonic() - started < 5
    _wait_gone(list(pids.values()))


def test_what_runs_once_completes_the_start(folder: Path) -> None:
    running = _Running(folder, "once")
    assert running.process.stdout is not None
    assert running.process.stdout.readline() == "complete\n"
    assert set(running.pids()) == {"one"}
    code, _, _ = running.end(signal.SIGTERM)
    assert code == 0


def test_a_failure_before_the_start_is_complete_ends_all_with_its_reason(folder: Path) -> None:
    running = _Running(folder, "failing")
    _, err = running.process.communicate(timeout=30)
    assert running.process.returncode == 1
    assert "opening: no table" in err
    assert "opening ended with code 1; the start was not complete" in err
    _wait_gone(list(running.pids().values()))
