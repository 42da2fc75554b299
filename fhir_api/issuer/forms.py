"""Reading what clients and browsers send to the issuer, and answering as OAuth asks.

https://www.rfc-editor.org/rfc/rfc6749#section-5.2 (errors), section 3.1 (no parameter twice)
"""

from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse

from fhir_api.exchange import parse_pairs

LIMIT_FORM_BYTES = 64 * 1024
FORM_TYPE = "application/x-www-form-urlencoded"
UNCACHED = {"cache-control": "no-store", "pragma": "no-cache"}


class OAuthError(Exception):
    """A refusal in OAuth's words: `error` is a code of RFC 6749, `description` a sentence without secrets."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        """Take the code, the sentence and the status."""
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status

    def answer(self) -> JSONResponse:
        """The refusal as the token endpoint answers it."""
        return JSONResponse({"error": self.error, "error_description": self.description}, self.status, headers=UNCACHED)


def single(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The parameters by name; a name given twice is refused (RFC 6749 section 3.1)."""
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise OAuthError("invalid_request", "A parameter is given twice.")
        found[name] = value
    return found


def query_of(request: Request) -> dict[str, str]:
    """The query's parameters; Malformed on broken encodings."""
    data: bytes = request.scope["query_string"]
    if len(data) > LIMIT_FORM_BYTES:
        raise OAuthError("invalid_request", "The request is too long.")
    return single(parse_pairs(data)) if data else {}


async def form_of(request: Request) -> dict[str, str]:
    """The form's parameters, at most 64 KiB; only `application/x-www-form-urlencoded` is taken."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise OAuthError("invalid_request", f"The body is {FORM_TYPE}.", 415)
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > LIMIT_FORM_BYTES:
            raise OAuthError("invalid_request", "The form is too long.", 413)
    return single(parse_pairs(data)) if data else {}


def check_host(request: Request, base_url: str) -> None:
    """Refuse requests that name another host than ours: a foreign name that resolves to loopback (DNS rebinding)."""
    host = (urlsplit(f"//{request.headers.get('host', '')}").hostname or "").lower()
    own = (urlsplit(base_url).hostname or "").lower()
    loopback = {"127.0.0.1", "localhost", "::1"}
    if host != own and not (own in loopback and host in loopback):
        raise OAuthError("invalid_request", "This issuer is not reached by that host name.")


def answer(content: dict[str, Any], status: int = 200) -> JSONResponse:
    """A JSON answer that no cache keeps."""
    return JSONResponse(content, status, headers=UNCACHED)
