"""A cluster of an older major version becomes one of ours: dumped with the programs kept for it, restored, compared.

The old cluster is only read, and stays until the new one holds the same rows and takes its place. Whatever interrupts
this, the next start begins anew, or ends it where only the change of places was left (decision record 0013).
https://www.postgresql.org/docs/18/upgrading.html#UPGRADING-VIA-PGDUMPALL
"""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from kanglian.embedded_place import SYSTEM_USER, EmbeddedError, Place, programs_of_major
from kanglian.embedded_processes import end, end_all, postmaster
from kanglian.embedded_programs import as_server_user, last_words, make_cluster, run, spawn_server

_MEBIBYTE = 1 << 20
_ROOM_BYTES = 256 * _MEBIBYTE
"""Beside the data: the log of the new cluster and its catalogue."""
_TELL_S = 5.0
_OLD_PORT, _NEW_PORT = 5433, 5434
"""Names of sockets only: neither server listens on TCP."""
_PLAIN = """listen_addresses = ''
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
shared_memory_type = mmap
autovacuum = off
"""
_RESTORING = """fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 256MB
maintenance_work_mem = 128MB
"""
# the columns' order is the dump's; md5 of the row as text is the same in every version
_CONTENT = (
    "select $name${table}$name$, count(*), coalesce(sum(('x' || substr(md5(t::text), 1, 12))::bit(48)::bigint), 0) "
    "from {table} t"
)
_TABLES = """select quote_ident(n.nspname) || '.' || quote_ident(c.relname) from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and n.nspname not in ('pg_catalog', 'information_schema') order by 1"""
_DATABASES = "select datname from pg_database where datallowconn and not datistemplate order by 1"


def draft_of(place: Place) -> Path:
    """Where the new cluster grows."""
    return place.cluster.with_name("cluster-upgrade")


def finish_interrupted(place: Place, say: Callable[[str], None]) -> None:
    """Where an upgrade had ended but for the change of places, end it; called before anything looks for the cluster."""
    draft = draft_of(place)
    if not place.cluster.exists() and (draft / "kanglian-verified").exists():
        say("ending an interrupted upgrade of the database: the new cluster was complete")
        draft.rename(place.cluster)


def forget_old(place: Place) -> None:
    """Remove the clusters that upgrades replaced; called once the new one serves."""
    for old in place.cluster.parent.glob("cluster-of-*"):
        shutil.rmtree(old)
    (place.cluster / "kanglian-verified").unlink(missing_ok=True)


