"""What a write changes about access, in its own transaction: whose row it is, its labels, reach, consent classes.

A projection of the record (`ehr.changes.Projection`, DESIGN section 2). One round trip for each table that is touched,
however many changes come together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

import asyncpg

from consent import filing, reaching, spreading
from consent.labels import KEPT, REVIEW, SPREADING, Reading, own_of, read_resource, with_level
from consent.persons import Naming, name_persons, type_rules
from consent.policy import Policy
from ehr.access import classes
from ehr.access.attachments import Referrer, adopt, referrers_of, remember
from ehr.access.holders import HolderState, ensure_holders, rows_by_key, visible_keys
from ehr.access.reach import settle_referrals
from ehr.changes import Change, RowAccess
from ehr.errors import Unavailable
from ehr.keys import TermHasher, organisation_key, row_key

REVIEW_SYSTEM = "https://kanglian.org/CodeSystem/review"


@dataclass(slots=True)
class Work:
    """One change with what was read from its resource."""

    change: Change
    reading: Reading
    naming: Naming
    edges: Sequence[spreading.Edge]
    """The references along which its labels spread."""
    holders: dict[int, str]
    """Row keys of the persons in order, with Patient ids ("" where only the key is known)."""


class AccessProjection:
    """Keeps the access columns and tables."""

    def __init__(self, policy: Policy, zone: tzinfo, base_url: str = "") -> None:
        """Take the preset, the platform's zone, and the base address whose absolute references are our own."""
        self.types = frozenset(type_rules())
        self.hasher: TermHasher | None = None
        """The store's; set when consent is opened on the store."""
        self._policy = policy
        self._zone = zone
        self._base_url = base_url

    async def in_transaction(self, connection: asyncpg.Connection, changes: Sequence[Change]) -> None:
        """Fill in the access columns of all changes and write reach, classes and labels of other rows."""
        if self.hasher is None:
            raise Unavailable("The record is not open for writes: consent is not connected to it.")
        works = [self._read(change) for change in changes if change.resource is not None]
        in_force = filing.read_written(changes, self._zone)
        wanted = spreading.stored_targets(works) | _inherited_keys(works)
        wanted -= {work.change.key for work in works}
        stored, waiting = await rows_by_key(
            connection, sorted(wanted), [work.change.key for work in works if work.change.operation == "create"]
        )
        await _inherit(connection, works, stored)
        named = {holder: identity for work in works for holder, identity in work.holders.items()}
        named |= filing.patients(changes)
        states = await ensure_holders(connection, dict(sorted(named.items())))
        said = await spreading.said_by_others(connection, works, self.hasher)
        for work in works:
            _stamp(work, states, waiting.get(work.change.key, 0) | said.get(work.change.key, 0))
        await self._remember_attachments(connection, works)
        await spreading.spread(connection, works, stored, states, hasher=self.hasher)
        await self._adopt_binaries(connection, works)
        current = [change for change in changes if not change.superseded]
        await reaching.apply(connection, current, states, policy=self._policy, zone=self._zone, hasher=self.hasher)
        await filing.apply(connection, current, states, in_force)
        if any(_changes_roles(change) for change in current):
            await classes.raise_epoch(connection)

    async def people_changed(self, connection: asyncpg.Connection, persons: Sequence[int]) -> None:
        """Form the classes of persons anew after they were linked or parted."""
        await filing.reclassify(connection, persons, regrouped=True)
        await settle_referrals(connection, persons, ())

    def _read(self, change: Change) -> Work:
        resource = change.resource or {}
        reading = read_resource(resource)
        naming = name_persons(change.resource_type, change.resource_id, resource, reading, self._base_url)
        holders = {row_key("Patient", patient): patient for patient in naming.patients}
        if not change.access.custodian:
            change.access.custodian = organisation_key(change.scope.custodian)
        edges = spreading.edges_of(change, self._base_url)
        return Work(change, reading, naming, edges, holders)

    async def _remember_attachments(self, connection: asyncpg.Connection, works: Sequence[Work]) -> None:
        rows: dict[tuple[int, int], tuple[int, int, int]] = {}
        for work in works:
            change = work.change
            if change.resource_type in spreading.ATTACHING:
                for key in spreading.attached_binaries(work.reading.urls, self._base_url):
                    rows[change.key, key] = (change.key, key, change.access.custodian)
        await remember(connection, list(rows.values()))

    async def _adopt_binaries(self, connection: asyncpg.Connection, works: Sequence[Work]) -> None:
        """A Binary without securityContext belongs to whom its referrer is about, where one custodian keeps both."""
        fresh = {work.change.key: work.change.access for work in works if work.change.resource_type == "Binary"}
        referring: dict[int, list[Referrer]] = {}
        for row in await referrers_of(connection, sorted(fresh)):
            referring.setdefault(row.binary, []).append(row)
        stored: dict[int, Referrer] = {}
        for work in works:
            access = work.change.access
            if work.change.resource_type not in spreading.ATTACHING:
                continue
            for key in spreading.attached_binaries(work.reading.urls, self._base_url):
                row = Referrer(
                    key,
                    access.custodian,
                    access.holder,
                    tuple(access.others or ()),
                    access.consent_class,
                    access.labels,
                )
                if key in fresh:
                    referring.setdefault(key, []).append(row)
                elif row.holder:
                    stored.setdefault(key, row)
        for key, rows in referring.items():
            for row in rows:
                _take_after(fresh[key], row)
        await adopt(connection, list(stored.values()))


