"""`kanglian worker`: a Celery worker for bulk jobs."""

import argparse

from kanglian.commands.database import database_url
from kanglian.settings import Settings

NAME = "worker"
HELP = "do bulk jobs (exports, imports) that the broker KANGLIAN_BROKER_URL tells of, until Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--concurrency", type=int, default=1, metavar="N", help="jobs at once (default: 1)")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Work until a signal ends it."""
    settings.check_broker()
    from kanglian.celery_worker import run_worker

    return run_worker(settings, database_url(settings), max(1, arguments.concurrency))
