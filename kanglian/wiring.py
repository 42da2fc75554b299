"""The one place where the packages meet: opens the record with consent inside, and builds what each process needs."""

import asyncio
import contextlib
import logging
import mmap
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ehr.errors import Invalid, Unavailable
from kanglian.settings import Settings

if TYPE_CHECKING:
    from analytics.answer import Answer
    from analytics.refresh import Refresher
    from analytics.service import AnalyticsService
    from consent import Caller, Consent
    from ehr.store import Store
    from fhir_api.services import Services
    from hospital_adapters.feeds import Feed

_REFRESH_S = 10.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """The record and who decides about it, both open."""

    store: "Store"
    consent: "Consent"


@asynccontextmanager
async def record(settings: Settings, database_url: str) -> AsyncIterator[Record]:
    """Open the record with the projections of consent registered; closed at the end."""
    from consent import Consent  # noqa: PLC0415 - children only
    from ehr.store import Store  # noqa: PLC0415 - likewise
    from kanglian.ballast import ballast_of  # noqa: PLC0415 - likewise

    zone = ZoneInfo(settings.timezone)
    fhir_base = f"{settings.base_url}/fhir"
    consent = Consent(policy=settings.policy, zone=zone, base_url=fhir_base)
    store = await Store.open(
        database_url,
        keys_path=settings.data_dir / "keys" / "index.key",
        projections=consent.projections(),
        zone=zone,
        base_url=fhir_base,
        has_room=ballast_of(settings).has_room,
        large_apart=True,
    )
    try:
        await consent.open(store)
        yield Record(store, consent)
    finally:
        await store.close()


@dataclass(slots=True)
class AnalyticsOnDemand:
    """Answers questions; opened with the first one, since its libraries take longer to load than all else."""

    settings: Settings
    store: "Store"
    opened: "AnalyticsService | None" = None

    async def answer(self, text: bytes, caller: "Caller", trace: str) -> "Answer":
        """See `analytics.service.AnalyticsService.answer`."""
        if self.opened is None:
            self.opened = await asyncio.to_thread(analytics, self.settings, self.store)
        return await self.opened.answer(text, caller, trace)


def analytics(settings: Settings, store: "Store") -> "AnalyticsService":
    """The service that answers questions over this data directory's files."""
    from analytics.files import AnalyticsFiles  # noqa: PLC0415 - takes long to import, children only
    from analytics.service import AnalyticsService  # noqa: PLC0415 - likewise

    return AnalyticsService(AnalyticsFiles(settings.data_dir / "analytics"), store.record)


@asynccontextmanager
async def services(settings: Settings, database_url: str, readiness: mmap.mmap) -> AsyncIterator["Services"]:
    """What one HTTP worker is given."""
    from ehr.store.index_key import load_index_key  # noqa: PLC0415 - children only
    from fhir_api.issuer import Issuer  # noqa: PLC0415 - likewise
    from fhir_api.services import Services  # noqa: PLC0415 - likewise

    async def missing() -> str | None:
        return None if readiness[0] else "the demo is being loaded, or a process is still starting"

    async with record(settings, database_url) as opened:
        issuer = None
        if settings.embedded_default:
            issuer = Issuer.open(
                settings.data_dir / "keys",
                settings.base_url,
                embedded_default=True,
                additions=settings.data_dir / "demo-accounts.json",
            )
        yield Services(
            store=opened.store,
            consent=opened.consent,
            base_url=settings.base_url,
            issuer=issuer,
            oidc_issuer=settings.oidc_issuer,
            cors_origins=settings.cors_origins,
            analytics=AnalyticsOnDemand(settings, opened.store),
            readiness=missing,
            walk=readme_walk() if settings.embedded_default else (),
            link_key=load_index_key(settings.data_dir / "keys" / "link.key"),
            bulk_folder=bulk_folder(settings),
            import_addresses=settings.import_addresses,
        )


def bulk_folder(settings: Settings) -> Path:
    """Where the files of bulk jobs lie, one folder each; all processes share it."""
    return settings.data_dir / "bulk"


def readme_walk() -> tuple[str, ...]:
    """The lines of the README's walk that a newcomer pastes; none where the platform runs outside of a checkout."""
    readme = Path(__file__).resolve().parents[1] / "README.md"
    if not readme.is_file():
        return ()
    lines = readme.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line.startswith(".venv/bin/kanglian "))


