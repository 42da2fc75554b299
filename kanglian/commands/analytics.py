"""`kanglian analytics`: ask a population question and print the counts."""

import argparse
import sys
from pathlib import Path

import msgspec

from ehr.errors import Invalid
from kanglian.commands.get import target
from kanglian.commands.identity import add_identity_arguments, base_url, issue_token
from kanglian.commands.request import ask
from kanglian.settings import Settings

NAME = "analytics"
HELP = "population questions: run NAME or FILE"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    run_action = actions.add_parser("run", help="ask a question that comes with the platform, or one in a JSON file")
    run_action.add_argument("question", help="diabetes-control, patient-flow, video-visits, or a file")
    add_identity_arguments(run_action)
    run_action.add_argument("--project", help="research project or duty, for the audit (default: as in the question)")
    run_action.add_argument("--csv", action="store_true", help="print CSV instead of JSON")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the answer; 1 where it was refused."""
    question = _question(arguments.question)
    if arguments.project is not None:
        question["project"] = arguments.project
    address = base_url(settings)
    headers = {
        "Authorization": f"Bearer {issue_token(arguments, settings, address)}",
        "Accept": "text/csv" if arguments.csv else "application/json",
        "Content-Type": "application/json",
    }
    answer = ask(address, "POST", target("/analytics/queries", address), msgspec.json.encode(question), headers)
    print(answer.readable())
    if answer.status >= 400:
        print(f"HTTP {answer.status} {answer.reason}", file=sys.stderr)
        return 1
    return 0


def _question(name: str) -> dict[str, object]:
    path = Path(name)
    if path.suffix == ".json" or path.is_file():
        try:
            content = path.read_bytes()
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}") from error
    else:
        from analytics.service import supplied_question

        content = supplied_question(name)
    try:
        return msgspec.json.decode(content, type=dict[str, object])
    except msgspec.DecodeError as error:
        raise Invalid(f"{name}: not a JSON object: {error}") from error
