"""Everything about a person, or around an encounter: the rows of its compartment, and what these name.

https://hl7.org/fhir/R4/patient-operation-everything.html, https://hl7.org/fhir/R4/encounter-operation-everything.html,
https://hl7.org/fhir/R4/compartmentdefinition.html
A page is one statement by the index of holders; rows about several people, and those around an encounter, are found by
their references. What the rows of a page name is fetched by key. Every alias of `resource` carries the caller's scope.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import asyncpg

from ehr.audit_note import AuditNote
from ehr.definitions import is_resource_type, type_name, type_number
from ehr.definitions.compartments import ITSELF, compartment
from ehr.errors import Gone, NotFound
from ehr.filter_forms import reaches_of
from ehr.keys import row_key
from ehr.row_filter import Parameters, PersonColumns, RowRule
from ehr.scopes import ReadScope
from ehr.search import page
from ehr.search.leading import leading
from ehr.search.page import Position
from ehr.search.person import names_holder
from ehr.search.query import SearchQuery
from ehr.search.run import SearchableStore
from ehr.search.statement_columns import columns_of
from ehr.store.clock import now_us
from ehr.store.database import database_errors
from ehr.store.operations import StoredVersion
from ehr.store.reads import version_of
from ehr.store.scope_sql import require_fresh

_LAST = 2**63 - 1
_FEWEST_PEOPLE, _MOST_PEOPLE = 16, 256
_MOST_REMEMBERED = 400
"""Named rows that a page link keeps in mind, so that later pages do not show them again."""
_REFERENCE = re.compile(rb'"reference"\s*:\s*"([^"]{3,400})"')
_LITERAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?")
_NOT_NAMED = frozenset({"AuditEvent", "Parameters"})


@dataclass(frozen=True, slots=True)
class EverythingQuestion:
    """What is asked for; None = not restricted."""

    centre: Literal["Patient", "Encounter", "Practitioner", "RelatedPerson", "Device"]
    centre_id: str | None
    """None = every Patient whom the caller sees."""
    count: int
    """Matches on a page."""
    types: frozenset[str] | None = None
    since_us: int | None = None
    """Rows written at this moment or later."""
    start_us: int | None = None
    """Rows whose main clinical date lies at this moment or later, and those without one."""
    end_us: int | None = None
    """Likewise before this moment."""
    whole_person: bool = False
    """Rows of all source Patients of the person (`_mdm`)."""
    named: bool = True
    """Whether what the rows name is shown with them."""


@dataclass(frozen=True, slots=True)
class EverythingPage:
    """Rows of the compartment in their order, what they name, and the token of the next page."""

    matches: list[StoredVersion]
    named: list[StoredVersion]
    total: int | None
    """How many matches there are, where one page holds all of them."""
    next_cursor: str | None


async def everything(
    store: SearchableStore,
    scope: ReadScope,
    question: EverythingQuestion,
    people: SearchQuery,
    note: AuditNote,
    *,
    link_key: bytes,
    asked: str,
    cursor: str | None = None,
) -> EverythingPage:
    """Answer one page; its audit row, with every person of whom a row is shown, is durable before this returns.

    Args:
        store: The store.
        scope: What the caller may see.
        question: What is asked for.
        people: A search for every Patient.
        note: Who asks what and why.
        link_key: Secret that seals page tokens.
        asked: The question as text, to which page tokens are bound.
        cursor: `next_cursor` of the page before.

    Raises:
        NotFound: the row in the centre is absent or hidden; of a compartment search too.
        Gone: it was deleted.
        Expired: the cursor does not hold.
        StaleScope: decide again, once; nothing was shown or logged.
        Unavailable: the database is away or too slow.
    """
    at_us = now_us()
    binding = "\x1f".join((scope.actor, scope.organisation or "", scope.purpose_of_use, "everything", asked))
    position = page.unseal(link_key, binding, cursor, at_us) if cursor is not None else None
    request = _Request(store, scope, question, position)
    with database_errors():
        rows = await (request.of_all(people) if question.centre_id is None else request.around())
        shown = rows[: question.count]
        matches = [_version(row) for row in shown]
        named = await request.named_by(matches) if question.named else []
    if question.types is not None:
        matches = [each for each in matches if each.resource_type in question.types]
    following = None
    if len(rows) > len(shown):
        known = [*request.remembered, *(each.key for each in named)][-_MOST_REMEMBERED:]
        last = shown[-1]
        values = (last["about"], last["rank"], last["moment"], known)
        started = at_us if position is None else position.started_us
        following = page.seal(link_key, binding, Position(values, last["key"], started, "", large=False))
    if not scope.internal:
        holders = {holder for one in (*matches, *named) if one.holder for holder in (one.holder, *one.others)}
        await store.record(note, holders=holders)
    total = len(matches) if position is None and following is None else None
    return EverythingPage(matches, named, total, following)


@dataclass(slots=True)
class _Request:
    store: SearchableStore
    scope: ReadScope
    question: EverythingQuestion
    position: Position | None

    @property
    def remembered(self) -> list[int]:
        """Keys of the named rows that pages before showed."""
        return list(self.position.values[3]) if self.position is not None else []

    @property
    def _members(self) -> list[int]:
        """The types whose rows are read: those of the compartment, unless only some of these are asked for."""
        inside = frozenset(compartment(self.question.centre)) | {self.question.centre}
        asked = self.question.types
        return sorted(type_number(name) for name in (asked if asked is not None and asked <= inside else inside))

    async def around(self) -> list[asyncpg.Record]:
        """The rows of one page and one more, around the one in the centre."""
        parameters = Parameters()
        about = self._about(parameters)
        rows = self._rows(parameters, self.position, self.question.count + 1)
        statement = (
            f"{about}, page as materialized ({rows}) select s.epoch, s.highest_class, t.deleted as centre_deleted, p.*"
            " from policy_state s left join target t on true left join page p on true"
            " order by p.about, p.rank, p.moment, p.key"
        )
        found = await self._fetch(statement, parameters)
        if self.question.named and found[0]["centre_deleted"] is None:
            raise NotFound(f"There is no {self.question.centre} with this id.")
        if self.question.named and found[0]["centre_deleted"]:
            raise Gone(f"This {self.question.centre} was deleted.")
        return [row for row in found if row["key"] is not None]

    async def of_all(self, people: SearchQuery) -> list[asyncpg.Record]:
        """The rows of one page and one more, Patient after Patient."""
        lead = await leading(self.scope.row_filter, people, self.store.keyed_search_pool)
        found: list[asyncpg.Record] = []
        position, most = self.position, _FEWEST_PEOPLE
        after = -_LAST if position is None else position.values[0] - 1
        while len(found) <= self.question.count:
            parameters = Parameters()
            keys = [row["key"] for row in await self._fetch(self._people(parameters, lead, after, most), parameters)]
            keys = [key for key in keys if key is not None]
            if not keys:
                break
            parameters = Parameters()
            given = parameters.add(keys, "bigint[]")
            wanted = self.question.count + 1 - len(found)
            rows = self._rows(parameters, position, wanted)
            statement = (
                f"with about as materialized (select unnest({given}) as holder), page as materialized ({rows})"
                " select s.epoch, s.highest_class, p.* from policy_state s left join page p on true"
                " order by p.about, p.rank, p.moment, p.key"
            )
            found += [row for row in await self._fetch(statement, parameters) if row["key"] is not None]
            position, after, most = None, keys[-1], min(most * 4, _MOST_PEOPLE)
        return found

    def _people(self, parameters: Parameters, lead: Any, after: int, most: int) -> str:
        """The visible Patients behind a key, in the order of keys."""
        source = "resource p" if lead is None else f"({lead.sql(parameters)}) l join resource p on p.key = l.holder"
        visible = self.scope.row_filter.sql("p", parameters)
        rows = (
            f"select p.key from {source} where p.type = {type_number('Patient')} and not p.deleted and {visible}"
            f" and p.key > {parameters.add(after, 'bigint')} order by p.key limit {most}"
        )
        return f"select s.epoch, s.highest_class, p.key from policy_state s left join ({rows}) p on true order by p.key"

    def _about(self, parameters: Parameters) -> str:
        """The tables `target`, the row in the centre, and `about`, the holders or rows that others must name."""
        centre, identity = self.question.centre, self.question.centre_id or ""
        key, given = parameters.add(row_key(centre, identity), "bigint"), parameters.add(identity, "text")
        visible = self.scope.row_filter.sql("t", parameters)
        target = f"select t.key, t.deleted from resource t where t.key = {key} and t.id = {given} and {visible}"
        # whoever asks for the rows of a compartment names its centre as a search does, be there such a row or not
        about = "select key as holder from target" if self.question.named else f"select {key} as holder"
        if self.question.whole_person:
            about += (
                " union select b.holder from target t join holder_person a on a.holder = t.key"
                " join holder_person b on b.person = a.person"
            )
        return f"with target as materialized ({target}), about as materialized ({about})"

    def _rows(self, parameters: Parameters, position: Position | None, limit: int) -> str:
        """The select of rows of the compartment behind a place, in their order."""
        parts = []
        ordered = f"order by about, rank, moment, key limit {limit}"
        if self.question.centre == "Patient":
            led, columns = self._led(parameters)
            parts.append(
                f"{self._selected('a.holder')} from ({led}) a join resource r on r.holder = a.holder"
                f" where {self._restrictions(parameters, 'r', columns)}"
                f"{self._behind(parameters, 'a.holder', position)} {ordered}"
            )
        if self.question.centre_id is not None:
            restrictions = self._restrictions(parameters, "r")
            referring = f"r.terms && {self._referring(parameters)}"
            if self.question.centre == "Patient":
                referring += " and r.holder <> all(array(select holder from about))"
            else:
                referring = f"({referring} or r.key = any(array(select key from target)))"
            parts.append(
                f"{self._selected(f'{_LAST}::bigint')} from resource r where {restrictions} and {referring}"
                f"{self._behind(parameters, f'{_LAST}::bigint', position)} {ordered}"
            )
        return f"select * from ({' union all '.join(f'({part})' for part in parts)}) as rows_ {ordered}"

    def _led(self, parameters: Parameters) -> tuple[str, PersonColumns]:
        """The holders with what the caller's filter asks of their persons, so that it is looked up once for each."""
        looked_up = PersonColumns("h.person", 'p."class"')
        reaches = list(reaches_of(self.scope.row_filter))
        columns = "".join(
            f", {reach.sql('b', parameters, looked_up)} as reached{place}" for place, reach in enumerate(reaches)
        )
        led = (
            f'select b.holder, h.person, p."class"{columns} from about b'
            " left join holder_person h on h.holder = b.holder left join person p on p.person = h.person offset 0"
        )
        known = tuple((reach, f"a.reached{place}") for place, reach in enumerate(reaches))
        return led, PersonColumns("a.person", 'a."class"', known=known)

    def _selected(self, about: str) -> str:
        return (
            f"select {about} as about, {self._rank} as rank, coalesce(r.at, {_LAST}) as moment, r.deleted,"
            f" {columns_of('r')}"
        )

    @property
    def _rank(self) -> str:
        """The row in the centre comes first, the others by type."""
        return f"(case when r.type = {type_number(self.question.centre)} then 0 else r.type end)"

    def _behind(self, parameters: Parameters, about: str, position: Position | None) -> str:
        if position is None:
            return ""
        place = ", ".join(parameters.add(value, "bigint") for value in (*position.values[:3], position.key))
        return f" and ({about}, {self._rank}, coalesce(r.at, {_LAST}), r.key) > ({place})"

    def _restrictions(self, parameters: Parameters, alias: str, person: PersonColumns | None = None) -> str:
        row_filter = self.scope.row_filter
        if person is None:
            visible = row_filter.sql(alias, parameters)
        else:
            visible = cast("RowRule", row_filter).sql(alias, parameters, person)
        parts = [
            f"{alias}.type = any({parameters.add(self._members, 'smallint[]')})",
            f"not {alias}.deleted",
            visible,
        ]
        question = self.question
        if question.since_us is not None:
            parts.append(f"{alias}.last_updated >= {parameters.add(question.since_us, 'bigint')}")
        if question.start_us is not None:
            parts.append(f"coalesce({alias}.at >= {parameters.add(question.start_us, 'bigint')}, true)")
        if question.end_us is not None:
            parts.append(f"coalesce({alias}.at < {parameters.add(question.end_us, 'bigint')}, true)")
        return " and ".join(parts)

    def _referring(self, parameters: Parameters) -> str:
        """The index terms of which a row of the compartment has one, where its own holder does not tell."""
        centre, hasher = self.question.centre, self.store.hasher
        salts = [
            hasher.reference_salt(name, code)
            for name, codes in compartment(centre).items()
            for code in codes
            if code != ITSELF and not (centre == "Patient" and names_holder(name, code))
        ]
        given = parameters.add(salts, "bigint[]")
        return f"array(select a.holder # s.salt from about a cross join unnest({given}) as s(salt))"

    async def named_by(self, matches: Sequence[StoredVersion]) -> list[StoredVersion]:
        """What the rows name and the caller may see, unless it belongs to the compartment itself or was shown."""
        wanted = _references(matches, self.store.extractor.base_url)
        asked = self.question.types
        keys = {row_key(kind, identity) for kind, identity in wanted if asked is None or kind in asked}
        keys -= {match.key for match in matches} | set(self.remembered)
        keys.discard(row_key(self.question.centre, self.question.centre_id or ""))
        if not keys:
            return []
        parameters = Parameters()
        if self.question.centre_id is None:
            inside = f"i.type = any({parameters.add(self._members, 'smallint[]')})"
            tables = "with"
        else:
            tables = f"{self._about(parameters)},"
            inside = (
                f"(i.type = any({parameters.add(self._members, 'smallint[]')}) and"
                f" (i.holder = any(array(select holder from about)) or i.terms && {self._referring(parameters)}))"
            )
        since = ""
        if self.question.since_us is not None:
            since = f" and i.last_updated >= {parameters.add(self.question.since_us, 'bigint')}"
        statement = (
            f"{tables} answer as (select i.deleted, {columns_of('i')} from resource i where"
            f" i.key = any({parameters.add(sorted(keys), 'bigint[]')}) and not i.deleted"
            f" and {self.scope.row_filter.sql('i', parameters)} and not {inside}{since})"
            " select s.epoch, s.highest_class, a.* from policy_state s left join answer a on true"
        )
        found = [_version(row) for row in await self._fetch(statement, parameters) if row["key"] is not None]
        return sorted(found, key=lambda row: (row.resource_type, row.resource_id))

    async def _fetch(self, statement: str, parameters: Parameters) -> list[asyncpg.Record]:
        async with self.store.keyed_search_pool.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *parameters.values)
        require_fresh(self.scope, rows[0]["epoch"], rows[0]["highest_class"])
        return rows


def _version(row: asyncpg.Record) -> StoredVersion:
    return version_of(row, type_name(row["type"]), row["id"], row["key"])


def _references(versions: Sequence[StoredVersion], base_url: str | None) -> set[tuple[str, str]]:
    """(type, id) of every literal reference in the bodies; valid JSON has the member's name nowhere else."""
    texts = {text for version in versions for text in _REFERENCE.findall(version.body or b"")}
    base = (base_url or "").rstrip("/") + "/"
    found = set()
    for text in texts:
        plain = text.replace(b"\\/", b"/").decode().removeprefix(base)
        literal = _LITERAL.fullmatch(plain)
        if literal is not None and is_resource_type(literal[1]) and literal[1] not in _NOT_NAMED:
            found.add((literal[1], literal[2]))
    return found
