"""The same requests to the full store and to the copy without the hidden rows; a difference is made small and shown."""

import json
import random
import time
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tests.security.non_interference.agreement import disagreements
from tests.security.non_interference.normalising import Normaliser
from tests.security.non_interference.oracle import Oracle, View
from tests.security.non_interference.platforms import CONTENT, Pair, Request, Response, token_of
from tests.security.non_interference.questions import Questions
from tests.security.non_interference.requests import Requests
from tests.security.non_interference.story import Name
from tests.security.non_interference.views import hidden_from

PAGES = 3
UNEXPECTED = 500
"""An error that nobody expected is no answer, even where both sides give it."""
Answers = tuple[Any, ...]


class Interference(AssertionError):
    """Something hidden was noticed; the text says by which request."""


class Session:
    """One caller, one way of looking, one copy."""

    def __init__(self, pair: Pair, oracle: Oracle, questions: Questions, views: tuple[View, ...], seed: int) -> None:
        """Take both platforms, what is stored and who looks; `seed` chooses the requests."""
        self.pair = pair
        self.oracle = oracle
        self.questions = questions
        self.views = views
        self.rows, self.versions = hidden_from(views[0], oracle)
        self.rnd = random.Random(seed)  # noqa: S311 - test data
        self.token = token_of(pair.issuer, views[0].caller)
        self.known = frozenset(identity for _, identity in oracle.rows)
        self.asked = 0
        self._made = 0

    async def run(self, number: int) -> None:
        """Compare so many requests.

        Raises:
            Interference: an answer differs.
        """
        requests = Requests(self.views, self.oracle, self.questions, self.rnd)
        done: list[Request] = []
        await self._reset(self.rows, self.versions)
        for view in self.views:
            if wrong := await disagreements(self.pair.full, self.oracle, view):
                raise Interference("\n".join(wrong[:5]))
        sides = self._sides()
        for _ in range(number):
            request = requests.one()
            done.append(request)
            self.asked += 1
            if answers := await self._differs(request, sides):
                raise Interference(await self._told(done, answers))

    def _sides(self) -> tuple[Normaliser, Normaliser]:
        now = time.time()
        return Normaliser(self.known, now), Normaliser(self.known, now)

    async def _reset(self, rows: Any, versions: Any) -> None:
        who = self.views[0].caller
        self._made = 0
        looks_at_log = bool(who.roles & {"resident", "auditor"})
        await self.pair.full.restore(*(("audit_row",) if looks_at_log else ()))
        await self.pair.copy.restore(*CONTENT)
        await self.pair.copy.hide(rows, versions)
        if "auditor" not in who.roles:
            patients = self.oracle.person(who.patient) if who.patient and "resident" in who.roles else ()
            await self.pair.copy.forget_audit(except_of=patients)

    async def _differs(self, request: Request, sides: tuple[Normaliser, Normaliser]) -> Answers | None:
        """The two answers where they differ, after following the links to further pages."""
        self._made += 1
        full, copy = await self.pair.ask(request, self.token, seed=self._made)
        for _ in range(PAGES):
            answers = sides[0].plain(full), sides[1].plain(copy)
            if answers[0] != answers[1] or full.status == UNEXPECTED:
                return answers
            links = _next(full), _next(copy)
            if links[0] is None or links[1] is None:
                return None
            full, copy = await self.pair.ask(Request("GET", links[0]), self.token, Request("GET", links[1]))
        return None

    # ---- making it small ---------------------------------------------------------------------------------------------

    async def _again(self, requests: list[Request], rows: Any = None, versions: Any = None) -> Answers | None:
        """The answers of the last of the requests where they differ, from a fresh start."""
        await self._reset(self.rows if rows is None else rows, self.versions if versions is None else versions)
        sides = self._sides()
        for request in requests[:-1]:
            if await self._differs(request, sides):
                return None
        return await self._differs(requests[-1], sides)

    async def _told(self, done: list[Request], first: Answers) -> str:
        requests = [done[-1]]
        if not await self._again(requests):
            requests = list(done)
            for request in done[:-1]:
                fewer = [each for each in requests if each is not request]
                if await self._again(fewer):
                    requests = fewer
        smaller = True
        while smaller:
            smaller = False
            for candidate in _smaller(requests[-1]):
                if await self._again([*requests[:-1], candidate]):
                    requests, smaller = [*requests[:-1], candidate], True
                    break
        answers = await self._again(requests) or first
        return self._text(requests, answers, await self._culprits(requests))

    async def _culprits(self, requests: list[Request]) -> list[str]:
        """Hidden rows and versions that make the difference alone."""
        found = []
        for name in sorted(self.rows):
            if len(found) < 3 and await self._again(requests, [name], []):
                found.append(f"{'/'.join(name)} {self._facts(name)}")
        for name, number in sorted(self.versions):
            if len(found) < 3 and await self._again(requests, [], [(name, number)]):
                found.append(f"{'/'.join(name)} version {number}")
        return found

    def _facts(self, name: Name) -> str:
        row = self.oracle.rows[name]
        facts = {"custodian": row.custodian, "about": sorted(row.current.persons), "deleted": row.current.deleted}
        return f"{facts | {'labels': sorted(row.labels(row.current)), 'level': row.level(row.current)}}"

    def _text(self, requests: list[Request], answers: Answers, culprits: list[str]) -> str:
        who = self.views[0].caller
        lines = [
            (
                f"{who.subject} notices hidden rows ({', '.join(sorted(who.roles))} of {who.organisation}, for"
                f" {self.views[0].purpose}, scopes {' '.join(who.scopes)}, patient {who.patient}), by:"
            ),
            *(f"  {each.method} {each.target} {dict(each.headers)} {each.body}" for each in requests),
            "full store: " + _short(answers, 0),
            "copy:       " + _short(answers, 1),
            "hidden rows that make the difference alone: " + ("; ".join(culprits) or "none alone"),
        ]
        return "\n".join(lines)


