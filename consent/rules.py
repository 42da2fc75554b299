"""A Consent as the decision reads it: flat rules with all conditions of their path, independent of ids and names.

These forms are stored as JSON (`consent_rule`, `consent_class`) and never change once written.
"""

import msgspec

PATIENT_PRIVACY = "patient-privacy"
RESEARCH = "research"


class Criteria(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conditions of one provision; None = not restricted. Lists are sorted; inside a list any one suffices."""

    actors: tuple[tuple[str, str, tuple[str, ...]], ...] | None = None
    """(reference type, id, roles of the platform or empty for all) of recipients."""
    custodians: tuple[str, ...] | None = None
    """Ids of the organisations that keep the data (actor role CST)."""
    actions: tuple[str, ...] | None = None
    purposes: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    documents: tuple[str, ...] | None = None
    """"system|code" of document types."""
    profiles: tuple[str, ...] | None = None
    codes: tuple[str, ...] | None = None
    """"system|code" of clinical codes."""
    level: str | None = None
    """Confidentiality: in a permit that level and below, in a deny that level and above."""
    sensitivities: tuple[str, ...] | None = None
    period: tuple[int, int] | None = None
    data_period: tuple[int, int] | None = None


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One nested provision with the criteria of its whole path, the root's first."""

    path: str
    """FHIRPath of the provision."""
    depth: int
    permit: bool
    when: tuple[tuple[bool | None, Criteria], ...]
    """(permit of that provision or None for the root, its criteria) from the root to the provision itself."""


class NormalConsent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One active Consent."""

    scope: str
    base: str
    """"permit", "deny" or "preset" (none of its own stated)."""
    dated: int | None
    """dateTime in microseconds; in a class only its rank among the person's consents."""
    period: tuple[int, int]
    rules: tuple[Rule, ...] = ()
    attested_by: str | None = None
    """The organisation whose feed or machine client filed it: its permits open that organisation's rows to others."""


class ClassRules(msgspec.Struct, frozen=True):
    """A consent class: normally one group; several after a merge until reviewed, of which the strictest wins."""

    groups: tuple[tuple[NormalConsent, ...], ...] = ((),)


NO_CONSENT = ClassRules()


def encode_consent(consent: NormalConsent) -> str:
    """The JSON that `consent_rule.rules` keeps."""
    return msgspec.json.encode(consent).decode()


def decode_consent(text: str | bytes) -> NormalConsent:
    """Read `consent_rule.rules`."""
    return msgspec.json.decode(text, type=NormalConsent)


def encode_class(rules: ClassRules) -> str:
    """The JSON that `consent_class.rules` keeps."""
    return msgspec.json.encode(rules).decode()


def decode_class(text: str | bytes) -> ClassRules:
    """Read `consent_class.rules`."""
    return msgspec.json.decode(text, type=ClassRules)


def _ranked(consents: tuple[NormalConsent, ...]) -> tuple[NormalConsent, ...]:
    dates = sorted({consent.dated for consent in consents if consent.dated is not None})
    rank = {date: place for place, date in enumerate(dates, 1)}
    ranked = [
        msgspec.structs.replace(consent, dated=None if consent.dated is None else rank[consent.dated])
        for consent in consents
    ]
    return tuple(sorted(set(ranked), key=msgspec.json.encode))


def class_of(groups: tuple[tuple[NormalConsent, ...], ...], now_us: int) -> ClassRules:
    """The class of a person: consents that are over are left out, dates become ranks, so that many persons share it.

    A start that has passed is dropped too; time does not go back.
    """
    kept = []
    for group in groups:
        current = tuple(
            msgspec.structs.replace(consent, period=(-(2**62), consent.period[1]))
            if consent.period[0] <= now_us
            else consent
            for consent in group
            if consent.period[1] > now_us
        )
        kept.append(_ranked(current))
    return ClassRules(tuple(sorted(set(kept), key=msgspec.json.encode)))