def read_feeds(settings: Settings) -> "dict[str, Feed]":
    """The feeds that are described in the feeds folder; none where the folder does not exist."""
    from hospital_adapters.feeds import read_feeds as read  # noqa: PLC0415 - children only

    return read(settings.feeds_folder) if settings.feeds_folder.is_dir() else {}


def _read_feed(settings: Settings, name: str) -> "Feed | None":
    return read_feeds(settings).get(name)


def mllp_ports(settings: Settings) -> "dict[int, Feed]":
    """Each port of HL7 v2 messages, and the feed whose messages arrive there; Invalid where two want the same."""
    from hospital_adapters.feeds import listening  # noqa: PLC0415 - in order of need

    found = listening(read_feeds(settings), settings.mllp_port)
    if settings.port in found:
        raise Invalid(
            f"port {settings.port} is that of HTTP (KANGLIAN_PORT) and of the feed '{found[settings.port].name}'"
        )
    return found


def port_settings(settings: Settings) -> dict[int, str]:
    """Each port that the platform listens on, and what chooses it."""
    return {settings.port: "KANGLIAN_PORT"} | {
        port: f"'port' of the feed {feed.name}" if feed.port else "KANGLIAN_MLLP_PORT"
        for port, feed in mllp_ports(settings).items()
    }


@asynccontextmanager
async def feeds(settings: Settings, database_url: str, sockets: Mapping[str, socket.socket]) -> AsyncIterator[None]:
    """Listen for HL7 v2 on the shared sockets, each for the feed of its name."""
    from ehr.store.database import WRITE_SETTINGS, open_pool  # noqa: PLC0415 - children only
    from ehr.store.inbox import Inbox  # noqa: PLC0415 - likewise
    from hospital_adapters.mllp.door import MllpDoor  # noqa: PLC0415 - likewise
    from hospital_adapters.mllp.listener import Listener  # noqa: PLC0415 - likewise
    from hospital_adapters.mllp.pace import Pace  # noqa: PLC0415 - likewise
    from kanglian.ballast import ballast_of  # noqa: PLC0415 - likewise

    async with contextlib.AsyncExitStack() as leaving:
        pool = await open_pool(database_url, WRITE_SETTINGS, most=3)
        leaving.push_async_callback(pool.close)
        inbox = Inbox(pool, ballast_of(settings).has_room)
        leaving.push_async_callback(inbox.close)
        described = read_feeds(settings)
        for name, mllp in sockets.items():
            door = MllpDoor(inbox, described[name], partial(_read_feed, settings, name))
            pace = Pace(door, inbox, name)
            watching = asyncio.create_task(pace.watch())
            leaving.callback(watching.cancel)
            listener = Listener(pace)
            await listener.start_on(mllp)
            leaving.push_async_callback(listener.stop)
        yield


async def compare_label_sets(database_url: str) -> None:
    """Where label sets and stored rows differ, let jobs read the rows anew, and close in doubt meanwhile."""
    from consent import relabelling  # noqa: PLC0415 - once, before any child
    from ehr.store.database import WRITE_SETTINGS, open_pool  # noqa: PLC0415 - likewise

    pool = await open_pool(database_url, WRITE_SETTINGS, most=1)
    try:
        async with pool.acquire() as connection:
            if await relabelling.begin(connection):
                _log.warning("the label sets changed: stored rows are read anew, what may lack a label is closed")
    finally:
        await pool.close()


async def work(settings: Settings, database_url: str, stop: asyncio.Event) -> None:
    """Run jobs, convert what waits in the inbox, seal the audit, renew statistics, until told to stop."""
    from ehr.store.audit_seal import keep_sealing  # noqa: PLC0415 - children only
    from ehr.store.jobs import run_jobs  # noqa: PLC0415 - likewise
    from ehr.store.statistics import keep_statistics  # noqa: PLC0415 - likewise
    from hospital_adapters.worker import ConversionWorker  # noqa: PLC0415 - likewise

    async with record(settings, database_url) as opened, asyncio.TaskGroup() as tasks:
        worker = ConversionWorker(opened.store, lambda: read_feeds(settings))
        tasks.create_task(run_jobs(database_url, opened.consent.job_handlers(), stop=stop))
        tasks.create_task(worker.run(stop))
        tasks.create_task(keep_sealing(database_url, stop=stop))
        tasks.create_task(keep_statistics(database_url, stop=stop))