class Upgrade:
    """One upgrade; `run` leaves a cluster of our version in place, stopped, or everything as it was."""

    def __init__(self, place: Place, say: Callable[[str], None]) -> None:
        """Take the place, whose cluster is of another version, and what to do with a line of progress."""
        self._place = place
        self._say = say
        self._old = place
        self._draft = draft_of(place)
        self._major = (place.cluster / "PG_VERSION").read_text().strip()

    def run(self) -> None:
        """Dump, restore, compare, change places.

        Raises:
            EmbeddedError: it cannot be done; the text says why and what to do, and the old cluster is untouched.
        """
        ours = self._place.programs / "bin" / "postgres"
        version = run(self._place, "postgres", "--version").stdout.split()[2].partition(".")[0]
        if int(self._major) > int(version):
            raise EmbeddedError(
                f"the cluster {self._place.cluster} is of PostgreSQL {self._major}, newer than {ours} ({version}): "
                "start it with the kanglian that made it"
            )
        programs = programs_of_major(self._place, self._major)
        if programs is None:
            raise EmbeddedError(
                f"the cluster {self._place.cluster} is of PostgreSQL {self._major}, and its programs are neither in "
                f"{self._place.programs.parents[2]} nor in /usr/lib/postgresql/{self._major}: install "
                f"postgresql-{self._major}, or put the folder programs/ back from a backup"
            )
        self._old = replace(self._place, programs=programs)
        self._say(f"the database is of PostgreSQL {self._major}, the programs are of {version}: upgrading it")
        for folder in (self._place.cluster, self._draft):
            end_all(folder)
        shutil.rmtree(self._draft, ignore_errors=True)
        (self._place.cluster / "postmaster.pid").unlink(missing_ok=True)
        started = time.monotonic()
        with self._server(self._old, self._place.cluster, _OLD_PORT, "default_transaction_read_only = on\n"):
            size = int(self._ask(_OLD_PORT, "select sum(pg_database_size(oid)) from pg_database"))
            self._check_room(size)
            self._make_draft()
            with self._server(self._place, self._draft, _NEW_PORT, _RESTORING):
                self._restore(size)
                self._compare()
        self._change_places()
        self._say(f"the database is of PostgreSQL {version} now ({time.monotonic() - started:.0f} s)")

    # --- steps

    def _check_room(self, size: int) -> None:
        found = os.statvfs(self._place.cluster.parent)
        free, needed = found.f_bavail * found.f_frsize, size + size // 5 + _ROOM_BYTES
        if free < needed:
            raise EmbeddedError(
                f"the upgrade of the database needs {needed // _MEBIBYTE} MiB free at {self._place.cluster.parent}, "
                f"there are {free // _MEBIBYTE}: free some and start again; nothing was changed"
            )

    def _make_draft(self) -> None:
        """A new cluster whose transactions are numbered above all of the old one's.

        Rows name the transaction that wrote them (change log, audit), and their readers go on from there: numbers that
        began anew would lie behind those readers. The epoch is the upper half of a number, stored nowhere else.
        """
        make_cluster(self._place, self._draft)
        epoch = (int(self._ask(_OLD_PORT, "select pg_snapshot_xmax(pg_current_snapshot())::text")) >> 32) + 1
        done = run(self._place, "pg_resetwal", "-e", str(epoch), "-D", str(self._draft))
        if done.returncode != 0:
            raise EmbeddedError(f"pg_resetwal failed: {last_words(done.stderr)}")

    def _restore(self, size: int) -> None:
        """Roles, then each database; the old programs write the dump, since they alone know all that they stored."""
        roles = run(self._old, "pg_dumpall", "--globals-only", *self._to(_OLD_PORT))
        if roles.returncode != 0:
            raise EmbeddedError(f"the roles cannot be dumped: {last_words(roles.stderr)}")
        for line in roles.stdout.splitlines():
            if line.startswith(("CREATE ROLE", "ALTER ROLE", "GRANT")) and line != f"CREATE ROLE {SYSTEM_USER};":
                self._ask(_NEW_PORT, line)
        for database in self._ask(_OLD_PORT, _DATABASES).splitlines():
            if database != "postgres":
                created = run(self._place, "createdb", *self._to(_NEW_PORT), "-T", "template0", database)
                if created.returncode != 0:
                    raise EmbeddedError(f"the database {database} cannot be made: {last_words(created.stderr)}")
            self._pipe(database, size)
            self._ask(_NEW_PORT, "vacuum analyze", database)

    def _pipe(self, database: str, size: int) -> None:
        """Let psql read what pg_dump writes, as one transaction; tell how far it is."""
        account = {name: value for name, value in as_server_user(self._place).items() if name != "stdin"}
        dumping = [str(self._old.programs / "bin" / "pg_dump"), *self._to(_OLD_PORT, database)]
        reading = [str(self._place.programs / "bin" / "psql"), *self._to(_NEW_PORT, database)]
        reading += ["-X", "-q", "-v", "ON_ERROR_STOP=1", "--single-transaction"]
        nowhere = subprocess.DEVNULL
        with (self._place.logs / "upgrade.log").open("w+b") as words:
            with (
                subprocess.Popen(dumping, stdin=nowhere, stdout=subprocess.PIPE, stderr=words, **account) as source,
                subprocess.Popen(reading, stdin=source.stdout, stdout=nowhere, stderr=words, **account) as target,
            ):
                if source.stdout:
                    source.stdout.close()  # psql alone reads now: pg_dump ends when psql does
                self._follow(target, size)
            if target.returncode != 0 or source.returncode != 0:
                words.seek(0)
                raise EmbeddedError(f"the old database cannot be restored: {last_words(words.read().decode())}")

    def _follow(self, target: subprocess.Popen[bytes], size: int) -> None:
        while True:
            try:
                target.wait(_TELL_S)
            except subprocess.TimeoutExpired:
                now = int(self._ask(_NEW_PORT, "select sum(pg_database_size(oid)) from pg_database"))
                self._say(f"upgrading the database: {now // _MEBIBYTE} of about {size // _MEBIBYTE} MiB")
            else:
                return

    def _compare(self) -> None:
        """Count and add up every table on both sides."""
        self._say("comparing the old database with the new one")
        for database in self._ask(_OLD_PORT, _DATABASES).splitlines():
            tables = self._ask(_OLD_PORT, _TABLES, database).splitlines()
            query = " union all ".join(_CONTENT.format(table=table) for table in tables)
            if not query:
                continue
            was, is_now = (set(self._ask(port, query, database).splitlines()) for port in (_OLD_PORT, _NEW_PORT))
            if was != is_now:
                differing = ", ".join(sorted({line.partition("|")[0] for line in was ^ is_now}))
                raise EmbeddedError(
                    f"after the upgrade {differing} of {database} is not as before: the old cluster "
                    f"{self._place.cluster} is untouched; keep it and report this"
                )

    def _change_places(self) -> None:
        old = self._place.cluster
        for name in ("operator.conf", "kanglian-database-made"):
            if (old / name).exists():
                shutil.copy2(old / name, self._draft / name)
                if self._place.user.switch:
                    os.chown(self._draft / name, self._place.user.uid, self._place.user.gid)
        (self._draft / "kanglian-verified").touch()
        synced = run(self._place, "initdb", "--sync-only", "-D", str(self._draft))
        if synced.returncode != 0:
            raise EmbeddedError(f"the new cluster cannot be made durable: {last_words(synced.stderr)}")
        kept = old.with_name(f"cluster-of-{self._major}")
        shutil.rmtree(kept, ignore_errors=True)
        old.rename(kept)
        self._draft.rename(old)

    # --- servers

    @contextlib.contextmanager
    def _server(self, place: Place, folder: Path, port: int, settings: str) -> Iterator[None]:
        """A server of one version on one cluster, with settings of its own, ended at the end."""
        configuration = folder.parent / f"upgrade-{port}.conf"
        configuration.write_text(_PLAIN.format(sockets=place.sockets) + settings)
        configuration.chmod(0o644)
        log = place.logs / f"upgrade-{port}.log"
        options = ("-p", str(port), "-c", f"config_file={configuration}")
        process = spawn_server(place, place.programs, folder, log, *options)
        try:
            deadline = time.monotonic() + 600  # a recovery may come first
            while (found := postmaster(folder)) is None or found[1] != "ready":
                if process.poll() is not None or time.monotonic() > deadline:
                    words = last_words(log.read_text(errors="replace"))
                    raise EmbeddedError(f"PostgreSQL of {place.programs} did not start on {folder}: {words}")
                time.sleep(0.02)
            yield
        finally:
            if process.poll() is None:
                end(process.pid, folder)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            configuration.unlink()

    def _to(self, port: int, database: str | None = None) -> list[str]:
        arguments = ["-h", str(self._place.sockets), "-p", str(port), "-U", SYSTEM_USER]
        return arguments + (["-d", database] if database else [])

    def _ask(self, port: int, sql: str, database: str = "postgres") -> str:
        done = run(self._place, "psql", "-X", "-A", "-t", *self._to(port, database), "-c", sql)
        if done.returncode != 0:
            raise EmbeddedError(f"the upgrade of the database stopped: {last_words(done.stderr)}")
        return done.stdout.strip()
