"""A full disk on a real small file system: writes end, reads and their audit go on, and all comes back."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from consent import Consent
from ehr.errors import NoRoom, Unavailable
from ehr.store import Store, WriteOperation, migrate
from ehr.store.inbox import InboxMessage
from fhir_api.operation_outcome import status_of
from kanglian.ballast import Ballast, ballast_of
from kanglian.commands import doctor
from kanglian.embedded import EmbeddedPostgres
from kanglian.settings import Settings
from tests.consent.house import LOADER, NOTE, WANG, House, consent, encounter, observation, patient, resident

_MIB = 1 << 20
_CHECKOUT = Path(__file__).resolve().parents[2]
_DISK_MIB, _BALLAST_MIB = 192, 48


@pytest.fixture(scope="module")
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kanglian-small-"))
    folder.chmod(0o711)
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m,mode=711", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True, check=False).returncode != 0:
        folder.rmdir()
        pytest.skip("only root may mount a small file system, and not everywhere")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


@dataclass
class Small:
    """A platform's database on the small disk, with what is said about it."""

    disk: Path
    server: EmbeddedPostgres
    house: House
    said: list[str]

    @property
    def ballast(self) -> Ballast:
        return self.server.ballast

    def fill(self, *, leave_mib: int) -> None:
        """Let somebody else take the room; 0 = until the disk is full."""
        take = self.ballast.free_bytes() - leave_mib * _MIB
        with contextlib.suppress(OSError), (self.disk / "filler").open("ab") as filler:
            os.posix_fallocate(filler.fileno(), filler.tell(), take)
        self.look()

    def make_room(self) -> None:
        (self.disk / "filler").unlink()
        self.server.tend()
        self.look()

    def look(self) -> None:
        """As a quarter of a second later."""
        self.ballast._look_at = 0.0

    async def audited(self) -> list[tuple[str, int]]:
        """Action and outcome of every audit row."""
        connection = await asyncpg.connect(self.server.url)
        rows = await connection.fetch("select action, outcome from audit_row order by sequence")
        await connection.close()
        return [(row["action"], row["outcome"]) for row in rows]

    def found(self) -> dict[str, str]:
        settings = Settings.read({"KANGLIAN_DATA_DIR": str(self.disk), "KANGLIAN_BALLAST_MIB": str(_BALLAST_MIB)})
        return {finding.what: finding.words for finding in doctor._ballast(settings) if not finding.well}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(small_disk: Path) -> AsyncIterator[Small]:
    said: list[str] = []
    server = EmbeddedPostgres(small_disk, ballast_mib=_BALLAST_MIB, say=said.append)
    server.start()
    decisions = Consent("cn-county")
    await migrate(server.url)
    server.tend()
    store = await Store.open(
        server.url,
        keys_path=small_disk / "keys" / "index.key",
        projections=decisions.projections(),
        has_room=server.ballast.has_room,
    )
    await decisions.open(store)
    house = House(store, decisions)
    await house.put(LOADER, {"resourceType": "Organization", "id": "first-hospital", "name": "first"})
    await house.feed("first-hospital", patient("first-hospital.p"), encounter("first-hospital.e", "first-hospital.p"))
    await house.feed("first-hospital", observation("first-hospital.o", "first-hospital.p"))
    yield Small(small_disk, server, house, said)
    await store.close()
    server.stop()


_MESSAGE = InboxMessage("feed", "first-hospital", "lab", "1", b"c" * 32, "lab 1", "ORU", b"MSH|")


