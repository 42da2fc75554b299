"""Who is left out of de-identified counts: those who refuse (DESIGN 4.3, "unless refused")."""

from consent.rules import ClassRules, NormalConsent, Rule

_COUNTING_PURPOSES = frozenset({"HRESCH", "PUBHLTH", "HOPERAT"})


def _refuses(rule: Rule, now_us: int) -> bool:
    """A deny of all use, or of research or statistics, that names no single recipient, kind or label of data."""
    if rule.permit:
        return False
    for _, criteria in rule.when:
        if criteria.purposes is not None and _COUNTING_PURPOSES.isdisjoint(criteria.purposes):
            return False
        if criteria.actions is not None and "use" not in criteria.actions:
            return False
        if criteria.period is not None and not criteria.period[0] <= now_us < criteria.period[1]:
            return False
        if criteria.actors or criteria.custodians:
            return False
    # what is denied only in part is denied: counts do not look at single rows
    return True


def _refused_by(consent: NormalConsent, now_us: int) -> bool:
    if not consent.period[0] <= now_us < consent.period[1]:
        return False
    return consent.base == "deny" or any(_refuses(rule, now_us) for rule in consent.rules)


def refuses_counts(rules: ClassRules, now_us: int) -> bool:
    """Whether a person of this class is left out of de-identified counts, by a deny base or a general deny."""
    return any(_refused_by(consent, now_us) for group in rules.groups for consent in group)
