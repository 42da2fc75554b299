"""`kanglian demo`: the demo's accounts, and loading the demo county into a running platform."""

import argparse
import sys

from kanglian.commands.identity import IdentityError
from kanglian.settings import Settings

NAME = "demo"
HELP = "list the demo's accounts and machine clients; --load sends the demo county through the doors again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument("--load", action="store_true", help="load the demo; what is there already stays as it is")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """List or load; refused outside the embedded default."""
    if not settings.embedded_default:
        raise IdentityError("the demo exists in the embedded default only (docs/settings.md)")
    if arguments.load:
        return _load(settings)
    from fhir_api.issuer.accounts import Directory

    directory = Directory.load(settings.base_url, settings.data_dir / "demo-accounts.json")
    for name, account in sorted(directory.accounts.items()):
        of = account.organisation or (f"Patient/{account.patient}" if account.patient else "")
        print(f"--user {name:<18} {' '.join(account.roles):<16} {account.purpose_of_use:<10} {of}")
    for name, client in sorted(directory.clients.items()):
        if "client_credentials" in client.grants:
            of = client.organisation or ""
            print(f"--client {name:<16} {' '.join(client.roles):<16} {client.purpose_of_use:<10} {of}")
    return 0


def _load(settings: Settings) -> int:
    import asyncio

    from kanglian.commands.database import database_url
    from kanglian.wiring import load_demo

    asyncio.run(load_demo(settings, database_url(settings), lambda line: print(line, file=sys.stderr, flush=True)))
    return 0