@pytest.mark.asyncio(loop_scope="module")
async def test_writes_end_before_the_ballast_is_touched(small: Small) -> None:
    assert small.ballast.path.stat().st_blocks * 512 >= _BALLAST_MIB * _MIB, "the file holds room"
    small.fill(leave_mib=_BALLAST_MIB // 4 - 2)
    small.server.tend()
    assert small.ballast.lies()
    before = await small.audited()
    with pytest.raises(NoRoom) as refused:
        await small.house.put(WANG, observation("first-hospital.n", "first-hospital.p"))
    assert status_of(refused.value) == 507
    with pytest.raises(NoRoom):
        await small.house.store.inbox.accept([_MESSAGE])
    assert await small.house.sees(WANG, "Observation/first-hospital.o")
    assert (await small.audited())[len(before) :] == [("R", 8), ("R", 0)], "the refused write, then the read"
    assert "writes are refused (507)" in small.found()["ballast"]
    small.make_room()


@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_full_disk_reads_are_audited_from_what_the_ballast_held(small: Small) -> None:
    small.fill(leave_mib=0)
    assert small.ballast.free_bytes() < _MIB
    small.server.tend()
    assert not small.ballast.lies()
    assert "released for the audit" in small.said[-1]
    before = len(await small.audited())
    for _ in range(200):
        assert await small.house.sees(WANG, "Observation/first-hospital.o")
    assert len(await small.audited()) == before + 200
    with pytest.raises(NoRoom):
        await small.house.feed("first-hospital", observation("first-hospital.o2", "first-hospital.p"))
    assert "comes back by itself" in small.found()["ballast"]
    assert await _withdraw(small) == ["created"], "a withdrawal closes nevertheless"
    with pytest.raises(NoRoom):
        await _withdraw(small, attached_bytes=100_000)
    small.make_room()
    assert small.ballast.lies()
    assert small.found() == {}
    await small.house.feed("first-hospital", observation("first-hospital.o3", "first-hospital.p"))


async def _withdraw(small: Small, attached_bytes: int = 0) -> list[str]:
    refusal = consent("first-hospital.p", base="OPTOUT", dateTime="2026-01-01T00:00:00+08:00")
    refusal["sourceAttachment"] = {"contentType": "text/plain", "data": "A" * attached_bytes or "QQ=="}
    scope = await small.house.decisions.write_scope(resident("first-hospital.p"))
    operation = WriteOperation("create", "Consent", body=msgspec.json.encode(refusal))
    return [outcome.kind for outcome in await small.house.store.write(scope, [operation], NOTE)]


@pytest.mark.asyncio(loop_scope="module")
async def test_a_disk_without_any_room_shows_nothing(small: Small) -> None:
    small.fill(leave_mib=0)
    small.server.tend()
    small.fill(leave_mib=0)
    with pytest.raises(Unavailable):
        await _read_on(small)
    small.make_room()
    if not small.server.alive():  # PostgreSQL ends itself where its log has no room; the supervisor starts it again
        small.server.start()
    await _until_it_answers(small)
    await small.house.feed("first-hospital", observation("first-hospital.o4", "first-hospital.p"))


async def _read_on(small: Small) -> None:
    for _ in range(20_000):
        await small.house.sees(WANG, "Observation/first-hospital.o")


async def _until_it_answers(small: Small) -> None:
    for _ in range(50):
        with contextlib.suppress(Unavailable):
            assert await small.house.sees(WANG, "Observation/first-hospital.o")
            return
        await asyncio.sleep(0.1)
    pytest.fail("the record does not come back")


def test_another_size_is_made_anew_and_none_is_removed(tmp_path: Path) -> None:
    for mebibytes in (1, 3, 2):
        assert "lies ready" in (Ballast(tmp_path, mebibytes).tend() or "")
        assert (tmp_path / "ballast").stat().st_size == mebibytes * _MIB
    assert Ballast(tmp_path, 2).tend() is None
    assert "released" in (Ballast(tmp_path, 0).tend() or "")
    assert not (tmp_path / "ballast").exists()


def test_without_a_size_or_with_another_database_there_is_always_room(tmp_path: Path) -> None:
    none = Settings.read({"KANGLIAN_DATA_DIR": str(tmp_path), "KANGLIAN_BALLAST_MIB": "0"})
    other = Settings.read({"KANGLIAN_DATA_DIR": str(tmp_path), "KANGLIAN_DATABASE_URL": "postgresql://h/d"})
    assert [ballast_of(settings).has_room() for settings in (none, other)] == [True, True]
    (tmp_path / "postgres").mkdir()
    assert not ballast_of(Settings.read({"KANGLIAN_DATA_DIR": str(tmp_path)})).has_room(), "no file lies there yet"


_SUPERVISED = """
import sys
from pathlib import Path
from kanglian.embedded import EmbeddedPostgres
from kanglian.supervise import Supervisor
say = lambda line: print(line, flush=True)
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
Supervisor([], server, say=say, complete=lambda: say("complete")).run()
"""


def test_the_supervisor_tries_again_until_there_is_room(small_disk: Path) -> None:
    platform = small_disk / "another"
    platform.mkdir(mode=0o711)
    supervisor = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISED, str(platform)], stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT
    )
    assert supervisor.stdout is not None
    try:
        postgres = int(supervisor.stdout.readline())
        assert supervisor.stdout.readline() == "complete\n"
        filler = small_disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False)
        os.kill(postgres, signal.SIGKILL)
        said = [supervisor.stdout.readline() for _ in range(2)]
        assert "trying again in 2 s" in said[1], said
        filler.unlink()
        while "is back" not in said[-1]:
            said.append(supervisor.stdout.readline())
            assert said[-1], said
    finally:
        supervisor.terminate()
        supervisor.communicate(timeout=30)
    assert supervisor.returncode == 0
