"""As whom a command speaks: the options, and access tokens of the embedded issuer."""

import argparse
import base64
import json
from typing import Any

from ehr.errors import KanglianError
from kanglian.ownership import is_owned, read_owner
from kanglian.settings import Settings


class IdentityError(KanglianError):
    """No token can be made here; the text says why and what to do."""

    code = "login"


def add_identity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --user, --client, --purpose and --reason."""
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="U", help="a demo account, such as dr.wang or zhang.wei")
    who.add_argument("--client", metavar="C", help="a machine client, such as first-hospital or loader")
    parser.add_argument("--purpose", metavar="P", help="purpose of use, such as TREAT or BTG (default: the account's)")
    parser.add_argument("--reason", metavar="TEXT", help="the reason that break-glass asks for")


def base_url(settings: Settings) -> str:
    """Where the platform is: as set, else as the running platform of this data directory says, else the default."""
    unset = settings.given_base_url is None and settings.port == Settings.port and settings.host == Settings.host
    if unset and is_owned(settings.data_dir):
        return str(read_owner(settings.data_dir).get("base_url") or settings.base_url)
    return settings.base_url


def issue_token(arguments: argparse.Namespace, settings: Settings, address: str) -> str:
    """An access token of the embedded issuer for the account or client that the arguments name."""
    from fhir_api.issuer import Issuer

    if not settings.embedded_default:
        raise IdentityError(
            "the demo accounts are refused outside the embedded default (a database, issuer or host is configured): "
            f"ask your OpenID Connect issuer{f' {settings.oidc_issuer}' if settings.oidc_issuer else ''} for a token"
        )
    keys = settings.data_dir / "keys"
    if not (keys / "issuer.pem").exists():
        raise IdentityError(
            f"there are no keys in {keys}: start the platform first (make run), or set KANGLIAN_DATA_DIR"
        )
    try:
        issuer = Issuer.open(keys, address, embedded_default=True, additions=settings.data_dir / "demo-accounts.json")
    except PermissionError as error:
        raise IdentityError(f"{error.filename} is readable by its owner only: run as the user that runs it") from error
    return issuer.issue_token(
        account=arguments.user, client=arguments.client, purpose=arguments.purpose, reason=arguments.reason
    )


def read_claims(token: str) -> dict[str, Any]:
    """The claims of a token that we have just signed ourselves; nothing is checked."""
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims
