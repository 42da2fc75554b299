"""What the kinds of parameters share while one statement is written: values, aliases, scope, terms and conditions."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from ehr.definitions import type_number
from ehr.filter_forms import Sources, forms_of
from ehr.keys import TermHasher
from ehr.row_filter import EVERYTHING, NOTHING, Parameters, RowFilter, RowRule
from ehr.search import limits
from ehr.search.frequency import UNKNOWN, Frequencies


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition on a row: index terms of which one must (or none may) be there, or any other SQL."""

    terms: tuple[int, ...] = ()
    negated: bool = False
    sql: str | None = None
    keyed: bool = False
    """True where `sql` names rows by key or holder, so that it selects few whatever its values."""
    share: float = 0.0
    """About which share of the rows of the type meets `sql`, where statistics tell."""
    implied: bool = False
    """Whether rows may have other terms that imply these (`ehr.indexing.implied`)."""


LEAD = "lead"
"""The alias of the people whose rows are looked through."""
_FEW_TERMS = 4
_MANY = 0.2
_FAR_BEYOND = 2
_ROW_BY_ROW = "({}) is true"
"""How terms are compared where their index is not to be used."""
NEVER = Condition(sql="false")


@dataclass(slots=True)
class Rendering:
    """One statement in the making."""

    row_filter: RowFilter
    hasher: TermHasher
    parameters: Parameters = field(default_factory=Parameters)
    walk_chains: bool = False
    """Follow chains row by row, since a chain has too many targets to look them up as terms."""
    frequencies: Frequencies = UNKNOWN
    """Terms that many rows have."""
    lead: Sources | None = None
    """The people whose rows the caller sees, where they are few enough to look for matches among their rows alone."""
    led: bool = False
    """Whether the matches are looked for among the rows of `lead`."""
    ordered_by_index: bool = False
    """Whether the first matches are asked for in an order that an index of the type has."""
    few: bool = False
    """Whether the matches are reached by rare terms or keys."""
    beyond_count: bool = False
    """Whether statistics say that there are far more matches than are counted on a first page."""
    plan_holds: bool = True
    """Whether one plan serves all values of this form: each alias is reached by rare terms or by key."""
    chain_sizes: list[str] = field(default_factory=list)
    """SQL counts of chain targets; the statement holds only where all are at most `limits.CHAINED_KEYS`."""
    extra_tables: list[str] = field(default_factory=list)
    """Common table expressions of chains, "name as materialized (...)"."""
    _aliases: int = 0

    def alias(self, stem: str) -> str:
        """A table alias that the statement does not hold yet."""
        self._aliases += 1
        return f"{stem}{self._aliases}"

    def add(self, value: object, sql_type: str) -> str:
        """Pass a value with the statement; returns its placeholder."""
        return self.parameters.add(value, sql_type)

    def row(self, alias: str, resource_type: str) -> str:
        """What every row alias must meet: the type, not deleted, and the caller's scope."""
        number = type_number(resource_type)
        visible = forms_of(self.row_filter).of_type(number).sql(alias, self.parameters)
        return f"{alias}.type = {number} and not {alias}.deleted and {visible}"

    def holders(self, keys: list[int], resource_type: str) -> str | None:
        """Those of the Patients' keys of whom the caller can see some row of the type, as an array asked for once.

        None where that does not depend on the person.
        """
        seen = forms_of(self.row_filter).holders(type_number(resource_type))
        if seen == EVERYTHING:
            return None
        named, given = self.alias("n"), self.add(keys, "bigint[]")
        return (
            f"array(select {named}.holder from (select k_ as key, k_ as holder, null::bigint[] as others"
            f" from unnest({given}) k_) as {named} where {seen.sql(named, self.parameters)})"
        )

    def matching_row(self, alias: str, resource_type: str, conditions: list[Condition]) -> str:
        """The whole predicate of a row; beside a rare term the type is left out (`ehr.search.frequency`)."""
        meets = self.conditions(alias, conditions)
        self.plan_holds = self.plan_holds and self.selects(conditions)
        if any(self._is_rare(condition) for condition in conditions):
            return f"not {alias}.deleted and {self._visible_by_term(alias, resource_type)} and {meets}"
        return f"{self.row(alias, resource_type)} and {meets}"

    def _visible_by_term(self, alias: str, resource_type: str) -> str:
        """The scope where a term has found the row; the type is compared where no plan is made of it."""
        number = type_number(resource_type)
        form = forms_of(self.row_filter).of_type(number)
        if self.row_filter == EVERYTHING or form == NOTHING:
            return form.sql(alias, self.parameters)
        mark = EVERYTHING.sql(alias, self.parameters)
        return f"{mark} and (case when {alias}.type = {number} then {form.sql(alias, self.parameters)} else false end)"

    def led_row(self, alias: str, resource_type: str, conditions: list[Condition], lead: Sources) -> str:
        """As `matching_row`, where the alias is joined to the people of `lead` under the alias `LEAD`."""
        number = type_number(resource_type)
        form = cast("RowRule", forms_of(self.row_filter).of_type(number))
        visible = form.sql(alias, self.parameters, lead.columns(LEAD))
        # the index of terms would be read once for each person
        meets = self.conditions(alias, conditions, compared=_ROW_BY_ROW)
        return (
            f"{alias}.holder = {LEAD}.holder and {alias}.type = {number} and not {alias}.deleted"
            f" and {visible} and {meets}"
        )

    def walks(self, conditions: list[Condition]) -> bool:
        """Whether so many rows of the type match that the first ones are found by walking it in order."""
        if not self.ordered_by_index or not self.frequencies.known or len(conditions) > 1:
            return False
        return all(
            not condition.negated
            and (condition.share >= _MANY or not self.frequencies.common.isdisjoint(condition.terms))
            for condition in conditions
        )

    def walked_row(self, alias: str, resource_type: str, conditions: list[Condition]) -> str:
        """As `matching_row`, for rows met in order: terms are compared row by row, and one plan serves all."""
        number = type_number(resource_type)
        rows = self.frequencies.rows_of_type.get(number, 0.0)
        for condition in conditions:
            with_terms = [self.frequencies.rows_of_term.get(term, 0.0) for term in condition.terms]
            rows = max(with_terms, default=rows * condition.share)
        sees_all = forms_of(self.row_filter).of_type(number) == EVERYTHING
        self.beyond_count = sees_all and rows > _FAR_BEYOND * limits.COUNTED
        return f"{self.row(alias, resource_type)} and {self.conditions(alias, conditions, compared=_ROW_BY_ROW)}"

    def row_by_row(self, alias: str, resource_type: str, conditions: list[Condition]) -> str:
        """As `matching_row`, for rows that are found by their person: the index of terms would be read for each."""
        meets = self.conditions(alias, conditions, compared=_ROW_BY_ROW)
        self.plan_holds = self.plan_holds and self.selects(conditions)
        return f"{self.row(alias, resource_type)} and {meets}"

    def _is_rare(self, condition: Condition) -> bool:
        return bool(condition.terms) and not condition.negated and self.frequencies.common.isdisjoint(condition.terms)

    def selects(self, conditions: list[Condition]) -> bool:
        """Whether one of the conditions leaves few rows whatever its values."""
        return self.frequencies.known and any(
            not condition.negated
            and (
                condition.keyed
                or (0 < len(condition.terms) <= _FEW_TERMS and self.frequencies.frequent.isdisjoint(condition.terms))
            )
            for condition in conditions
        )

    def conditions(self, alias: str, conditions: Iterable[Condition], compared: str = "{}") -> str:
        """Join conditions with and; the single terms become one containment test, so that GIN intersects them.

        `compared` is the form in which terms are compared.
        """
        required: list[int] = []
        parts: list[str] = []
        for condition in conditions:
            if condition.sql is not None:
                parts.append(f"(not {condition.sql})" if condition.negated else condition.sql)
            elif condition.negated:
                parts.append(f"(not {alias}.terms && {self._any_of(condition)})")
            elif len(condition.terms) == 1 and not condition.implied:
                required.append(condition.terms[0])
            elif condition.terms:
                parts.append(compared.format(f"{alias}.terms && {self._any_of(condition)}"))
            else:
                parts.append("false")
        if required:
            parts.insert(0, compared.format(f"{alias}.terms @> {self.add(required, 'bigint[]')}"))
        return " and ".join(parts) if parts else "true"

    def _any_of(self, condition: Condition) -> str:
        """The array of terms of which a row must have one."""
        terms = self.add(list(condition.terms), "bigint[]")
        if not condition.implied:
            return terms
        stored = self.alias("i")
        return (
            f"array(select unnest({terms}) union all"
            f" select {stored}.term from implied_term {stored} where {stored}.implied = any({terms}))"
        )
