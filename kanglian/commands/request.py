"""One HTTP request to the running platform."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from ehr.errors import KanglianError

_TIMEOUT_S = 120.0


class RequestError(KanglianError):
    """The request could not be made or the platform could not be reached."""

    code = "transient"


@dataclass(frozen=True, slots=True)
class Answered:
    """Status, its words, and the body."""

    status: int
    reason: str
    content: bytes

    def readable(self) -> str:
        """The body, indented where it is JSON."""
        import msgspec

        try:
            return msgspec.json.format(self.content, indent=2).decode()
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self.content.decode(errors="replace").rstrip("\n")


def ask(address: str, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Answered:
    """Make the request; RequestError where nobody answers at `address`."""
    import http.client

    parts = urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "127.0.0.1", parts.port, timeout=_TIMEOUT_S)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return Answered(answer.status, answer.reason, answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(
            f"the platform does not answer at {address} ({error}): is it running (make run)? `kanglian doctor` looks"
        ) from error
    finally:
        connection.close()
