"""Who asks: callers of every role, purpose and kind of scope, and the ways in which each of them looks."""

import random
from dataclasses import replace

from consent import Caller
from tests.consent.house import caller, resident
from tests.security.non_interference.oracle import Oracle, View
from tests.security.non_interference.region import BREAKERS, CLINICIANS, HOSPITALS, WARD, Region, breaker
from tests.security.non_interference.story import Name

PURPOSES = ("", "TREAT", "ETREAT", "COC", "HOPERAT", "HPAYMT")
NARROW = (
    "user/Observation.rs user/Patient.rs user/Encounter.rs",
    "user/Observation.rs?category=laboratory user/Patient.rs user/DiagnosticReport.rs user/List.rs",
    "user/Observation.r user/Patient.s user/Condition.cud user/Encounter.rs",
    "user/Observation.rs?code=http://loinc.org|718-7 user/Patient.rs user/Observation.c",
    "user/*.r user/Observation.cud",
    "patient/*.cruds",
    "patient/Observation.rs patient/Patient.rs user/Condition.rs",
)


def callers(region: Region) -> list[Caller]:
    """Everybody who asks in a region."""
    rnd = random.Random(region.seed + 1)  # noqa: S311 - test data
    found = [
        caller(subject, "clinician", organisation, purpose=rnd.choice(PURPOSES))
        for organisation, subject in CLINICIANS.items()
        for _ in range(2)
    ]
    found += [caller("nurse.wu", "nurse", rnd.choice((*HOSPITALS, WARD)))]
    found += [breaker(subject) for subject in BREAKERS]
    found += [resident(identity) for identity, _ in rnd.sample(region.patients, 3)]
    found += [
        caller("researcher.chen", "researcher"),
        caller("officer.sun", "officer"),
        caller("privacy.he", "privacy-officer"),
        caller("audit.lin", "auditor"),
        caller("admin", "operator"),
    ]
    found += [caller(name, "machine-client", name, scopes="system/*.cruds") for name in HOSPITALS[:2]]
    for scopes in NARROW:
        organisation = rnd.choice(HOSPITALS)
        who = caller(CLINICIANS[organisation], "clinician", organisation, scopes=scopes)
        found.append(replace(who, patient=rnd.choice(region.patients)[0]))
    return found


def views_of(who: Caller, oracle: Oracle) -> list[tuple[View, ...]]:
    """The ways of looking, those that see the same together: one copy of the record serves each group."""
    kinds = [View(who, "read"), View(who, "search"), View(who, "write")]
    if who.purpose_of_use == "BTG":
        kinds = [View(who, kind, emergency=True) for kind in ("read", "search", "write")] + [View(who, "search")]
    groups: dict[object, list[View]] = {}
    for view in kinds:
        groups.setdefault((hidden_from(view, oracle), touches_own(view)), []).append(view)
    return [tuple(group) for group in groups.values()]


def touches_own(view: View) -> bool:
    """Whether its conditions match whatever its organisation keeps, seen or not: a hospital's own system's do."""
    return view.interaction == "write" and "machine-client" in view.caller.roles


def hidden_from(view: View, oracle: Oracle) -> tuple[frozenset[Name], frozenset[tuple[Name, int]]]:
    """Rows, and single versions of other rows, of which nothing may be noticed."""
    own = view.caller.organisation if touches_own(view) else None
    rows = frozenset(name for name, row in oracle.rows.items() if row.custodian != own and not oracle.sees(view, name))
    versions = frozenset(
        (name, number)
        for name, row in oracle.rows.items()
        if name not in rows and row.custodian != own
        for number in range(1, len(row.versions))
        if not oracle.sees_version(view, name, number)
    )
    return rows, versions
