"""The demo accounts and clients of the embedded issuer, from `accounts.json` and the demo's own additions.

The passwords stand in the README; they are refused outside the embedded default (DESIGN 6).
"""

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Account:
    """A person who may sign in."""

    subject: str
    name: str
    roles: tuple[str, ...]
    organisation: str | None
    patient: str | None
    fhir_user: str | None
    purpose_of_use: str


@dataclass(frozen=True, slots=True)
class Client:
    """An application or machine; machine clients sign their assertions with the key `keys/clients/<id>.pem`."""

    client_id: str
    name: str
    grants: frozenset[str]
    redirect_uris: frozenset[str]
    scopes: tuple[str, ...]
    roles: tuple[str, ...]
    organisation: str | None
    purpose_of_use: str


@dataclass(frozen=True, slots=True)
class Directory:
    """All accounts and clients by name, and the one password of the demo's accounts."""

    accounts: dict[str, Account]
    clients: dict[str, Client]
    password: str

    @classmethod
    def empty(cls) -> "Directory":
        """Nobody: what the issuer knows outside the embedded default."""
        return cls({}, {}, "")

    @classmethod
    def load(cls, base_url: str, additions: Path | None = None) -> "Directory":
        """Read the accounts; `additions` is a JSON object account -> changed members, such as the Patient's id."""
        document = json.loads(files("fhir_api.issuer").joinpath("accounts.json").read_text(encoding="utf-8"))
        if additions is not None and additions.exists():
            for name, members in json.loads(additions.read_text(encoding="utf-8")).items():
                document["accounts"].setdefault(name, {"name": name}).update(members)
        return cls(
            {name: _account(name, entry) for name, entry in document["accounts"].items()},
            {name: _client(name, entry, base_url) for name, entry in document["clients"].items()},
            document["password"],
        )


def _account(subject: str, entry: dict[str, Any]) -> Account:
    patient = entry.get("patient")
    return Account(
        subject=subject,
        name=entry["name"],
        roles=tuple(entry.get("roles", ("resident",))),
        organisation=entry.get("organisation"),
        patient=patient,
        fhir_user=entry.get("fhirUser") or (f"Patient/{patient}" if patient else None),
        purpose_of_use=entry.get("purpose_of_use", "PATRQT"),
    )


def _client(client_id: str, entry: dict[str, Any], base_url: str) -> Client:
    return Client(
        client_id=client_id,
        name=entry["name"],
        grants=frozenset(entry["grants"]),
        redirect_uris=frozenset(uri.replace("{base}", base_url) for uri in entry.get("redirect_uris", ())),
        scopes=tuple(entry["scopes"]),
        roles=tuple(entry.get("roles", ())),
        organisation=entry.get("organisation"),
        purpose_of_use=entry.get("purpose_of_use", ""),
    )
