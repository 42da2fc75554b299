"""Traffic without pause for the tests that end processes: what was answered is remembered, and checked afterwards."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from hospital_adapters.mllp.client import answers_of
from tests.flow.messages import DAY, Person, adt, result, somebody
from tests.flow.running import Running, resources, total
from tests.flow.test_clinician_journey import consent_to

_NUMBER = "urn:kanglian:flow:kill"
_UPDATED = "Patient/county-hospital.kill"


@dataclass
class Traffic:
    """A hospital's feed, a hospital's system that writes, a clinician who reads, and a resident of two minds."""

    platform: Running
    person: Person = field(default_factory=somebody)
    results: list[str] = field(default_factory=list)
    """Order numbers of acknowledged results."""
    names: list[str] = field(default_factory=list)
    """Acknowledged given names, in the order in which they were sent."""
    sent: list[bytes] = field(default_factory=list)
    """Acknowledged messages."""
    written: dict[str, str] = field(default_factory=dict)
    """Number to id of each create that was answered."""
    tried: list[str] = field(default_factory=list)
    """Numbers of all creates, answered or not."""
    updated: int = 0
    """The last update that was answered."""
    looked: int = 0
    refused: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    """Request id to status of every answer over HTTP that was not "not now"."""
    stopped: threading.Event = field(default_factory=threading.Event)

    def progress(self) -> tuple[int, ...]:
        return len(self.sent), len(self.written), self.updated, self.looked, self.refused

    def moves_on_from(self, since: tuple[int, ...]) -> bool:
        return all(now > before for now, before in zip(self.progress(), since, strict=True))

    # over MLLP

    def feed(self) -> None:
        """Send each message again until it is acknowledged, as a hospital does."""
        number = 0
        while not self.stopped.is_set():
            number += 1
            at = f"{DAY}{10 + number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}+0800"
            name = f"n{number}"
            update = adt(self.person, "A08", at=at, given=name)
            self._acknowledged(update)
            self.names.append(name)
            self._acknowledged(result(self.person, f"{number}", at=at))
            self.results.append(f"{self.person.record}-{number}")

    def _acknowledged(self, message: bytes) -> None:
        while True:
            try:
                (answer,) = answers_of("127.0.0.1", self.platform.mllp_port, [message], timeout_s=3)
            except OSError:
                time.sleep(0.05)
                continue
            assert b"MSA|AA|" in answer, answer
            self.sent.append(message)
            return

    # over HTTP

    def create(self) -> None:
        """Create numbered Observations; one that is not answered is not tried again."""
        with self._client("county-hospital") as client:
            while not self.stopped.is_set():
                number = f"W{len(self.tried)}"
                self.tried.append(number)
                body = {
                    "resourceType": "Observation",
                    "identifier": [{"system": _NUMBER, "value": number}],
                    "status": "final",
                    "code": {"text": "mid-stream"},
                    "subject": {"reference": _UPDATED},
                }
                answer = self._answered(client, "POST", "Observation", 201, body=body)
                if answer is not None:
                    self.written[number] = answer.json()["id"]

    def update(self) -> None:
        """Count up on one Patient."""
        with self._client("county-hospital") as client:
            number = 0
            while not self.stopped.is_set():
                number += 1
                body = {"resourceType": "Patient", "id": "county-hospital.kill", "multipleBirthInteger": number}
                if self._answered(client, "PUT", _UPDATED, 200, 201, body=body):
                    self.updated = number

    def look(self) -> None:
        """Search and read by turns."""
        with self._client("dr.wang") as client:
            while not self.stopped.is_set():
                for path in (f"Patient?identifier={self.person.record}", f"Patient/{self.person.patient}"):
                    self.looked += self._answered(client, "GET", path, 200) is not None

    def doubt(self) -> None:
        """Open the record to a stranger and close it again; while it is closed he is told that nothing is there."""
        patient = f"Patient/{self.person.patient}"
        with self._client("dr.li") as stranger, self._copy(self.platform.resident(self.person.patient)) as resident:
            while not self.stopped.is_set():
                for _ in range(5):
                    self.refused += self._answered(stranger, "GET", patient, 404) is not None
                given = consent_to("county-hospital", self.person.patient)
                if self._answered(resident, "POST", "Consent", 201, body=given):
                    self._answered(stranger, "GET", patient, 200)
                else:
                    time.sleep(1)  # whether it was filed is not known; what is still on its way has come by then
                while not self.stopped.is_set() and not self._withdrawn(resident):
                    pass

    def _withdrawn(self, resident: httpx.Client) -> bool:
        """Whether no Consent was in force, as an answer says; those that were are withdrawn."""
        found = self._answered(resident, "GET", "Consent?status=active", 200)
        consents = [] if found is None else resources(found)
        for consent in consents:
            withdrawn = {**consent, "status": "inactive"}
            self._answered(resident, "PUT", f"Consent/{consent['id']}", 200, body=withdrawn)
        return found is not None and not consents

    def _client(self, who: str) -> httpx.Client:
        return self._copy(self.platform.client(who))

    def _copy(self, known: httpx.Client) -> httpx.Client:
        return httpx.Client(base_url=known.base_url, headers=known.headers, timeout=5)

    def _answered(
        self, client: httpx.Client, method: str, path: str, *wanted: int, body: dict[str, Any] | None = None
    ) -> httpx.Response | None:
        """The answer, or None where there was none or it was "not now"; anything else fails the test."""
        try:
            answer = client.request(method, path, json=body)
        except httpx.HTTPError:
            time.sleep(0.05)
            return None
        if answer.status_code == 503:
            time.sleep(0.05)
            return None
        self.answers[answer.headers["x-request-id"]] = answer.status_code
        assert answer.status_code in wanted, (method, path, answer.status_code, answer.text)
        return answer

    # afterwards

    def check_feed(self) -> None:
        """What was acknowledged is there once, and the newest message holds."""
        platform, person = self.platform, self.person
        kept = platform.rows("select body, state from inbox where body = any($1::bytea[])", self.sent)
        assert len(kept) == len(self.sent)
        assert {row["state"] for row in kept} == {"done"}
        clinician = platform.client("dr.wang")
        assert clinician.get(f"Patient/{person.patient}").json()["name"][0]["given"] == [self.names[-1]]
        found = total(clinician.get("Observation", params={"patient": person.patient, "_total": "accurate"}))
        assert found == len(set(self.results))
        history = platform.rows(
            "select version from resource_history where id = $1 union all select version from resource where id = $1",
            person.patient,
        )
        assert sorted(row["version"] for row in history) == list(range(1, len(history) + 1))

    def check_writes(self) -> None:
        """What was answered is there once, and nothing is there that nobody wrote."""
        county = self.platform.client("county-hospital")
        assert county.get(_UPDATED).json()["multipleBirthInteger"] >= self.updated
        found: dict[str, list[str]] = {}
        page = county.get("Observation", params={"subject": _UPDATED, "_count": "1000", "_elements": "identifier"})
        while True:
            for resource in resources(page):
                found.setdefault(resource["identifier"][0]["value"], []).append(resource["id"])
            following = [link["url"] for link in page.json()["link"] if link["relation"] == "next"]
            if not following:
                break
            page = county.get(following[0])
        assert {number: [identifier] for number, identifier in self.written.items()}.items() <= found.items()
        assert all(len(identifiers) == 1 for identifiers in found.values())
        assert found.keys() <= set(self.tried)

    def check_audit(self, *, after: int) -> None:
        """Each answer over HTTP has its row, which says how it went; each message has one for what it wrote."""
        rows = self.platform.rows(
            "select entry->>'trace' as trace, entry->>'interaction' as interaction, outcome from audit_row "
            "where sequence > $1",
            after,
        )
        outcomes = {row["trace"]: row["outcome"] for row in rows}
        assert len(self.answers) > 100
        missing = [trace for trace in self.answers if trace not in outcomes]
        assert missing == []
        assert {trace: outcomes[trace] == 0 for trace in self.answers} == {
            trace: status < 400 for trace, status in self.answers.items()
        }
        fed = [row["trace"] for row in rows if row["interaction"] == "feed"]
        controls = [trace.rpartition("|")[2] for trace in fed]
        sent = [message.split(b"|")[9].decode() for message in self.sent]
        assert sorted(set(sent)) == sorted(control for control in controls if control in set(sent))


@contextmanager
def streaming(traffic: Traffic) -> Iterator[None]:
    """Let the traffic flow; a sender that failed fails the test."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told below, in the test's own thread
            failures.append(error)

    senders = [
        threading.Thread(target=guarded, args=(work,))
        for work in (traffic.feed, traffic.create, traffic.update, traffic.look, traffic.doubt)
    ]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        traffic.stopped.set()
        for sender in senders:
            sender.join(30)
        if failures:
            raise failures[0]
    assert not any(sender.is_alive() for sender in senders)
