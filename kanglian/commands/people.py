"""`kanglian people`: which Patients are one person and why; review or take back a merge, as the operator."""

import argparse
import asyncio
import getpass
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ehr.errors import Invalid
from kanglian.commands.database import database_url
from kanglian.settings import Settings

if TYPE_CHECKING:
    from ehr.access.people import OnePerson
    from ehr.audit_note import AuditNote

NAME = "people"
HELP = "which Patients are one person; review a merge or take it back"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="the Patients of one person, and what joins them")
    show.add_argument("patient", metavar="PATIENT", help="a Patient's id")
    review = actions.add_parser(
        "review", help="say that a merge is right: until then the strictest of the former persons' consents wins"
    )
    review.add_argument("patient", metavar="PATIENT", help="the id of either Patient")
    unmerge = actions.add_parser("unmerge", help="take back a merge of two Patients; no record moves")
    unmerge.add_argument("patient", metavar="PATIENT", help="the id of one Patient")
    unmerge.add_argument("other", metavar="OTHER", help="the id of the other")
    for action in (review, unmerge):
        action.add_argument("--reason", required=True, metavar="TEXT", help="kept in the audit log")


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Do one action and print the person as it is then."""
    if arguments.action != "show" and not arguments.reason.strip():
        raise Invalid("--reason says why; the residents see it")
    return asyncio.run(_run(arguments, settings))


async def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    from kanglian.wiring import record

    patient = _id(arguments.patient)
    async with record(settings, database_url(settings)) as opened:
        people = opened.consent
        if arguments.action == "review":
            await people.review_merge(patient, _note(arguments, patient))
        elif arguments.action == "unmerge":
            await people.unmerge(patient, _id(arguments.other), _note(arguments, patient))
        print("\n".join(_lines(await people.one_person(patient))))
    return 0


def _id(given: str) -> str:
    return given.removeprefix("Patient/")


def _note(arguments: argparse.Namespace, patient: str) -> "AuditNote":
    from ehr.audit_note import AuditNote

    about = " ".join(f"Patient/{each}" for each in (patient, _id(getattr(arguments, "other", "") or "")) if each)
    return AuditNote(
        action="U",
        interaction="operation",
        actor=f"operator:{getpass.getuser()}",
        client="kanglian people",
        organisation=None,
        roles=("admin",),
        purpose_of_use="HOPERAT",
        reason=arguments.reason.strip(),
        query=f"{arguments.action} {about}",
        trace=uuid.uuid4().hex,
        decision="operator of this machine",
    )


def _lines(found: "OnePerson") -> list[str]:
    same = dict.fromkeys(found.same_number, ", same identity number")
    lines = [f"one person, {len(found.patients)} Patient(s)"]
    lines += [f"  Patient/{patient}{same.get(patient, '')}" for patient in found.patients]
    for merge in found.merges:
        at = datetime.fromtimestamp(merge.at_us / 1e6, UTC).isoformat(timespec="seconds")
        lines.append(f"  merged {at}: {merge.retired} into {merge.survivor}, {merge.source}")
    if found.under_review:
        lines.append("  not reviewed yet: the strictest of the former persons' consents wins (kanglian people review)")
    return lines