async def work_in_bulk(settings: Settings, database_url: str, stop: asyncio.Event) -> None:
    """Run exports and imports, until told to stop; apart from the other jobs, which are short and do not wait."""
    from ehr.store.jobs import run_jobs  # noqa: PLC0415 - children only
    from kanglian.bulk import BulkWork  # noqa: PLC0415 - likewise

    async with record(settings, database_url) as opened:
        work = BulkWork(opened.store, opened.consent, bulk_folder(settings), settings.import_addresses)
        await run_jobs(database_url, work.handlers(), stop=stop)


def _refresher(settings: Settings, opened: Record) -> "Refresher":
    from analytics.files import AnalyticsFiles  # noqa: PLC0415 - takes long to import, children only
    from analytics.refresh import Refresher  # noqa: PLC0415 - likewise
    from ehr.store.index_key import load_index_key  # noqa: PLC0415 - likewise

    secret = load_index_key(settings.data_dir / "keys" / "pseudonym.key")
    files = AnalyticsFiles(settings.data_dir / "analytics")
    return Refresher(files, opened.store.pool, secret, opened.consent.people_for_counts)


async def keep_refreshing(settings: Settings, database_url: str, stop: asyncio.Event) -> None:
    """Bring the analytics files up to date every 10 s, until told to stop; a lost database is waited for."""
    from ehr.store.room import require_room  # noqa: PLC0415 - children only

    async with record(settings, database_url) as opened:
        refresher = _refresher(settings, opened)
        while not stop.is_set():
            try:
                require_room(opened.store.has_room)
                await refresher.refresh()
            except (Unavailable, OSError) as error:  # OSError: the files' own disk is full
                _log.warning("the analytics files wait: %s", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _REFRESH_S)


async def opening(settings: Settings, database_url: str) -> None:
    """Wait until the doors answer; load the demo where it is wanted and not there yet."""
    await _until_live(settings)
    marker = settings.data_dir / "demo-loaded"
    if settings.embedded_default and settings.demo_residents and not marker.exists():
        await load_demo(settings, database_url, lambda line: print(f"  demo: {line}", file=sys.stderr, flush=True))
        marker.touch()


async def load_demo(settings: Settings, database_url: str, progress: Callable[[str], None]) -> None:
    """Send the demo county through the doors of the running platform; what is there already stays as it is."""
    from fhir_api.issuer import Issuer  # noqa: PLC0415 - once, on the first start
    from kanglian.demo import load  # noqa: PLC0415 - likewise
    from kanglian.demo.region import make_region  # noqa: PLC0415 - likewise

    additions = settings.data_dir / "demo-accounts.json"
    issuer = Issuer.open(settings.data_dir / "keys", settings.base_url, embedded_default=True, additions=additions)
    reached = f"http://{settings.reachable_host}:{settings.port}"
    doors = load.Doors(reached, settings.reachable_host, settings.mllp_port, database_url, issuer)
    region = make_region(residents=settings.demo_residents, today=_demo_day(settings))
    await load.load_demo(region, doors, additions, progress)
    async with record(settings, database_url) as opened:
        await _refresher(settings, opened).refresh()


def _demo_day(settings: Settings) -> date:
    """The day on which the demo's histories end: that of its first load, so that another load sends the same again.

    A fixed day would leave nobody in treatment once it lies ninety days back.
    """
    kept = settings.data_dir / "demo-day"
    if not kept.exists():
        kept.write_text(datetime.now(ZoneInfo(settings.timezone)).date().isoformat(), encoding="ascii")
    return date.fromisoformat(kept.read_text(encoding="ascii"))


async def _until_live(settings: Settings) -> None:
    """The listening sockets are there before the processes: wait for an answer of HTTP."""
    request = b"GET /health/live HTTP/1.1\r\nHost: kanglian\r\nConnection: close\r\n\r\n"
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(settings.reachable_host, settings.port)
                writer.write(request)
                answer = await reader.read(64)
                writer.close()
            if b" 200 " in answer:
                return
        await asyncio.sleep(0.1)


def place_demo_feeds(settings: Settings) -> None:
    """In the embedded default: describe the demo's feeds in the feeds folder, where there is none yet."""
    if settings.embedded_default and settings.demo_residents and not settings.feeds_folder.exists():
        from kanglian.demo.load import place_feeds  # noqa: PLC0415 - on the first start only

        place_feeds(settings.feeds_folder)
