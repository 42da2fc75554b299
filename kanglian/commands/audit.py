"""`kanglian audit`: verify that no row of the audit log was changed, removed, inserted or reordered."""

import argparse
import asyncio
import json

from ehr.errors import Invalid
from kanglian.commands.database import database_url
from kanglian.settings import Settings

NAME = "audit"
HELP = "the audit log: verify finds a changed, removed, inserted or reordered row"
_NOTED = "audit-head.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="compare every row with the hash chain of its seals")
    verify.add_argument(
        "--head",
        metavar="NUMBER:HASH",
        help="a seal noted elsewhere that must still be there (default: the one noted in the data directory last time)",
    )


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the findings; 1 where there is one."""
    return asyncio.run(_verify(arguments.head, settings))


async def _verify(given: str | None, settings: Settings) -> int:
    import asyncpg

    from ehr.store.audit_seal import head, verify
    from ehr.store.database import database_errors

    expected = _noted(settings) if given is None else _read_head(given)
    with database_errors():
        connection = await asyncpg.connect(database_url(settings), timeout=10)
        try:
            newest = await head(connection)
            findings = await verify(connection, expected)
        finally:
            await connection.close()
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} found: the audit log was altered")
        return 1
    if newest is None:
        print("nothing is sealed yet")
        return 0
    print(f"the audit log is whole up to seal {newest[0]}:{newest[1].hex()}")
    (settings.data_dir / _NOTED).write_text(json.dumps({"seal": newest[0], "hash": newest[1].hex()}))
    return 0


def _noted(settings: Settings) -> tuple[int, bytes] | None:
    try:
        noted = json.loads((settings.data_dir / _NOTED).read_text())
        return int(noted["seal"]), bytes.fromhex(noted["hash"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise Invalid(f"{settings.data_dir / _NOTED} cannot be read: {error}") from error


def _read_head(text: str) -> tuple[int, bytes]:
    number, _, digest = text.partition(":")
    try:
        return int(number), bytes.fromhex(digest)
    except ValueError as error:
        raise Invalid("--head takes NUMBER:HASH, as `kanglian audit verify` printed it") from error
