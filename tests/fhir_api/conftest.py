"""A real server on a free loopback port over a real database, one for each module that asks for it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from analytics.files import AnalyticsFiles
from analytics.service import AnalyticsService
from consent.service import Consent
from ehr.store import Store, migrate
from fhir_api.application import create_app
from fhir_api.issuer import Issuer
from fhir_api.issuer.keys import secret
from fhir_api.server import server_configuration
from fhir_api.services import Services


@dataclass
class Platform:
    """A running server and how to speak to it as somebody."""

    base_url: str
    keys_path: Path
    issuer: Issuer
    zone: tzinfo | None = None
    import_addresses: tuple[str, ...] = ()
    stop: Callable[[], object] = lambda: None
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, *, account: str | None = None, client: str | None = None, **claims: Any) -> httpx.Client:
        """An HTTP client that carries a token of this account or machine client."""
        token = self.issuer.issue_token(account=account, client=client, **claims)
        found = httpx.Client(base_url=self.base_url, headers={"authorization": f"Bearer {token}"}, timeout=60)
        self.clients.append(found)
        return found

    def anonymous(self) -> httpx.Client:
        """An HTTP client without a token."""
        found = httpx.Client(base_url=self.base_url, timeout=60)
        self.clients.append(found)
        return found


async def _serve(
    platform: Platform, database_url: str, port: int, started: threading.Event, analytics: Path | None
) -> None:
    await migrate(database_url)
    consent = Consent(base_url=f"{platform.base_url}/fhir")
    keys_path = platform.keys_path / "index.key"
    store = await Store.open(
        database_url,
        keys_path=keys_path,
        projections=consent.projections(),
        zone=platform.zone,
        base_url=f"{platform.base_url}/fhir",
    )
    try:
        await consent.open(store)
        services = Services(
            store=store,
            consent=consent,
            base_url=platform.base_url,
            link_key=secret(platform.keys_path, "links"),
            issuer=platform.issuer,
            analytics=analytics and AnalyticsService(AnalyticsFiles(analytics), store.record),
            bulk_folder=platform.keys_path / "bulk",
            import_addresses=platform.import_addresses,
        )
        server = uvicorn.Server(server_configuration(create_app(services), host="127.0.0.1", port=port))
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        platform.stop = lambda: loop.call_soon_threadsafe(ending.set)
        serving = asyncio.create_task(server.serve())
        await asyncio.to_thread(_wait_for_port, port)
        started.set()
        await ending.wait()
        server.should_exit = True
        await serving
    finally:
        await store.close()


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    database_url: str,
    keys_path: Path,
    zone: tzinfo | None = None,
    *,
    analytics: Path | None = None,
    import_addresses: tuple[str, ...] = (),
) -> Iterator[Platform]:
    """A server over a database, in the zone given; `analytics` is the folder of its analytics files, if any."""
    port = _free_port()
    base_url = f"http://127.0.0.1:{port}"
    additions = keys_path / "demo-accounts.json"
    issuer = Issuer.open(keys_path, base_url, embedded_default=True, additions=additions)
    running = Platform(base_url, keys_path, issuer, zone, import_addresses)
    started = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_serve(running, database_url, port, started, analytics))
        except BaseException as error:  # noqa: BLE001 - shown by the fixture
            failures.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(60)
    if failures:
        raise failures[0]
    yield running
    for client in running.clients:
        client.close()
    running.stop()
    thread.join(30)


@pytest.fixture(scope="module")
def platform(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """The server."""
    with serving(database_url, tmp_path_factory.mktemp("keys")) as running:
        yield running
