"""`kanglian doctor`: looks for what keeps the platform from running, and says what to do about it."""

import argparse
import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ehr.errors import Invalid
from kanglian.ballast import ballast_of
from kanglian.commands.identity import base_url
from kanglian.embedded_place import home_of
from kanglian.embedded_processes import is_stopped, is_zombie
from kanglian.ownership import is_owned, read_owner
from kanglian.settings import Settings, SettingsError, unknown_variables

NAME = "doctor"
HELP = "look for what keeps the platform from running: settings, ports, disk, permissions, processes, database"
if TYPE_CHECKING:
    from ehr.store.inbox import Backlog

_LOW_DISK_BYTES = 1 << 30
_LONG_WAIT_S = 60.0
_FULL_DISK_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    what: str
    well: bool
    words: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no option."""
    del parser


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print one line a finding; 1 where something is wrong."""
    del arguments
    wrong = 0
    for finding in examine(settings):
        wrong += not finding.well
        print(f"{'ok   ' if finding.well else 'WRONG'} {finding.what}: {finding.words}")
    print("nothing wrong was found" if not wrong else f"{wrong} wrong")
    return 1 if wrong else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, cheapest first."""
    yield _settings(settings)
    yield _permission(settings.data_dir)
    yield _disk(settings)
    yield from _ballast(settings)
    running = is_owned(settings.data_dir)
    yield from _processes(settings) if running else _ports(settings)
    database = _database(settings, running=running)
    yield database
    if database.well and read_owner(settings.data_dir).get("state") == "running" and running:
        yield _conversion(settings)
    if running:
        yield from _labels(settings)
        yield _readiness(settings)


def _settings(settings: Settings) -> Finding:
    unknown = unknown_variables()
    if unknown:
        return Finding("settings", well=False, words=f"{', '.join(unknown)}: no such setting (docs/settings.md)")
    try:
        settings.check_serving()
    except SettingsError as error:
        return Finding("settings", well=False, words=str(error))
    kind = "embedded default" if settings.embedded_default else f"issuer {settings.oidc_issuer}"
    return Finding("settings", well=True, words=f"{kind}, policy {settings.policy}, {settings.workers} HTTP workers")


def _permission(data_dir: Path) -> Finding:
    nearest = _nearest(data_dir)
    if not os.access(nearest, os.W_OK | os.X_OK):
        return Finding("data directory", well=False, words=f"this user may not write {nearest}; set KANGLIAN_DATA_DIR")
    for part in ("keys", "keys/issuer.pem"):
        if (data_dir / part).exists() and not os.access(data_dir / part, os.R_OK):
            words = f"this user may not read {data_dir / part}: run as the user that made it"
            return Finding("data directory", well=False, words=words)
    return Finding("data directory", well=True, words=str(data_dir))


def _nearest(data_dir: Path) -> Path:
    """The folder itself, or the nearest above it that this user sees."""
    return next(folder for folder in (data_dir, *data_dir.parents) if os.path.exists(folder))  # noqa: PTH110 - Path.exists raises where a folder above is closed


def _disk(settings: Settings) -> Finding:
    places = {_nearest(settings.data_dir), _nearest(home_of(settings.data_dir))}
    if os.geteuid() == 0 and not home_of(settings.data_dir).exists():
        places.add(Path("/var/lib"))
    free, place = min((shutil.disk_usage(place).free, str(place)) for place in places)
    words = f"{free / (1 << 30):.1f} GiB free at {place}"
    if free < _FULL_DISK_BYTES:
        return Finding("disk", well=False, words=f"full: {words}; free some, nothing is written meanwhile")
    if free < _LOW_DISK_BYTES:
        return Finding("disk", well=False, words=f"nearly full: {words}")
    return Finding("disk", well=True, words=words)


def _ballast(settings: Settings) -> Iterator[Finding]:
    """The file that keeps audit writable (decision record 0012); nothing where the database is not ours or not made."""
    ballast = ballast_of(settings)
    if settings.database_url is not None or not ballast.path.parent.is_dir():
        return
    free_mib, size_mib = ballast.free_bytes() >> 20, settings.ballast_mib
    place = f"{free_mib} MiB free at {ballast.path.parent}"
    if not size_mib:
        yield Finding("ballast", well=True, words="none (KANGLIAN_BALLAST_MIB is 0): a full disk stops reads too")
    elif not ballast.lies():
        words = f"released, {place}: writes are refused (507), reads and their audit use what it held"
        wanted_mib = ballast.wanted_bytes >> 20
        yield Finding(
            "ballast", well=False, words=f"{words}; free {wanted_mib - free_mib} MiB, it comes back by itself"
        )
    elif not ballast.has_room():
        words = f"{place}, under {ballast.low_bytes >> 20} MiB: writes are refused (507), reading goes on; free some"
        yield Finding("ballast", well=False, words=words)
    else:
        yield Finding("ballast", well=True, words=f"{size_mib} MiB lie ready at {ballast.path}")


def _processes(settings: Settings) -> Iterator[Finding]:
    facts = read_owner(settings.data_dir)
    words = f"{facts.get('state')}, process {facts.get('pid')}, {facts.get('base_url')}"
    if is_stopped(int(facts.get("pid", 0))):
        words = f"its supervisor was stopped, nothing is brought back meanwhile: kill -CONT {facts['pid']}"
        yield Finding("platform", well=False, words=words)
    else:
        yield Finding("platform", well=True, words=words)
    children = facts.get("children") or {}
    for name in facts.get("expected", ()):
        pid = children.get(name)
        alive = pid is not None and not is_zombie(pid)  # a supervisor that hangs does not bury its children
        stopped = pid is not None and is_stopped(pid)
        words = f"process {pid}" if alive else "dead; the supervisor starts it again, its lines say why it died"
        if stopped:
            words = f"process {pid} was stopped; the supervisor ends or continues it within seconds"
        yield Finding(f"process {name}", well=alive and not stopped, words=words)


def _ports(settings: Settings) -> Iterator[Finding]:
    from kanglian.ports import PortError, listen
    from kanglian.wiring import port_settings

    yield Finding("platform", well=True, words=f"not running on {settings.data_dir} (make run starts it)")
    try:
        ports = {settings.mllp_port: "KANGLIAN_MLLP_PORT"} | port_settings(settings)
    except Invalid as error:
        yield Finding("feeds", well=False, words=str(error))
        return
    for port, name in ports.items():
        try:
            listen(settings.host, port, name).close()
        except PortError as error:
            yield Finding(f"port {port}", well=False, words=str(error))
        else:
            yield Finding(f"port {port}", well=True, words="free")


def _database(settings: Settings, *, running: bool) -> Finding:
    import asyncio

    if settings.database_url is None and not running:
        return Finding("database", well=True, words="embedded, starts with the platform")
    url = settings.database_url or read_owner(settings.data_dir).get("database_url")
    if url is None:  # told once it answers
        return Finding("database", well=True, words="embedded, it is being started")
    try:
        version = asyncio.run(_version(url))
    except Exception as error:  # noqa: BLE001 - whatever keeps us from the database is the finding
        words = f"cannot be reached ({type(error).__name__}: {error}); check KANGLIAN_DATABASE_URL and the server"
        return Finding("database", well=False, words=words if settings.database_url else f"embedded, {words}")
    if version < 150_000:
        return Finding(
            "database", well=False, words=f"PostgreSQL {version // 10_000} is too old, 15 or later is needed"
        )
    return Finding("database", well=True, words=f"PostgreSQL {version // 10_000}.{version % 10_000}")


def _labels(settings: Settings) -> Iterator[Finding]:
    """How far the reading anew is, where the label sets changed (decision record 0014)."""
    import asyncio

    from ehr.access.relabelling import progress

    url = settings.database_url or str(read_owner(settings.data_dir).get("database_url"))
    with contextlib.suppress(Exception):  # the finding before has said why the database cannot be asked
        if found := asyncio.run(progress(url)):
            walk, hundredths = found
            words = f"the sets changed: walk {walk}, {hundredths} % of the rows read anew"
            yield Finding("labels", well=False, words=f"{words}; what may lack a label is closed until it is done")


async def _version(url: str) -> int:
    import asyncpg

    connection = await asyncpg.connect(url, timeout=5)
    try:
        return int(await connection.fetchval("show server_version_num"))
    finally:
        await connection.close()


def _conversion(settings: Settings) -> Finding:
    """Whether messages become records soon after their acknowledgement."""
    import asyncio

    from kanglian.commands.database import opened_inbox

    async def look() -> "list[Backlog]":
        async with opened_inbox(settings) as inbox:
            return await inbox.backlog()

    backlogs = asyncio.run(look())
    if not backlogs:
        return Finding("conversion", well=True, words="no message waits")
    words = "; ".join(f"{each.waiting} of {each.feed} wait, the oldest for {each.oldest_s:.0f} s" for each in backlogs)
    if max(each.oldest_s for each in backlogs) <= _LONG_WAIT_S:
        return Finding("conversion", well=True, words=words)
    return Finding("conversion", well=False, words=f"{words}; is the process jobs busy, or do its lines tell a fault?")


def _readiness(settings: Settings) -> Finding:
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(base_url(settings))
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        words = f"HTTP {answer.status}"
        if answer.status != 200:
            words += f" {answer.read(500).decode(errors='replace')}"
    except (OSError, socket.gaierror, http.client.HTTPException) as error:
        if read_owner(settings.data_dir).get("state") == "starting":
            return Finding(
                "readiness", well=True, words="not yet: the platform is starting, its lines say how far it is"
            )
        return Finding("readiness", well=False, words=f"{parts.netloc} does not answer: {error}")
    finally:
        connection.close()
    return Finding("readiness", well=answer.status == 200, words=words)
