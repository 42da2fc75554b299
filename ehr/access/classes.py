"""Consents in force, the interned classes made of them, and the rows still stamped with an older class."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from ehr.store.clock import now_us
from ehr.store.jobs import enqueue


@dataclass(frozen=True, slots=True)
class FiledConsent:
    """One Consent in force, normalised to JSON by `consent`."""

    key: int
    holder: int
    consent_id: str
    version: int
    filed: int
    """When it was filed first, microseconds since 1970 UTC."""
    rules: str


_FILE = """with gone as (
  delete from consent_rule where consent = any($1::bigint[]) and not consent = any($2::bigint[])
)
insert into consent_rule (consent, holder, consent_id, version, filed, rules)
select c, h, i, v, f, r::jsonb
from unnest($2::bigint[], $3::bigint[], $4::text[], $5::integer[], $6::bigint[], $7::text[]) as g(c, h, i, v, f, r)
on conflict (consent) do update
set holder = excluded.holder, version = excluded.version, rules = excluded.rules"""


async def file_consents(
    connection: asyncpg.Connection, written: Sequence[int], in_force: Sequence[FiledConsent]
) -> None:
    """Keep the Consents in force among those written; the others no longer decide."""
    await connection.execute(
        _FILE,
        list(written),
        [consent.key for consent in in_force],
        [consent.holder for consent in in_force],
        [consent.consent_id for consent in in_force],
        [consent.version for consent in in_force],
        [consent.filed for consent in in_force],
        [consent.rules for consent in in_force],
    )


@dataclass(frozen=True, slots=True)
class PersonConsents:
    """What a person's class is made of."""

    person: int
    holders: tuple[int, ...]
    merged_at: int | None
    """When holders of this person were last merged by somebody's word, and nobody has reviewed it yet."""
    consents: tuple[FiledConsent, ...]


_OF_PERSONS = """select p.person,
  array(select h.holder from holder_person h where h.person = p.person order by h.holder) as holders,
  (select max(m.at) from person_merge m join holder_person h on h.holder = m.retired
     where h.person = p.person and m.at > p.reviewed_at) as merged_at
from person p where p.person = any($1::bigint[]) order by p.person for update of p"""
_CONSENTS_OF = """select h.person, c.consent, c.holder, c.consent_id, c.version, c.filed, c.rules::text as rules
from holder_person h join consent_rule c on c.holder = h.holder where h.person = any($1::bigint[]) order by c.consent"""


async def consents_of(connection: asyncpg.Connection, persons: Sequence[int]) -> list[PersonConsents]:
    """The Consents in force of these persons; their rows in `person` stay locked, so that classes follow in order."""
    rows = await connection.fetch(_OF_PERSONS, list(persons))
    found: dict[int, list[FiledConsent]] = {}
    for row in await connection.fetch(_CONSENTS_OF, list(persons)):
        found.setdefault(row["person"], []).append(
            FiledConsent(row["consent"], row["holder"], row["consent_id"], row["version"], row["filed"], row["rules"])
        )
    return [
        PersonConsents(row["person"], tuple(row["holders"]), row["merged_at"], tuple(found.get(row["person"], ())))
        for row in rows
    ]


async def intern_classes(connection: asyncpg.Connection, classes: Sequence[str]) -> dict[str, int]:
    """Numbers of these classes (JSON text); a new one raises `policy_state.highest_class` in this transaction."""
    digests = {hashlib.sha256(text.encode()).digest(): text for text in classes}
    known = await _known(connection, list(digests))
    missing = [digest for digest in digests if digest not in known]
    if missing:
        highest = await connection.fetchval("select highest_class from policy_state for update")
        known |= await _known(connection, missing)
        fresh = [digest for digest in missing if digest not in known]
        numbers = list(range(highest + 1, highest + 1 + len(fresh)))
        if fresh:
            await connection.execute(
                "insert into consent_class (class, digest, rules)"
                " select n, d, r::jsonb from unnest($1::integer[], $2::bytea[], $3::text[]) as g(n, d, r)",
                numbers,
                fresh,
                [digests[digest] for digest in fresh],
            )
            await connection.execute("update policy_state set highest_class = $1", numbers[-1])
            known |= dict(zip(fresh, numbers, strict=True))
    return {text: known[digest] for digest, text in digests.items()}


