"""`kanglian beat`: tells the Celery workers of the bulk jobs that the job table holds."""

import argparse

from kanglian.commands.database import database_url
from kanglian.settings import Settings

NAME = "beat"
HELP = "tell the workers, over the broker KANGLIAN_BROKER_URL, of each bulk job that waits, until Ctrl-C"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no option: settings say everything."""
    del parser


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Beat until a signal ends it."""
    del arguments
    settings.check_broker()
    from kanglian.celery_worker import run_beat

    return run_beat(settings, database_url(settings))
