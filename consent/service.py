"""The decisions of the platform: from a caller to what may be read and written, cached until something changes.

A scope is built from the caller's role, SMART scopes, the preset and each consent class in force, once for each actor
context and policy epoch, and lives until the next boundary of a consent's period (DESIGN 4.3).
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import asyncpg

from consent import break_glass, building, explaining, maintenance, relabelling
from consent.caller import Caller, purpose_of, roles_of
from consent.coded import IndexTerms
from consent.counting import refuses_counts
from consent.decision import Context, Decision, Evaluator
from consent.filing import reclassify
from consent.internal import STORED_TYPES
from consent.policy import Policy, preset
from consent.projection import AccessProjection
from consent.rules import NO_CONSENT, ClassRules, decode_class
from consent.smart import allowed_types, grants_of, system_grants
from ehr.access.classes import mark_reviewed
from ehr.access.people import OnePerson, one_person
from ehr.access.state import (
    class_populations,
    read_organisations,
    read_practitioner_roles,
    read_state,
)
from ehr.audit_note import AuditNote
from ehr.changes import Projection
from ehr.errors import Forbidden, NotFound, Unavailable
from ehr.keys import row_key
from ehr.scopes import Interaction, ReadScope, WriteScope
from ehr.store.audit import SUCCESS, record
from ehr.store.clock import now_us
from ehr.store.database import database_errors

if TYPE_CHECKING:
    from ehr.store import Store
    from ehr.store.jobs import Handler

LIMIT_SCOPES = 4_096
_POPULATION_LIFE_US = 300_000_000


@dataclass(slots=True)
class State:
    """What decisions are made from, as of one policy epoch."""

    epoch: int = -1
    highest_class: int = 0
    in_doubt: bool = False
    """The label sets changed, and stored rows are still being read anew."""
    classes: dict[int, ClassRules] = field(default_factory=lambda: {0: NO_CONSENT})
    wholes: dict[str, frozenset[str]] = field(default_factory=dict)
    """Organisation: those of which it is a part, at any remove."""
    parts: dict[str, frozenset[str]] = field(default_factory=dict)
    populations: dict[int, int] = field(default_factory=dict)
    populations_until: int = 0


@dataclass(slots=True)
class _Evaluated:
    """The decisions of one context so far; further classes are added, those there are kept."""

    epoch: int
    context: Context
    evaluator: Evaluator
    decisions: dict[int, Decision] = field(default_factory=dict)
    until: int = 2**62


class Consent:
    """Decides; open it on the store before the first request."""

    def __init__(self, policy: str = "cn-county", *, zone: tzinfo | None = None, base_url: str = "") -> None:
        """Take the preset.

        Args:
            policy: name of a preset in `consent/policies`.
            zone: the platform's zone, for times without one; Asia/Shanghai by default.
            base_url: FHIR base address, whose absolute references are our own.
        """
        self.policy: Policy = preset(policy)
        self.zone: tzinfo = zone or ZoneInfo("Asia/Shanghai")
        self.base_url = base_url
        self._projection = AccessProjection(self.policy, self.zone, base_url)
        self._store: Store | None = None
        self._terms: IndexTerms | None = None
        self._state = State()
        self._loading = asyncio.Lock()
        self._scopes: dict[object, ReadScope] = {}
        self._evaluated: dict[object, _Evaluated] = {}
        self._roles: dict[tuple[str, str | None], tuple[str, ...]] = {}

    def projections(self) -> Sequence[Projection]:
        """What the store must call in its transactions; give it to `Store.open`."""
        return (self._projection,)

    async def open(self, store: "Store") -> None:
        """Connect to the store whose rows are decided about."""
        self._store = store
        self._projection.hasher = store.hasher
        await self.refresh()

    @property
    def store(self) -> "Store":
        """The store; Unavailable before `open`."""
        if self._store is None:
            raise Unavailable("Consent is not connected to the record.")
        return self._store

    @property
    def terms(self) -> IndexTerms:
        """Index terms of what consents name; Unavailable before `open`."""
        if self._terms is None:
            self._terms = IndexTerms(self.store.hasher)
        return self._terms

    @property
    def state(self) -> State:
        """What decisions are made from now."""
        return self._state

    async def refresh(self) -> None:
        """Read policy state and new classes; call it where a statement raised StaleScope."""
        async with self._loading:
            with database_errors():
                await self._load(self.store.pool)

    async def _load(self, pool: asyncpg.Pool) -> None:
        state = self._state
        found = await read_state(pool, state.highest_class)
        if found.highest_class < state.highest_class:
            # another database, or one restored from before: nothing that was known holds
            state.classes, state.highest_class, state.epoch = {0: NO_CONSENT}, 0, -1
            found = await read_state(pool, 0)
        state.classes.update({number: decode_class(rules) for number, rules in found.new_classes})
        if found.epoch != state.epoch:
            state.wholes, state.parts = building.organisation_tree(
                await read_organisations(self.store.searching, self.store.hasher)
            )
            self._evaluated.clear()
            self._roles.clear()
        if now_us() > state.populations_until:
            state.populations = await class_populations(self.store.searching)
            state.populations_until = now_us() + _POPULATION_LIFE_US
        if (found.epoch, found.highest_class) != (state.epoch, state.highest_class):
            self._scopes.clear()
        state.epoch, state.highest_class, state.in_doubt = found.epoch, found.highest_class, found.in_doubt

    async def read_scope(
        self,
        caller: Caller,
        *,
        interaction: Interaction,
        types: Collection[str] | None = None,
        persons: Collection[str] | None = None,
        action: str = "access",
    ) -> ReadScope:
        """What the caller may see now.

        Args:
            caller: claims of a checked token.
            interaction: what is asked: read (vread, history too) or search; others for what a write matches.
            types: resource types that the request asks for, if it names any.
            persons: ids of the Patients whom the request names; break-glass answers where it is exactly one.
            action: consentaction: access, disclose (exports), use (analytics).

        Raises:
            Forbidden: the token's scopes allow no such request, or break-glass is misused.
        """
        grants = grants_of(caller)
        asked = frozenset(types) if types is not None else None
        if not grants or (asked and not allowed_types(grants, interaction, asked)):
            raise Forbidden("The token's scopes do not allow this request.")
        emergency = await self._emergency(caller, tuple(dict.fromkeys(persons or ())), interaction)
        return await self._cached(caller, interaction, emergency=emergency, action=action)

    async def _cached(self, caller: Caller, interaction: Interaction, *, emergency: bool, action: str) -> ReadScope:
        key = (
            caller.subject,
            caller.client,
            caller.organisation,
            caller.roles,
            caller.patient,
            caller.fhir_user,
            purpose_of(caller),
            caller.scopes,
            interaction if interaction in ("read", "search", "export") else "update",
            emergency,
            action,
        )
        cached = self._scopes.get(key)
        if cached is not None and cached.valid_until > datetime.now(UTC):
            return cached
        scope = await self._build(caller, interaction, emergency=emergency, action=action)
        if len(self._scopes) >= LIMIT_SCOPES:
            self._scopes.clear()
        self._scopes[key] = scope
        return scope

    async def _emergency(self, caller: Caller, persons: tuple[str, ...], interaction: str) -> bool:
        """Whether emergencies count for this request, opening the one that it names; Forbidden where misused."""
        if not break_glass.asks_for_emergency(caller):
            return False
        break_glass.check_emergency(caller)
        if len(persons) == 1:
            return await break_glass.open_record(self.store, self.policy, caller, persons[0])
        # a single row read by id names at most one person's row; a search names exactly one person or nobody's
        return interaction == "read" and not persons

    async def _build(self, caller: Caller, interaction: Interaction, *, emergency: bool, action: str) -> ReadScope:
        context = await self.context(caller, emergency=emergency, action=action)
        evaluated = self.evaluate(context)
        return building.read_scope(
            caller,
            context=context,
            state=self._state,
            policy=self.policy,
            decisions=evaluated.decisions,
            until_us=evaluated.until,
            grants=system_grants(caller) if interaction == "export" else grants_of(caller),
            interaction=interaction,
            hasher=self.store.hasher,
        )

    async def export_scope(self, caller: Caller) -> ReadScope:
        """What a machine client may take in bulk now; Forbidden for everybody else."""
        self.export_types(caller)
        return await self._cached(caller, "export", emergency=False, action="disclose")

    def export_types(self, caller: Caller, asked: Collection[str] = ()) -> frozenset[str]:
        """The types that a machine client may take in bulk; Forbidden where one of those asked is none of them."""
        grants = system_grants(caller)
        types = frozenset(asked) or STORED_TYPES
        allowed = allowed_types(grants, "read", types) & allowed_types(grants, "search", types)
        if not allowed or (asked and allowed != types):
            raise Forbidden("Bulk exports need scopes of level system, system/*.rs, for the types asked for.")
        return allowed

    async def context(self, caller: Caller, *, emergency: bool = False, action: str = "access") -> Context:
        """The caller as consents see it."""
        roles = roles_of(caller)
        practitioner = building.practitioner_of(caller)
        organisation = caller.organisation if any(role.needs_organisation for role in roles) else None
        wholes = self._state.wholes.get(organisation or "", frozenset())
        held: tuple[str, ...] = ()
        if practitioner is not None and "shared" in {part for role in roles for part in role.sees}:
            known = self._roles.get((practitioner, organisation))
            if known is None:
                trusted = ["platform", *([organisation] if organisation else [])]
                with database_errors():
                    known = tuple(
                        await read_practitioner_roles(self.store.searching, self.store.hasher, practitioner, trusted)
                    )
                self._roles[practitioner, organisation] = known
            held = known
        return Context(
            actor=caller.subject,
            organisation=organisation,
            organisations=wholes | {organisation} if organisation else frozenset(),
            practitioners=frozenset({practitioner} if practitioner else ()),
            practitioner_roles=frozenset(held),
            roles=frozenset(role.name for role in roles),
            purpose=purpose_of(caller),
            action=action,
            emergency=emergency,
            parts=tuple(sorted(self._state.parts.items())),
        )

    def evaluate(self, context: Context) -> _Evaluated:
        """Decide every class known, keeping what was decided for the same context before."""
        now = now_us()
        known = self._evaluated.get(context)
        if known is None or known.epoch != self._state.epoch or known.until <= now:
            evaluator = Evaluator(context, self.policy, self.terms)
            known = _Evaluated(self._state.epoch, context, evaluator)
            if len(self._evaluated) >= LIMIT_SCOPES:
                self._evaluated.clear()
            self._evaluated[context] = known
        for number, rules in self._state.classes.items():
            if number not in known.decisions:
                decision = known.evaluator.decide(rules, now)
                if self._state.in_doubt:
                    decision = relabelling.doubted(decision)
                known.decisions[number] = decision
                known.until = min(known.until, decision.until)
        return known

    async def write_scope(
        self, caller: Caller, *, custodian: str | None = None, even_nothing: bool = False
    ) -> WriteScope:
        """What the caller may write now; Forbidden where neither role nor scopes let it write anything.

        Args:
            caller: claims of a checked token.
            custodian: stands for `import --custodian`: only `loader` may say whose rows it writes.
            even_nothing: give a scope that writes nothing rather than Forbidden: a batch is refused entry by entry.
        """
        grants = grants_of(caller)
        read = await self._matched_by_writes(caller)
        holders = await building.own_holders(self.store.pool, caller.patient)
        try:
            return building.write_scope(caller, grants, read, holders, custodian)
        except Forbidden:
            if not even_nothing:
                raise
            return WriteScope(caller.subject, caller.organisation or "platform", frozenset(), read=read)

    async def _matched_by_writes(self, caller: Caller) -> ReadScope:
        """What the caller sees whatever its scopes: the rows that its conditions may match."""
        emergency = break_glass.asks_for_emergency(caller)
        if emergency:
            break_glass.check_emergency(caller)
        return await self._cached(caller, "update", emergency=emergency, action="access")

    async def explain(self, caller: Caller, reference: str) -> explaining.Explanation:
        """Which rule decides what this caller sees of a resource or a person ("Type/id")."""
        return await explaining.explain(self, caller, reference)

    async def one_person(self, patient_id: str) -> OnePerson:
        """What joins the Patients of one person; NotFound."""
        with database_errors():
            async with self.store.searching.acquire() as connection:
                return await _found(connection, patient_id)

    async def review_merge(self, patient_id: str, note: AuditNote) -> None:
        """Let the consents of merged Patients hold together again, after somebody reviewed the merge; NotFound."""
        with database_errors():
            async with self.store.searching.acquire() as connection, connection.transaction():
                found = await _found(connection, patient_id)
                await mark_reviewed(connection, found.person, now_us())
                await reclassify(connection, [found.person])
                await record(connection, note, SUCCESS, found.holders)
        await self.refresh()

    async def unmerge(self, patient_id: str, other: str, note: AuditNote) -> None:
        """Take back a merge of two Patients; NotFound where nobody merged them. Records stay where they are."""
        with database_errors():
            async with self.store.searching.acquire() as connection, connection.transaction():
                found = await _found(connection, patient_id)
                first, second = row_key("Patient", patient_id), row_key("Patient", other)
                await self.store.people.unmerge(connection, first, second)
                await record(connection, note, SUCCESS, found.holders)
        await self.refresh()

    async def people_for_counts(self, connection: asyncpg.Connection | asyncpg.Pool) -> list[tuple[int, int, bool]]:
        """(holder, person, whether the person is in de-identified counts) of everybody."""
        await self.refresh()
        refusing = {number for number, rules in self._state.classes.items() if refuses_counts(rules, now_us())}
        return await maintenance.people_for_counts(connection, refusing, self._state.highest_class)

    def job_handlers(self) -> "Mapping[str, Handler]":
        """What the job worker runs for consent: stamping rows with their person's class, spreading labels."""
        return maintenance.handlers(self)


async def _found(connection: asyncpg.Connection, patient_id: str) -> OnePerson:
    found = await one_person(connection, patient_id)
    if found is None:
        raise NotFound("There is no such Patient.")
    return found
