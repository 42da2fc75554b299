"""`kanglian get`: one FHIR request as somebody, its answer as readable JSON."""

import argparse
import sys
from pathlib import Path
from urllib.parse import quote, urlsplit

from kanglian.commands.identity import add_identity_arguments, base_url, issue_token
from kanglian.commands.request import RequestError, ask
from kanglian.settings import Settings

NAME = "get"
HELP = "make a FHIR request as an account or machine client and print the answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("path", metavar="PATH", help='for example "Patient/zhang.wei" or "Observation?code=4548-4"')
    add_identity_arguments(parser)
    parser.add_argument("--method", choices=("GET", "POST", "PUT", "DELETE"), default="GET", help="default: GET")
    parser.add_argument("--body", metavar="FILE", help="JSON to send with POST or PUT; - reads standard input")
    parser.add_argument(
        "--header", metavar="NAME:VALUE", action="append", default=[], help="a further header, such as If-Match"
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the body of the answer; 1 with the status on standard error where it is 400 or above."""
    address = base_url(settings)
    headers = {
        "Authorization": f"Bearer {issue_token(arguments, settings, address)}",
        "Accept": "application/fhir+json",
        **_headers(arguments.header),
    }
    body = _body(arguments)
    if body is not None:
        headers.setdefault("Content-Type", "application/fhir+json")
    answer = ask(address, arguments.method, target(arguments.path, address), body, headers)
    if text := answer.readable():
        print(text)
    if answer.status >= 400:
        print(f"HTTP {answer.status} {answer.reason}", file=sys.stderr)
        return 1
    return 0


def target(path: str, address: str) -> str:
    """The request target below the FHIR base: a relative path, "/fhir/..." or a whole address of this platform."""
    if path.startswith(f"{address}/"):
        path = path.removeprefix(address)
    elif "://" in path.partition("?")[0]:
        raise RequestError(f"{path} is not an address of this platform ({address})")
    prefix = urlsplit(address).path
    if not path.startswith("/"):
        path = f"/fhir/{path}" if path else "/fhir"
    return prefix + quote(path, safe="/?&=%:,|$+-._~!*'();@")


def _headers(given: list[str]) -> dict[str, str]:
    pairs = [text.partition(":") for text in given]
    if wrong := [name for name, colon, _ in pairs if not colon or not name.strip()]:
        raise RequestError(f"--header takes NAME:VALUE, not {wrong[0]!r}")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _body(arguments: argparse.Namespace) -> bytes | None:
    if arguments.body is None:
        if arguments.method in ("POST", "PUT"):
            raise RequestError(f"--method {arguments.method} needs --body FILE (- reads standard input)")
        return None
    if arguments.body == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(arguments.body).read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read {arguments.body}: {error.strerror}") from error
