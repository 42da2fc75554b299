"""What each process of the platform does; every function runs in a fresh child of the supervisor."""

import asyncio
import gc
import mmap
import os
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kanglian import wiring
from kanglian.heartbeat import Heartbeat
from kanglian.settings import Settings
from kanglian.supervise import Child

# A Bundle of some hundred resources is a hundred thousand containers that all live until it is written: with Python's
# thresholds (700, 10, 10) looking through them again and again for cycles took a quarter of the time of writing them.
_COLLECT_AFTER = (50_000, 10, 20)
_BULK_NICENESS = 5
"""Readers and writers have the processor first."""
_PRELOADED = (
    *("uvloop", "uvicorn", "consent", "ehr.store", "hospital_adapters.mllp.door", "hospital_adapters.worker"),
    *("fhir_api.application", "fhir_api.server"),
)


@dataclass(frozen=True, slots=True)
class Serving:
    """What the supervisor hands to its children."""

    settings: Settings
    database_url: str
    http: socket.socket
    mllp: Mapping[str, socket.socket]
    """The listening sockets of the HL7 v2 feeds, by feed."""
    readiness: mmap.mmap
    """One byte shared by all processes: 1 once the demo is loaded and every process answers."""


def table(serving: Serving) -> Iterator[Child]:
    """Each child: its name, and what it runs."""
    for number in range(1, serving.settings.workers + 1):
        yield _child(f"http-{number}", _http, serving)
    yield _child("feeds", _feeds, serving)
    yield _child("jobs", _jobs, serving)
    if serving.settings.broker_url is None:
        yield _child("bulk", _bulk, serving)
    yield _child("analytics", _analytics, serving)
    yield Child("opening", lambda: _run(_opening(serving)), once=True)


def _child(name: str, work: Callable[[Serving], Coroutine[Any, Any, None]], serving: Serving) -> Child:
    heartbeat = Heartbeat()

    async def beating() -> None:
        keeping = asyncio.create_task(heartbeat.keep())
        try:
            await work(serving)
        finally:
            keeping.cancel()

    return Child(name, lambda: _run(beating()), heartbeat=heartbeat)


async def prepare(serving: Serving) -> None:
    """Bring the database to the newest schema; called once, before any child."""
    from ehr.store.migration import migrate  # noqa: PLC0415 - in order of need: the ports are taken first

    await migrate(serving.database_url)
    await wiring.compare_label_sets(serving.database_url)


def preload() -> None:
    """Import what the children need, once, so that a child starts in a moment; nothing here starts a thread.

    Left out are the libraries of analytics: they start threads when imported, and a fork would lose those.
    """
    for name in _PRELOADED:
        import_module(name)
    from hospital_adapters.hl7v2.convert import warm_up  # noqa: PLC0415 - the rule tables, compiled once for all

    warm_up()


def collect_rarely() -> None:
    """Let a process that writes records look for cycles as seldom as that asks for."""
    gc.set_threshold(*_COLLECT_AFTER)


def _run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop  # noqa: PLC0415 - children only

    collect_rarely()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


def _stop_event() -> asyncio.Event:
    """An event that SIGTERM sets."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    return stop


async def _http(serving: Serving) -> None:
    """One HTTP worker on the shared listening socket."""
    import uvicorn  # noqa: PLC0415 - children only

    from fhir_api.application import create_app  # noqa: PLC0415 - children only
    from fhir_api.server import server_configuration  # noqa: PLC0415 - children only

    settings = serving.settings
    async with wiring.services(settings, serving.database_url, serving.readiness) as services:
        configuration = server_configuration(create_app(services), host=settings.host, port=settings.port)
        await uvicorn.Server(configuration).serve(sockets=[serving.http])


async def _feeds(serving: Serving) -> None:
    """The MLLP listeners."""
    stop = _stop_event()
    async with wiring.feeds(serving.settings, serving.database_url, serving.mllp):
        await stop.wait()


async def _jobs(serving: Serving) -> None:
    """Jobs, conversion of what waits in the inbox, sealing of the audit."""
    stop = _stop_event()
    await wiring.work(serving.settings, serving.database_url, stop)


async def _bulk(serving: Serving) -> None:
    """Exports and imports; apart from the jobs, since they compute for minutes."""
    os.nice(_BULK_NICENESS)
    stop = _stop_event()
    await wiring.work_in_bulk(serving.settings, serving.database_url, stop)


async def _analytics(serving: Serving) -> None:
    """Keep the analytics files up to date; apart from the jobs, since it computes for seconds."""
    stop = _stop_event()
    await wiring.keep_refreshing(serving.settings, serving.database_url, stop)


async def _opening(serving: Serving) -> None:
    """Wait until every door answers, then load the demo where there is none yet."""
    await wiring.opening(serving.settings, serving.database_url)
