"""The platform as one start: lock, ports, database, processes, and the line that says it is ready."""

import asyncio
import contextlib
import gc
import mmap
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass

from kanglian import children, wiring
from kanglian.embedded import EmbeddedPostgres
from kanglian.embedded_place import make_data_dir
from kanglian.ownership import Ownership
from kanglian.ports import listen, show_ending
from kanglian.settings import Settings
from kanglian.supervise import Supervisor

_PORT_PATIENCE_S = 30.0
"""For an owner of the port that is ending."""


@dataclass(slots=True)
class _News:
    """Lines for the operator, with the seconds since the start."""

    started: float

    def say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is closed: nobody reads, and nothing else shall end of it
            print(f"[{time.monotonic() - self.started:6.1f} s] {line}", file=sys.stderr, flush=True)


def serve(settings: Settings) -> int:
    """Run the platform until a signal; returns the exit code.

    Raises:
        KanglianError: a setting, a port, the data directory or the database keeps it from starting; the text says
            what to do.
    """
    settings.check_serving()
    news = _News(time.monotonic())
    make_data_dir(settings.data_dir)
    ownership = Ownership(settings.data_dir)
    ownership.take(news.say, base_url=settings.base_url)
    postgres: EmbeddedPostgres | None = None
    with contextlib.ExitStack() as leaving:
        leaving.callback(ownership.release)
        wiring.place_demo_feeds(settings)
        listening = {
            port: leaving.enter_context(listen(settings.host, port, setting, patience_s=_PORT_PATIENCE_S, say=news.say))
            for port, setting in wiring.port_settings(settings).items()
        }
        children.preload()  # here, since a database whose platform was killed takes the time to shut down
        if settings.database_url is None:
            postgres = EmbeddedPostgres(settings.data_dir, ballast_mib=settings.ballast_mib, say=news.say)
            leaving.callback(postgres.stop)
            postgres.start()
        database_url = settings.database_url or (postgres.url if postgres else "")
        readiness = mmap.mmap(-1, 1)
        mllp = {feed.name: listening[port] for port, feed in wiring.mllp_ports(settings).items()}
        serving = children.Serving(settings, database_url, listening[settings.port], mllp, readiness)
        asyncio.run(children.prepare(serving))
        gc.freeze()
        news.say(f"database ready, schema current; starting {settings.workers} HTTP workers")
        started = list(children.table(serving))
        supervisor = Supervisor(
            started,
            postgres,
            say=news.say,
            in_child=ownership.leave_to_parent,
            changed=lambda pids: ownership.say(
                "running" if readiness[0] else "starting",
                children=pids,
                expected=[child.name for child in started if not child.done] + (["postgres"] if postgres else []),
                database_url=database_url,
            ),
            complete=lambda: _tell_ready(readiness, ownership, settings),
            ending=lambda: _tell_ending(ownership, listening.values()),
        )
        return supervisor.run()


def _tell_ending(ownership: Ownership, sockets: Iterable[socket.socket]) -> None:
    """Let go of the ports at once: the children, who hold them too, close them first, and PostgreSQL takes longest."""
    ownership.say("ending")
    show_ending()
    for each in sockets:
        each.close()


def _tell_ready(readiness: mmap.mmap, ownership: Ownership, settings: Settings) -> None:
    readiness[0] = 1
    ownership.say("running")
    print(f"kanglian ready: {settings.base_url}", flush=True)
