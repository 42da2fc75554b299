"""Filing of Consents: refused with reasons, or in force on the next statement through the person's class."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo

import asyncpg
import msgspec

from consent.normalise import read_consent
from consent.persons import split_reference
from consent.rules import NO_CONSENT, NormalConsent, class_of, decode_consent, encode_class, encode_consent
from ehr.access import classes
from ehr.access.classes import FiledConsent, PersonConsents
from ehr.access.holders import HolderState
from ehr.changes import Change
from ehr.errors import Invalid, Issue
from ehr.keys import row_key
from ehr.store.clock import now_us
from ehr.store.jobs import enqueue

RESTAMP_JOB = "consent.restamp"
_RESTAMP_DELAY_US = 5_000_000


def _patient_of(resource: Mapping[str, object] | None) -> str | None:
    patient = (resource or {}).get("patient")
    reference = patient.get("reference") if isinstance(patient, dict) else None
    split = split_reference(reference) if isinstance(reference, str) else None
    return split[1] if split is not None and split[0] == "Patient" else None


def read_written(changes: Sequence[Change], zone: tzinfo) -> dict[int, NormalConsent]:
    """Normalise the Consents among the changes: those that count, by row key.

    Raises:
        Invalid: a Consent that cannot be read or honoured; every reason at once.
    """
    issues: list[Issue] = []
    counting: dict[int, NormalConsent] = {}
    for change in changes:
        if change.resource_type != "Consent" or change.resource is None or change.superseded:
            continue
        consent, found = read_consent(change.resource, zone)
        issues.extend(found)
        if consent is not None and change.scope.consents != "recorded":
            attested = change.scope.custodian if change.scope.consents == "attested" else None
            counting[change.key] = msgspec.structs.replace(consent, attested_by=attested)
    if issues:
        raise Invalid(*issues)
    return counting


def patients(changes: Sequence[Change]) -> dict[int, str]:
    """Holders of the Patients whom Consents among the changes name, or named before."""
    named = (
        _patient_of(version)
        for change in changes
        if change.resource_type == "Consent"
        for version in (change.resource, change.previous)
    )
    return {row_key("Patient", patient): patient for patient in named if patient is not None}


async def apply(
    connection: asyncpg.Connection,
    changes: Sequence[Change],
    states: Mapping[int, HolderState],
    counting: Mapping[int, NormalConsent],
) -> None:
    """Keep the Consents in force and form the classes of their persons anew."""
    consents = [change for change in changes if change.resource_type == "Consent"]
    if not consents:
        return
    in_force = [
        FiledConsent(
            change.key,
            change.access.holder,
            change.resource_id,
            change.version,
            now_us(),
            encode_consent(counting[change.key]),
        )
        for change in consents
        if change.key in counting
    ]
    await classes.file_consents(connection, [change.key for change in consents], in_force)
    await reclassify(connection, sorted({states[holder].person for holder in patients(consents)}))


async def reclassify(connection: asyncpg.Connection, persons: Sequence[int], *, regrouped: bool = False) -> None:
    """Form the classes of these persons from their Consents in force; their rows are stamped by a job.

    `regrouped`: the persons have other holders than before.
    """
    found = await classes.consents_of(connection, persons)
    texts = {each.person: encode_class(class_of(_groups(each), now_us())) for each in found}
    none = encode_class(NO_CONSENT)
    numbers = await classes.intern_classes(connection, sorted(set(texts.values()) - {none}))
    numbers[none] = 0
    waiting = await classes.classify(
        connection,
        {each.person: (numbers[texts[each.person]], each.merged_at is not None) for each in found},
        regrouped=regrouped,
    )
    if waiting:
        payload = {"persons": [str(person) for person in waiting]}
        await enqueue(connection, RESTAMP_JOB, payload, not_before_us=now_us() + _RESTAMP_DELAY_US)


def _groups(person: PersonConsents) -> tuple[tuple[NormalConsent, ...], ...]:
    """One group; after a merge one for each holder, and what was filed since counts for all of them."""
    read = [(consent, decode_consent(consent.rules)) for consent in person.consents]
    merged_at = person.merged_at
    if merged_at is None or len(person.holders) < 2:
        return (tuple(normal for _, normal in read),)
    return tuple(
        tuple(normal for filed, normal in read if filed.holder == holder or filed.filed > merged_at)
        for holder in person.holders
    )
