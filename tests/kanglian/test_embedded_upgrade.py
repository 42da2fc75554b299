"""A cluster of an older PostgreSQL, written by the platform, becomes one of ours; its readers and seals go on."""

import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from analytics.files import AnalyticsFiles
from analytics.refresh import Refresh, Refresher
from consent import Consent
from ehr.store import Store, audit_seal, migrate
from kanglian import embedded_upgrade
from kanglian.embedded import MAJOR_VERSION, EmbeddedError, EmbeddedPostgres
from kanglian.embedded_place import Place, forget, locate, programs_of_major
from kanglian.embedded_processes import end, postmaster, processes_in
from kanglian.embedded_programs import make_cluster, run, spawn_server
from tests.consent.house import LOADER, WANG, House, encounter, observation, patient

_SETTINGS = """listen_addresses = ''
unix_socket_directories = '{sockets}'
shared_memory_type = mmap
fsync = off
"""
_LONG_LIFE = "5"
"""Epoch of the old cluster: it has run for twenty thousand million transactions."""


class Old:
    """A cluster of another major version in a data directory, with a server on it while it is written."""

    def __init__(self, data_dir: Path, programs: Path, place: Place) -> None:
        self.data_dir = data_dir
        self.place = replace(place, programs=programs)
        make_cluster(self.place, place.cluster)
        (place.cluster / "postgresql.conf").write_text(_SETTINGS.format(sockets=place.sockets))
        reset = run(self.place, "pg_resetwal", "-e", _LONG_LIFE, "-D", str(place.cluster))
        assert reset.returncode == 0, reset.stderr
        log = place.logs / "old.log"
        process = spawn_server(self.place, programs, place.cluster, log)
        while (found := postmaster(place.cluster)) is None or found[1] != "ready":
            assert process.poll() is None, log.read_text()
            time.sleep(0.02)
        self.process = process
        made = run(self.place, "createdb", "-h", str(place.sockets), "-U", "kanglian", "kanglian")
        assert made.returncode == 0, made.stderr
        (place.cluster / "kanglian-database-made").touch()
        (place.cluster / "operator.conf").write_text("work_mem = '7MB'\n")

    def stop(self) -> None:
        end(self.process.pid, self.place.cluster)
        self.process.wait(10)

    def version(self) -> str:
        return (self.place.cluster / "PG_VERSION").read_text().strip()


@pytest.fixture
def old() -> Iterator[Old]:
    data_dir = Path(tempfile.mkdtemp(prefix="kanglian-upgrade-"))
    data_dir.chmod(0o711)
    place = locate(data_dir)
    programs = next(filter(None, (programs_of_major(place, major) for major in ("16", "17", "15"))), None)
    try:
        if programs is None:
            pytest.skip("no programs of an older PostgreSQL are at hand")
        yield Old(data_dir, programs, place)
    finally:
        for folder in (place.cluster, embedded_upgrade.draft_of(place)):
            if found := postmaster(folder):
                end(found[0], folder)
        forget(data_dir)
        shutil.rmtree(data_dir)


async def _open(url: str, data_dir: Path) -> House:
    await migrate(url)
    decisions = Consent("cn-county")
    store = await Store.open(url, keys_path=data_dir / "keys" / "index.key", projections=decisions.projections())
    await decisions.open(store)
    return House(store, decisions)


async def _refresh(house: House, data_dir: Path) -> Refresh:
    files = AnalyticsFiles(data_dir / "analytics")
    return await Refresher(files, house.store.pool, b"s" * 32, house.decisions.people_for_counts).refresh()


async def _seal(url: str) -> tuple[int, list[audit_seal.Finding], int]:
    """How many rows were sealed now, what is wrong, and how many rows no seal names yet."""
    connection = await asyncpg.connect(url)
    sealed = await audit_seal.seal(connection)
    findings = await audit_seal.verify(connection)
    left = await connection.fetchval(
        "select count(*) from audit_row a where not exists (select from audit_seal s where a.sequence = any(s.members))"
    )
    await connection.close()
    return sealed, findings, left


