"""From a consent class and a request to a filter over rows: the precedence of `docs/consent.md`, rules 3 to 7.

A class is evaluated once for each actor context; what depends on the row (type, code, label, date, custodian) stays in
the filter, what depends on the request (actor, purpose, action, time) is decided here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from consent.caller import EMERGENCY_PURPOSES, covering, is_research
from consent.labels import (
    ABOVE_NORMAL,
    BELOW_NORMAL,
    LABELLED,
    LEVELS,
    SENSITIVE,
    above,
    at_or_above,
    sensitivity_mask,
)
from consent.policy import Policy
from consent.rules import PATIENT_PRIVACY, RESEARCH, ClassRules, Criteria, NormalConsent, Rule
from ehr.definitions import type_number
from ehr.keys import organisation_key
from ehr.person_filter import InEmergency, InReach
from ehr.row_filter import (
    EVERYTHING,
    NOTHING,
    AtWithin,
    CustodianIn,
    LabelsAny,
    LabelsNone,
    RowRule,
    TermsOverlap,
    TypeIn,
    all_of,
    any_of,
    negation,
)

UNLABELLED = LabelsNone(LABELLED)
_FOREVER = 2**62


class Terms(Protocol):
    """Index terms of what a consent names (`consent.coded`)."""

    def codes(self, codes: Sequence[str]) -> frozenset[int]:
        """Terms of clinical codes "system|code"."""

    def documents(self, codes: Sequence[str]) -> frozenset[int]:
        """Terms of document types "system|code"."""

    def profiles(self, profiles: Sequence[str]) -> frozenset[int]:
        """Terms of profile addresses."""


@dataclass(frozen=True, slots=True)
class Context:
    """One request as consents see it; requests of the same context share a scope."""

    actor: str
    organisation: str | None
    """The caller's own, whose rows and reach count."""
    organisations: frozenset[str]
    """The own one and those of which it is a part: a consent that names one of them names the caller."""
    practitioners: frozenset[str]
    practitioner_roles: frozenset[str]
    roles: frozenset[str]
    purpose: str
    action: str
    """consentaction: access (reads), disclose (exports), use (analytics)."""
    emergency: bool
    """Whether break-glass counts for this request."""
    parts: tuple[tuple[str, frozenset[str]], ...] = ()
    """Organisation and all its parts, for consents that name custodians."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one class lets this context see, and until when the answer holds."""

    kept: RowRule
    """Of the rows that the caller's organisation keeps."""
    foreign: RowRule
    until: int
    """Next boundary of a period, microseconds."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One rule as far as this request matches it."""

    rule: Rule
    matches: RowRule
    names_actor: bool


