"""The door of an MLLP feed: a frame becomes a row of the inbox, and only then an answer.

AA (CA) means durable and understood; AE and AR (CE, CR) that the message is kept in quarantine with its cause. A
duplicate (same sender, MSH-10 and content) gets the answer that was given first, from the row that was stored once.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ehr.errors import Invalid
from ehr.store.inbox import Inbox, InboxMessage
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.ack import Code, acknowledge, is_due, refusal, wanted
from hospital_adapters.hl7v2.convert import problem_of
from hospital_adapters.hl7v2.parse import Message, messages_in, parse
from hospital_adapters.hl7v2.problems import INTERNAL, SEGMENT_SEQUENCE, ParseProblem
from hospital_adapters.hl7v2.records import place_of
from hospital_adapters.mllp.frames import Frame

_log = logging.getLogger(__name__)
_INLINE_BYTES = 256 * 1024
_READ_ANEW_S = 1.0
_ACCEPT: dict[str, Code] = {"AA": "CA", "AE": "CE", "AR": "CR"}
_FAULTS = {
    "no-end-block": (SEGMENT_SEQUENCE, "the message has no end block; it was not read"),
    "too-large": (INTERNAL, "the message is larger than this feed takes; only its beginning was kept"),
}


class MllpDoor:
    """Takes frames of one feed."""

    def __init__(self, inbox: Inbox, feed: Feed, read_anew: Callable[[], Feed | None] | None = None) -> None:
        """Store in `inbox`, as messages of `feed`.

        Args:
            inbox: where messages become durable.
            feed: whose messages these are.
            read_anew: reads the feed's file again, before a message is refused: its maps may have changed.
        """
        self._inbox = inbox
        self._feed = feed
        self._read_anew = read_anew
        self._read_at = -_READ_ANEW_S

    async def __call__(self, frame: Frame) -> bytes:
        """Store a frame and return its framed answers; empty where the sender asked for none.

        Raises:
            Unavailable: the inbox could not commit: there is no answer.
        """
        if len(frame.content) > _INLINE_BYTES:
            message = await asyncio.to_thread(inbox_message, self._feed, frame)
        else:
            message = inbox_message(self._feed, frame)
        if message.state == "quarantined" and await self._has_changed():
            message = inbox_message(self._feed, frame)
        (acceptance,) = await self._inbox.accept([message])
        return acceptance.answer or b""

    async def _has_changed(self) -> bool:
        """Whether the feed's file says something else by now; asked once a second at most."""
        now = time.monotonic()
        if self._read_anew is None or now - self._read_at < _READ_ANEW_S:
            return False
        self._read_at = now
        try:
            changed = await asyncio.to_thread(self._read_anew)
        except Invalid as error:
            _log.warning("the feeds stay as they were: %s", error)
            return False
        if changed is None or changed == self._feed:
            return False
        self._feed = changed
        return True


def inbox_message(feed: Feed, frame: Frame) -> InboxMessage:
    """What is kept of a frame, the answer that it will get included."""
    parsed = parse(frame.content)
    problem = _problem(parsed, frame, feed)
    header = list(parsed.header.fields if isinstance(parsed, Message) else parsed.header)
    header += [""] * 11
    sender = f"{_storable(header[3])}|{_storable(header[4])}"
    control_id = _storable(parsed.control_id if isinstance(parsed, Message) else header[10])
    return InboxMessage(
        feed=feed.name,
        custodian=feed.organisation,
        sender=sender,
        control_id=control_id,
        content=parsed.content if isinstance(parsed, Message) else hashlib.sha256(frame.content).digest(),
        trace=f"{sender}|{control_id}",
        message_type=_storable("^".join(parsed.kind) if isinstance(parsed, Message) else header[9]),
        body=frame.content,
        answer=_answers(parsed, problem, frame),
        state="waiting" if problem is None else "quarantined",
        cause=None if problem is None else _storable(problem.cause),
        place=None if problem is None else place_of(problem),
    )


def messages_of_file(feed: Feed, path: Path) -> Iterator[InboxMessage]:
    """The messages of a file of HL7 v2 messages, one behind the other."""
    for content in messages_in(path.read_bytes()):
        yield inbox_message(feed, Frame(content))


def _problem(parsed: Message | ParseProblem, frame: Frame, feed: Feed) -> ParseProblem | None:
    if frame.fault is not None:
        code, cause = _FAULTS[frame.fault]
        header = tuple(parsed.header.fields) if isinstance(parsed, Message) else parsed.header
        return ParseProblem(cause, code, header=header)
    return parsed if isinstance(parsed, ParseProblem) else problem_of(parsed, feed)


def _answers(parsed: Message | ParseProblem, problem: ParseProblem | None, frame: Frame) -> bytes:
    code: Code = "AA" if problem is None else "AR" if frame.fault == "too-large" else refusal(problem)
    problems = () if problem is None else (problem,)
    asked = wanted(parsed)
    if asked.original_mode:
        return _framed(acknowledge(parsed, code, problems))
    answers = b""
    if is_due(asked.accept, success=problem is None):
        answers += _framed(acknowledge(parsed, _ACCEPT[code], problems))
    if is_due(asked.application, success=problem is None):
        answers += _framed(acknowledge(parsed, code, problems))
    return answers


def _framed(answer: bytes) -> bytes:
    return b"\x0b" + answer + b"\x1c\r"


def _storable(text: str) -> str:
    """A text that the database can hold: no NUL, no lone surrogate, at most 200 characters."""
    if len(text) <= 200 and text.isprintable():  # neither of the two is
        return text
    return text[:200].replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
