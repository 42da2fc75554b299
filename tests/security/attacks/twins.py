"""Two servers alike but for the rows that the callers may not see: what one answers, the other must answer too."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus

import httpx
import yaml

from fhir_api.issuer.accounts import Account, Client
from fhir_api.issuer.issuer import Grant
from fhir_api.issuer.scopes import default_scopes
from tests.fhir_api.conftest import Platform

HERE = Path(__file__).parent
FHIR = {"content-type": "application/fhir+json"}
LONGEST_WALK = 12

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r'"(lastUpdated|lastModified)":"[^"]*"')
_PAGE = re.compile(r"_page=[A-Za-z0-9_-]+")
_MADE = re.compile(rf"/fhir/(\w+/{_UUID.pattern})/_history/1")
_WHO = re.compile(
    r"(?:resident (?P<resident>\S+)|(?P<name>[a-z.-]+))(?: @(?P<patient>\S+))?(?: !(?P<purpose>\w+))?"
    r"(?: because (?P<reason>[^\[]*))?(?: ?\[(?P<scopes>.*)\])?"
)
_VARYING = frozenset({"date", "x-request-id", "content-length"})
_WORDS = re.compile(r"[\w.\-]{0,64}canary[\w.\-]{0,64}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request: method, address after `/fhir/`, body and headers."""

    method: str
    address: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, body: Any = None, headers: dict[str, str] | None = None) -> "Ask":
        """From "METHOD address"; "POST Type/_search?..." sends the query as a form."""
        method, _, address = text.partition(" ")
        return cls(method, address, body, dict(headers or {}))

    def send(self, client: httpx.Client) -> httpx.Response:
        """Send it."""
        address, content, headers = self.address, None, dict(self.headers)
        if self.method == "POST" and "/_search?" in address:
            address, _, form = address.partition("?")
            content, headers = form.encode(), headers | {"content-type": "application/x-www-form-urlencoded"}
        elif isinstance(self.body, str):
            content, headers = self.body.encode(), FHIR | headers
        elif self.body is not None:
            content, headers = json.dumps(self.body, ensure_ascii=False).encode(), FHIR | headers
        return client.request(self.method, f"/fhir/{address}" if address else "/fhir", content=content, headers=headers)

    @property
    def words(self) -> set[str]:
        """The secrets that the attacker brought himself: what he sent proves nothing when it comes back."""
        text = " ".join((unquote_plus(self.address), json.dumps(self.body, ensure_ascii=False), str(self.headers)))
        return {word.lower() for word in _WORDS.findall(text)} | {word for word in canaries() if word in text}


