"""What an interaction is given and what it gives back: one FHIR request, one answer not yet sent.

The same interactions serve HTTP requests and the entries of batch and transaction Bundles.
https://hl7.org/fhir/R4/http.html
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeVar

from consent import Caller
from consent.break_glass import named_patients
from ehr.audit_note import AuditNote
from ehr.errors import BadSearch, Malformed, StaleScope, Unavailable
from ehr.scopes import Interaction, ReadScope, WriteScope
from ehr.store.operations import ANY_VERSION, StoredVersion
from fhir_api.access_token import Session
from fhir_api.exchange import JSON_TYPE, NO_STORE, Header, http_date
from fhir_api.negotiation import Preferences, preferences
from fhir_api.services import Services

LIMIT_QUERY_TEXT = 4_096
LIMIT_DECISIONS = 8
Result = TypeVar("Result")


@dataclass(slots=True)
class Answer:
    """Status, body and headers of an answer; `content-length` and trace are added when it is sent."""

    status: int
    body: bytes = b""
    headers: list[Header] = field(default_factory=lambda: [JSON_TYPE, NO_STORE])
    file: Path | None = None
    """Sent in place of the body, a piece at a time."""


@dataclass(slots=True)
class FhirRequest:
    """One request of an authenticated caller.

    `pairs` are the query's parameters without `_format` and `_pretty`; `body` reads the body when it is wanted.
    """

    services: Services
    session: Session
    method: str
    target: str
    """Address after `/fhir/`, with query, as asked: what the audit row shows."""
    pairs: list[tuple[str, str]]
    headers: Mapping[bytes, bytes]
    trace: str
    body: Callable[[], Awaitable[bytes]]
    check_again: Callable[[], Awaitable[Session]]
    """Check the token again, after policies changed."""
    resource_type: str = ""
    resource_id: str = ""
    version: str = ""
    pretty: bool = False
    """Whether the answer is laid out for people, be it an error."""
    interaction: str = "search-type"
    action: Literal["C", "R", "U", "D", "E"] = "R"
    audited: bool = False
    """True from the moment in which the store has taken over the audit row."""
    decision: str = ""

    @property
    def caller(self) -> Caller:
        """Who asks."""
        return self.session.caller

    @property
    def fhir_base(self) -> str:
        """`BASE/fhir`."""
        return self.services.base_url + "/fhir"

    @property
    def prefer(self) -> Preferences:
        """The Prefer header."""
        value = self.headers.get(b"prefer")
        return preferences(None if value is None else value.decode("latin-1"))

    def header(self, name: bytes) -> str | None:
        """One header as text, or None."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def note(self) -> AuditNote:
        """What the audit row will say."""
        caller = self.session.caller
        return AuditNote(
            self.action,
            self.interaction,
            caller.subject,
            caller.client,
            caller.organisation,
            self.session.roles,
            caller.purpose_of_use,
            caller.reason,
            f"{self.method} {self.target[:LIMIT_QUERY_TEXT]}",
            self.trace,
            self.decision,
        )

    async def read_scope(
        self, interaction: Interaction, types: Collection[str], pairs: Sequence[tuple[str, str]] = ()
    ) -> ReadScope:
        """Decide what the caller may see now; Forbidden where token or role allow no such request at all."""
        scope = await self.services.consent.read_scope(
            self.session.caller,
            interaction=interaction,
            types=types,
            persons=named_patients(self.resource_type, self.resource_id, pairs),
        )
        self.decision = scope.decision
        return scope

    async def write_scope(self) -> WriteScope:
        """Decide what the caller may write now; Forbidden likewise, but a batch is refused entry by entry."""
        scope = await self.services.consent.write_scope(self.session.caller, even_nothing=self.interaction == "batch")
        if scope.read is not None:
            self.decision = scope.read.decision
        return scope

    async def decided_anew(self, act: Callable[[], Awaitable[Result]]) -> Result:
        """Run `act`, which decides and reads or writes; where policies changed in between, check the token and repeat.

        What raised StaleScope has shown and written nothing. One repetition is the rule; further ones are for many
        writers of consents at once.
        """
        for _ in range(LIMIT_DECISIONS):
            try:
                return await act()
            except StaleScope:
                self.audited = False
                await self.services.consent.refresh()
                self.session = await self.check_again()
        raise Unavailable("Policies change too often now; try again.")

    def no_parameters(self) -> None:
        """Refuse a query where the interaction takes none: an unknown parameter is never ignored."""
        if self.pairs:
            raise BadSearch(f"The parameter {self.pairs[0][0]!r} is not offered here.")


@lru_cache(maxsize=1_024)
def entity_tag(version: int) -> bytes:
    """The weak ETag of a version: W/"3"."""
    return b'W/"%d"' % version


def version_headers(version: int, last_updated_us: int) -> list[Header]:
    """The headers of an answer that is one version."""
    return [
        JSON_TYPE,
        (b"etag", entity_tag(version)),
        (b"last-modified", http_date(last_updated_us // 1_000_000)),
        NO_STORE,
    ]


def version_answer(version: StoredVersion) -> Answer:
    """200 with the stored bytes."""
    return Answer(200, version.body or b"", version_headers(version.version, version.last_updated_us))


def if_match_version(header: str | None) -> int | None:
    """The version that If-Match names; None where the header is absent, ANY_VERSION for `*` (RFC 9110 13.1.1).

    A tag that is no version of ours gives -1, which no row has; several tags are Malformed, as a write has one
    base (SC-22).
    """
    if header is None:
        return None
    if header.strip() == "*":
        return ANY_VERSION
    tag = header.strip().removeprefix("W/")
    if len(tag) < 3 or tag[0] != '"' or tag[-1] != '"' or '"' in tag[1:-1]:
        raise Malformed('If-Match is one entity tag such as W/"3".')
    inner = tag[1:-1]
    return int(inner) if inner.isascii() and inner.isdigit() and len(inner) < 10 else -1


def names_version(header: str, version: int) -> bool:
    """True where an If-None-Match header names the version (weak comparison) or is `*`."""
    wanted = f'"{version}"'
    return any(tag.strip().removeprefix("W/") in {wanted, "*"} for tag in header.split(","))