def _take_after(access: RowAccess, row: Referrer) -> None:
    """Give a Binary the persons and labels of a row that points to it."""
    if row.custodian != access.custodian:
        return
    if not access.holder:
        access.holder, access.others, access.consent_class = row.holder, list(row.others) or None, row.consent_class
    access.labels = with_level(access.labels | row.labels & SPREADING)


def _inherited_keys(works: Sequence[Work]) -> set[int]:
    return {row_key(*target) for work in works for target in work.naming.inherited}


async def _inherit(
    connection: asyncpg.Connection, works: Sequence[Work], stored: dict[int, "spreading.RowState"]
) -> None:
    """Take the persons of the rows that a row shares its persons with.

    A reference is not checked: of a row that another organisation keeps they are taken only where the writer sees it.
    Else the writer, from whom a consent may hide its own new row, would learn that there is the row it named.
    """
    direct = {work.change.key: (work.change.access.custodian, dict(work.holders)) for work in works}
    for work in works:
        custodian, scope = work.change.access.custodian, work.change.scope
        foreign: dict[int, dict[int, str]] = {}
        for target in work.naming.inherited:
            key = row_key(*target)
            if key in direct:
                keeper, holders = direct[key]
            elif key in stored and stored[key].holder:
                keeper = stored[key].custodian
                holders = dict.fromkeys((stored[key].holder, *stored[key].others), "")
            else:
                continue
            if keeper == custodian or scope.may_change_any_custodian:
                work.holders |= {holder: identity for holder, identity in holders.items() if holder not in work.holders}
            elif key not in direct:
                foreign[key] = holders
        if foreign and scope.read is not None:
            for key in await visible_keys(connection, scope.read.row_filter, list(foreign)):
                work.holders |= {h: identity for h, identity in foreign[key].items() if h not in work.holders}


def _stamp(work: Work, states: dict[int, HolderState], waiting: int) -> None:
    access = work.change.access
    before = access.labels
    holders = list(work.holders)
    access.holder = holders[0] if holders else 0
    access.others = holders[1:] or None
    access.consent_class = states[holders[0]].consent_class if holders else 0
    # what other rows once said of this one stays, over a deletion too; what its own codes said is read anew
    inherited = before & SPREADING & ~own_of(before)
    access.labels = work.reading.labels | inherited | (waiting & SPREADING) | (before & REVIEW)
    if work.naming.custodian_only and type_rules()[work.change.resource_type].kind == "directory":
        access.labels |= KEPT
    if work.change.resource_type == "Task" and _is_review(work.change):
        access.labels |= REVIEW


def _is_review(change: Change) -> bool:
    code = (change.resource or {}).get("code", {})
    return change.scope.actor.startswith("internal:") and any(
        coding.get("system") == REVIEW_SYSTEM for coding in code.get("coding", ())
    )


def _changes_roles(change: Change) -> bool:
    if change.resource_type == "PractitionerRole":
        return True
    return change.resource_type == "Organization" and any(
        version is not None and "partOf" in version for version in (change.resource, change.previous)
    )
