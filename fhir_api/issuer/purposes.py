"""Purposes of use that a token may state: v3-ActReason codes. Whether they open anything, `consent` decides.

https://terminology.hl7.org/CodeSystem-v3-ActReason.html
"""

from consent.caller import PURPOSES as DECIDED_PURPOSES
from ehr.errors import Invalid

PURPOSES = {
    "TREAT": "treatment",
    "ETREAT": "emergency treatment",
    "BTG": "break the glass",
    "CAREMGT": "care management",
    "COC": "coordination of care",
    "HPAYMT": "payment",
    "COVERAGE": "coverage",
    "HOPERAT": "operations",
    "HQUALIMP": "quality improvement",
    "PUBHLTH": "public health",
    "HRESCH": "research",
    "CLINTRCH": "clinical trial research",
    "DSRCH": "disease-specific research",
    "POARCH": "population research",
    "PATRQT": "patient's request",
    "FAMRQT": "family's request",
    "PWATRNY": "power of attorney",
    "SUPNWK": "support network",
    "HSYSADMIN": "system administration",
    "HCOMPL": "compliance",
    "PATSFTY": "patient safety",
    "RECORDMGT": "records management",
    "HLEGAL": "legal",
    "LEGAL": "subpoena",
    "HMARKT": "marketing",
    "FRAUD": "fraud detection",
    "TRAIN": "training",
    "HTEST": "test",
}

LIMIT_REASON_CHARACTERS = 500


def check_purpose(code: str) -> str:
    """Return the code; Invalid where it is none of the listed."""
    if code not in PURPOSES and code not in DECIDED_PURPOSES:
        known = ", ".join(sorted(DECIDED_PURPOSES.union(PURPOSES)))
        raise Invalid(f"{code[:32]!r} is no purpose of use; known are {known}.")
    return code


def check_reason(reason: str | None) -> str | None:
    """Return the reason trimmed, None where empty; Invalid over 500 characters or with control characters."""
    text = (reason or "").strip()
    if len(text) > LIMIT_REASON_CHARACTERS or not text.isprintable():
        raise Invalid(f"A reason is one line of at most {LIMIT_REASON_CHARACTERS} characters.")
    return text or None
