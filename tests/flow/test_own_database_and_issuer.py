"""A platform with the operator's own database and OpenID Connect issuer: no demo and no demo account, the same road."""

import asyncio
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from hospital_adapters.feeds import read_feed
from hospital_adapters.mllp.client import answers_of
from tests.fhir_api.foreign_issuer import ForeignIssuer
from tests.flow.messages import Person, adt, result, somebody
from tests.flow.running import Running, free_port, until

FEED = "feed: {name}\norganisation: {name}\nkind: hl7v2\n"
CALLERS = {
    "own": {"organisation": "first-hospital", "roles": ["physician"], "scope": "user/*.rs", "purpose_of_use": "TREAT"},
    "other": {"organisation": "county-hospital", "roles": ["nurse"], "scope": "user/*.rs", "purpose_of_use": "TREAT"},
    "unknown role": {"organisation": "first-hospital", "roles": ["default-roles"], "scope": "user/*.rs"},
}


def _database(postgres_url: str, name: str, statement: str) -> str:
    """Make or drop a database of the server; its address."""

    async def run() -> None:
        server = await asyncpg.connect(postgres_url)
        await server.execute(statement.format(name=name))
        await server.close()

    asyncio.run(run())
    base, _, query = postgres_url.partition("?")
    return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(scope="module")
def own(postgres_url: str) -> Iterator[tuple[Running, Callable[[str], httpx.Client]]]:
    """The platform, and HTTP as one of the callers with a token of the operator's issuer."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory(prefix="kanglian-flow-") as folder:
        Path(folder).chmod(0o711)
        platform = Running(Path(folder) / "data")
        issuer = ForeignIssuer(Path(folder) / "issuer", platform.base_url)
        platform.settings = {
            "KANGLIAN_DATABASE_URL": _database(postgres_url, name, 'create database "{name}"'),
            "KANGLIAN_OIDC_ISSUER": issuer.address,
            "KANGLIAN_POLICY": "cn-county",
        }
        feeds = platform.data_dir / "feeds"
        feeds.mkdir(parents=True)
        (feeds / "first-hospital.yaml").write_text(FEED.format(name="first-hospital"))
        second = FEED.format(name="county-hospital") + f"port: {free_port()}\n"
        (feeds / "county-hospital.yaml").write_text(second)
        clients: list[httpx.Client] = []

        def caller(who: str) -> httpx.Client:
            token = issuer.token(sub=who, jti=uuid.uuid4().hex, **CALLERS[who])
            clients.append(
                httpx.Client(base_url=f"{platform.base_url}/fhir/", headers={"authorization": f"Bearer {token}"})
            )
            return clients[-1]

        try:
            assert platform.start() == f"kanglian ready: {platform.base_url}\n"
            yield platform, caller
        finally:
            for client in clients:
                client.close()
            platform.release()
            issuer.server.shutdown()
            issuer.server.server_close()
            _database(postgres_url, name, 'drop database "{name}" with (force)')


@pytest.fixture(scope="module")
def person(own: tuple[Running, Callable[[str], httpx.Client]]) -> Person:
    """Somebody with a result, sent over MLLP and in the record."""
    found = somebody()
    platform, caller = own
    for answer in platform.send(adt(found, "A01"), result(found)):
        assert b"MSA|AA|" in answer, answer
    sees = caller("own")
    until(lambda: sees.get("Observation", params={"patient": found.patient}).json()["total"], 10)
    return found


def test_consent_decides_for_tokens_of_another_issuer(
    own: tuple[Running, Callable[[str], httpx.Client]], person: Person
) -> None:
    _, caller = own
    found = caller("own").get("Observation", params={"patient": person.patient}).json()
    address = f"Observation/{found['entry'][0]['resource']['id']}"
    for who, status in (("own", 200), ("other", 404), ("unknown role", 404)):
        assert caller(who).get(address).status_code == status, who
    assert caller("other").get("Observation", params={"patient": person.patient}).json()["total"] == 0


def test_a_second_hospital_has_a_port_of_its_own(own: tuple[Running, Callable[[str], httpx.Client]]) -> None:
    platform, caller = own
    found = somebody()
    port = read_feed(platform.data_dir / "feeds" / "county-hospital.yaml").port
    (answer,) = answers_of("127.0.0.1", port or 0, [adt(found, "A01")])
    assert b"MSA|AA|" in answer
    search = {"identifier": found.record}
    until(lambda: caller("other").get("Patient", params=search).json()["total"], 10)
    (entry,) = caller("other").get("Patient", params=search).json()["entry"]
    assert entry["resource"]["id"].startswith("county-hospital.")
    assert caller("own").get("Patient", params=search).json()["total"] == 0


def test_there_is_neither_demo_nor_demo_account(own: tuple[Running, Callable[[str], httpx.Client]]) -> None:
    platform, _ = own
    for arguments in (["token", "--user", "dr.wang"], ["get", "Patient", "--user", "dr.wang"], ["demo"]):
        refused = platform.run(*arguments, ok=False)
        assert refused.returncode != 0
        assert "embedded default" in refused.stderr
    first_page = httpx.get(platform.base_url).text
    assert "dr.wang" not in first_page
    for line in first_page.split('<a href="')[1:]:
        assert httpx.get(f"{platform.base_url}{line.partition(chr(34))[0]}").status_code == 200
    assert httpx.post(f"{platform.base_url}/auth/token", data={"grant_type": "password"}).status_code == 404
    assert "nothing wrong was found" in platform.run("doctor").stdout
