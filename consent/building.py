"""Scopes from decisions: the row filter of a caller in one of the three forms, and what it may write.

own = a resident; narrow = classes looked up through the row's person; broad = the class stamped on the row, where
consents open more people to the caller than look-ups should be made for.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import asyncpg

from consent.caller import Caller, Role, purpose_of, roles_of
from consent.decision import Context, Decision
from consent.internal import STORED_TYPES
from consent.labels import KEPT, REVIEW
from consent.persons import types_of_kind
from consent.policy import Policy
from consent.smart import Grant, letter_of, smart_filter
from ehr.access.state import person_of
from ehr.definitions import type_number
from ehr.errors import Forbidden
from ehr.keys import TermHasher, organisation_key, row_key
from ehr.person_filter import (
    ClassChoice,
    EveryPerson,
    EveryPersonStamped,
    InEmergency,
    InReach,
    KeptBy,
    NamedIn,
    OwnRows,
)
from ehr.row_filter import (
    EVERYTHING,
    NOTHING,
    AboutNobody,
    AllOf,
    AnyOf,
    CustodianIn,
    LabelsAny,
    LabelsNone,
    Not,
    Parameters,
    RowRule,
    TypeIn,
    all_of,
    any_of,
    negation,
)
from ehr.scopes import Interaction, ReadScope, WriteScope

if TYPE_CHECKING:
    from consent.service import State

Shape = Literal["own", "narrow", "broad", "all", "none"]
BROAD_FROM_PERSONS = 50_000
_LONGEST_LIFE = timedelta(hours=1)
_METHODS: tuple[Interaction, ...] = ("create", "update", "delete")
_TOUCHING: tuple[Interaction, ...] = ("read", "search", "update", "delete")


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(type_number(name) for name in names)


def directory_rule() -> RowRule:
    """Rows that every signed-in caller sees: directory types without anybody personal inside."""
    return all_of(TypeIn(_numbers(*types_of_kind("directory"))), AboutNobody(), LabelsNone(KEPT))


def _about_persons() -> RowRule:
    return all_of(TypeIn(_numbers(*types_of_kind("personal", "directory"))), LabelsNone(REVIEW))


def opens_without_reach(rule: RowRule) -> bool:
    """Whether a filter admits rows of people whom the caller neither treats nor opened in an emergency."""
    return _without_reach(rule) != NOTHING


def _without_reach(rule: RowRule) -> RowRule:
    if isinstance(rule, InReach | InEmergency):
        return NOTHING
    if isinstance(rule, AnyOf):
        return any_of(*(_without_reach(each) for each in rule.filters))  # type: ignore[arg-type]  # rules all through
    if isinstance(rule, AllOf):
        return all_of(*(_without_reach(each) for each in rule.filters))  # type: ignore[arg-type]  # rules all through
    if isinstance(rule, Not) and isinstance(rule.filter, InReach | InEmergency):
        return EVERYTHING
    return rule


def choice(decided: Mapping[int, RowRule], highest: int) -> RowRule:
    """One filter for many classes: grouped, the commonest last, in an order that does not depend on numbers."""
    groups: dict[RowRule, list[int]] = {}
    for number, rule in decided.items():
        groups.setdefault(rule, []).append(number)
    otherwise = max(groups, key=lambda rule: (len(groups[rule]), rule != NOTHING), default=NOTHING)
    cases = [(tuple(sorted(numbers)), rule) for rule, numbers in groups.items() if rule != otherwise]
    cases.sort(key=lambda case: (case[1].sql("r", Parameters()), case[0]))
    return ClassChoice(highest, tuple(cases), otherwise)


class _Builder:
    """Collects the parts of one caller's filter."""

    def __init__(
        self, caller: Caller, context: Context, state: "State", policy: Policy, decisions: Mapping[int, Decision]
    ) -> None:
        self.caller = caller
        self.context = context
        self.state = state
        self.policy = policy
        self.decisions = decisions
        self.shape: Shape = "none"

    def part(self, name: str) -> RowRule:
        """The rows of one part of the record that a role sees."""
        if name == "directory":
            return directory_rule()
        if name == "consents":
            return TypeIn(_numbers("Consent"))
        if name == "reviews":
            return all_of(TypeIn(_numbers("Task")), LabelsAny(REVIEW))
        if name == "all":
            self.shape = "all"
            return negation(TypeIn(_numbers("AuditEvent")))
        if name == "own":
            return self._own()
        return self._clinical(shared=name == "shared")

    def _own(self) -> RowRule:
        if self.caller.patient is None:
            return NOTHING
        self.shape = "own"
        types = _numbers(*types_of_kind("personal", "directory", "consent"))
        return all_of(TypeIn(types), LabelsNone(REVIEW), OwnRows(row_key("Patient", self.caller.patient)))

    def _clinical(self, *, shared: bool) -> RowRule:
        organisation = self.context.organisation
        if organisation is None:
            return NOTHING
        own = organisation_key(organisation)
        highest = self.state.highest_class
        kept = choice({number: decision.kept for number, decision in self.decisions.items()}, highest)
        foreign = {number: decision.foreign for number, decision in self.decisions.items()} if shared else {0: NOTHING}
        others = choice(foreign, highest) if shared else NOTHING
        rule = KeptBy((own,), kept, others)
        self.shape = "broad" if shared and self._opened_persons(foreign) >= BROAD_FROM_PERSONS else "narrow"
        persons: RowRule = EveryPersonStamped(rule) if self.shape == "broad" else EveryPerson(rule)
        return any_of(all_of(_about_persons(), persons), self._kept_rows(own), self._consents(own))

    def _opened_persons(self, foreign: Mapping[int, RowRule]) -> int:
        return sum(
            self.state.populations.get(number, 0) for number, rule in foreign.items() if opens_without_reach(rule)
        )

    def _kept_rows(self, own: int) -> RowRule:
        """Rows about nobody in particular, and types that only their custodian sees."""
        if self.context.purpose not in self.policy.custodian_purposes:
            return NOTHING
        types = _numbers(*types_of_kind("personal", "custodian", "directory"))
        return all_of(TypeIn(types), AboutNobody(), CustodianIn(frozenset({own})), LabelsNone(REVIEW))

    def _consents(self, own: int) -> RowRule:
        names = [organisation_key(name) for name in sorted(self.context.organisations)]
        names += [organisation_key(f"Practitioner/{name}") for name in sorted(self.context.practitioners)]
        names += [organisation_key(f"PractitionerRole/{name}") for name in sorted(self.context.practitioner_roles)]
        return all_of(TypeIn(_numbers("Consent")), any_of(CustodianIn(frozenset({own})), NamedIn(tuple(names))))