class Evaluator:
    """Evaluates classes for one context under one policy."""

    def __init__(self, context: Context, policy: Policy, terms: Terms) -> None:
        """Take the request, the preset and the terms of the index."""
        self._context = context
        self._policy = policy
        self._terms = terms
        self._parts = dict(context.parts)
        self._emergency = context.emergency and context.purpose in EMERGENCY_PURPOSES
        self._research = is_research(context.purpose)

    def preset(self) -> RowRule:
        """What the deployment opens to this context without consent, of others' rows."""
        context = self._context
        opens = self._policy.reach_opens and context.purpose in self._policy.treatment_purposes
        if not opens or context.organisation is None:
            return NOTHING
        return all_of(UNLABELLED, InReach((organisation_key(context.organisation),)))

    def decide(self, rules: ClassRules, now_us: int) -> Decision:
        """Evaluate a class; of several groups (a merge under review) the strictest wins."""
        until = min((at for at in _boundaries(rules) if at > now_us), default=_FOREVER)
        groups = [tuple(c for c in group if c.period[0] <= now_us < c.period[1]) for group in rules.groups]
        kept = all_of(*(self._kept(group, now_us) for group in groups))
        foreign = all_of(*(self._foreign(group, now_us) for group in groups))
        return Decision(kept, foreign, until)

    def conditions(self, consent: NormalConsent, now_us: int, *, kept: bool) -> list[Condition]:
        """The rules of a consent that this request matches, in the order of precedence inside the consent.

        A permit that an organisation attests speaks of the rows that it keeps itself, and opens nothing to it.
        """
        opens_nothing = consent.attested_by is not None and consent.attested_by in self._context.organisations
        found: list[Condition] = []
        for rule in sorted(consent.rules, key=lambda rule: (-rule.depth, rule.permit)):
            condition = self._condition(rule, now_us, kept=kept)
            if rule.permit and consent.attested_by is not None:
                kept_rows = CustodianIn(self._keepers([consent.attested_by]))
                condition = replace(condition, matches=all_of(kept_rows, condition.matches))
            usable = not (rule.permit and opens_nothing) and (rule.permit or condition.names_actor or not kept)
            if usable and condition.matches != NOTHING:
                found.append(condition)
        return found

    def _keepers(self, organisations: Iterable[str]) -> frozenset[int]:
        """Numbers of organisations and all their parts, as custodians."""
        names = {part for name in organisations for part in (name, *self._parts.get(name, ()))}
        return frozenset(organisation_key(name) for name in names)

    def base(self, consents: Sequence[NormalConsent], custodian: int | None = None) -> tuple[str, NormalConsent | None]:
        """The base of the newest consent that states one for rows of this custodian: deny or permit, else the preset.

        At equal or missing dates deny wins. A consent that states none, or a permit that is attested by somebody who
        does not keep the row or asks himself, takes nothing of what an older one says.
        """
        stating = [(consent.base, consent) for consent in consents if self._states_base(consent, custodian)]
        newest_date = max((consent.dated for _, consent in stating if consent.dated is not None), default=None)
        newest = [each for each in stating if each[1].dated is None or each[1].dated == newest_date]
        return min(newest, key=lambda each: each[0] != "deny", default=("preset", None))

    def _states_base(self, consent: NormalConsent, custodian: int | None) -> bool:
        if consent.base != "permit" or consent.attested_by is None:
            return consent.base != "preset"
        return consent.attested_by not in self._context.organisations and custodian in self._keepers(
            [consent.attested_by]
        )

    def fallback(self, consents: Sequence[NormalConsent]) -> RowRule:
        """What holds where no provision matches: base, else preset; break-glass overrides both."""
        attesting = {consent.attested_by for consent in consents if consent.attested_by and consent.base == "permit"}
        decided = self._opened_by(self.base(consents)[0])
        groups: dict[RowRule, set[int]] = {}
        for keeper in sorted(self._keepers(attesting)):
            of_keeper = self._opened_by(self.base(consents, keeper)[0])
            if of_keeper != decided:
                groups.setdefault(of_keeper, set()).add(keeper)
        apart = [(frozenset(keepers), of_group) for of_group, keepers in groups.items()]
        others = [negation(CustodianIn(keepers)) for keepers, _ in apart]
        filters = any_of(*(all_of(CustodianIn(keepers), of) for keepers, of in apart), all_of(*others, decided))
        return any_of(filters, InEmergency(self._context.actor)) if self._emergency else filters

    def _opened_by(self, base: str) -> RowRule:
        return NOTHING if base == "deny" else UNLABELLED if base == "permit" else self._preset_of_scope()

    def _preset_of_scope(self) -> RowRule:
        return NOTHING if self._research else self.preset()

    def _foreign(self, group: Sequence[NormalConsent], now_us: int) -> RowRule:
        privacy = [consent for consent in group if consent.scope == PATIENT_PRIVACY]
        deciding = [consent for consent in group if consent.scope == RESEARCH] if self._research else privacy
        decided = self._between(deciding, now_us, self.fallback(deciding), kept=False)
        if self._research:
            denied = any_of(*(_denied(self.conditions(c, now_us, kept=False)) for c in privacy))
            return all_of(negation(denied), decided)
        return decided

    def _kept(self, group: Sequence[NormalConsent], now_us: int) -> RowRule:
        if self._context.purpose not in self._policy.custodian_purposes:
            return self._foreign(group, now_us)
        privacy = [consent for consent in group if consent.scope == PATIENT_PRIVACY]
        return self._between(privacy, now_us, EVERYTHING, kept=True)

    def _between(self, consents: Sequence[NormalConsent], now_us: int, otherwise: RowRule, *, kept: bool) -> RowRule:
        """Rule 5: the newest that matches decides; at equal or missing dateTime deny wins."""
        read = [(consent.dated, self.conditions(consent, now_us, kept=kept)) for consent in consents]
        undated = [conditions for dated, conditions in read if dated is None]
        decided = any_of(*(_permitted(conditions, NOTHING) for conditions in undated), otherwise)
        for date in sorted({dated for dated, _ in read if dated is not None}):
            same = [conditions for dated, conditions in read if dated == date]
            if len(same) == 1:
                decided = _permitted(same[0], decided)
            else:
                permitted = any_of(*(_permitted(conditions, NOTHING) for conditions in same), decided)
                decided = all_of(negation(any_of(*(_denied(conditions) for conditions in same))), permitted)
        return all_of(negation(any_of(*(_denied(conditions) for conditions in undated))), decided)

    def _condition(self, rule: Rule, now_us: int, *, kept: bool) -> Condition:
        parts: list[RowRule] = []
        names_actor = False
        for permit, criteria in rule.when:
            if not self._asked(criteria, now_us, deny=permit is False):
                return Condition(rule, NOTHING, names_actor=False)
            names_actor = names_actor or criteria.actors is not None
            parts.extend(self._row(criteria, permit=permit, rule_permits=rule.permit))
        if rule.permit and not kept:
            parts.append(_covered(rule))
        return Condition(rule, all_of(*parts), names_actor)

    def _asked(self, criteria: Criteria, now_us: int, *, deny: bool) -> bool:
        """Whether the request meets what a provision says about requests."""
        context = self._context
        if criteria.period is not None and not criteria.period[0] <= now_us < criteria.period[1]:
            return False
        if criteria.actions is not None and context.action not in criteria.actions:
            return False
        if criteria.purposes is not None and covering(context.purpose, deny=deny).isdisjoint(criteria.purposes):
            return False
        return criteria.actors is None or any(self._is_actor(*actor) for actor in criteria.actors)

    def _is_actor(self, kind: str, identity: str, roles: tuple[str, ...]) -> bool:
        if roles and self._context.roles.isdisjoint(roles):
            return False
        named = {
            "Organization": self._context.organisations,
            "Practitioner": self._context.practitioners,
            "PractitionerRole": self._context.practitioner_roles,
        }
        return identity in named[kind]

    def _row(self, criteria: Criteria, *, permit: bool | None, rule_permits: bool) -> Iterable[RowRule]:
        """What a provision says about rows."""
        if criteria.custodians is not None:
            yield CustodianIn(self._keepers(criteria.custodians))
        kinds: list[RowRule] = []
        if criteria.types is not None:
            kinds.append(TypeIn(frozenset(type_number(name) for name in criteria.types)))
        if criteria.documents is not None:
            kinds.append(TermsOverlap(self._terms.documents(criteria.documents)))
        if criteria.profiles is not None:
            kinds.append(TermsOverlap(self._terms.profiles(criteria.profiles)))
        if kinds:
            yield any_of(*kinds)
        if criteria.codes is not None:
            yield TermsOverlap(self._terms.codes(criteria.codes))
        if criteria.level is not None:
            yield _at_level(criteria.level, permit=bool(permit))
        if criteria.sensitivities is not None:
            yield LabelsAny(sensitivity_mask(list(criteria.sensitivities)))
        if criteria.data_period is not None:
            # a row without a date is hidden by a deny and not opened by a permit
            yield AtWithin(*criteria.data_period, undated=not rule_permits)


