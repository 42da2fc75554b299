"""Work that follows later: stamping rows with their class, spreading labels over the bound, reading rows anew."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import asyncpg

from consent import relabelling, unlabelling
from consent.filing import RESTAMP_JOB
from consent.spreading import RELABEL_JOB, raise_referrers
from ehr.access import classes
from ehr.access.people import people_with_class
from ehr.access.relabelling import LABEL_JOB
from ehr.access.unlabelling import UNLABEL_JOB
from ehr.store.database import database_errors
from ehr.store.jobs import Handler, Job

if TYPE_CHECKING:
    from consent.service import Consent


async def people_for_counts(
    connection: asyncpg.Connection | asyncpg.Pool, refusing: set[int], highest: int
) -> list[tuple[int, int, bool]]:
    """(holder, person, allowed); a class that is not known yet is not allowed."""
    rows = await people_with_class(connection)
    return [(holder, person, number <= highest and number not in refusing) for holder, person, number in rows]


def handlers(consent: "Consent") -> Mapping[str, Handler]:
    """Handlers by kind of job."""

    async def restamp(job: Job) -> None:
        persons = [int(person) for person in job.payload["persons"]]
        with database_errors():
            async with consent.store.searching.acquire() as connection:
                done = await classes.restamp(connection, persons)
                left = [person for person in persons if person not in set(done)]
                still = await classes.waiting_for_stamp(connection, left)
                if still:
                    await classes.stamp_later(connection, RESTAMP_JOB, still)

    async def relabel(job: Job) -> None:
        key, labels = int(job.payload["key"]), int(job.payload["labels"])
        with database_errors():
            async with consent.store.searching.acquire() as connection, connection.transaction():
                await raise_referrers(connection, {key: labels}, consent.store.hasher, fresh={})

    async def label_anew(job: Job) -> None:
        with database_errors():
            await relabelling.label_anew(consent, job)

    async def unlabel(job: Job) -> None:
        with database_errors():
            await unlabelling.unlabel(consent, job)

    return {RESTAMP_JOB: restamp, RELABEL_JOB: relabel, LABEL_JOB: label_anew, UNLABEL_JOB: unlabel}
