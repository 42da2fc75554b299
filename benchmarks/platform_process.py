"""A platform of the benchmark's own: fresh data directory, free ports, ended at the end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import asyncpg
from calibration import free_port
from server_cpu import ProcessTrees

_KNOWN_ANEW_S = 11.0
"""So old are at most the statistics that searches go by (`ehr.search.frequency`)."""
_TABLES = "('audit_row', 'audit_seal', 'inbox', 'change_log', 'job')"


class Platform:
    """A running platform, addressed and measured."""

    def __init__(self, base: str, mllp_port: int, environment: dict[str, str], data_dir: Path) -> None:
        """Use `Platform.started`."""
        self.base = base
        self.mllp_port = mllp_port
        self.data_dir = data_dir
        self._environment = environment
        owner = json.loads((data_dir / "serve.lock").read_text())
        self.database_url = str(owner["database_url"])
        children = owner["children"]
        self._trees = ProcessTrees(int(owner["pid"]), int(children["postgres"]))
        self._parts = {name: ProcessTrees(int(pid)) for name, pid in children.items()}

    @classmethod
    @asynccontextmanager
    async def started(cls, residents: int = 20) -> AsyncIterator["Platform"]:
        """Start one, wait until it is ready, and end it at the end."""
        with tempfile.TemporaryDirectory(prefix="kanglian-bench-") as folder:
            Path(folder).chmod(0o711)  # as root, PostgreSQL's own user passes through
            port, mllp_port = free_port(), free_port()
            environment = os.environ | {
                "KANGLIAN_DATA_DIR": folder,
                "KANGLIAN_PORT": str(port),
                "KANGLIAN_MLLP_PORT": str(mllp_port),
                "KANGLIAN_DEMO_RESIDENTS": str(residents),
            }
            command = [str(Path(sys.executable).parent / "kanglian"), "serve"]
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            try:
                assert process.stdout is not None
                line = await asyncio.to_thread(process.stdout.readline)
                if "ready" not in line:
                    raise SystemExit(f"the platform did not start: {line}")
                yield cls(f"http://127.0.0.1:{port}", mllp_port, environment, Path(folder))
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(60)

    def token(self, client: str) -> str:
        """An access token of a machine client."""
        return self._token("--client", client)

    def user_token(self, account: str) -> str:
        """An access token of a person."""
        return self._token("--user", account)

    def _token(self, *who: str) -> str:
        command = [str(Path(sys.executable).parent / "kanglian"), "token", *who]
        answer = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return answer.stdout.strip().splitlines()[-1]

    def get(self, path: str, token: str) -> dict[str, Any]:
        """One FHIR answer, parsed."""
        request = UrlRequest(self.base + path, headers={"Authorization": f"Bearer {token}"})
        with urlopen(request, timeout=60) as answer:
            return dict(json.loads(answer.read()))

    async def resources(self, path: str, token: str) -> list[dict[str, object]]:
        """The resources of one page."""
        bundle = await asyncio.to_thread(self.get, path, token)
        return [entry["resource"] for entry in bundle.get("entry", [])]

    async def ids(self, resource_type: str, token: str, count: int) -> list[str]:
        """Ids of some resources."""
        found = await self.resources(f"/fhir/{resource_type}?_count={count}&_elements=id", token)
        return [str(resource["id"]) for resource in found]

    def cpu_s(self) -> float:
        """CPU seconds of all processes so far."""
        return self._trees.cpu_s()

    def parts_cpu_s(self) -> dict[str, float]:
        """CPU seconds so far of each kind of process: http, feeds, jobs, analytics, postgres."""
        found: dict[str, float] = {}
        for name, tree in self._parts.items():
            kind = name.partition("-")[0]
            found[kind] = found.get(kind, 0.0) + tree.cpu_s()
        return found

    def memory_bytes(self) -> int:
        """Memory of all processes."""
        return self._trees.memory_bytes()

    async def bytes_a_resource(self) -> tuple[float, int, dict[str, float]]:
        """Bytes of tables and indexes, audit, inbox and logs apart, a current resource; how many; of each relation."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute("vacuum full")
            total = await connection.fetchval(
                "select sum(pg_total_relation_size(oid)) from pg_class where relkind = 'r' and relnamespace = "
                f"'public'::regnamespace and relname not in {_TABLES}"
            )
            count = await connection.fetchval("select count(*) from resource where not deleted")
            rows = await connection.fetch(
                "select relname, pg_relation_size(oid) as bytes from pg_class where relkind in ('r', 'i') and "
                "relnamespace = 'public'::regnamespace order by bytes desc limit 20"
            )
            return float(total) / count, int(count), {row["relname"]: round(row["bytes"] / count, 1) for row in rows}
        finally:
            await connection.close()

    async def settle(self) -> None:
        """Statistics and pending index entries as autovacuum leaves them a minute after a load."""
        connection = await asyncpg.connect(self.database_url)
        try:
            await connection.execute("vacuum analyze")
        finally:
            await connection.close()
        await asyncio.sleep(_KNOWN_ANEW_S)

    async def until_converted(self) -> None:
        """Wait until the inbox is empty."""
        connection = await asyncpg.connect(self.database_url)
        try:
            while await connection.fetchval("select exists (select from inbox where state = 'waiting')"):
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async def send_mllp(self, messages: list[bytes], connections: int, rate_a_s: float | None = None) -> list[float]:
        """Send messages over some connections, one unanswered each; the seconds until each answer."""
        waits: list[float] = []
        queue = iter(enumerate(messages))
        started = time.perf_counter()

        async def sender() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.mllp_port)
            for number, message in queue:
                if rate_a_s is not None:
                    await asyncio.sleep(max(0.0, number / rate_a_s - (time.perf_counter() - started)))
                sent = time.perf_counter()
                writer.write(b"\x0b" + message + b"\x1c\r")
                answer = await reader.readuntil(b"\x1c\r")
                waits.append(time.perf_counter() - sent)
                if b"MSA|AA" not in answer:
                    raise SystemExit(f"refused: {answer!r}")
            writer.close()

        await asyncio.gather(*(sender() for _ in range(connections)))
        return waits
