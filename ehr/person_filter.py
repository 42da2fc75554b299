"""Row predicates about the person behind a row: consent class, reach, emergency, own records (decision record 0004).

The person's class is looked up through `holder_person` and `person` inside the same statement, so that a withdrawal
holds on the very next one; only the broad form reads the class stamped on the row, with `restamp` as its exceptions.
"""

from dataclasses import dataclass

from ehr.row_filter import Parameters, PersonColumns, RowFacts, RowRule

LOOKED_UP = PersonColumns("p_.person", 'p_."class"')
NOW_US = "(extract(epoch from statement_timestamp()) * 1000000)::bigint"


def _about(alias: str) -> PersonColumns:
    return PersonColumns(
        f"(select h_.person from holder_person h_ where h_.holder = {alias}.holder)",
        f'{alias}."class"',
        f"{alias}.holder",
    )


@dataclass(frozen=True, slots=True)
class InReach:
    """The person is being treated by one of these organisations, or was referred to it."""

    organisations: tuple[int, ...]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to a probe of `reach`, compared with the statement's own clock."""
        columns = person or _about(alias)
        if (answered := columns.answer_to(self)) is not None:
            return answered
        organisations = parameters.shared(self, "organisations", list(self.organisations), "bigint[]")
        if parameters.in_sets and columns.holder is not None:
            return (
                f"({columns.holder} in (select h_.holder from reach x_ join holder_person h_ on h_.person = x_.person"
                f" where x_.organisation = any({organisations}) and x_.kind in (1, 2) and x_.until > {NOW_US}))"
            )
        return (
            f"(exists (select 1 from reach x_ where x_.organisation = any({organisations})"
            f" and x_.person = {columns.person} and x_.kind in (1, 2) and x_.until > {NOW_US}))"
        )

    def holds(self, row: RowFacts) -> bool:
        """Intersect the organisations."""
        return not row.reached_by.isdisjoint(self.organisations)


@dataclass(frozen=True, slots=True)
class InEmergency:
    """This actor has broken the glass for the person, and the time is not over."""

    actor: str

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to a probe of `emergency`."""
        columns = person or _about(alias)
        if (answered := columns.answer_to(self)) is not None:
            return answered
        actor = parameters.shared(self, "actor", self.actor, "text")
        return (
            f"(exists (select 1 from emergency e_ where e_.actor = {actor}"
            f" and e_.person = {columns.person} and e_.until > {NOW_US}))"
        )

    def holds(self, row: RowFacts) -> bool:
        """Compare the actor."""
        return self.actor in row.emergency_for


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """One filter for each group of consent classes; classes above `highest` are denied, whatever they say."""

    highest: int
    cases: tuple[tuple[tuple[int, ...], RowRule], ...]
    otherwise: RowRule

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to CASE over short arrays of classes; the most frequent decision is the ELSE."""
        column = (person or _about(alias)).consent_class
        highest = parameters.shared(self, "highest", self.highest, "integer")
        otherwise = self.otherwise.sql(alias, parameters, person)
        if not self.cases:
            return f"({column} <= {highest} and {otherwise})"
        branches = [
            f"when {column} = any({parameters.shared(self, f'case{place}', list(classes), 'integer[]')})"
            f" then {of.sql(alias, parameters, person)}"
            for place, (classes, of) in enumerate(self.cases)
        ]
        return f"({column} <= {highest} and case {' '.join(branches)} else {otherwise} end)"

    def holds(self, row: RowFacts) -> bool:
        """Choose by the class."""
        if row.consent_class > self.highest:
            return False
        for classes, of in self.cases:
            if row.consent_class in classes:
                return of.holds(row)
        return self.otherwise.holds(row)


