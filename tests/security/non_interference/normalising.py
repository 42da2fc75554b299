"""Answers without what the server makes anew each time: ids, times and link tokens by their order of appearance."""

import base64
import re
from collections.abc import Collection
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tests.security.non_interference.platforms import Response

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PAGE = re.compile(r"_page=([A-Za-z0-9_%-]+)")
_EVENT = re.compile(r'(?<=AuditEvent/)\d+-\d+(?:\.[0-9a-f]+)?|(?<="id":")\d+-\d+(?:\.[0-9a-f]+)?(?=")')
_QUERY = re.compile(r'"query":"([A-Za-z0-9+/=]+)"')
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")


class Normaliser:
    """Remembers what one platform made, for one sequence of requests."""

    def __init__(self, known: Collection[str], started_at: float) -> None:
        """Take the ids that both platforms have, and the time from which on instants are new."""
        self._known = known
        self._started = datetime.fromtimestamp(started_at - 1, UTC)
        self._made: dict[str, str] = {}

    def plain(self, response: Response) -> tuple[int, tuple[tuple[str, str], ...], str]:
        """The answer as it is compared."""
        body = self._text(response.body)
        headers = []
        for name, value in response.headers:
            if name == "content-length" and body != response.body:
                continue
            headers.append((name, self._date(value) if name == "last-modified" else self._text(value)))
        return response.status, tuple(headers), body

    def _text(self, text: str) -> str:
        # the log holds addresses as base64, with the tokens of their page links
        text = _QUERY.sub(lambda found: f'"query":"{base64.b64decode(found[1]).decode()}"', text)
        text = _PAGE.sub(lambda found: f"_page={self._named('page', found[1])}", text)
        text = _UUID.sub(lambda found: found[0] if found[0] in self._known else self._named("id", found[0]), text)
        text = _EVENT.sub(lambda found: self._named("event", found[0]), text)
        return _INSTANT.sub(lambda found: self._instant(found[0]), text)

    def _named(self, kind: str, value: str) -> str:
        return self._made.setdefault(value, f"<{kind} {len(self._made)}>")

    def _instant(self, text: str) -> str:
        return "<now>" if datetime.fromisoformat(text) >= self._started else text

    def _date(self, text: str) -> str:
        return "<now>" if parsedate_to_datetime(text) >= self._started else text
