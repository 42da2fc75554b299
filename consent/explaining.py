"""Why a caller sees, or does not see, a row or a person: the rule that decided, for `kanglian consent explain`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consent.caller import Caller, is_research, purpose_of, roles_of
from consent.decision import Context, Evaluator
from consent.labels import names_of
from consent.persons import split_reference, type_rules
from consent.rules import PATIENT_PRIVACY, RESEARCH, NormalConsent, decode_consent
from ehr.access.explained import ExplainedRow, consents_in_force, read_row
from ehr.errors import BadSearch
from ehr.keys import organisation_key
from ehr.row_filter import RowFacts
from ehr.store.clock import now_us
from ehr.store.database import database_errors

if TYPE_CHECKING:
    from consent.service import Consent


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision, as it would be made now."""

    visible: bool
    rule: str
    """Which of the seven rules of the precedence decided."""
    reason: str
    policy: str
    epoch: int
    purpose: str
    provision: str | None = None
    """FHIRPath of the provision that decided."""
    consent_id: str | None = None
    consent_version: int | None = None
    labels: tuple[str, ...] = ()

    def text(self) -> str:
        """The lines that the command prints."""
        lines = [
            f"{'visible' if self.visible else 'hidden'}: {self.reason}",
            f"rule: {self.rule}",
            f"policy: {self.policy}, epoch {self.epoch}, purpose {self.purpose}",
        ]
        if self.consent_id is not None:
            lines.append(f"consent: Consent/{self.consent_id} version {self.consent_version}")
        if self.provision is not None:
            lines.append(f"provision: {self.provision}")
        if self.labels:
            lines.append(f"labels: {', '.join(self.labels)}")
        return "\n".join(lines)


async def explain(consent: "Consent", caller: Caller, reference: str) -> Explanation:
    """Explain what a caller sees of "Type/id" or "Patient/id".

    The statement that answers requests says whether the row is visible; the walk through the rules says why.
    """
    split = split_reference(reference)
    if split is None:
        raise BadSearch(f"{reference} is not a reference like Observation/123.")
    await consent.refresh()
    persons = (split[1],) if split[0] == "Patient" else None
    scope = await consent.read_scope(caller, interaction="read", persons=persons)
    with database_errors():
        row = await read_row(consent.store.searching, scope.row_filter, *split)
    context = await consent.context(caller, emergency=bool(persons) and purpose_of(caller) == "BTG")
    state = consent.state

    def explained(rule: str, reason: str, **more: object) -> Explanation:
        return Explanation(
            row is not None and row.visible,
            rule,
            reason,
            consent.policy.name,
            state.epoch,
            context.purpose,
            labels=tuple(names_of(row.labels)) if row else (),
            **more,  # type: ignore[arg-type]  # fields of the same dataclass
        )

    if row is None:
        return explained("1 role, scope, custodianship", "there is no such row; hidden and absent look alike")
    early = _before_consents(row, caller, context, split[0])
    if early is not None:
        return explained("1 role, scope, custodianship", early)
    with database_errors():
        filed = await consents_in_force(consent.store.searching, row.holders)
    evaluator = Evaluator(context, consent.policy, consent.terms)
    read = [(each, decode_consent(each.rules)) for each in filed]
    facts = _facts(row)
    kept = context.organisation is not None and row.custodian == organisation_key(context.organisation)
    decided = _deciding(evaluator, context, [normal for _, normal in read], facts, kept=kept)
    if decided is not None:
        normal, path, permit, several = decided
        source = next(each for each, candidate in read if candidate is normal)
        return explained(
            "5 the newest matching consent decides" if several else "4 the deepest matching provision decides",
            f"a provision {'permits' if permit else 'denies'} it",
            provision=path,
            consent_id=source.consent_id,
            consent_version=source.version,
        )
    rule, reason, decider = _otherwise(
        evaluator, context, read_consents=[normal for _, normal in read], kept=kept, row=row
    )
    if decider is None:
        return explained(rule, reason)
    source = next(each for each, candidate in read if candidate is decider)
    return explained(
        rule,
        reason,
        provision="Consent.policyRule",
        consent_id=source.consent_id,
        consent_version=source.version,
    )


def _facts(row: ExplainedRow) -> RowFacts:
    return RowFacts(row.type, row.custodian, row.labels, frozenset(row.terms), row.at, row.consent_class)


def _before_consents(row: ExplainedRow, caller: Caller, context: Context, resource_type: str) -> str | None:
    roles = roles_of(caller)
    if not any(context.purpose in role.purposes for role in roles):
        return f"the role does not act for {context.purpose}"
    sees = {part for role in roles for part in role.sees if context.purpose in role.purposes}
    if "all" in sees:
        return "loader and migration read everything"
    if "own" in sees:
        return "a resident sees what is about himself and nobody else"
    kind = type_rules()[resource_type].kind
    if kind != "personal" or not row.holders:
        return f"the rule of the type is {kind}, about {len(row.holders)} persons"
    if not sees & {"shared", "kept"}:
        return "the role sees no clinical rows"
    return None


def _deciding(
    evaluator: Evaluator, context: Context, consents: list[NormalConsent], facts: RowFacts, *, kept: bool
) -> tuple[NormalConsent, str, bool, bool] | None:
    """(consent, path, permit, whether several matched) of the provision that decides; None where none matches."""
    now = now_us()
    scope = RESEARCH if is_research(context.purpose) else PATIENT_PRIVACY
    matching: list[tuple[NormalConsent, str, bool]] = []
    for normal in consents:
        if normal.scope != scope or not normal.period[0] <= now < normal.period[1]:
            continue
        for condition in evaluator.conditions(normal, now, kept=kept):
            if condition.matches.holds(facts):
                matching.append((normal, condition.rule.path, condition.rule.permit))
                break
    if not matching:
        return None
    newest = max((normal.dated for normal, _, _ in matching if normal.dated is not None), default=None)
    candidates = [each for each in matching if each[0].dated is None or each[0].dated == newest]
    # a deny wins at equal or missing dates
    chosen = min(candidates, key=lambda each: each[2])
    return (*chosen, len(matching) > 1)


def _otherwise(
    evaluator: Evaluator,
    context: Context,
    *,
    read_consents: list[NormalConsent],
    kept: bool,
    row: ExplainedRow,
) -> tuple[str, str, NormalConsent | None]:
    """(rule, reason, the consent whose base policy decides) where no provision matches."""
    if kept and row.visible:
        reason = "the custodian sees its own rows; a base policy does not hide them"
        return "1 role, scope, custodianship", reason, None
    now = now_us()
    scope = RESEARCH if is_research(context.purpose) else PATIENT_PRIVACY
    current = [c for c in read_consents if c.scope == scope and c.period[0] <= now < c.period[1]]
    base, decider = evaluator.base(current, row.custodian)
    if row.visible and context.emergency:
        return "7 break-glass", "broken glass overrides preset and base policy", None
    if decider is None or base == "preset":
        return (
            "6 base policy, else the preset",
            f"no consent decides: the preset {'opens' if row.visible else 'closes'} it",
            None,
        )
    return "6 base policy, else the preset", f"no provision matches: the base policy is {base}", decider
