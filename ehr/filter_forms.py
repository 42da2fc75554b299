"""What a row filter comes to where the type of the row is known, and whose rows it can admit at all.

A search asks for rows of one type, so that most of a caller's filter is settled before the statement is written; and a
caller who sees few people is served from those people, not from all rows (decision record 0016). Both forms admit
exactly the rows that the filter admits: the first leaves out what the type decides, the second only says where to look.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from ehr.holder_filter import holders_seen
from ehr.person_filter import (
    NOW_US,
    ClassChoice,
    EveryPerson,
    EveryPersonStamped,
    InEmergency,
    InReach,
    KeptBy,
    OwnRows,
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
    RowFilter,
    RowRule,
    TypeIn,
    all_of,
    any_of,
    negation,
)

_MOST_CLASSES = 4096
_MOST_FILTERS = 4096


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the people are found whom the rows that a filter admits can be about."""

    reached: frozenset[InReach] = frozenset()
    emergencies: frozenset[InEmergency] = frozenset()
    keepers: frozenset[int] = frozenset()
    """Organisations whose own rows are admitted."""
    classes: frozenset[int] = frozenset()
    """Consent classes whose people need no reach."""
    own: frozenset[int] = frozenset()
    """Patients whose person is admitted."""
    nobody: bool = False
    """Rows about nobody that one of few organisations keeps are admitted."""

    def __or__(self, other: "Sources") -> "Sources":
        """The people of both."""
        return Sources(
            self.reached | other.reached,
            self.emergencies | other.emergencies,
            self.keepers | other.keepers,
            self.classes | other.classes,
            self.own | other.own,
            self.nobody or other.nobody,
        )

    @property
    def breadth(self) -> tuple[bool, bool, bool]:
        """For choosing the narrower of two: open classes before own rows before reach."""
        return bool(self.classes), bool(self.keepers), bool(self.reached)

    def columns(self, alias: str) -> PersonColumns:
        """What the table of `sql` under this alias tells about the person of a row."""
        known: list[tuple[object, str]] = []
        if len(self.reached) == 1:
            known += [(node, f"{alias}.reached") for node in self.reached]
        if len(self.emergencies) == 1:
            known += [(node, f"{alias}.emergency") for node in self.emergencies]
        return PersonColumns(f"{alias}.person", f'{alias}."class"', known=tuple(known))

    def sql(self, parameters: Parameters) -> str:
        """Render to a select of holder, person, class, reached and emergency, each holder once."""
        parts = list(self._holders(parameters)) or ["select null::bigint, null::bigint, false, false where false"]
        holders = (
            "select n_.holder, n_.person, bool_or(n_.reached) as reached, bool_or(n_.emergency) as emergency"
            f" from ({' union all '.join(parts)}) as n_(holder, person, reached, emergency)"
            " group by n_.holder, n_.person offset 0"
        )
        nobody = " union all select 0, null, null, false, false" if self.nobody else ""
        return (
            f'select n_.holder, n_.person, p_."class", n_.reached, n_.emergency from ({holders}) n_'
            f" join person p_ on p_.person = n_.person{nobody}"
        )

    def _holders(self, parameters: Parameters) -> Iterable[str]:
        """Each source as a select of holder, person, reached, emergency; a person is reached by all its holders."""
        if self.reached:
            organisations = parameters.add(sorted({o for node in self.reached for o in node.organisations}), "bigint[]")
            yield (
                "select h_.holder, h_.person, true, false from reach x_ join holder_person h_ on h_.person = x_.person"
                f" where x_.organisation = any({organisations}) and x_.kind in (1, 2) and x_.until > {NOW_US}"
            )
        if self.emergencies:
            actors = parameters.add(sorted(node.actor for node in self.emergencies), "text[]")
            yield (
                "select h_.holder, h_.person, false, true from emergency e_"
                " join holder_person h_ on h_.person = e_.person"
                f" where e_.actor = any({actors}) and e_.until > {NOW_US}"
            )
        if self.keepers:
            keepers = parameters.add(sorted(self.keepers), "bigint[]")
            yield (
                "select h_.holder, h_.person, false, false from kept_holder k_"
                f" join holder_person h_ on h_.holder = k_.holder where k_.custodian = any({keepers})"
            )
        if self.classes:
            classes = parameters.add(sorted(self.classes), "integer[]")
            yield (
                "select h_.holder, h_.person, false, false from person p_"
                " join holder_person h_ on h_.person = p_.person"
                f' where p_."class" = any({classes}) and p_."class" <> 0'
            )
        if self.own:
            own = parameters.add(sorted(self.own), "bigint[]")
            yield (
                "select b_.holder, b_.person, false, false from holder_person a_"
                f" join holder_person b_ on b_.person = a_.person where a_.holder = any({own})"
            )


_NO_ONE = Sources()


