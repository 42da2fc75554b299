"""Who calls, for what: the claims of a checked token, the role table, and the purposes of use with their hierarchy.

Purposes: http://terminology.hl7.org/CodeSystem/v3-ActReason (4.0.1). Which purpose covers which is decided edge by edge
here and published in `docs/consent.md`; an edge may hold for permits only.
"""

from dataclasses import dataclass
from functools import cache

PURPOSE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v3-ActReason"


@dataclass(frozen=True, slots=True)
class Caller:
    """The claims of one access token, as checked by the front door; names are those of the claims (DESIGN 4.6)."""

    subject: str
    client: str
    organisation: str | None
    roles: frozenset[str]
    patient: str | None
    fhir_user: str | None
    purpose_of_use: str
    reason: str | None
    scopes: tuple[str, ...]
    jti: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class Role:
    """What a role may ask at all (the first rule of the precedence)."""

    name: str
    default_purpose: str
    purposes: frozenset[str]
    sees: frozenset[str]
    """Parts of the record: directory, own (a resident's), shared (by reach and consent), kept (the organisation's own),
    consents, reviews, all."""
    writes: frozenset[str] = frozenset()
    """personal, directory, consent, review, all."""
    may_break_glass: bool = False
    needs_organisation: bool = False
    is_machine: bool = False
    """Holds scopes of level `system`; people hold `user` and `patient`."""


_CLINICAL = frozenset({"TREAT", "ETREAT", "BTG", "CAREMGT", "COC", "HQUALIMP", "PATSFTY", "HPAYMT", "HOPERAT"})
_HUMAN_CLINICIAN = frozenset({"directory", "shared", "kept"})
_CLINICIAN = Role(
    "physician",
    "TREAT",
    _CLINICAL,
    _HUMAN_CLINICIAN,
    writes=frozenset({"personal"}),
    may_break_glass=True,
    needs_organisation=True,
)
_RECORDS = frozenset({"HOPERAT", "TREAT", "HSYSADMIN", "RECORDMGT", "HPAYMT"})

ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        _CLINICIAN,
        Role(
            "nurse",
            "TREAT",
            _CLINICAL,
            _HUMAN_CLINICIAN,
            writes=frozenset({"personal"}),
            may_break_glass=True,
            needs_organisation=True,
        ),
        Role(
            "resident",
            "PATRQT",
            frozenset({"PATRQT"}),
            frozenset({"directory", "own"}),
            writes=frozenset({"consent"}),
        ),
        Role("researcher", "HRESCH", frozenset({"HRESCH", "CLINTRCH", "DSRCH", "POARCH"}), frozenset({"directory"})),
        Role("officer", "PUBHLTH", frozenset({"PUBHLTH"}), frozenset({"directory"})),
        Role(
            "privacy-officer",
            "HCOMPL",
            frozenset({"HCOMPL", "HLEGAL", "HOPERAT"}),
            frozenset({"directory", "consents", "reviews"}),
            writes=frozenset({"review"}),
        ),
        Role("auditor", "HCOMPL", frozenset({"HCOMPL", "HLEGAL", "HOPERAT"}), frozenset({"directory"})),
        Role("admin", "HSYSADMIN", frozenset({"HSYSADMIN", "HOPERAT"}), frozenset({"directory"})),
        Role(
            "machine-client",
            "HOPERAT",
            _RECORDS,
            frozenset({"directory", "kept"}),
            writes=frozenset({"personal", "directory", "consent"}),
            needs_organisation=True,
            is_machine=True,
        ),
        Role(
            "loader",
            "HSYSADMIN",
            frozenset({"HSYSADMIN"}),
            frozenset({"all"}),
            writes=frozenset({"all"}),
            is_machine=True,
        ),
    )
}
ALIASES = {
    "clinician": "physician",
    "operator": "admin",
    "privacy_officer": "privacy-officer",
    "machine": "machine-client",
    "patient": "resident",
}

EDGES: dict[str, tuple[str, bool]] = {
    # purpose: (the broader purpose that covers it, whether a deny of the broader one covers it too)
    "BTG": ("ETREAT", True),
    "ERTREAT": ("ETREAT", True),
    # who says no to treatment by somebody has not said no to rescue
    "ETREAT": ("TREAT", False),
    "COC": ("TREAT", True),
    "CLINTRL": ("TREAT", True),
    "CAREMGT": ("TREAT", True),
    "HQUALIMP": ("HOPERAT", True),
    "PATSFTY": ("HOPERAT", True),
    "FRAUD": ("HOPERAT", True),
    "HCOMPL": ("HOPERAT", True),
    "HLEGAL": ("HOPERAT", True),
    "HSYSADMIN": ("HOPERAT", True),
    "RECORDMGT": ("HOPERAT", True),
    "PATADMIN": ("HOPERAT", True),
    "TRAIN": ("HOPERAT", True),
    "HTEST": ("HSYSADMIN", True),
    "COVERAGE": ("HPAYMT", True),
    "COVAUTH": ("HPAYMT", True),
    "CLINTRCH": ("HRESCH", True),
    "DSRCH": ("HRESCH", True),
    "POARCH": ("HRESCH", True),
    "BIORCH": ("HRESCH", True),
    "TRANSRCH": ("HRESCH", True),
    "FAMRQT": ("PATRQT", True),
    "PWATRNY": ("PATRQT", True),
    "SUPNWK": ("PATRQT", True),
    "DISASTER": ("PUBHLTH", True),
    "THREAT": ("PUBHLTH", True),
}
TOP_PURPOSES = ("TREAT", "HOPERAT", "HPAYMT", "HRESCH", "PATRQT", "PUBHLTH", "HMARKT")
PURPOSES = frozenset(EDGES) | frozenset(TOP_PURPOSES)
EMERGENCY_PURPOSES = frozenset({"BTG", "ETREAT"})


@cache
def covering(purpose: str, *, deny: bool) -> frozenset[str]:
    """The purposes whose mention in a rule covers a request for `purpose`, itself included."""
    found = {purpose}
    edge = EDGES.get(purpose)
    while edge is not None and (edge[1] or not deny):
        found.add(edge[0])
        edge = EDGES.get(edge[0])
    return frozenset(found)


def is_research(purpose: str) -> bool:
    """Whether identifiable use for this purpose is decided by consents of scope `research`."""
    return "HRESCH" in covering(purpose, deny=False)


def roles_of(caller: Caller) -> tuple[Role, ...]:
    """The known roles of a caller, in the order of the table; unknown ones give nothing."""
    names = {ALIASES.get(name, name) for name in caller.roles}
    return tuple(role for name, role in ROLES.items() if name in names)


def purpose_of(caller: Caller) -> str:
    """The purpose of use: the token's, else the default of the first role."""
    roles = roles_of(caller)
    return caller.purpose_of_use or (roles[0].default_purpose if roles else "")
