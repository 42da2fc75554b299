"""A configured issuer: its keys are fetched from its own addresses, remembered, and nothing else is asked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ehr.errors import Unauthenticated, Unavailable
from fhir_api import key_sets
from fhir_api.access_token import TokenVerifier
from fhir_api.key_sets import RemoteKeySet
from tests.fhir_api.foreign_issuer import ForeignIssuer

BASE = "http://127.0.0.1:8000"


class NoRevocations:
    """Nothing is withdrawn."""

    epoch = 0

    def holds(self, identifiers: object) -> bool:  # noqa: ARG002 - the signature of Revocations
        return False


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[ForeignIssuer]:
    found = ForeignIssuer(tmp_path, BASE)
    yield found
    found.server.shutdown()
    found.server.server_close()


def verifier(foreign: ForeignIssuer) -> TokenVerifier:
    return TokenVerifier(
        RemoteKeySet(foreign.address),
        f"{BASE}/fhir",
        NoRevocations(),  # type: ignore[arg-type]  # the table of withdrawn tokens needs no database here
        foreign=True,
        clients=None,
    )


async def test_tokens_of_a_configured_issuer(foreign: ForeignIssuer) -> None:
    checking = verifier(foreign)
    session = await checking.session(f"Bearer {foreign.token()}".encode())
    assert (session.caller.subject, session.caller.client) == ("u1", "portal")
    await checking.session(f"Bearer {foreign.token(kind='at+jwt', jti='k')}".encode())
    assert foreign.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]


@pytest.mark.parametrize(
    "claims", [{"typ": "ID"}, {"typ": "Refresh"}, {"aud": "account"}, {"iss": f"{BASE}/auth"}, {"azp": None}], ids=str
)
async def test_other_tokens_of_that_issuer(foreign: ForeignIssuer, claims: dict[str, Any]) -> None:
    with pytest.raises(Unauthenticated):
        await verifier(foreign).session(f"Bearer {foreign.token(**claims)}".encode())


async def test_unknown_keys_are_asked_for_rarely(foreign: ForeignIssuer) -> None:
    checking = verifier(foreign)
    for number in range(20):
        with pytest.raises(Unauthenticated):
            await checking.session(f"Bearer {foreign.token(kid=f'unknown-{number}')}".encode())
    assert len(foreign.asked) == 2


@pytest.mark.parametrize("changed", [{"issuer": "http://other"}, {"jwks_uri": "http://localhost:1/keys"}], ids=str)
async def test_a_discovery_document_of_somebody_else(foreign: ForeignIssuer, changed: dict[str, str]) -> None:
    foreign.changed = changed
    with pytest.raises(Unavailable):
        await verifier(foreign).session(f"Bearer {foreign.token()}".encode())


async def test_known_keys_outlive_the_issuers_absence(foreign: ForeignIssuer, monkeypatch: pytest.MonkeyPatch) -> None:
    checking = verifier(foreign)
    await checking.session(f"Bearer {foreign.token()}".encode())
    foreign.changed = {"issuer": "gone"}
    monkeypatch.setattr(key_sets, "FRESH_S", 0.0)
    monkeypatch.setattr(key_sets, "UNKNOWN_KEY_PAUSE_S", 0.0)
    await checking.session(f"Bearer {foreign.token(jti='later')}".encode())
    monkeypatch.setattr(key_sets, "KEEP_S", 0.0)
    with pytest.raises(Unavailable):
        await checking.session(f"Bearer {foreign.token(jti='much-later')}".encode())