async def test_an_older_cluster_is_upgraded_and_its_readers_go_on(old: Old) -> None:
    house = await _open(old.place.url, old.data_dir)
    await house.put(LOADER, {"resourceType": "Organization", "id": "first-hospital", "name": "first"})
    await house.feed("first-hospital", patient("first-hospital.p"), encounter("first-hospital.e", "first-hospital.p"))
    await house.feed("first-hospital", observation("first-hospital.o", "first-hospital.p"))
    assert (await _refresh(house, old.data_dir)).changes == 4
    assert (await _seal(old.place.url))[0] == 3
    assert await house.sees(WANG, "Observation/first-hospital.o")  # not sealed before the upgrade
    await house.store.close()
    old.stop()

    said: list[str] = []
    server = EmbeddedPostgres(old.data_dir, say=said.append)
    server.start()
    try:
        assert old.version() == MAJOR_VERSION
        assert any("upgrading it" in line for line in said)
        assert not list(server.place.cluster.parent.glob("cluster-*")), "the old cluster goes once the new one serves"
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("show work_mem") == "7MB"
        assert await connection.fetchval("show data_checksums") == "on"
        await connection.close()
        house = await _open(server.url, old.data_dir)
        await house.feed("first-hospital", observation("first-hospital.o2", "first-hospital.p"))
        assert await house.sees(WANG, "Observation/first-hospital.o")
        assert (await _refresh(house, old.data_dir)).changes == 1, "the new Observation, and it alone"
        assert await _seal(server.url) == (3, [], 0), "the read before the upgrade, the write and the read after it"
        await house.store.close()
    finally:
        server.stop()


def test_what_spoils_or_interrupts_an_upgrade_costs_nothing(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    _ask(old.place, "create table kept as select generate_series(1, 1000) as n")
    old.stop()

    upgrade = embedded_upgrade.Upgrade(locate(old.data_dir), lambda _: None)

    def spoil(line: str) -> None:
        if line.startswith("comparing"):
            upgrade._ask(embedded_upgrade._NEW_PORT, "update kept set n = 2 where n = 1", "kanglian")

    upgrade._say = spoil
    with pytest.raises(EmbeddedError, match=r"public\.kept of kanglian is not as before"):
        upgrade.run()
    assert old.version() != MAJOR_VERSION
    assert not processes_in(old.place.cluster)
    assert not processes_in(embedded_upgrade.draft_of(old.place))
    with monkeypatch.context() as patched:
        patched.setattr(embedded_upgrade, "_ROOM_BYTES", 1 << 60)
        with pytest.raises(EmbeddedError, match=r"MiB free at .*nothing was changed"):
            EmbeddedPostgres(old.data_dir).start()
    embedded_upgrade.Upgrade(locate(old.data_dir), lambda _: None).run()
    # the power goes between the two changes of places
    old.place.cluster.rename(embedded_upgrade.draft_of(old.place))
    server = EmbeddedPostgres(old.data_dir)
    server.start()
    try:
        assert _ask(server.place, "select sum(n) from kept") == "500500"
    finally:
        server.stop()


def test_a_newer_cluster_and_one_without_programs_are_refused(tmp_path: Path) -> None:
    place = locate(_reachable(tmp_path))
    place.cluster.mkdir()
    for major, words in (("99", "newer than"), ("9", "put the folder programs/ back")):
        (place.cluster / "PG_VERSION").write_text(f"{major}\n")
        with pytest.raises(EmbeddedError, match=words):
            EmbeddedPostgres(tmp_path).start()


def _reachable(folder: Path) -> Path:
    folder.chmod(0o711)
    return folder


def _ask(place: Place, sql: str) -> str:
    done = run(place, "psql", "-X", "-A", "-t", "-h", str(place.sockets), "-U", "kanglian", "-d", "kanglian", "-c", sql)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