@dataclass(frozen=True, slots=True)
class KeptBy:
    """One filter for the rows that the organisation keeps itself, another for everybody else's."""

    custodians: tuple[int, ...]
    own: RowRule
    others: RowRule

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to CASE, so that own rows cost no probe of reach."""
        others = self.others.sql(alias, parameters, person)
        if not self.custodians:
            return others
        custodians = parameters.shared(self, "custodians", list(self.custodians), "bigint[]")
        own = self.own.sql(alias, parameters, person)
        return f"(case when {alias}.custodian = any({custodians}) then {own} else {others} end)"

    def holds(self, row: RowFacts) -> bool:
        """Choose by the custodian."""
        return (self.own if row.custodian in self.custodians else self.others).holds(row)


def person_checked(holder: str, rule: RowRule, alias: str, parameters: Parameters) -> str:
    """Render the rule for the person of a holder, looked up by key; false where the holder is mapped to nobody."""
    return (
        f"coalesce((select {rule.sql(alias, parameters, LOOKED_UP)} from holder_person h_"
        f" join person p_ on p_.person = h_.person where h_.holder = {holder}), false)"
    )


def _others_checked(rule: RowRule, alias: str, parameters: Parameters) -> str:
    check = person_checked("o_.holder", rule, alias, parameters)
    return f"({alias}.others is null or not exists (select 1 from unnest({alias}.others) o_(holder) where not {check}))"


@dataclass(frozen=True, slots=True)
class EveryPerson:
    """Rows about persons, of whom each one's class lets the row be seen."""

    rule: RowRule

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:
        """Render to look-ups by key, or to the columns of the place that was joined by the row's holder.

        A holder that is not mapped to a person hides the row.
        """
        if person is not None:
            first = f"coalesce({self.rule.sql(alias, parameters, person)}, false)"
        else:
            first = person_checked(f"{alias}.holder", self.rule, alias, parameters)
        return f"({alias}.holder <> 0 and {first} and {_others_checked(self.rule, alias, parameters)})"

    def holds(self, row: RowFacts) -> bool:
        """Ask the rule about the one person of the facts."""
        return self.rule.holds(row)


_RESTAMPED = "(select h_.holder from restamp s_ join holder_person h_ on h_.person = s_.person)"


@dataclass(frozen=True, slots=True)
class EveryPersonStamped:
    """As EveryPerson, from the class stamped on the row; people in `restamp` go through their own class."""

    rule: RowRule

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a test of the row's columns, with look-ups only for the exceptions."""
        first = person_checked(f"{alias}.holder", self.rule, alias, parameters)
        stamped = self.rule.sql(alias, parameters, _about(alias))
        return (
            f"({alias}.holder <> 0"
            f" and (case when {alias}.holder in {_RESTAMPED} then {first} else {stamped} end)"
            f" and {_others_checked(self.rule, alias, parameters)})"
        )

    def holds(self, row: RowFacts) -> bool:
        """Ask the rule about the one person of the facts."""
        return self.rule.holds(row)


_OWN_HOLDERS = (
    "(array(select b_.holder from holder_person a_ join holder_person b_ on b_.person = a_.person"
    " where a_.holder = {holder}))"
)


@dataclass(frozen=True, slots=True)
class OwnRows:
    """Rows about this Patient's person and nobody else, whichever hospital's Patient they name."""

    holder: int

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to `holder = any(...)`, which the holder index answers."""
        own = _OWN_HOLDERS.format(holder=parameters.shared(self, "holder", self.holder, "bigint"))
        return f"({alias}.holder = any({own}) and ({alias}.others is null or {alias}.others <@ {own}))"

    def holds(self, row: RowFacts) -> bool:  # noqa: ARG002 - the protocol's signature
        """Facts in Python are never the caller's own."""
        return False


@dataclass(frozen=True, slots=True)
class NamedIn:
    """Consents that name one of these grantees (reach rows of kind 3, source = the Consent's row)."""

    grantees: tuple[int, ...]

    def sql(self, alias: str, parameters: Parameters, person: PersonColumns | None = None) -> str:  # noqa: ARG002 - the protocol's signature
        """Render to a probe of `reach` by its source."""
        grantees = parameters.shared(self, "grantees", list(self.grantees), "bigint[]")
        return (
            f"(exists (select 1 from reach x_ where x_.source = {alias}.key and x_.kind = 3"
            f" and x_.organisation = any({grantees})))"
        )

    def holds(self, row: RowFacts) -> bool:  # noqa: ARG002 - the protocol's signature
        """Facts in Python are never Consents."""
        return False
