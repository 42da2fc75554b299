"""Bulk work as the platform does it: the jobs of exports and imports, with the decisions of `consent` inside."""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from consent import Caller
from consent.service import Consent
from ehr.audit_note import AuditNote
from ehr.bulk import export, jobs
from ehr.bulk.export_request import ExportRequest
from ehr.bulk.import_request import ImportProgress, ImportRequest, ImportSource
from ehr.bulk.importing import Import
from ehr.bulk.jobs import BulkJob, Claim, LostClaim
from ehr.errors import KanglianError, Unavailable
from ehr.store import Store
from ehr.store.jobs import Handler, Job
from hospital_adapters.fhir.addresses import fetched
from hospital_adapters.fhir.files import read_entries


@dataclass(frozen=True, slots=True)
class BulkWork:
    """Does bulk jobs over one record; their files lie in `folder`, one folder each."""

    store: Store
    consent: Consent
    folder: Path
    addresses: Sequence[str] = ()
    """Where files are fetched from."""

    def handlers(self) -> Mapping[str, Handler]:
        """Handlers by kind of job."""
        return {
            jobs.KINDS["export"]: self.do_export,
            jobs.KINDS["import"]: self.do_import,
            jobs.EXPIRE: self.expire,
        }

    async def do_export(self, job: Job) -> None:
        """Go on with an export, to its end."""
        identity = str(job.payload["bulk"])
        bulk = await jobs.find(self.store.pool, identity)
        if bulk is None or bulk.state == "complete":
            return
        caller = msgspec.convert(bulk.caller, Caller)
        claim = Claim(self.store.pool, bulk, job)
        work = export.Export(
            self.store,
            claim,
            self.folder / identity,
            lambda: self.consent.export_scope(caller),
            self.consent.refresh,
            note_of(bulk, caller),
            msgspec.convert(bulk.request["export"], ExportRequest),
        )
        await self._ended(claim, work.run())

    async def do_import(self, job: Job) -> None:
        """Go on with an import, to its end."""
        await self.import_job(job, lambda _: None)

    async def import_job(self, job: Job, told: Callable[[ImportProgress], None]) -> None:
        """Likewise; `told` hears of each wave that is done."""
        identity = str(job.payload["bulk"])
        bulk = await jobs.find(self.store.pool, identity)
        if bulk is None or bulk.state == "complete":
            return
        caller = msgspec.convert(bulk.caller, Caller)
        request = msgspec.convert(bulk.request["import"], ImportRequest)
        claim = Claim(self.store.pool, bulk, job)
        work = Import(
            self.store,
            claim,
            self.folder / identity,
            lambda: self.consent.write_scope(caller, custodian=request.custodian),
            self.consent.refresh,
            partial(self._read, identity),
            note_of(bulk, caller),
            request,
            told,
        )
        await self._ended(claim, work.run())

    async def _read(self, identity: str, source: ImportSource, number: int) -> Iterator[tuple[int, bytes]]:
        """A source from its beginning; one that is fetched lies in the job's folder."""
        path = Path(source.path or "")
        if source.address is not None:
            path = await fetched(source.address, self.folder / identity / f"source-{number}.ndjson", self.addresses)
        return ((entry.line, entry.content) for entry in read_entries(path))

    async def _ended(self, claim: Claim, work: Awaitable[None]) -> None:
        """Do the work; what the client is to blame for ends the job and is told to it."""
        try:
            await work
        except LostClaim:
            if await jobs.find(self.store.pool, claim.bulk.id) is None:
                export.remove(self.folder / claim.bulk.id)
        except Unavailable:
            raise
        except KanglianError as error:
            await claim.fail(str(error))

    async def expire(self, job: Job) -> None:
        """Remove the files of a bulk job that was cancelled, or whose time is over."""
        identity = str(job.payload["bulk"])
        await jobs.forget(self.store.pool, identity)
        export.remove(self.folder / identity)


def note_of(bulk: BulkJob, caller: Caller) -> AuditNote:
    """What the audit says of a bulk job; its id is the trace."""
    return AuditNote(
        "R" if bulk.kind == "export" else "C",
        bulk.kind,
        caller.subject,
        caller.client,
        caller.organisation,
        tuple(sorted(caller.roles)),
        caller.purpose_of_use,
        caller.reason,
        str(bulk.request["address"])[:4_096],
        bulk.id,
        str(bulk.request["decision"]),
    )


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
