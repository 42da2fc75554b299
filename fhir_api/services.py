"""What the application is given: the record, the decisions, the issuer and where it is reached."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from consent import Caller
from ehr.scopes import Interaction, ReadScope, WriteScope
from ehr.store import Store
from fhir_api.issuer import Issuer


class Decisions(Protocol):
    """What `consent.Consent` decides for a request."""

    async def read_scope(
        self,
        caller: Caller,
        *,
        interaction: Interaction,
        types: Collection[str] | None = None,
        persons: Collection[str] | None = None,
    ) -> ReadScope:
        """What the caller may see now; raises Forbidden where role or SMART scopes allow no such request at all.

        `persons` are ids of the Patients whom the request names: break-glass answers where it is exactly one.
        """

    async def refresh(self) -> None:
        """Read policies and classes anew, after a statement said that they changed."""

    async def export_scope(self, caller: Caller) -> ReadScope:
        """What a machine client may take in bulk now; Forbidden for everybody else."""

    def export_types(self, caller: Caller, asked: Collection[str] = ()) -> frozenset[str]:
        """The types that it may take; Forbidden where one of those asked is none of them."""

    async def write_scope(self, caller: Caller, *, even_nothing: bool = False) -> WriteScope:
        """What the caller may write now; raises Forbidden likewise, unless a scope `even_nothing` will do."""


class PopulationAnswer(Protocol):
    """`analytics.answer.Answer`."""

    def json(self) -> bytes:
        """The counts as JSON."""

    def csv(self) -> str:
        """The counts as CSV."""


class AnalyticsRunner(Protocol):
    """`analytics.service.AnalyticsService`: answers one question with counts."""

    async def answer(self, text: bytes, caller: Caller, trace: str) -> PopulationAnswer:
        """Run the question for the caller; raises errors of `ehr.errors`; writes its own audit row."""


async def _always_ready() -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that `create_app` wires."""

    store: Store
    consent: Decisions
    base_url: str
    """`BASE` without a closing slash: links, Locations, issuer and audience start with it."""
    link_key: bytes
    """Secret that seals page links, 16 bytes or more, the same in all workers and after a restart."""
    issuer: Issuer | None = None
    """The embedded issuer; None where `oidc_issuer` is configured."""
    oidc_issuer: str | None = None
    """Address of a configured OpenID Connect issuer; its tokens alone are taken then."""
    analytics: AnalyticsRunner | None = None
    cors_origins: frozenset[str] = frozenset()
    """Origins whose pages may read answers, or `*`."""
    readiness: Callable[[], Awaitable[str | None]] = _always_ready
    """What is still missing before the platform is ready ("demo is being loaded"); None = nothing."""
    walk: Sequence[str] = field(default_factory=tuple)
    """The README's lines to paste, shown on the first page."""
    bulk_folder: Path | None = None
    """Where the files of bulk jobs lie, the same for all workers; without it none is offered."""
    import_addresses: tuple[str, ...] = ()
    """Where `$import` fetches files from; without one it is not offered."""
    version: str = "0.1.0"
