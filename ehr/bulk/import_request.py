"""What an import is asked for: files or addresses, and whose rows they become."""

from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec


class ImportSource(msgspec.Struct, frozen=True):
    """One file of NDJSON, or one Bundle or resource; gzip where the content says so."""

    name: str
    """As errors name it."""
    path: str | None = None
    """Of a file that the operator named."""
    address: str | None = None
    """Of a file that is fetched."""
    type: str | None = None
    """The one type that its lines may have, where that was said."""


class ImportRequest(msgspec.Struct, frozen=True):
    """An import as understood."""

    sources: tuple[ImportSource, ...]
    custodian: str | None = None
    """Of the rows, where the loader says so."""


class SourceProgress(msgspec.Struct):
    """What is durable of one source."""

    line: int = 0
    """Everything up to this line is written or refused."""
    resources: int = 0
    refused: int = 0
    finished: bool = False


class ImportProgress(msgspec.Struct):
    """What is durable of an import."""

    sources: list[SourceProgress] = msgspec.field(default_factory=list)
    waiting: list[tuple[int, int]] = msgspec.field(default_factory=list)
    """(source, line) of what names a row by criteria that matched nothing yet."""
    errors_bytes: int = 0
    """Of the file of errors."""

    @property
    def resources(self) -> int:
        """Resources written."""
        return sum(each.resources for each in self.sources)

    @property
    def refused(self) -> int:
        """Entries refused."""
        return sum(each.refused for each in self.sources)


def is_allowed(address: str, allowed: Sequence[str]) -> bool:
    """Whether an address lies under one of those that the operator allows; no other form of it is looked at."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.fragment:
        return False
    if "\\" in address or any(part in (".", "..") for part in parts.path.lower().replace("%2e", ".").split("/")):
        return False
    return any(address == each or address.startswith(each.rstrip("/") + "/") for each in allowed)