def _short(answers: Answers, side: int) -> str:
    """The answer, its body around the place where it begins to differ."""
    status, headers, body = answers[side]
    pairs = enumerate(zip(answers[0][2], answers[1][2], strict=False))
    start = max(0, next((place for place, (one, other) in pairs if one != other), 0) - 300)
    return f"{status} {dict(headers)} {'...' if start else ''}{body[start : start + 1_200]}"


def _next(response: Response) -> str | None:
    if response.status != 200 or '"relation":"next"' not in response.body:
        return None
    # the Bundles inside the answer to a batch have links too
    url = next((link["url"] for link in response.json().get("link", ()) if link["relation"] == "next"), None)
    if url is None:
        return None
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def _smaller(request: Request) -> list[Request]:
    """The request with one thing less."""
    found = []
    path, _, query = request.target.partition("?")
    pairs = query.split("&") if query else []
    for place in range(len(pairs)):
        kept = "&".join(pairs[:place] + pairs[place + 1 :])
        found.append(replace(request, target=f"{path}?{kept}" if kept else path))
    found += [
        replace(request, headers=tuple(each for each in request.headers if each != header))
        for header in request.headers
        if header[0] != "content-type"
    ]
    if request.body.startswith("{"):
        body = json.loads(request.body)
        for name in ("entry",) if "entry" in body else sorted(set(body) - {"resourceType", "id"}):
            if name != "entry":
                found.append(replace(request, body=json.dumps({k: v for k, v in body.items() if k != name})))
                continue
            for place in range(len(body["entry"])):
                entries = body["entry"][:place] + body["entry"][place + 1 :]
                found.append(replace(request, body=json.dumps(body | {"entry": entries})))
    elif request.body:
        fields = request.body.split("&")
        found += [replace(request, body="&".join(fields[:p] + fields[p + 1 :])) for p in range(len(fields))]
    return found