def _at_level(level: str, *, permit: bool) -> RowRule:
    """Rows of that level and below for a permit, and above for a deny; no bit means normal."""
    if permit:
        over, normal_is_over = above(level)
        below = (ABOVE_NORMAL | BELOW_NORMAL) & ~over
        return all_of(LabelsNone(over) if over else EVERYTHING, LabelsAny(below) if normal_is_over else EVERYTHING)
    mask, with_normal = at_or_above(level)
    if not with_normal:
        return LabelsAny(mask)
    under = (ABOVE_NORMAL | BELOW_NORMAL) & ~mask
    # a row that took a level from another one carries two: the higher one counts
    return any_of(LabelsAny(mask), LabelsNone(under)) if under else EVERYTHING


def _covered(rule: Rule) -> RowRule:
    """A permit opens only rows all of whose sensitivities, and whose confidentiality above normal, its path names."""
    named = sensitivity_mask([s for _, criteria in rule.when for s in criteria.sensitivities or ()])
    highest = max((LEVELS.index(c.level) for _, c in rule.when if c.level is not None), default=LEVELS.index("N"))
    over, _ = above(LEVELS[max(highest, LEVELS.index("N"))])
    return LabelsNone((LABELLED & ~SENSITIVE & ~ABOVE_NORMAL) | (SENSITIVE & ~named) | over)


def _permitted(conditions: Sequence[Condition], otherwise: RowRule) -> RowRule:
    """Rows that the first matching condition permits, or that none matches and `otherwise` admits."""
    decided = otherwise
    for condition in reversed(conditions):
        if condition.rule.permit:
            decided = any_of(condition.matches, decided)
        else:
            decided = all_of(negation(condition.matches), decided)
    return decided


def _denied(conditions: Sequence[Condition]) -> RowRule:
    """Rows that the first matching condition denies."""
    decided: RowRule = NOTHING
    for condition in reversed(conditions):
        if condition.rule.permit:
            decided = all_of(negation(condition.matches), decided)
        else:
            decided = any_of(condition.matches, decided)
    return decided


def _boundaries(rules: ClassRules) -> Iterable[int]:
    for group in rules.groups:
        for consent in group:
            yield from consent.period
            for rule in consent.rules:
                for _, criteria in rule.when:
                    yield from criteria.period or ()