async def _known(connection: asyncpg.Connection, digests: Sequence[bytes]) -> dict[bytes, int]:
    rows = await connection.fetch(
        "select digest, class from consent_class where digest = any($1::bytea[])", list(digests)
    )
    return {row["digest"]: row["class"] for row in rows}


_CLASSIFY = """with given as (
  select * from unnest($1::bigint[], $2::integer[], $3::boolean[]) as g(person, class, review)
), changed as (
  update person p set "class" = g.class, under_review = g.review from given g
  where p.person = g.person and (p."class" <> g.class or p.under_review <> g.review) returning p.person
)
insert into restamp (person) select person from changed union select person from given where $4::boolean
order by person on conflict (person) do update set person = excluded.person returning person"""


async def classify(
    connection: asyncpg.Connection, classes: Mapping[int, tuple[int, bool]], *, regrouped: bool = False
) -> list[int]:
    """Set (class, under review) of persons; returns those whose rows wait to be stamped anew.

    `regrouped`: holders came or went, whose rows carry the class of the person whom they belonged to before.
    """
    rows = await connection.fetch(
        _CLASSIFY,
        list(classes),
        [number for number, _ in classes.values()],
        [review for _, review in classes.values()],
        regrouped,
    )
    return [row["person"] for row in rows]


# A row is taken off the list only once every transaction that may have read the older class has ended.
_RESTAMP = """with due as (
  select s.person from restamp s
  where s.person = any($1::bigint[]) and age(s.xmin) > age(pg_snapshot_xmin(pg_current_snapshot())::text::xid)
), stamped as (
  update resource r set "class" = p."class" from due d
  join holder_person h on h.person = d.person join person p on p.person = d.person
  where r.holder = h.holder and r."class" <> p."class"
), past as (
  update resource_history r set "class" = p."class" from due d
  join holder_person h on h.person = d.person join person p on p.person = d.person
  where r.holder = h.holder and r."class" <> p."class"
)
delete from restamp s using due d where s.person = d.person returning s.person"""


async def restamp(connection: asyncpg.Connection, persons: Sequence[int] | None = None) -> list[int]:
    """Stamp the rows of persons whose class changed; returns those that are done, the others wait for the next call."""
    if persons is None:
        rows = await connection.fetch("select person from restamp order by person limit 200")
        persons = [row["person"] for row in rows]
    async with connection.transaction():
        await connection.fetch(
            "select p.person from person p where p.person = any($1::bigint[]) order by p.person for update", persons
        )
        rows = await connection.fetch(_RESTAMP, persons)
    return [row["person"] for row in rows]


async def raise_epoch(connection: asyncpg.Connection) -> None:
    """Policies, roles or organisations changed: every scope decided before is stale once this commits."""
    await connection.execute("update policy_state set epoch = epoch + 1")


async def waiting_for_stamp(connection: asyncpg.Connection, persons: Sequence[int]) -> list[int]:
    """Those of the persons whose rows still carry an older class."""
    rows = await connection.fetch("select person from restamp where person = any($1::bigint[])", list(persons))
    return [row["person"] for row in rows]


async def stamp_later(connection: asyncpg.Connection, kind: str, persons: Sequence[int]) -> None:
    """Put the persons off to another job: transactions that may have read their older class are still open."""
    await enqueue(
        connection, kind, {"persons": [str(person) for person in persons]}, not_before_us=now_us() + 5_000_000
    )


async def mark_reviewed(connection: asyncpg.Connection, person: int, at_us: int) -> None:
    """Merges of this person up to now were looked at by somebody and hold."""
    await connection.execute("update person set reviewed_at = $2 where person = $1", person, at_us)
