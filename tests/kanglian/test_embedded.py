"""The embedded PostgreSQL on real clusters: made, adopted, recovered, ended; as root and as an ordinary user."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kanglian.embedded import EmbeddedError, EmbeddedPostgres
from kanglian.embedded_place import forget
from kanglian.embedded_processes import processes_in

_CHECKOUT = Path(__file__).resolve().parents[2]
_OWNER = """
import sys, os, time
from pathlib import Path
from kanglian.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, server.place.cluster, os.getuid(), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kanglian-embedded-"))
    folder.chmod(0o711)
    yield folder
    for name in ("", "a", "b"):
        forget(folder / name)
    shutil.rmtree(folder)


def _ask(server: EmbeddedPostgres, sql: str) -> str:
    connection = ["-X", "-A", "-t", "-h", str(server.place.sockets), "-U", "kanglian", "-d", "kanglian"]
    return subprocess.run(
        [str(server.place.programs / "bin" / "psql"), *connection, "-c", sql],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def _gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not psutil.pid_exists(pid)


def test_it_keeps_its_data_speaks_only_on_its_socket_and_stops_cleanly(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    assert server.pid is not None
    assert _ask(server, "show server_encoding") == "UTF8"
    assert _ask(server, "show fsync") == "on"
    assert _ask(server, "select datcollate from pg_database where datname = 'kanglian'") == "C"
    assert server.place.sockets.stat().st_mode & 0o777 == 0o700
    assert not psutil.Process(server.pid).net_connections("tcp")
    assert os.getsid(server.pid) != os.getsid(0)
    _ask(server, "create table kept as select 1 as one")
    pid = server.pid
    server.stop()
    assert _gone(pid)
    again = EmbeddedPostgres(data_dir)
    again.start()
    assert _ask(again, "select one from kept") == "1"
    again.stop()


def test_two_data_directories_run_at_once(data_dir: Path) -> None:
    servers = [EmbeddedPostgres(data_dir / name) for name in ("a", "b")]
    for server in servers:
        server.start()
    _ask(servers[0], "create table mine ()")
    assert _ask(servers[1], "select to_regclass('mine') is null") == "t"
    for server in servers:
        server.stop()


def test_it_ends_with_a_killed_owner(data_dir: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline().split()[0])
    owner.kill()
    owner.communicate()
    assert _gone(pid)


def test_an_orphan_that_the_pid_file_names_is_adopted(data_dir: Path) -> None:
    first = EmbeddedPostgres(data_dir)
    first.start()
    second = EmbeddedPostgres(data_dir)
    second.start()
    assert second.pid == first.pid
    assert second.alive()
    second.stop()
    assert not first.alive()


def test_an_orphan_that_it_does_not_name_is_ended(data_dir: Path) -> None:
    first = EmbeddedPostgres(data_dir)
    first.start()
    (first.place.cluster / "postmaster.pid").unlink()
    second = EmbeddedPostgres(data_dir)
    second.start()
    assert second.pid != first.pid
    assert not first.alive()
    second.stop()


def test_a_stale_pid_file_of_another_live_process_does_not_matter(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    server.stop()
    stale = server.place.cluster / "postmaster.pid"
    stale.write_text(f"{os.getppid()}\n{server.place.cluster}\n1\n5432\n\n\n\nready\n")
    server.start()
    assert _ask(server, "select 1") == "1"
    server.stop()


def test_it_is_back_after_a_kill_with_what_was_committed(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    assert server.pid is not None
    _ask(server, "create table kept as select generate_series(1, 1000) as number")
    os.kill(server.pid, signal.SIGKILL)
    started = time.monotonic()
    while server.alive():
        time.sleep(0.01)
    server.start()
    assert _ask(server, "select count(*) from kept") == "1000"
    assert time.monotonic() - started < 10
    server.stop()


def test_a_cut_off_initdb_is_made_again(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.place.cluster.with_name("cluster-draft").mkdir()
    server.start()
    assert _ask(server, "select 1") == "1"
    server.stop()


def test_a_wrong_setting_of_the_operator_is_told(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    server.start()
    server.stop()
    (server.place.cluster / "operator.conf").write_text("shared_bufers = 1GB\n")
    with pytest.raises(EmbeddedError, match="shared_bufers"):
        server.start()


def test_a_data_directory_of_another_is_told(data_dir: Path, ordinary_user: str) -> None:
    closed = data_dir / "closed"
    closed.mkdir(mode=0o755)
    done = _as_user(ordinary_user, "-c", _OWNER, str(closed))
    assert done.returncode != 0
    assert f"the data directory {closed} belongs to root" in done.stderr


def test_an_ordinary_user_needs_nothing_of_the_system(data_dir: Path, ordinary_user: str) -> None:
    mine = data_dir / "a"
    mine.mkdir(mode=0o700)
    shutil.chown(mine, ordinary_user)
    done = _as_user(ordinary_user, "-c", _OWNER, str(mine))
    assert done.returncode == 0, done.stderr
    _, cluster, uid = done.stdout.split()
    assert cluster == str(mine / "postgres" / "cluster")
    assert Path(cluster).stat().st_uid == int(uid)
    assert not processes_in(Path(cluster))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a system user to hand the cluster to")
def test_what_the_system_user_cannot_reach_lies_in_var_lib_until_its_id_file_goes(data_dir: Path) -> None:
    data_dir.chmod(0o700)
    server = EmbeddedPostgres(data_dir)
    assert server.place.cluster.parent.parent == Path("/var/lib/kanglian")
    server.start()
    _ask(server, "create table kept ()")
    again = EmbeddedPostgres(data_dir)
    assert again.place.cluster == server.place.cluster
    server.stop()
    (data_dir / "postgres.id").unlink()
    fresh = EmbeddedPostgres(data_dir)
    assert not fresh.place.cluster.exists()


def _as_user(user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        user=user,
        group="nogroup",
        extra_groups=[],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(_CHECKOUT)},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def ordinary_user() -> str:
    """The account nobody: no home, no rights; it must be able to read the interpreter and the checkout."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    try:
        reads = subprocess.run(
            [sys.executable, "-c", "import kanglian.embedded"],
            user="nobody",
            group="nogroup",
            extra_groups=[],
            env={"PYTHONPATH": str(_CHECKOUT)},
            cwd="/",
            capture_output=True,
            check=False,
        ).returncode
    except PermissionError:
        reads = -1
    if reads != 0:
        pytest.skip("the interpreter or the checkout lies where other users may not read")
    return "nobody"
