"""Answering questions: who may ask, counting, disclosure control, and the audit row before the answer leaves."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files as package_files

from analytics.answer import Answer
from analytics.count import Counter
from analytics.disclosure import control
from analytics.files import AnalyticsFiles
from analytics.question import Question, read_question
from consent.caller import Caller
from ehr.audit_note import AuditNote
from ehr.errors import Forbidden, Invalid, NotFound, TooCostly

Record = Callable[[AuditNote, int], Awaitable[None]]
"""Makes an audit row durable: the note and its outcome (0 success, 4 refused)."""

_ASKERS = frozenset({"researcher", "officer"})
_LONGEST_S = 30.0
_SUCCESS, _REFUSED = 0, 4


def supplied_question(name: str) -> bytes:
    """The text of a question that comes with the platform, by name.

    Raises:
        NotFound: there is none of that name; the text lists those there are.
    """
    folder = package_files("analytics").joinpath("questions")
    names = sorted(path.name.removesuffix(".json") for path in folder.iterdir() if path.name.endswith(".json"))
    if name not in names:
        raise NotFound(f"There is no question '{name}'; there are: {', '.join(names)}.")
    return folder.joinpath(f"{name}.json").read_bytes()


class AnalyticsService:
    """Answers questions over one folder of analytics files."""

    def __init__(self, files: AnalyticsFiles, record: Record) -> None:
        """Take the files and what makes audit rows durable."""
        self._files = files
        self._record = record
        self._turn = asyncio.Semaphore(2)

    async def answer(self, text: bytes, caller: Caller, trace: str) -> Answer:
        """Count, control and audit; refusals are audited as well.

        Raises:
            Forbidden: the caller is neither researcher nor officer.
            Invalid: the question is wrong, or names no project.
            TooCostly: the count took longer than 30 s.
            Unavailable: the audit row could not be written; nothing is answered.
        """
        note = _note(text, caller, trace, "")
        try:
            question = _permitted(text, caller)
            note = _note(text, caller, trace, question.project)
            answer = await self._counted(question)
        except (Forbidden, Invalid, TooCostly):
            await self._record(note, _REFUSED)
            raise
        await self._record(note, _SUCCESS)
        return answer

    async def _counted(self, question: Question) -> Answer:
        async with self._turn:
            counter = await asyncio.to_thread(Counter, self._files)
            try:
                cells = await asyncio.wait_for(asyncio.to_thread(counter.cells, question), _LONGEST_S)
            except TimeoutError as error:
                counter.interrupt()
                raise TooCostly("The question took longer than 30 s.") from error
            finally:
                counter.close()
        return Answer(question, tuple(control(cell) for cell in cells), counter.refreshed_at)


def _permitted(text: bytes, caller: Caller) -> Question:
    if not caller.roles & _ASKERS:
        raise Forbidden("Population questions are for researchers and health officers.")
    question = read_question(text)
    if not question.project.strip():
        raise Invalid("the question names no 'project'")
    return question


def _note(text: bytes, caller: Caller, trace: str, project: str) -> AuditNote:
    return AuditNote(
        action="E",
        interaction="analytics-query",
        actor=caller.subject,
        client=caller.client,
        organisation=caller.organisation,
        roles=tuple(sorted(caller.roles)),
        purpose_of_use=caller.purpose_of_use,
        reason=caller.reason,
        query="POST /analytics/queries " + text[:4000].decode("utf-8", "replace"),
        trace=trace,
        decision="de-identified counts: role, then unless refused",
        project=project or None,
    )