def _parts(roles: Iterable[Role], purpose: str) -> list[str]:
    """Parts of the record that the roles see for this purpose; the directory whatever it is."""
    found: dict[str, None] = {}
    for role in roles:
        for part in sorted(role.sees):
            if part == "directory" or purpose in role.purposes:
                found[part] = None
    if "shared" in found:
        found.pop("kept", None)
    return list(found)


def read_scope(
    caller: Caller,
    *,
    context: Context,
    state: "State",
    policy: Policy,
    decisions: Mapping[int, Decision],
    until_us: int,
    grants: Sequence[Grant],
    interaction: Interaction,
    hasher: TermHasher,
) -> ReadScope:
    """The scope of one caller for one kind of interaction."""
    builder = _Builder(caller, context, state, policy, decisions)
    roles = roles_of(caller)
    parts = _parts(roles, context.purpose)
    seen = any_of(*(builder.part(name) for name in parts))
    own = OwnRows(row_key("Patient", caller.patient)) if caller.patient is not None else None
    in_context = any_of(own, directory_rule()) if own else None
    # a condition matches nothing that the token lets its bearer neither look at nor change
    letters: tuple[Interaction, ...] = (interaction,) if interaction in ("read", "search") else _TOUCHING
    allowed = any_of(*(smart_filter(grants, letter, hasher, in_context) for letter in letters))
    if interaction == "export":
        allowed = all_of(*(smart_filter(grants, letter, hasher, in_context) for letter in ("read", "search")))
    now = datetime.now(UTC)
    boundary = datetime.fromtimestamp(until_us / 1e6, UTC) if until_us < 2**52 else now + _LONGEST_LIFE
    names = "+".join(role.name for role in roles) or "no role"
    refused = "" if len(parts) > 1 or "all" in parts else " (directory only)"
    return ReadScope(
        actor=caller.subject,
        organisation=context.organisation,
        purpose_of_use=context.purpose,
        shape=builder.shape,
        row_filter=AllOf((EVERYTHING, all_of(allowed, seen))),
        epoch=state.epoch,
        highest_class=state.highest_class,
        valid_until=min(boundary, now + _LONGEST_LIFE),
        decision=f"{policy.name}/{state.epoch}: {names} for {context.purpose}, {builder.shape}{refused}",
        lasting="all" in parts,
    )


