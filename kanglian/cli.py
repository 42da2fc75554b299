"""The command `kanglian`: one module a subcommand in `kanglian.commands`.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage or settings, 130 interrupted.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence

from ehr.errors import KanglianError
from kanglian import commands
from kanglian.settings import Settings, SettingsError


def build_parser() -> argparse.ArgumentParser:
    """The parser with every subcommand that works."""
    parser = argparse.ArgumentParser(
        prog="kanglian",
        description="Health records of a region: hospital messages to FHIR R4, shown to whom law and patient let.",
        epilog="Settings are environment variables KANGLIAN_*: docs/settings.md. `kanglian COMMAND --help` says more.",
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands.ALL:
        subparser = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        code = int(arguments.run(arguments, Settings.read()))
        sys.stdout.flush()
    except KanglianError as error:
        for issue in error.issues:
            print(f"kanglian: {issue.diagnostics}", file=sys.stderr)
        return 2 if isinstance(error, SettingsError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output went away, `| head`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
