"""`kanglian serve`: the whole platform until Ctrl-C."""

import argparse
import sys

from kanglian.settings import Settings, unknown_variables

NAME = "serve"
HELP = "run the platform: HTTP, MLLP listener, jobs and, where no database is configured, PostgreSQL"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no option: settings say everything."""
    del parser


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Serve until a signal ends it; 0 then."""
    del arguments
    from kanglian.serving import serve

    for name in unknown_variables():
        print(f"kanglian: {name} is no setting of the platform (docs/settings.md lists them)", file=sys.stderr)
    return serve(settings)
