"""Bulk jobs done by Celery: a message says "look at job N", the job table says what there is to do (DESIGN 4.5).

A message that is lost costs a delay: the beat sends it again for every job that still waits. One that comes twice finds
the job claimed. So neither worker nor broker keeps anything that matters. https://docs.celeryq.dev/
"""

import asyncio
import logging
import signal
import time
from typing import Any

import asyncpg
import kombu.exceptions
from celery import Celery
from celery.beat import Scheduler
from celery.signals import worker_process_init

from ehr.bulk.jobs import ALL_KINDS
from ehr.errors import Unavailable
from ehr.store.database import COMMON_SETTINGS, database_errors
from ehr.store.jobs import due_jobs, open_worker, perform
from kanglian.bulk import BulkWork
from kanglian.children import collect_rarely
from kanglian.embedded_programs import die_with_parent
from kanglian.settings import Settings
from kanglian.wiring import bulk_folder, record

_log = logging.getLogger(__name__)
_TASK = "kanglian.look_at_job"
_QUEUE = "kanglian-bulk"
_LOOK_S = 1.0
"""Between two looks of the beat at the job table."""
_AGAIN_S = 5.0
"""After so long without anybody claiming it, a job's message is sent again."""


def celery_app(settings: Settings) -> Celery:
    """The application on the configured broker, without tasks."""
    app = Celery("kanglian", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={"socket_connect_timeout": 2, "socket_timeout": 5},
        task_default_queue=_QUEUE,
        task_ignore_result=True,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
    )
    return app


def run_worker(settings: Settings, database_url: str, concurrency: int) -> int:
    """Do what the messages point at until a signal; several jobs at once, a process each."""
    app = celery_app(settings)

    def look_at_job(job: int) -> None:
        asyncio.run(_look_at(settings, database_url, job))

    ask = die_with_parent(signal.SIGKILL)

    def end_with_the_worker(**_: Any) -> None:
        """A process left behind would go on with its job unseen."""
        ask()
        collect_rarely()

    app.task(name=_TASK)(look_at_job)
    worker_process_init.connect(end_with_the_worker, weak=False)
    arguments = [
        *("worker", "--pool=prefork", f"--concurrency={concurrency}", f"--queues={_QUEUE}", "--loglevel=INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]
    app.worker_main(arguments)
    return 0


async def _look_at(settings: Settings, database_url: str, number: int) -> None:
    """Do the job, if nobody does it yet and there still is one."""
    try:
        worker = await open_worker(database_url)
    except Unavailable as error:
        _log.warning("job %s waits: %s", number, error)
        return
    try:
        await worker.give_back_orphans()
        job = await worker.claim(list(ALL_KINDS), only=number)
        if job is None:
            return
        async with record(settings, database_url) as opened:
            work = BulkWork(opened.store, opened.consent, bulk_folder(settings), settings.import_addresses)
            await perform(worker, work.handlers(), job)
    except Unavailable as error:
        _log.warning("job %s waits: %s", number, error)
    finally:
        await worker.close()


class JobTableScheduler(Scheduler):  # type: ignore[misc] # Celery ships no types
    """Sends a message for each job of the table that waits, and again where nothing has come of it."""

    database_url = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Open nothing yet: the database may be away."""
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection | None = None
        self._sent: dict[int, float] = {}
        super().__init__(*arguments, **named)

    def setup_schedule(self) -> None:
        """Nothing is scheduled but what the table holds."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Look once; how long to wait until the next look."""
        try:
            due = self._loop.run_until_complete(self._due())
        except Unavailable as error:
            _log.warning("the job table cannot be read: %s", error)
            self._connection = None
            return _LOOK_S
        now = time.monotonic()
        self._sent = {job: sent for job, sent in self._sent.items() if job in due}
        try:
            for job in due:
                if now - self._sent.get(job, -_AGAIN_S) >= _AGAIN_S:
                    self.app.send_task(_TASK, args=[job], queue=_QUEUE, expires=60, retry=False)
                    self._sent[job] = now
        except (kombu.exceptions.OperationalError, OSError) as error:
            _log.warning("the broker cannot be reached: %s", error)
        return _LOOK_S

    async def _due(self) -> list[int]:
        if self._connection is None or self._connection.is_closed():
            with database_errors():
                self._connection = await asyncpg.connect(self.database_url, server_settings=COMMON_SETTINGS, timeout=5)
        return await due_jobs(self._connection, list(ALL_KINDS))


def run_beat(settings: Settings, database_url: str) -> int:
    """Send messages for what the job table holds until a signal."""
    JobTableScheduler.database_url = database_url
    celery_app(settings).Beat(scheduler=JobTableScheduler, max_interval=_LOOK_S, loglevel="INFO", quiet=True).run()
    return 0
