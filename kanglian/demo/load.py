"""Loading the demo through the platform's own doors: HTTP, MLLP, and files into the inbox."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from ehr.errors import KanglianError
from ehr.store.database import WRITE_SETTINGS, open_pool
from ehr.store.inbox import Inbox
from fhir_api.issuer import Issuer
from hospital_adapters.feeds import read_feed
from hospital_adapters.intake import messages_of_file
from hospital_adapters.mllp.frames import FrameDecoder
from kanglian.demo.accounts import FEEDS, REFUSER, accounts_of, write_accounts
from kanglian.demo.csv_files import referrals_of_township_clinic, visits_of_township_clinic
from kanglian.demo.directory import directory_bundle
from kanglian.demo.fhir_bundles import bundles_of_county_hospital
from kanglian.demo.hl7_messages import messages_of_first_hospital
from kanglian.demo.region import Resident

Progress = Callable[[str], None]
_AT_ONCE = 16
_UNANSWERED = 100
_CONVERSION_S = 300.0


class DemoError(KanglianError):
    """A door refused the demo's own records; the text says which and why."""

    code = "processing"


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the platform's doors are, and who may issue tokens for the demo's accounts."""

    base_url: str
    mllp_host: str
    mllp_port: int
    database_url: str
    issuer: Issuer


def place_feeds(folder: Path) -> None:
    """Put the demo's feed files into an empty feeds folder; files that are there are left alone."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in FEEDS.glob("*.yaml"):
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


async def load_demo(people: Sequence[Resident], doors: Doors, accounts_path: Path, progress: Progress) -> None:
    """Load a county; every door must answer already, and the county's feeds must be placed.

    Raises:
        DemoError: a door refused a record.
    """
    residents = list(people)
    await asyncio.to_thread(write_accounts, accounts_path, residents)
    async with _client(doors, client="loader") as loader:
        progress("hospitals, clinicians and places")
        await _post(loader, "/fhir", directory_bundle())
    await asyncio.gather(
        _send_messages(doors, list(messages_of_first_hospital(residents)), progress),
        _post_bundles(doors, list(bundles_of_county_hospital(residents)), progress),
        _take_files(doors, residents, progress),
    )
    await _until_converted(doors, progress)
    await _refuse(doors, residents)


@asynccontextmanager
async def _client(
    doors: Doors, *, account: str | None = None, client: str | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    token = doors.issuer.issue_token(account=account, client=client)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/fhir+json", "Prefer": "return=minimal"}
    async with httpx.AsyncClient(base_url=doors.base_url, headers=headers, timeout=120, trust_env=False) as opened:
        yield opened


async def _post(client: httpx.AsyncClient, path: str, resource: dict[str, Any]) -> None:
    answer = await client.post(path, content=json.dumps(resource, ensure_ascii=False).encode())
    if answer.status_code >= 300:
        raise DemoError(
            f"POST {path} of the demo's {resource['resourceType']}: {answer.status_code} {answer.text[:500]}"
        )


async def _post_bundles(doors: Doors, bundles: list[dict[str, Any]], progress: Progress) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)
    done = 0

    async with _client(doors, client="county-hospital") as hospital:

        async def post(bundle: dict[str, Any]) -> None:
            nonlocal done
            async with gate:
                await _post(hospital, "/fhir", bundle)
            done += 1
            if done % 25 == 0 or done == len(bundles):
                progress(f"county-hospital: {done} of {len(bundles)} bundles over HTTP")

        await asyncio.gather(*(post(bundle) for bundle in bundles))


async def _send_messages(doors: Doors, messages: list[bytes], progress: Progress) -> None:
    reader, writer = await asyncio.open_connection(doors.mllp_host, doors.mllp_port)
    decoder = FrameDecoder(1024 * 1024)
    answered = sent = 0
    try:
        while answered < len(messages):
            while sent < len(messages) and sent - answered < _UNANSWERED:
                writer.write(b"\x0b" + messages[sent] + b"\x1c\r")
                sent += 1
            data = await asyncio.wait_for(reader.read(65_536), 60)
            if not data:
                raise DemoError("the MLLP listener closed the connection without an answer")
            for frame in decoder.feed(data):
                if b"MSA|AA" not in frame.content:
                    raise DemoError(f"a message of the demo was refused: {frame.content[:500]!r}")
                answered += 1
                if answered % 100 == 0 or answered == len(messages):
                    progress(f"first-hospital: {answered} of {len(messages)} messages over MLLP")
    finally:
        writer.close()


async def _take_files(doors: Doors, people: list[Resident], progress: Progress) -> None:
    files = {
        "township-clinic-visits": visits_of_township_clinic(people),
        "township-clinic-referrals": referrals_of_township_clinic(people),
    }
    async with _inbox(doors) as inbox:
        for name, content in files.items():
            feed = read_feed(FEEDS / f"{name}.yaml")
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.csv"
                path.write_bytes(content)
                messages = list(messages_of_file(feed, path)) if content else []
            if messages:
                await inbox.accept(messages)
            progress(f"{name}: {len(messages)} rows of CSV")


async def _until_converted(doors: Doors, progress: Progress) -> None:
    async with _inbox(doors) as inbox, asyncio.timeout(_CONVERSION_S):
        while True:
            counts = await inbox.counts()
            waiting = sum(number for (_, state), number in counts.items() if state == "waiting")
            if not waiting:
                break
            progress(f"{waiting} messages wait to be converted")
            await asyncio.sleep(0.5)
        bad = await inbox.quarantined(5)
    if bad:
        raise DemoError("; ".join(f"{row.trace}: {row.cause}" for row in bad))


async def _refuse(doors: Doors, people: list[Resident]) -> None:
    """The one who refuses files a Consent that denies by default."""
    patient = accounts_of([resident for resident in people if resident.refuses])[REFUSER]["patient"]
    consent = {
        "resourceType": "Consent",
        "status": "active",
        "scope": _coded("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy"),
        "category": [_coded("http://loinc.org", "59284-0")],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": datetime.now(UTC).isoformat(timespec="seconds"),
        "policyRule": _coded("http://terminology.hl7.org/CodeSystem/v3-ActCode", "OPTOUT"),
    }
    async with _client(doors, account=REFUSER) as resident:
        await _post(resident, "/fhir/Consent", consent)


def _coded(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


@asynccontextmanager
async def _inbox(doors: Doors) -> AsyncIterator[Inbox]:
    pool = await open_pool(doors.database_url, WRITE_SETTINGS, most=2)
    inbox = Inbox(pool)
    try:
        yield inbox
    finally:
        await inbox.close()
        await pool.close()
