"""The embedded PostgreSQL: made, started, watched and ended by `kanglian serve` and by the tests.

The programs come from a wheel (decision record 0005); the server listens on a Unix socket in a directory of mode 0700
and nowhere else. https://www.postgresql.org/docs/18/app-postgres.html
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from kanglian.ballast import Ballast
from kanglian.embedded_place import SYSTEM_USER, EmbeddedError, Place, locate
from kanglian.embedded_processes import end, end_all, postmaster, processes_in, programs_of
from kanglian.embedded_programs import die_with_parent, last_words, make_cluster, run, spawn_server
from kanglian.embedded_upgrade import Upgrade, finish_interrupted, forget_old

__all__ = ["EmbeddedError", "EmbeddedPostgres", "die_with_parent"]

MAJOR_VERSION = "18"
_MEBIBYTE = 1 << 20

_SETTINGS = """\
# Written by kanglian at each start; put settings of your own into operator.conf beside this file.
listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 120
shared_buffers = {shared_buffers_mb}MB
effective_cache_size = {cache_mb}MB
work_mem = 16MB
maintenance_work_mem = {maintenance_mb}MB
shared_memory_type = mmap
huge_pages = off
io_method = sync
random_page_cost = 1.1
effective_io_concurrency = 16
jit = off
max_parallel_workers_per_gather = 0
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
max_wal_senders = 3
wal_buffers = 16MB
min_wal_size = 128MB
max_wal_size = 1GB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
autovacuum_max_workers = 2
autovacuum_naptime = 30s
autovacuum_vacuum_scale_factor = 0.1
autovacuum_vacuum_insert_scale_factor = 0.2
autovacuum_analyze_scale_factor = 0.05
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, ymd'
lc_messages = 'C'
logging_collector = on
log_directory = '{logs}'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_line_prefix = '%m [%p] '
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_min_error_statement = panic
log_checkpoints = off
include_if_exists = 'operator.conf'
"""
# max_wal_size: after a crash about that much is replayed, 200 MB in a CPU second, and "back within 10 s" is asked.
# log_min_error_statement and the parameter lengths: statements carry values of patients, the log shall not.


class EmbeddedPostgres:
    """One cluster of one data directory; not thread safe, one owner at a time (the caller holds the lock)."""

    def __init__(self, data_dir: Path, *, ballast_mib: int = 0, say: Callable[[str], None] = lambda _: None) -> None:
        """Take the data directory, the size of its ballast (0 = none) and what to do with a line of progress."""
        self._say = say
        self.place: Place = locate(data_dir)
        self.ballast = Ballast(self.place.cluster.parent, ballast_mib)
        self._child: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    @property
    def url(self) -> str:
        """Address of the platform's database."""
        return self.place.url

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, None before the start."""
        return self._pid

    def start(self) -> None:
        """Adopt the running server of this cluster, or start one; returns when it answers.

        Raises:
            EmbeddedError: it cannot be made or started; the text ends with PostgreSQL's own last words.
        """
        self.tend()
        finish_interrupted(self.place, self._say)
        made_by = self.place.cluster / "PG_VERSION"
        if not made_by.exists():
            self._initialise()
        elif made_by.read_text().strip() != MAJOR_VERSION:
            Upgrade(self.place, self._say).run()
        self._write_settings()
        if self._adopt():
            return
        self._end_strays()
        self._spawn()
        self._wait_until_ready()
        self._ensure_database()
        forget_old(self.place)

    def tend(self) -> None:
        """Look at the disk: the ballast goes when it is full and comes back when there is room."""
        with contextlib.suppress(OSError):  # a folder that is being removed ends nobody
            if news := self.ballast.tend():
                self._say(news)

    def alive(self) -> bool:
        """Whether the postmaster runs."""
        if self._child is not None:
            return self._child.poll() is None
        found = postmaster(self.place.cluster)
        return found is not None and found[0] == self._pid

    def watch(self) -> int:
        """A file descriptor that becomes readable when the postmaster ends; the caller closes it."""
        if self._pid is None:
            raise EmbeddedError("PostgreSQL was not started")
        return os.pidfd_open(self._pid)

    def stop(self) -> None:
        """Shut down cleanly: a checkpoint is written, so that the next start needs no recovery."""
        if self._pid is None:
            return
        end(self._pid, self.place.cluster)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(5)
        self._pid = self._child = None

    # --- making

    def _initialise(self) -> None:
        self._say("making the database cluster")
        if self.place.cluster.exists():
            end_all(self.place.cluster)
            shutil.rmtree(self.place.cluster)  # an initdb that was cut off: PG_VERSION comes with its first files
        draft = self.place.cluster.with_name("cluster-draft")
        shutil.rmtree(draft, ignore_errors=True)
        make_cluster(self.place, draft)
        draft.rename(self.place.cluster)

    def _write_settings(self) -> None:
        memory_mb = psutil.virtual_memory().total // _MEBIBYTE
        text = _SETTINGS.format(
            sockets=self.place.sockets,
            logs=self.place.logs,
            shared_buffers_mb=min(max(memory_mb // 8, 32), 1024),
            cache_mb=max(memory_mb // 2, 128),
            maintenance_mb=min(max(memory_mb // 32, 32), 256),
        )
        target = self.place.cluster / "postgresql.conf"
        if target.exists() and target.read_text() == text:
            return
        draft = target.with_suffix(".draft")
        draft.write_text(text)
        if self.place.user.switch:
            os.chown(draft, self.place.user.uid, self.place.user.gid)
        draft.replace(target)

    # --- starting

    def _adopt(self) -> bool:
        """Take over an orphan that postmaster.pid names and that runs our programs; wait for one that is stopping."""
        deadline = time.monotonic() + 30
        while (found := postmaster(self.place.cluster)) is not None:
            pid, status = found
            if programs_of(pid) != self.place.programs:
                end(pid, self.place.cluster)
                return False
            if status == "ready":
                self._pid = pid
                self._say(f"adopted the running PostgreSQL (process {pid})")
                self._ensure_database()
                return True
            if time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL, process {pid}, has been {status} for 30 s on {self.place.cluster}")
            time.sleep(0.05)
        return False

    def _end_strays(self) -> None:
        """No process may be left on the cluster; only then may a stale postmaster.pid be removed."""
        end_all(self.place.cluster)
        if left := processes_in(self.place.cluster):
            raise EmbeddedError(f"PostgreSQL processes {left} hold {self.place.cluster} and do not end")
        (self.place.cluster / "postmaster.pid").unlink(missing_ok=True)

    def _spawn(self) -> None:
        log = self.place.logs / "start.log"
        self._child = spawn_server(self.place, self.place.programs, self.place.cluster, log)
        self._pid = self._child.pid

    def _wait_until_ready(self) -> None:
        started = told = time.monotonic()
        while (found := postmaster(self.place.cluster)) is None or found[1] != "ready":
            if self._child is not None and self._child.poll() is not None:
                raise EmbeddedError(f"PostgreSQL did not start: {self._log_tail()}")
            now = time.monotonic()
            if found is None and now - started > 30:
                raise EmbeddedError(f"PostgreSQL did not start within 30 s: {self._log_tail()}")
            if now - told > 5:
                told = now
                self._say(f"PostgreSQL is {found[1] if found else 'starting'} ({now - started:.0f} s)")
            time.sleep(0.02)

    def _ensure_database(self) -> None:
        marker = self.place.cluster / "kanglian-database-made"
        if marker.exists():
            return
        sql = "select 1 from pg_database where datname = 'kanglian'"
        connection = ("-X", "-A", "-t", "-h", str(self.place.sockets), "-U", SYSTEM_USER, "-d", "postgres")
        found = run(self.place, "psql", *connection, "-c", sql)
        if found.returncode == 0 and not found.stdout.strip():
            found = run(self.place, "psql", *connection, "-c", "create database kanglian")
        if found.returncode != 0:
            raise EmbeddedError(f"the database could not be made: {last_words(found.stderr)}")
        marker.touch()

    def _log_tail(self) -> str:
        """PostgreSQL's own words: those before its log collector ran, else the end of its newest log."""
        files = sorted(self.place.logs.glob("postgresql-*.log"), key=lambda file: file.stat().st_mtime)
        for file in (self.place.logs / "start.log", *reversed(files)):
            if words := last_words(file.read_text(errors="replace")):
                return words
        return f"see {self.place.logs}"