@dataclass(frozen=True, slots=True)
class Seen:
    """What a caller can tell of one answer."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str


class Twin:
    """One of the two servers."""

    def __init__(self, platform: Platform) -> None:
        """Take the server."""
        self.platform = platform
        self._clients: dict[str, httpx.Client] = {}

    def client(self, who: str) -> httpx.Client:
        """HTTP as somebody: an account or machine client, or "resident <Patient id>".

        Further words change the token: "@<Patient id>" puts a patient into context, "!<purpose>" asks for a purpose of
        use, "because <reason>" gives its reason, "[<scopes>]" replaces the scopes.
        """
        if who not in self._clients:
            found = _WHO.fullmatch(who)
            assert found is not None, who
            self._clients[who] = self.platform.anonymous()
            self._clients[who].headers["authorization"] = f"Bearer {self._token(found.groupdict())}"
        return self._clients[who]

    def _token(self, words: dict[str, str | None]) -> str:
        issuer, name = self.platform.issuer, words["name"] or ""
        holder: Account | Client
        if name in issuer.directory.clients:
            holder = issuer.client(name)
        elif words["resident"]:
            patient = words["patient"] = words["resident"]
            holder = replace(issuer.account("zhang.wei"), subject=f"resident-{patient}", patient=patient)
        else:
            holder = issuer.account(name)
        scopes = tuple(words["scopes"].split()) if words["scopes"] is not None else default_scopes(holder)
        if isinstance(holder, Account) and words["patient"]:
            holder = replace(holder, patient=words["patient"])
        client = holder.client_id if isinstance(holder, Client) else "kanglian"
        purpose = words["purpose"] or holder.purpose_of_use
        return issuer.access_token(Grant(holder, client, scopes, purpose, words["reason"]))

    def answers(self, who: str, asks: Sequence[Ask], *, walk: int = LONGEST_WALK) -> list[httpx.Response]:
        """The answers to requests, each followed along its `next` links so many times at most."""
        client = self.client(who)
        found: list[httpx.Response] = []
        for ask in asks:
            answer = ask.send(client)
            found.append(answer)
            for _ in range(walk):
                address = next_link(answer)
                if address is None:
                    break
                answer = client.get(address)
                found.append(answer)
        return found

    def forget(self, answers: Sequence[httpx.Response]) -> None:
        """Delete the rows that these answers say were made, so that each attack meets the same record."""
        texts = (answer.text + answer.headers.get("location", "") for answer in answers)
        for name in sorted({name for text in texts for name in _MADE.findall(text)}):
            assert self.client("loader").delete(f"/fhir/{name}").status_code == 204

    def seen(self, answers: Sequence[httpx.Response]) -> list[Seen]:
        """Answers without what differs from server to server: its address, ids and times that it made, page tokens."""
        made: dict[str, str] = {}

        def plain(text: str) -> str:
            text = text.replace(self.platform.base_url, "BASE")
            text = _UUID.sub(lambda found: made.setdefault(found.group(), f"made-{len(made)}"), text)
            return _PAGE.sub("_page=TOKEN", _TIME.sub(r'"\1":"TIME"', text))

        return [
            Seen(
                answer.status_code,
                tuple(sorted((n, _header(n, plain(v))) for n, v in answer.headers.items() if n not in _VARYING)),
                plain(answer.text),
            )
            for answer in answers
        ]


def _header(name: str, value: str) -> str:
    return "TIME" if name == "last-modified" else value


def next_link(answer: httpx.Response) -> str | None:
    """The address of the next page, if there is one."""
    if answer.status_code != 200 or not answer.content.startswith(b'{"resourceType":"Bundle"'):
        return None
    links = answer.json().get("link", ())
    return next((link["url"] for link in links if link["relation"] == "next"), None)


@cache
def people() -> dict[str, Any]:
    """The fixture as written."""
    found: dict[str, Any] = yaml.safe_load((HERE / "people.yaml").read_text(encoding="utf-8"))
    return found


def canaries() -> tuple[str, ...]:
    """Secrets that do not hold the word itself."""
    return tuple(people()["canaries"])


def hidden_ids() -> list[str]:
    """The ids of the hidden rows."""
    hidden = [step["resources"] for step in people()["steps"] if step.get("hidden")]
    return sorted({resource["id"] for resources in hidden for resource in resources if "id" in resource})


def leaked(text: str, brought: set[str]) -> set[str]:
    """Secrets in a text, without those that the attacker brought."""
    text = unquote(text)
    if "canary" not in text.lower():
        return {word for word in canaries() if word in text} - brought
    found = {word.lower() for word in _WORDS.findall(text)} | {word for word in canaries() if word in text}
    return found - brought


def fill(twin: Twin, *, hidden: bool) -> None:
    """Load the people through the API, with or without the hidden rows."""
    for step in people()["steps"]:
        if hidden or not step.get("hidden"):
            entries = list(_entries(step["resources"]))
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            answer = twin.client(step["by"]).post("/fhir", json=bundle, headers=FHIR)
            assert answer.status_code == 200, answer.text


def _entries(resources: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for resource in resources:
        if "delete" in resource:
            yield {"request": {"method": "DELETE", "url": resource["delete"]}}
            continue
        content = {name: value for name, value in resource.items() if value != []}
        method, address = "POST", content["resourceType"]
        if "id" in content:
            method, address = "PUT", f"{address}/{content['id']}"
        yield {"resource": content, "request": {"method": method, "url": address}}
