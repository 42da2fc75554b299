"""The platform as a whole for flow tests: real processes, real sockets, the command line."""

import asyncio
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx

from fhir_api.issuer import Issuer
from fhir_api.issuer.issuer import Grant
from fhir_api.issuer.scopes import default_scopes
from hospital_adapters.mllp.client import answers_of
from kanglian.ownership import read_owner
from kanglian.reset import reset
from kanglian.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
KANGLIAN = str(Path(sys.executable).with_name("kanglian"))
RESIDENTS = 20
_T = TypeVar("_T")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def until(what: Callable[[], _T], within_s: float, *, every_s: float = 0.05) -> _T:
    """Ask until the answer is true; the answer, or a failure after `within_s`."""
    end = time.monotonic() + within_s
    while not (answer := what()):
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(every_s)
    return answer


def _listen_to_hang_ups() -> None:
    """As in a terminal, also where the tests themselves run under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@dataclass
class Running:
    """A data directory, its ports, and the process that serves them."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    mllp_port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    _clients: dict[tuple[str | None, ...], httpx.Client] = field(default_factory=dict)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
            "KANGLIAN_DEMO_RESIDENTS": str(RESIDENTS),
            **self.settings,
        }

    # processes

    def launch(self) -> subprocess.Popen[str]:
        """Start and return at once."""
        self._leave()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [KANGLIAN, "serve"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                preexec_fn=_listen_to_hang_ups,  # noqa: PLW1509 - it resets a signal and touches nothing else
            )
        return self.process

    def start(self) -> str:
        """Start and return the ready line."""
        stdout = self.launch().stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, self.log.read_text()[-4000:]
        return line

    def end(self, number: signal.Signals = signal.SIGINT) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.communicate(timeout=60)

    def pids(self) -> dict[str, int]:
        children: dict[str, int] = read_owner(self.data_dir).get("children", {})
        return children

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.base_url}/health/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    # the command line

    def run(self, *arguments: str, ok: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [KANGLIAN, *arguments],
            cwd=CHECKOUT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
        assert done.returncode == 0 or not ok, f"{shlex.join(arguments)}: {done.stdout}\n{done.stderr}"
        return done

    # FHIR

    def client(self, who: str, purpose: str | None = None, reason: str | None = None) -> httpx.Client:
        """HTTP as an account or machine client; one connection pool each."""
        key = (who, purpose, reason)
        if key not in self._clients:
            account = who in self._issuer().directory.accounts
            token = self._issuer().issue_token(
                account=who if account else None, client=None if account else who, purpose=purpose, reason=reason
            )
            self._clients[key] = self._http(token)
        return self._clients[key]

    def resident(self, patient: str) -> httpx.Client:
        """HTTP as the person whose Patient this is."""
        key = (None, patient)
        if key not in self._clients:
            issuer = self._issuer()
            account = replace(issuer.account("zhang.wei"), subject=f"resident-{patient}", patient=patient)
            grant = Grant(account, "kanglian", default_scopes(account), "PATRQT")
            self._clients[key] = self._http(issuer.access_token(grant))
        return self._clients[key]

    def _http(self, token: str) -> httpx.Client:
        return httpx.Client(
            base_url=f"{self.base_url}/fhir/",
            headers={"authorization": f"Bearer {token}", "content-type": "application/fhir+json"},
            timeout=60,
        )

    def _issuer(self) -> Issuer:
        return Issuer.open(
            self.data_dir / "keys",
            self.base_url,
            embedded_default=True,
            additions=self.data_dir / "demo-accounts.json",
        )

    # messages

    def send(self, *messages: bytes) -> list[bytes]:
        """Send messages over one MLLP connection; the first answer to each."""
        return list(answers_of("127.0.0.1", self.mllp_port, messages))

    def take_in(self, *messages: bytes) -> None:
        """Send messages that must be accepted, and wait until all of the inbox is settled."""
        for answer in self.send(*messages):
            assert b"MSA|AA|" in answer, answer
        self.settled()

    def settled(self, within_s: float = 10) -> None:
        until(lambda: not self.rows("select 1 from inbox where state = 'waiting' limit 1"), within_s)

    def send_all(self, streams: Iterable[Sequence[bytes]]) -> None:
        """Send several streams, each over a connection of its own, at once."""

        async def one(stream: Sequence[bytes]) -> None:
            for answer in await asyncio.to_thread(self.send, *stream):
                assert b"MSA|AA|" in answer, answer

        async def every() -> None:
            await asyncio.gather(*(one(stream) for stream in streams))

        asyncio.run(every())

    # the database, to see what is durable

    def rows(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        async def fetch() -> list[dict[str, Any]]:
            connection = await asyncpg.connect(str(read_owner(self.data_dir)["database_url"]))
            try:
                return [dict(row) for row in await connection.fetch(statement, *arguments)]
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def audit(self, *, after: int = 0, **members: str) -> list[dict[str, Any]]:
        """Audit entries behind a sequence number whose members are these, oldest first."""
        found = self.rows(
            "select sequence, outcome, holders, entry::text from audit_row where sequence > $1 order by sequence", after
        )
        entries = [json.loads(row.pop("entry")) | row for row in found]
        return [entry for entry in entries if all(entry.get(name) == value for name, value in members.items())]

    def last_audit(self) -> int:
        return int(self.rows("select coalesce(max(sequence), 0) as last from audit_row")[0]["last"])

    def release(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if self.process is not None and self.process.poll() is None:
            self.end()
        self._leave()
        reset(Settings.read({"KANGLIAN_DATA_DIR": str(self.data_dir)}))

    def _leave(self) -> None:
        """Close what is left of a process that has ended."""
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def data_directory() -> Iterator[Running]:
    """A platform that nobody has started yet, ended and forgotten afterwards."""
    with tempfile.TemporaryDirectory(prefix="kanglian-flow-") as folder:
        Path(folder).chmod(0o711)  # as root, PostgreSQL's own user passes through
        platform = Running(Path(folder) / "data")
        try:
            yield platform
        finally:
            platform.release()


@contextmanager
def running_platform() -> Iterator[Running]:
    """A platform with the small demo loaded."""
    with data_directory() as platform:
        assert platform.start() == f"kanglian ready: {platform.base_url}\n"
        yield platform


def total(answer: httpx.Response) -> int:
    """The exact total of a search."""
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    return int(bundle["total"]) if "total" in bundle else len(bundle.get("entry", ()))


def resources(answer: httpx.Response) -> list[dict[str, Any]]:
    """The resources of a Bundle."""
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", ())]
