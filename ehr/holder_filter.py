"""Whether a caller can see any row of a holder at all: what a row filter says of the person behind the rows.

Asked once a statement for the Patients that a search names, before their rows are looked at. So the time of an answer
does not grow with the rows of somebody who is hidden, and looks like that of a Patient who does not exist (attacks.md
13). It only says where to look: the filter itself still stands at each row.
"""

from dataclasses import dataclass

from ehr.person_filter import (
    ClassChoice,
    EveryPerson,
    EveryPersonStamped,
    InEmergency,
    InReach,
    KeptBy,
    OwnRows,
    person_checked,
)
from ehr.row_filter import (
    EVERYTHING,
    NOTHING,
    AboutNobody,
    AllOf,
    AnyOf,
    CustodianIn,
    Everything,
    Not,
    Nothing,
    Parameters,
    PersonColumns,
    RowFacts,
    RowFilter,
    RowRule,
    all_of,
    any_of,
    negation,
)


@dataclass(frozen=True, slots=True)
class KeepsRowsOf:
    """Holders about whom one of these organisations keeps a row."""

    custodians: tuple[int, ...]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a probe of `kept_holder`."""
        custodians = parameters.shared(self, "custodians", list(self.custodians), "bigint[]")
        return (
            f"(exists (select 1 from kept_holder k_ where k_.custodian = any({custodians})"
            f" and k_.holder = {alias}.holder))"
        )

    def holds(self, row: RowFacts) -> bool:
        """Compare the custodian."""
        return row.custodian in self.custodians


@dataclass(frozen=True, slots=True)
class PersonMeets:
    """Holders whose person meets the rule; one who is not mapped meets none."""

    rule: RowRule

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a look-up of the person."""
        return f"({person_checked(f'{alias}.holder', self.rule, alias, parameters)})"

    def holds(self, row: RowFacts) -> bool:
        """Ask the rule about the one person of the facts."""
        return self.rule.holds(row)


def holders_seen(rule: RowFilter) -> RowFilter:
    """The holders of whom the filter can admit some row; `EVERYTHING` where it does not ask for the person.

    The filter must be settled for a type whose rows have this holder (`ehr.filter_forms.of_type`).
    """
    return _bound(rule, at_most=True, inside=False)


def _bound(rule: RowFilter, *, at_most: bool, inside: bool) -> RowRule:  # noqa: PLR0911 - one branch a kind of node
    """A rule over holders: of whom the filter may admit rows (`at_most`), or of whom it admits every row.

    `inside`: the place is a look-up of the person, whose class and reach are known there.
    """
    match rule:
        case Not(filter=inner):
            return negation(_bound(inner, at_most=not at_most, inside=inside))
        case AnyOf(filters=filters):
            return any_of(*(_bound(each, at_most=at_most, inside=inside) for each in filters))
        case AllOf(filters=filters):
            return all_of(*(_bound(each, at_most=at_most, inside=inside) for each in filters))
        case KeptBy(custodians=custodians, own=own, others=others):
            mine, theirs = (_bound(each, at_most=at_most, inside=inside) for each in (own, others))
            return any_of(all_of(KeepsRowsOf(custodians), mine), theirs) if at_most else all_of(mine, theirs)
        case ClassChoice(highest=highest, cases=cases, otherwise=otherwise) if inside:
            bounded = tuple((classes, _bound(of, at_most=at_most, inside=True)) for classes, of in cases)
            return ClassChoice(highest, bounded, _bound(otherwise, at_most=at_most, inside=True))
        case EveryPerson(rule=inner) | EveryPersonStamped(rule=inner) if at_most:
            of_person = _bound(inner, at_most=True, inside=True)
            return of_person if of_person == EVERYTHING else PersonMeets(of_person)
    return _leaf(rule, at_most=at_most, inside=inside)


def _leaf(rule: RowFilter, *, at_most: bool, inside: bool) -> RowRule:
    """As `_bound`, of what is asked of one column; what is asked of others than the holder may be met or not."""
    match rule:
        case Everything() | Nothing():
            return rule
        case InReach() | InEmergency() if inside:
            return rule
        case AboutNobody():
            return NOTHING
        case OwnRows() if at_most:
            return rule
        case CustodianIn(custodians=custodians) if at_most:
            return KeepsRowsOf(tuple(sorted(custodians)))
    return EVERYTHING if at_most else NOTHING
