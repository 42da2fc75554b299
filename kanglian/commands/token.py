"""`kanglian token`: an access token of the embedded issuer, alone on the last line."""

import argparse

from kanglian.commands.identity import add_identity_arguments, base_url, issue_token
from kanglian.settings import Settings

NAME = "token"
HELP = "print an access token for a demo account or machine client, valid for eight hours (embedded issuer only)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_identity_arguments(parser)


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the token."""
    print(issue_token(arguments, settings, base_url(settings)))
    return 0
