"""What the embedded issuer can do without HTTP: sign tokens, seal codes, know accounts and clients."""

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ehr.errors import Forbidden, Unauthenticated
from fhir_api.issuer import keys
from fhir_api.issuer.accounts import Account, Client, Directory
from fhir_api.issuer.purposes import check_purpose
from fhir_api.issuer.scopes import default_scopes
from fhir_api.jose import SigningKey, decode_segment, encode_segment, public_jwk, read_jwk, sign

ALGORITHM = "RS256"
CLIENT_ALGORITHM = "ES384"
COMMAND_LINE_CLIENT = "kanglian"
ACCESS_TOKEN_S = 3_600
COMMAND_LINE_TOKEN_S = 8 * 3_600


@dataclass(frozen=True, slots=True)
class Grant:
    """What one token opens: who, through which client, with which scopes, for which purpose."""

    holder: Account | Client
    client_id: str
    scopes: tuple[str, ...]
    purpose_of_use: str
    reason: str | None = None
    family: str | None = None


class Issuer:
    """Signs tokens of the demo accounts and clients; knows nobody outside the embedded default."""

    def __init__(self, base_url: str, keys_path: Path, directory: Directory, additions: Path | None = None) -> None:
        """Load or make the keys; use `Issuer.open`."""
        self.base_url = base_url
        self.issuer = f"{base_url}/auth"
        self.audience = f"{base_url}/fhir"
        self.directory = directory
        self._keys_path = keys_path
        self._additions = additions
        self._additions_seen = _modified(additions)
        self._key = keys.signing_key(keys_path)
        self._secret = keys.secret(keys_path, "issuer")
        self.kid = keys.key_id(self._key.public_key())
        self.jwk = public_jwk(self._key.public_key(), kid=self.kid, algorithm=ALGORITHM)

    @classmethod
    def open(cls, keys_path: Path, base_url: str, *, embedded_default: bool, additions: Path | None = None) -> "Issuer":
        """Open the issuer over its key directory (`KANGLIAN_DATA_DIR/keys`).

        Args:
            keys_path: where keys lie or are made.
            base_url: `BASE` without a closing slash.
            embedded_default: False = the demo's accounts and clients are refused (DESIGN 6).
            additions: JSON file, account -> members to change (the demo writes residents' Patient ids there).
        """
        directory = Directory.load(base_url, additions) if embedded_default else Directory.empty()
        return cls(base_url, keys_path, directory, additions if embedded_default else None)

    def signing_keys(self) -> dict[str, SigningKey]:
        """The public keys by kid, for checking tokens."""
        key = read_jwk(self.jwk)
        return {} if key is None else {key.kid: key}

    def client_key(self, client_id: str) -> SigningKey:
        """The public key that a machine client's assertions are checked with."""
        public = keys.client_key(self._keys_path, client_id).public_key()
        key = read_jwk(public_jwk(public, kid=keys.key_id(public), algorithm=CLIENT_ALGORITHM))
        if key is None:
            raise Unauthenticated
        return key

    def account(self, name: str) -> Account:
        """The account of this name, with the demo's latest additions; Forbidden where there is none."""
        if _modified(self._additions) != self._additions_seen:
            self._additions_seen = _modified(self._additions)
            self.directory = Directory.load(self.base_url, self._additions)
        found = self.directory.accounts.get(name)
        if found is None:
            raise Forbidden(f"There is no account {name!r}: {self._known(self.directory.accounts)}.")
        return found

    def client(self, client_id: str) -> Client:
        """The client of this id; Forbidden where there is none."""
        found = self.directory.clients.get(client_id)
        if found is None:
            raise Forbidden(f"There is no client {client_id!r}: {self._known(self.directory.clients)}.")
        return found

    def _known(self, entries: dict[str, Any]) -> str:
        if not entries:
            return "demo accounts and clients are refused outside the embedded default"
        return "known are " + ", ".join(sorted(entries))

    def issue_token(
        self,
        *,
        account: str | None = None,
        client: str | None = None,
        purpose: str | None = None,
        reason: str | None = None,
        lifetime_s: int = COMMAND_LINE_TOKEN_S,
    ) -> str:
        """Sign an access token for `kanglian token`, without a running server.

        Args:
            account: a person's name, or
            client: a machine client's id; one of the two.
            purpose: a v3-ActReason code; the account's or client's own where None.
            reason: free text, needed by break-glass decisions.
            lifetime_s: seconds until it expires.

        Raises:
            Forbidden: no such account or client, or the demo's are refused here.
            Invalid: the purpose is none of the listed.
        """
        if (account is None) == (client is None):
            raise Forbidden("Name either an account or a client.")
        holder = self.account(account) if account is not None else self.client(client or "")
        if isinstance(holder, Client) and "client_credentials" not in holder.grants:
            raise Forbidden(f"{holder.client_id} is no machine client.")
        grant = Grant(
            holder=holder,
            client_id=holder.client_id if isinstance(holder, Client) else COMMAND_LINE_CLIENT,
            scopes=default_scopes(holder),
            purpose_of_use=check_purpose(purpose or holder.purpose_of_use),
            reason=reason,
        )
        return self.access_token(grant, lifetime_s=lifetime_s)

    def access_token(self, grant: Grant, *, lifetime_s: int = ACCESS_TOKEN_S) -> str:
        """Sign the access token of a grant (RFC 9068)."""
        now = int(time.time())
        holder = grant.holder
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": holder.subject if isinstance(holder, Account) else holder.client_id,
            "client_id": grant.client_id,
            "iat": now,
            "nbf": now,
            "exp": now + lifetime_s,
            "jti": secrets.token_urlsafe(16),
            "scope": " ".join(grant.scopes),
            "roles": list(holder.roles),
            "organisation": holder.organisation,
            "purpose_of_use": grant.purpose_of_use,
            "reason": grant.reason,
            "family": grant.family,
        }
        if isinstance(holder, Account):
            claims["patient"] = holder.patient
            claims["fhirUser"] = f"{self.audience}/{holder.fhir_user}" if holder.fhir_user else None
        present = {name: value for name, value in claims.items() if value is not None}
        return sign(present, self._key, kid=self.kid, algorithm=ALGORITHM, kind="at+jwt")

    def id_token(self, account: Account, client_id: str, nonce: str | None, scopes: tuple[str, ...]) -> str:
        """Sign the id_token of a sign-in (OpenID Connect Core section 2)."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "aud": client_id,
            "sub": account.subject,
            "iat": now,
            "exp": now + ACCESS_TOKEN_S,
            "nonce": nonce,
            "name": account.name if "profile" in scopes else None,
            "fhirUser": f"{self.audience}/{account.fhir_user}"
            if "fhirUser" in scopes and account.fhir_user is not None
            else None,
        }
        present = {name: value for name, value in claims.items() if value is not None}
        return sign(present, self._key, kid=self.kid, algorithm=ALGORITHM, kind="JWT")

    def password_fits(self, password: str) -> bool:
        """Compare with the demo's password in constant time; False where there is none."""
        expected = self.directory.password
        return bool(expected) and hmac.compare_digest(password.encode(), expected.encode())

    def seal(self, kind: str, content: dict[str, Any], *, lifetime_s: int) -> str:
        """Put content into a text that only this issuer can make, of one kind, for a time, with its own `jti`."""
        sealed = content | {"kind": kind, "exp": int(time.time()) + lifetime_s, "jti": secrets.token_urlsafe(16)}
        payload = encode_segment(json.dumps(sealed, separators=(",", ":")).encode())
        return f"{payload}.{encode_segment(self._mark(payload))}"

    def unseal(self, kind: str, text: str) -> dict[str, Any]:
        """The content of a sealed text; Unauthenticated where it is altered, of another kind or over its time."""
        payload, _, mark = text.partition(".")
        if (
            len(text) > 16_384
            or not payload.isascii()
            or not hmac.compare_digest(decode_segment(mark), self._mark(payload))
        ):
            raise Unauthenticated
        content: dict[str, Any] = json.loads(decode_segment(payload))
        if content["kind"] != kind or content["exp"] <= time.time():
            raise Unauthenticated
        return content

    def _mark(self, payload: str) -> bytes:
        return hmac.new(self._secret, payload.encode(), hashlib.sha256).digest()


def _modified(path: Path | None) -> float | None:
    try:
        return None if path is None else path.stat().st_mtime
    except FileNotFoundError:
        return None