def write_scope(
    caller: Caller,
    grants: Sequence[Grant],
    read: ReadScope | None,
    holders: frozenset[int],
    custodian: str | None = None,
) -> WriteScope:
    """What a caller may write; Forbidden where it may write nothing."""
    roles = {role.name: role for role in roles_of(caller) if purpose_of(caller) in role.purposes}
    base = _role_write_scope(caller, roles, holders, read, custodian)
    if base is None or base.types is None:
        raise Forbidden("This role writes no records.")
    # scopes of level `patient` write about that patient only; beside wider ones, which do not say so, they rest
    wider = [grant for grant in grants if grant.level != "patient"]
    limited = not any(_granted(wider, method, base.types) for method in _METHODS)
    allowed = {method: _granted(grants if limited else wider, method, base.types) for method in _METHODS}
    types = frozenset().union(*allowed.values())
    if not types:
        raise Forbidden("The token's scopes allow no writing.")
    return WriteScope(
        actor=base.actor,
        custodian=base.custodian,
        types=types,
        refused_methods=frozenset(
            (name, method) for method in _METHODS for name in types if name not in allowed[method]
        ),
        id_prefix=base.id_prefix,
        may_change_any_custodian=base.may_change_any_custodian,
        opens_reach=base.opens_reach,
        opens_referral=base.opens_referral,
        own_person_holders=holders if limited or base.own_person_holders is not None else None,
        consents=base.consents,
        read=read,
    )


def _granted(grants: Sequence[Grant], method: Interaction, types: frozenset[str]) -> frozenset[str]:
    """Types that some scope without narrowing lets this method write."""
    held = [grant for grant in grants if letter_of(method) in grant.letters and not grant.narrowing]
    if any(grant.type is None for grant in held):
        return types
    return types & {grant.type for grant in held if grant.type is not None}


def _role_write_scope(
    caller: Caller,
    roles: Mapping[str, Role],
    holders: frozenset[int],
    read: ReadScope | None,
    custodian: str | None,
) -> WriteScope | None:
    personal = types_of_kind("personal", "custodian") - {"Provenance"}
    if "loader" in roles:
        return WriteScope(
            caller.subject,
            custodian or "platform",
            STORED_TYPES,
            id_prefix="",
            may_change_any_custodian=True,
            consents="counted",
            read=read,
        )
    if "machine-client" in roles and caller.organisation is not None:
        return WriteScope(
            caller.subject,
            caller.organisation,
            STORED_TYPES - {"Provenance"},
            id_prefix=f"{caller.organisation}.",
            opens_reach=True,
            opens_referral=True,
            consents="attested",
            read=read,
        )
    if ("physician" in roles or "nurse" in roles) and caller.organisation is not None:
        return WriteScope(caller.subject, caller.organisation, personal, opens_referral=True, read=read)
    if "resident" in roles and holders:
        return WriteScope(
            caller.subject,
            "resident",
            frozenset({"Consent"}),
            own_person_holders=holders,
            consents="counted",
            read=read,
        )
    if "privacy-officer" in roles:
        return WriteScope(caller.subject, "platform", frozenset({"Task"}), read=read)
    return None


async def own_holders(connection: asyncpg.Pool, patient: str | None) -> frozenset[int]:
    """Row keys of all Patients of the person behind a Patient id."""
    found = await person_of(connection, patient) if patient is not None else None
    return frozenset(found[1]) if found is not None else frozenset()


def practitioner_of(caller: Caller) -> str | None:
    """Id of the caller's Practitioner, from fhirUser."""
    if caller.fhir_user is None:
        return None
    kind, _, identity = caller.fhir_user.rpartition("/")
    return identity if kind.rsplit("/", 1)[-1] == "Practitioner" else None


def organisation_tree(
    edges: Sequence[tuple[str, str]],
) -> tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]:
    """(wholes of each part, parts of each whole), at any remove; circles end where they began."""
    direct: dict[str, set[str]] = {}
    for part, whole in edges:
        direct.setdefault(part, set()).add(whole)
    wholes: dict[str, frozenset[str]] = {}
    for part, named in direct.items():
        found: set[str] = set()
        pending = list(named)
        while pending:
            whole = pending.pop()
            if whole not in found:
                found.add(whole)
                pending.extend(direct.get(whole, ()))
        wholes[part] = frozenset(found - {part})
    parts: dict[str, set[str]] = {}
    for part, found_wholes in wholes.items():
        for whole in found_wholes:
            parts.setdefault(whole, set()).add(part)
    return wholes, {whole: frozenset(found) for whole, found in parts.items()}
