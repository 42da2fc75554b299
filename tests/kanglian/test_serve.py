"""The whole platform as its operator meets it: start, commands, deaths, ends; one start serves the first tests."""

import html
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from kanglian.ownership import read_owner
from kanglian.reset import reset
from kanglian.settings import Settings
from kanglian.wiring import readme_walk

pytestmark = [pytest.mark.flow, pytest.mark.timeout(300)]
_CHECKOUT = Path(__file__).resolve().parents[2]
_KANGLIAN = str(Path(sys.executable).with_name("kanglian"))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@dataclass
class Platform:
    """A data directory, its ports, and the process that serves them."""

    data_dir: Path
    port: int
    mllp_port: int
    process: subprocess.Popen[str] | None = None

    @property
    def log(self) -> Path:
        return self.data_dir.parent / "serve.log"

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KANGLIAN_")}
        return kept | {
            "KANGLIAN_DATA_DIR": str(self.data_dir),
            "KANGLIAN_PORT": str(self.port),
            "KANGLIAN_MLLP_PORT": str(self.mllp_port),
            "KANGLIAN_DEMO_RESIDENTS": "20",
        }

    def start(self) -> str:
        """Start and return the ready line."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [_KANGLIAN, "serve"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return line

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_KANGLIAN, *arguments],
            cwd=cwd,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def children(self) -> dict[str, int]:
        children: dict[str, int] = read_owner(self.data_dir).get("children", {})
        return children

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


def _until(what: Callable[[], bool], within_s: float) -> float:
    started = time.monotonic()
    while not what():
        assert time.monotonic() - started < within_s
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with tempfile.TemporaryDirectory(prefix="kanglian-serve-") as folder:
        Path(folder).chmod(0o711)
        running = Platform(Path(folder) / "data", _free_port(), _free_port())
        assert running.start() == f"kanglian ready: http://127.0.0.1:{running.port}\n"
        yield running
        if running.process is not None and running.process.poll() is None:
            running.end()
        reset(Settings.read({"KANGLIAN_DATA_DIR": str(running.data_dir)}))
        assert not list(running.data_dir.glob("*"))


def test_it_is_ready_and_the_doctor_finds_nothing(platform: Platform) -> None:
    assert platform.status("/health/ready") == 200
    assert platform.status("/") == 200
    done = platform.run("doctor")
    assert done.returncode == 0, done.stdout
    assert "nothing wrong was found" in done.stdout


def test_the_first_page_shows_accounts_and_the_lines_of_the_readme_without_scripts(platform: Platform) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", platform.port, timeout=5)
    connection.request("GET", "/")
    page = html.unescape(connection.getresponse().read().decode())
    connection.close()
    assert len(readme_walk()) == 9
    assert "\n".join(readme_walk()) in page
    assert "dr.wang" in page
    assert "<script" not in page


def test_a_request_as_somebody_prints_json_and_a_refusal_exits_1(platform: Platform) -> None:
    done = platform.run("get", "Patient", "--user", "zhang.wei")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total"] == 1
    refused = platform.run("get", "Patient/nobody", "--user", "dr.wang")
    assert refused.returncode == 1
    assert "HTTP 404" in refused.stderr
    assert json.loads(refused.stdout)["resourceType"] == "OperationOutcome"


def test_a_token_stands_alone_on_the_last_line(platform: Platform) -> None:
    done = platform.run("token", "--client", "loader")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].count(".") == 2


def test_a_resident_gives_and_withdraws(platform: Platform) -> None:
    def seen() -> int:
        done = platform.run("get", "Observation?patient.identifier=F100001&_total=accurate", "--user", "dr.li")
        assert done.returncode == 0, done.stdout
        return int(json.loads(done.stdout)["total"])

    assert seen() == 0
    given = platform.run("consent", "give", "--user", "zhang.wei", "--to", "county-hospital")
    assert given.returncode == 0, given.stderr
    assert seen() >= 5
    withdrawn = platform.run("consent", "withdraw", "--user", "zhang.wei", "--to", "county-hospital")
    assert withdrawn.returncode == 0, withdrawn.stderr
    assert seen() == 0
    assert platform.run("consent", "withdraw", "--user", "zhang.wei", "--to", "county-hospital").returncode == 1


def test_the_walk_of_the_readme_does_what_it_says(platform: Platform) -> None:
    readme = (_CHECKOUT / "README.md").read_text(encoding="utf-8")
    walk = readme.partition("## Five minutes")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", walk, flags=re.DOTALL) for line in block.splitlines()]
    assert len(lines) == 9
    outputs = []
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == ".venv/bin/kanglian"
        done = platform.run(*arguments, cwd=_CHECKOUT)
        assert done.returncode == 0, f"{line}: {done.stdout} {done.stderr}"
        if line.startswith(".venv/bin/kanglian adapter send"):
            _until(lambda: _total(platform.run(*shlex.split(lines[1])[1:]).stdout) > 0, 5)
        outputs.append(done.stdout)
    sent, by_wang, refused, given, opened, withdrawn, closed, looked, counted = outputs
    assert "MSA|AA" in sent
    assert "referenceRange" in by_wang
    assert (_total(refused), _total(closed)) == (0, 0)
    assert _total(opened) == _total(by_wang) >= 1
    assert "county-hospital" in given
    assert "county-hospital" in withdrawn
    assert json.loads(looked)["entry"][0]["resource"]["resourceType"] == "AuditEvent"
    assert json.loads(counted)


def _total(searchset: str) -> int:
    bundle = json.loads(searchset)
    return int(bundle.get("total", len(bundle.get("entry", ()))))


def test_the_audit_log_is_whole(platform: Platform) -> None:
    _until(lambda: "whole up to seal" in platform.run("audit", "verify").stdout, 10)


def test_a_second_start_on_the_same_data_or_port_says_who_holds_it(platform: Platform) -> None:
    assert platform.process is not None
    again = platform.run("serve")
    assert again.returncode == 1
    assert f"process {platform.process.pid}" in again.stderr
    with tempfile.TemporaryDirectory() as folder:
        other = Platform(Path(folder), platform.port, platform.mllp_port).run("serve")
    assert other.returncode == 1
    assert f"port {platform.port} on 127.0.0.1 is taken by process {platform.process.pid}" in other.stderr
    assert platform.status("/health/ready") == 200


@pytest.mark.parametrize("name", ["http-1", "feeds", "jobs"])
def test_a_killed_child_is_back(platform: Platform, name: str) -> None:
    before = platform.children()[name]
    os.kill(before, signal.SIGKILL)
    _until(lambda: platform.children().get(name, before) != before, 1.0)
    _until(lambda: platform.status("/health/ready") == 200, 10)


def test_a_killed_postgresql_is_back_without_hands(platform: Platform) -> None:
    os.kill(platform.children()["postgres"], signal.SIGKILL)
    _until(lambda: platform.status("/health/ready") != 200, 10)
    _until(lambda: platform.status("/health/ready") == 200, 10)
    done = platform.run("get", "Patient", "--user", "zhang.wei")
    assert done.returncode == 0, done.stdout


def test_a_killed_supervisor_takes_all_along_and_the_next_start_is_warm(platform: Platform) -> None:
    pids = platform.children()
    platform.end(signal.SIGKILL)
    _until(lambda: not any(psutil.pid_exists(pid) for pid in pids.values()), 15)
    started = time.monotonic()
    platform.start()
    assert time.monotonic() - started < 60  # the budget of 8 s is measured by benchmarks, not here
    assert "demo:" not in platform.log.read_text().rpartition("database ready")[2]


def test_ctrl_c_ends_every_process(platform: Platform) -> None:
    pids = platform.children()
    assert {"http-1", "feeds", "jobs", "postgres"} <= pids.keys()
    assert platform.end(signal.SIGINT) == 0
    _until(lambda: not any(psutil.pid_exists(pid) for pid in pids.values()), 5)
    assert platform.run("doctor").returncode == 0
