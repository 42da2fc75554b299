"""The compiled filter against the oracle, row by row: shown that should be hidden, or hidden that should be shown."""

from ehr.keys import row_key
from ehr.row_filter import Parameters
from ehr.scopes import ReadScope
from tests.security.non_interference.oracle import Oracle, View
from tests.security.non_interference.platforms import Platform


async def scope_of(platform: Platform, view: View) -> ReadScope:
    """What the platform decided for a way of looking."""
    if view.interaction == "write":
        return await platform.decisions._matched_by_writes(view.caller)
    return await platform.decisions._cached(
        view.caller,
        "read" if view.interaction == "read" else "search",
        emergency=view.emergency,
        action="access",
    )


async def disagreements(platform: Platform, oracle: Oracle, view: View) -> list[str]:
    """Where platform and oracle differ about rows, and about versions that only the platform would show."""
    scope = await scope_of(platform, view)
    parameters = Parameters()
    current, past = scope.row_filter.sql("r", parameters), scope.row_filter.sql("h", parameters)
    rows = await platform.admin.fetch(
        f"select r.key, r.version from resource r where {current} union all"
        f" select h.key, h.version from resource r join resource_history h on h.key = r.key where {current} and {past}",
        *parameters.values,
    )
    shown = {(row["key"], row["version"]) for row in rows}
    found = []
    for name, row in oracle.rows.items():
        key = row_key(*name)
        last = len(row.versions)
        if ((key, last) in shown) != oracle.sees(view, name):
            found.append(_told(view, oracle, name, last, shown=(key, last) in shown))
        found += [
            _told(view, oracle, name, number, shown=True)
            for number in range(1, last)
            if (key, number) in shown and not oracle.sees_version(view, name, number)
        ]
    return found


def _told(view: View, oracle: Oracle, name: tuple[str, str], number: int, *, shown: bool) -> str:
    row, who = oracle.rows[name], view.caller
    version = row.versions[number - 1]
    said = "is shown and should be hidden" if shown else "is hidden and should be shown"
    return (
        f"{'/'.join(name)} version {number} {said} to {who.subject} ({', '.join(sorted(who.roles))} of"
        f" {who.organisation}, {view.purpose}, {view.interaction}{', in an emergency' if view.emergency else ''},"
        f" scopes {' '.join(who.scopes)}): kept by {row.custodian}, about {sorted(version.persons)}, labels"
        f" {sorted(row.labels(version))}, level {row.level(version)}, deleted {version.deleted}"
    )
