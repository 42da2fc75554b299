"""One import, from its first line to its end: resumable, one line's error in a file of errors, the rest in.

Lines are read in order and written in waves, several at once; what is told as done is everything before a line. The
same checks, labels, consents and index entries are made as by any other write. https://hl7.org/fhir/R4/nd-json.html
"""

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ehr.audit_note import AuditNote
from ehr.bulk.import_request import ImportProgress, ImportRequest, ImportSource, SourceProgress
from ehr.bulk.import_waves import Decide, Line, WaveOutcome, WaveWriter
from ehr.bulk.jobs import Claim, LostClaim
from ehr.errors import Issue, KanglianError, Unavailable
from ehr.store import Store
from ehr.store.room import require_room

Read = Callable[[ImportSource, int], Awaitable[Iterator[tuple[int, bytes]]]]
"""Opens a source (its number): (line, content), from the beginning."""
ERRORS = "errors.ndjson"
WAVE_LINES = 400
WAVE_BYTES = 4 * 1024 * 1024
LANES = 2
_MOST_WAITING = 100_000


@dataclass(slots=True)
class Import:
    """One attempt at an import."""

    store: Store
    claim: Claim
    folder: Path
    decide: Decide
    refresh: Callable[[], Awaitable[None]]
    read: Read
    note: AuditNote
    request: ImportRequest
    told: Callable[[ImportProgress], None] = lambda _: None
    progress: ImportProgress = field(default_factory=ImportProgress)

    async def run(self) -> None:
        """Go on where the last attempt came to, to the end.

        Raises:
            LostClaim: cancelled, or another worker's.
            Forbidden: the caller may not write any more.
            Unavailable: the database is away, or its disk nearly full.
        """
        await self.decide()
        self.progress = msgspec.json.decode(self.claim.bulk.progress, type=ImportProgress)
        self.progress.sources += [SourceProgress() for _ in self.request.sources[len(self.progress.sources) :]]
        self._recover_errors()
        await self.claim.save(self.progress)
        for number, progress in enumerate(self.progress.sources):
            if not progress.finished:
                await self._source(number)
        await self._again()
        if await self.claim.complete(self.progress, []):
            return
        await self.claim.save(self.progress)

    # --- a source

    async def _source(self, number: int) -> None:
        progress = self.progress.sources[number]
        writer = self._writer(number)
        running: deque[asyncio.Task[WaveOutcome]] = deque()
        try:
            for wave in self._waves(await self.read(self.request.sources[number], number), progress.line):
                require_room(self.store.has_room)
                running.append(asyncio.create_task(writer.write(wave)))
                while len(running) >= LANES:
                    await self._settle(number, await running[0])
                    running.popleft()
            while running:
                await self._settle(number, await running[0])
                running.popleft()
        except (Unavailable, LostClaim):
            raise
        except KanglianError as error:  # the rest of this file cannot be read, the other files can
            while running:
                await self._settle(number, await running.popleft())
            self._tell_errors(number, [(0, error.issues)])
            progress.refused += 1
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        progress.finished = True
        await self.claim.save(self.progress)

    def _writer(self, number: int) -> WaveWriter:
        return WaveWriter(
            self.store,
            self.decide,
            self.refresh,
            self.note,
            f"{self.claim.bulk.id}/{number}",
            self.request.sources[number].type,
            self.claim.bulk.created_at_us,
        )

    def _waves(self, entries: Iterator[tuple[int, bytes]], done: int) -> Iterator[list[Line]]:
        """The lines behind those that are done, some hundred at a time; the first may have been written before."""
        again = self.claim.job.attempts > 1
        wave: list[Line] = []
        size = taken = 0
        for number, content in entries:
            if number <= done:
                continue
            wave.append(Line(number, content, again and taken < (LANES + 1) * WAVE_LINES))
            taken += 1
            size += len(content)
            if len(wave) >= WAVE_LINES or size >= WAVE_BYTES:
                yield wave
                wave, size = [], 0
        if wave:
            yield wave

    async def _settle(self, number: int, outcome: WaveOutcome) -> None:
        """Make durable that the wave is done."""
        progress = self.progress.sources[number]
        self._tell_errors(number, outcome.errors)
        progress.line = outcome.last_line
        progress.resources += outcome.resources
        progress.refused += len({line for line, _ in outcome.errors})
        self.progress.waiting += [(number, line) for line in outcome.waiting]
        if len(self.progress.waiting) > _MOST_WAITING:
            raise KanglianError(f"More than {_MOST_WAITING} lines name rows that are not there.")
        await self.claim.save(self.progress)
        self.told(self.progress)

    # --- what named rows that were not there yet

    async def _again(self) -> None:
        """Try the lines that waited until a round brings none of them in; then they are refused."""
        while self.progress.waiting:
            waiting, still = self.progress.waiting, []
            for number in dict.fromkeys(source for source, _ in waiting):
                lines = {line for source, line in waiting if source == number}
                still += [(number, line) for line in await self._retry(number, lines, last=False)]
            self.progress.waiting = still
            await self.claim.save(self.progress)
            if len(still) == len(waiting):
                break
        for number in dict.fromkeys(source for source, _ in self.progress.waiting):
            lines = {line for source, line in self.progress.waiting if source == number}
            await self._retry(number, lines, last=True)
        self.progress.waiting = []

    async def _retry(self, number: int, lines: set[int], *, last: bool) -> list[int]:
        """Write these lines; those that still wait."""
        writer, progress = self._writer(number), self.progress.sources[number]
        still: list[int] = []
        for line, content in await self.read(self.request.sources[number], number):
            if line in lines:
                outcome = await writer.write([Line(line, content, maybe_written=True)], last=last)
                still += outcome.waiting
                progress.resources += outcome.resources
                progress.refused += bool(outcome.errors)
                self._tell_errors(number, outcome.errors)
        return still

    # --- errors

    def _recover_errors(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / ERRORS).open("ab") as file:
            os.truncate(file.fileno(), self.progress.errors_bytes)

    def _tell_errors(self, number: int, errors: Sequence[tuple[int, Sequence[Issue]]]) -> None:
        """Append an OperationOutcome for each line; durable on return."""
        if not errors:
            return
        name = self.request.sources[number].name
        data = b"".join(_outcome_line(f"{name}:{line}" if line else name, issues) for line, issues in errors)
        with (self.folder / ERRORS).open("ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.progress.errors_bytes += len(data)


def _outcome_line(place: str, issues: Sequence[Issue]) -> bytes:
    told = [
        {
            "severity": issue.severity,
            "code": issue.code,
            "diagnostics": f"{place}: {issue.diagnostics}"[:2_000].encode("utf-8", "replace").decode(),
            **({"expression": [issue.expression]} if issue.expression else {}),
        }
        for issue in issues
    ]
    return msgspec.json.encode({"resourceType": "OperationOutcome", "issue": told}) + b"\n"
