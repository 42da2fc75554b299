"""Row filters of several scopes in one statement: rendered once a scope, renumbered for their place in it."""

import re
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from ehr.errors import StaleScope
from ehr.keys import organisation_key
from ehr.row_filter import Nothing, Parameters, RowFilter
from ehr.scopes import ReadScope, WriteScope

_PLACEHOLDER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class CustodianIs:
    """Rows of one organisation's own."""

    custodian: int

    def sql(self, alias: str, parameters: Parameters) -> str:
        """Render to `custodian = ...`."""
        return f"({alias}.custodian = {parameters.add(self.custodian, 'bigint')})"


class RenderedFilter:
    """The predicate of one scope as text with placeholders from $1, and the values they stand for."""

    __slots__ = ("text", "values")

    def __init__(self, row_filter: RowFilter, aliases: tuple[str, ...]) -> None:
        """Render the filter for each alias, joined by `and`."""
        parameters = Parameters()
        self.text = " and ".join(row_filter.sql(alias, parameters) for alias in aliases)
        self.values = tuple(parameters.values)

    @staticmethod
    def place(text: str, offset: int) -> str:
        """The text with its placeholders moved behind `offset` other values."""
        return _PLACEHOLDER.sub(lambda found: f"${int(found.group(1)) + offset}", text)


class FilterCache:
    """Rendered filters by scope; scopes are immutable and compared by identity."""

    def __init__(self, *aliases: str) -> None:
        """Take the aliases of the statement that carry the predicate."""
        self.aliases = aliases
        self._rendered: WeakKeyDictionary[ReadScope, RenderedFilter] = WeakKeyDictionary()

    def get(self, scope: ReadScope) -> RenderedFilter:
        """The scope's predicate."""
        found = self._rendered.get(scope)
        if found is None:
            found = self._rendered[scope] = self.render(scope)
        return found

    def render(self, scope: ReadScope) -> RenderedFilter:
        """Render the scope's predicate."""
        return RenderedFilter(scope.row_filter, self.aliases)


def require_fresh(scope: ReadScope, epoch: int, highest_class: int) -> None:
    """Refuse an answer that was decided under other policies or classes than those in force in the same snapshot.

    Raises:
        StaleScope: decide again, once; the statement has shown nothing and logged nothing.
    """
    if scope.follows_policy and (scope.epoch, scope.highest_class) != (epoch, highest_class):
        raise StaleScope("Policies or consents changed; decide again.")


def touching_filter(scope: WriteScope) -> tuple[RowFilter, ...]:
    """Filters of which a row must pass one to be matched by this writer's conditions.

    The rows that the writer sees and, for a hospital's own system, its custodian's rows. A person (whose ids the
    server makes) matches only what he sees: a row hidden from him is as absent (attacks.md 7).
    """
    filters: list[RowFilter] = [scope.read.row_filter] if scope.read is not None else []
    if scope.id_prefix is not None:
        filters.append(CustodianIs(organisation_key(scope.custodian)))
    return tuple(filters) or (Nothing(),)