def of_type(rule: RowFilter, type_number: int) -> RowFilter:  # noqa: PLR0911 - one branch a kind of node
    """The filter without what a row of this type decides."""
    match rule:
        case TypeIn(types=types):
            return EVERYTHING if type_number in types else NOTHING
        case Not(filter=inner):
            return negation(_rule(inner, type_number))
        case AnyOf(filters=filters):
            return any_of(*(_rule(each, type_number) for each in filters))
        case AllOf(filters=filters):
            decided_all = all_of(*(_rule(each, type_number) for each in filters))
            # the mark that `consent` sets on each scope, and the scope linter looks for, stays
            marked = filters[:1] == (EVERYTHING,) and not isinstance(decided_all, Everything | Nothing)
            return AllOf((EVERYTHING, decided_all)) if marked else decided_all
        case KeptBy(custodians=custodians, own=own, others=others):
            mine, theirs = _rule(own, type_number), _rule(others, type_number)
            return mine if mine == theirs else KeptBy(custodians, mine, theirs)
        case ClassChoice(highest=highest, cases=cases, otherwise=otherwise):
            settled = _rule(otherwise, type_number)
            decided = [(classes, _rule(of, type_number)) for classes, of in cases]
            kept = tuple((classes, of) for classes, of in decided if of != settled)
            return ClassChoice(highest, kept, settled) if kept or settled != NOTHING else NOTHING
        case EveryPerson(rule=inner):
            decided_rule = _rule(inner, type_number)
            return EveryPerson(decided_rule) if decided_rule != NOTHING else NOTHING
        case EveryPersonStamped(rule=inner):
            decided_rule = _rule(inner, type_number)
            return EveryPersonStamped(decided_rule) if decided_rule != NOTHING else NOTHING
    return rule


def _rule(rule: RowFilter, type_number: int) -> RowRule:
    return cast("RowRule", of_type(rule, type_number))


def sources_of(rule: RowFilter) -> Sources | None:  # noqa: PLR0911 - one branch a kind of node
    """The people to whom the filter limits rows, or None where it names none or too many."""
    match rule:
        case Nothing():
            return _NO_ONE
        case InReach():
            return Sources(reached=frozenset({rule}))
        case InEmergency():
            return Sources(emergencies=frozenset({rule}))
        case OwnRows(holder=holder):
            return Sources(own=frozenset({holder}))
        case EveryPerson(rule=inner):
            return sources_of(inner)
        case KeptBy(custodians=custodians, own=own, others=others):
            kept = _NO_ONE if own == NOTHING else Sources(keepers=frozenset(custodians))
            return _joined([kept, sources_of(others)])
        case ClassChoice():
            return _of_classes(rule)
        case AnyOf(filters=filters):
            return _joined([sources_of(each) for each in filters])
        case AllOf(filters=filters):
            return _of_all(filters)
    return None


def reaches_of(rule: RowFilter) -> frozenset[InReach]:
    """The probes of reach anywhere in the filter."""
    match rule:
        case InReach():
            return frozenset({rule})
        case Not(filter=inner) | EveryPerson(rule=inner) | EveryPersonStamped(rule=inner):
            return reaches_of(inner)
        case AnyOf(filters=filters) | AllOf(filters=filters):
            return frozenset().union(*map(reaches_of, filters))
        case KeptBy(own=own, others=others):
            return reaches_of(own) | reaches_of(others)
        case ClassChoice(cases=cases, otherwise=otherwise):
            return frozenset().union(reaches_of(otherwise), *(reaches_of(of) for _, of in cases))
    return frozenset()


def _joined(found: Iterable[Sources | None]) -> Sources | None:
    joined = _NO_ONE
    for each in found:
        if each is None:
            return None
        joined |= each
    return joined


def _of_all(filters: tuple[RowFilter, ...]) -> Sources | None:
    kinds = {type(each) for each in filters}
    if AboutNobody in kinds:
        return Sources(nobody=True) if CustodianIn in kinds else None
    known = [found for each in filters if (found := sources_of(each)) is not None]
    return min(known, key=lambda found: found.breadth, default=None)


def _of_classes(choice: ClassChoice) -> Sources | None:
    named = {number for classes, _ in choice.cases for number in classes}
    rest = frozenset(range(choice.highest + 1)) - named
    found = _NO_ONE
    for classes, rule in (*((frozenset(classes), rule) for classes, rule in choice.cases), (rest, choice.otherwise)):
        sources = sources_of(rule)
        if sources is None:
            # class 0, no consent at all, is most people; many classes make a long list
            if 0 in classes or len(classes) > _MOST_CLASSES:
                return None
            sources = Sources(classes=classes)
        found |= sources
    return found


class FilterForms:
    """The forms of one filter, made when they are first asked for."""

    __slots__ = ("_holders", "_sources", "_typed", "row_filter")

    def __init__(self, row_filter: RowFilter) -> None:
        """Take the filter as `consent` built it."""
        self.row_filter = row_filter
        self._typed: dict[int, RowFilter] = {}
        self._sources: dict[int, Sources | None] = {}
        self._holders: dict[int, RowFilter] = {}

    def of_type(self, type_number: int) -> RowFilter:
        """The filter for rows of one type."""
        found = self._typed.get(type_number)
        if found is None:
            found = self._typed[type_number] = of_type(self.row_filter, type_number)
        return found

    def sources(self, type_number: int) -> Sources | None:
        """The people about whom admitted rows of the type can be."""
        if type_number not in self._sources:
            self._sources[type_number] = sources_of(self.of_type(type_number))
        return self._sources[type_number]

    def holders(self, type_number: int) -> RowFilter:
        """Of whom rows of the type can be admitted; asked of a table with a column `holder`."""
        if type_number not in self._holders:
            self._holders[type_number] = holders_seen(self.of_type(type_number))
        return self._holders[type_number]


_known: dict[int, FilterForms] = {}


def forms_of(row_filter: RowFilter) -> FilterForms:
    """The forms of a filter; filters are immutable and kept, so that their forms are made once."""
    found = _known.get(id(row_filter))
    if found is None:
        if len(_known) >= _MOST_FILTERS:
            _known.clear()
        found = _known[id(row_filter)] = FilterForms(row_filter)
    return found
