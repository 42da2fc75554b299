"""Loading FHIR entries as the loader: many at once, refusals collected with their file and line."""

import asyncio
import time

from consent import Caller
from consent.service import Consent
from ehr import transaction
from ehr.audit_note import AuditNote
from ehr.errors import KanglianError, StaleScope, Unavailable
from ehr.store import Store
from hospital_adapters.fhir.bundles import as_bundle
from hospital_adapters.fhir.files import Entry

_AT_ONCE = 16
_ATTEMPTS = 3


def loader() -> Caller:
    """The operator at the machine, acting as the loader client."""
    return Caller(
        subject="loader",
        client="loader",
        organisation=None,
        roles=frozenset({"loader"}),
        patient=None,
        fhir_user=None,
        purpose_of_use="HSYSADMIN",
        reason=None,
        scopes=("system/*.cruds",),
        jti="command-line",
        expires_at=time.time() + 86_400,
    )


class Loading:
    """One import; `resources` counts what was written, `refusals` names file, line and cause of what was not."""

    def __init__(self, store: Store, consent: Consent, custodian: str | None) -> None:
        """Write rows of `custodian`, or of the platform."""
        self.resources = 0
        self.refusals: list[str] = []
        self._store = store
        self._consent = consent
        self._custodian = custodian
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: list[tuple[str, bytes, str]] = []
        """(place, content, refusal) of entries whose conditional references matched nothing."""

    async def take(self, file: str, entry: Entry) -> None:
        """Start writing an entry; waits while many are under way."""
        await self._start(f"{file}:{entry.line}", entry.content)

    async def finish(self) -> None:
        """Wait for all that was started, then try again the entries that named what was not there yet."""
        await asyncio.gather(*self._tasks)
        while waiting := self._waiting:
            self._waiting = []
            for place, content, _ in waiting:
                await self._start(place, content)
            await asyncio.gather(*self._tasks)
            if len(self._waiting) == len(waiting):
                self.refusals += [text for _, _, text in self._waiting]
                break

    async def _start(self, place: str, content: bytes) -> None:
        await self._gate.acquire()
        task = asyncio.create_task(self._write(place, content))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, place: str, content: bytes) -> None:
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    await self._write_once(place, content)
                except (StaleScope, Unavailable):
                    if attempt + 1 == _ATTEMPTS:
                        raise
                    await self._consent.refresh()
                    continue
                break
        except KanglianError as error:
            text = f"{place}: {error}"[:2000]
            if any(issue.code == "not-found" for issue in error.issues):
                self._waiting.append((place, content, text))
            else:
                self.refusals.append(text)
        finally:
            self._gate.release()

    async def _write_once(self, place: str, content: bytes) -> None:
        scope = await self._consent.write_scope(loader(), custodian=self._custodian)
        results = await transaction.run(self._store, scope, as_bundle(content), _note(place))
        for number, result in enumerate(results):
            if result.error is not None:
                self.refusals.append(f"{place}, entry {number}: {result.error}"[:2000])
            else:
                self.resources += 1


def _note(place: str) -> AuditNote:
    return AuditNote(
        action="C",
        interaction="import",
        actor="loader",
        client="loader",
        organisation=None,
        roles=("loader",),
        purpose_of_use="HSYSADMIN",
        reason=None,
        query=f"import {place}",
        trace=place,
        decision="loader",
    )
