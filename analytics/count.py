"""Counting: a question compiled to one DuckDB statement over the analytics files.

DuckDB runs inside the process, on the named Parquet files only, without access to anything else; what it returns are
exact cells that go to `analytics.disclosure` and nowhere else.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from msgspec.structs import replace

from analytics.deidentify import arrow_schema, written_types
from analytics.disclosure import ExactCell
from analytics.files import AnalyticsFiles, Manifest
from analytics.question import Conditions, Measured, Question, Range

_LEVELS = "urn:kanglian:hospital-level|"
_RADIUS_KM = 6371.0

_TABLES = f"""
people as (select holder, person from people_file where allowed),
place as (
  select name, max(county) as county, max(latitude) as latitude, max(longitude) as longitude
  from "Location" where list_contains(kinds, 'http://terminology.hl7.org/CodeSystem/location-physical-type|area')
  group by name),
site as (
  select organisation, max(latitude) as latitude, max(longitude) as longitude
  from "Location" where organisation is not null and latitude is not null group by organisation),
rank as (
  select identifier, max(try_cast(replace(level, '{_LEVELS}', '') as integer)) as level
  from (select identifier, unnest(levels) as level from "Organization")
  where level like '{_LEVELS}%' group by identifier),
person as (
  select p.person, min(r.sex) as sex, min(r.birth_year) as birth_year, max(r.township) as township,
         max(r.county) as county
  from "Patient" r join people p using (holder) group by p.person),
diagnosis as (
  select distinct p.person, unnest(r.codes) as code from "Condition" r join people p using (holder)),
measurement as (
  select p.person, r.row, r.codes, r.month, r.value, r.unit
  from "Observation" r join people p using (holder) where r.month is not null),
visit as (
  select p.person, r.row, r.kinds, r.month, r.organisation
  from "Encounter" r join people p using (holder) where r.month is not null),
encounter as (
  select v.*, {_RADIUS_KM} * 2 * asin(sqrt(pow(sin(radians(s.latitude - h.latitude) / 2), 2)
         + cos(radians(h.latitude)) * cos(radians(s.latitude))
         * pow(sin(radians(s.longitude - h.longitude) / 2), 2))) as distance_km
  from visit v left join person q using (person) left join place h on h.name = q.township
  left join site s on s.organisation = v.organisation),
referral as (
  select p.person, r.row, r.month, r.sender, r.receiver,
         case when b.level > a.level then 'up' when b.level < a.level then 'down' else 'level' end as direction,
         exists (select 1 from visit v where v.person = p.person and v.organisation = r.receiver
                 and v.month between r.month and r.month + interval 2 month) as arrived
  from "ServiceRequest" r join people p using (holder)
  left join rank a on a.identifier = r.sender left join rank b on b.identifier = r.receiver
  where r.month is not null and r.sender is not null and r.receiver is not null),
movement as (
  select distinct f.person, 0::bigint as row, t.month, f.organisation as sender, t.organisation as receiver,
         case when b.level > a.level then 'up' when b.level < a.level then 'down' else 'level' end as direction
  from visit f join visit t on t.person = f.person and t.organisation <> f.organisation
       and t.month between f.month and f.month + interval 3 month
  left join rank a on a.identifier = f.organisation left join rank b on b.identifier = t.organisation)
"""

_GROUPS = {
    "county": "q.county",
    "township": "q.township",
    "sex": "q.sex",
    "age_band": "case when {age} >= 80 then '80+' else (floor({age} / 10) * 10)::int::varchar || '-' "
    "|| (floor({age} / 10) * 10 + 9)::int::varchar end",
    "year": "year(e.month)::varchar",
    "quarter": "year(e.month)::varchar || '-Q' || quarter(e.month)::varchar",
    "organisation": "e.organisation",
    "sender": "e.sender",
    "receiver": "e.receiver",
    "direction": "e.direction",
    "distance_band": "case when e.distance_km is null then null when e.distance_km < 5 then '0-5 km' "
    "when e.distance_km < 20 then '5-20 km' else '20+ km' end",
}


class Counter:
    """Counts over one state of the files."""

    def __init__(self, files: AnalyticsFiles) -> None:
        """Open the current state; a later refresh does not change what this counter sees."""
        self._connection = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "1GB"})
        while True:
            self._manifest = files.manifest()
            try:
                self._attach(files.folder, self._manifest)
            except FileNotFoundError:  # a refresh replaced the files between the manifest and their reading
                if files.manifest() == self._manifest:
                    raise
                continue
            return

    @property
    def refreshed_at(self) -> str | None:
        """When the files were refreshed, as an ISO instant; None before the first refresh."""
        return self._manifest.refreshed_at

    def interrupt(self) -> None:
        """End a count that is running in another thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Free DuckDB's memory."""
        self._connection.close()

    def cells(self, question: Question) -> list[ExactCell]:
        """The exact cells of a question, ordered by group; groups with an unknown part are left out."""
        builder = _Statement(question)
        rows = self._connection.execute(builder.sql(), builder.values).fetchall()
        groups = question.group_by
        return [
            ExactCell(
                group=dict(zip(groups, row[: len(groups)], strict=True)),
                count=row[-5],
                persons=row[-4],
                numerator=row[-3] if question.numerator is not None else None,
                numerator_persons=row[-2] if question.numerator is not None else None,
                other_persons=row[-1] if question.numerator is not None else None,
            )
            for row in rows
        ]

    def _attach(self, folder: Path, manifest: Manifest) -> None:
        for resource_type in sorted(written_types()):
            names = manifest.parts.get(resource_type, [])
            table = _parquet([str(folder / name) for name in names], arrow_schema(resource_type))
            self._connection.register(f"part_{resource_type}", table)
            newest = (
                f'row_number() over (partition by "row" order by sequence desc) as newest from "part_{resource_type}"'
            )
            self._connection.execute(
                f'create or replace view "{resource_type}" as '
                f"select * from (select *, {newest}) where newest = 1 and not deleted"
            )
        people = _parquet([str(folder / manifest.people)] if manifest.people else [], PEOPLE_SCHEMA)
        self._connection.register("people_file", people)
        self._connection.execute("set enable_external_access = false")


PEOPLE_SCHEMA = pa.schema([("holder", pa.int64()), ("person", pa.int64()), ("allowed", pa.bool_())])
"""Pseudonyms of source patients and of the persons they are, and whether the person is counted."""


def _parquet(paths: Sequence[str], schema: pa.Schema) -> pa.Table:
    tables = [pa.parquet.read_table(path, schema=schema) for path in paths]
    return pa.concat_tables(tables) if tables else schema.empty_table()


class _Statement:
    def __init__(self, question: Question) -> None:
        self.question = question
        self.values: list[Any] = []

    def sql(self) -> str:
        """Count people or events by group, with the numerator beside them."""
        question = self.question
        event = "person" if question.subject == "person" else question.subject
        age = "(year(current_date) - q.birth_year)" if event == "person" else "(year(e.month) - q.birth_year)"
        groups = [_GROUPS[name].format(age=age) for name in question.group_by]
        where = self._conditions(question.where, age)
        if question.period is not None:
            where += [
                f"e.month >= {self._value(question.period.start + '-01')}::date",
                f"e.month < {self._value(question.period.below + '-01')}::date",
            ]
        where += [f"({group}) is not null" for group in groups]
        numerator = self._conditions(question.numerator, age) if question.numerator is not None else ["false"]
        source = "person q" if event == "person" else f"{event} e join person q using (person)"
        person = "q.person" if event == "person" else "e.person"
        columns = [f"{group} as g{i}" for i, group in enumerate(groups)]
        columns += [f"{person} as person", f"coalesce({' and '.join(numerator)}, false) as inside"]
        chosen = f"select {', '.join(columns)} from {source} where {' and '.join(where) or 'true'}"
        if question.subject == "measurement" and question.count == "persons":
            last = ", ".join(["e.person", *groups])
            chosen += f" qualify row_number() over (partition by {last} order by e.month desc, e.row) = 1"
        names = [f"g{i}" for i in range(len(groups))]
        counted = "count(distinct person)" if question.count == "persons" else "count(*)"
        ending = f"group by {', '.join(names)} order by {', '.join(names)}" if names else ""
        return (
            f"with {_TABLES}, chosen as ({chosen}) select {', '.join([*names, counted, 'count(distinct person)'])}, "
            f"{counted} filter (inside), count(distinct person) filter (inside), "
            f"count(distinct person) filter (not inside) from chosen {ending}"
        )

    def _value(self, value: Any) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def _conditions(self, conditions: Conditions, age: str) -> list[str]:
        listed = {
            "q.sex": conditions.sex,
            "q.county": conditions.county,
            "q.township": conditions.township,
            "e.organisation": conditions.organisation,
        }
        ranges = {age: conditions.age, "e.value": conditions.value, "e.distance_km": conditions.distance_km}
        equal = {"e.unit": conditions.unit, "e.direction": conditions.direction, "e.arrived": conditions.arrived}
        coded = {"e.kinds": conditions.kind, "e.codes": conditions.code}
        clauses = [f"list_contains({self._value(list(v))}, {column})" for column, v in listed.items() if v]
        clauses += [text for column, v in ranges.items() if v is not None for text in self._range(column, v)]
        clauses += [f"{column} = {self._value(v)}" for column, v in equal.items() if v is not None]
        clauses += [self._any_code(column, v) for column, v in coded.items() if v]
        clauses += self._about_person(conditions)
        return clauses or ["true"]

    def _about_person(self, conditions: Conditions) -> list[str]:
        person = "q.person" if self.question.subject == "person" else "e.person"
        clauses = []
        if conditions.diagnosed:
            tests = " or ".join(self._code_test("d.code", code) for code in conditions.diagnosed)
            clauses.append(f"exists (select 1 from diagnosis d where d.person = {person} and ({tests}))")
        if conditions.measured is not None:
            clauses.append(self._last_measured(conditions.measured, person))
        if conditions.controlled:
            ever = [replace(measured, value=Range()) for measured in conditions.controlled]
            clauses += [
                f"({self._last_measured(measured, person)} or not {self._last_measured(had, person)})"
                for measured, had in zip(conditions.controlled, ever, strict=True)
            ]
            clauses.append("(" + " or ".join(self._last_measured(had, person) for had in ever) + ")")
        return clauses

    def _last_measured(self, measured: Measured, person: str) -> str:
        """Whether the person has had the measurement in time, and the last one lies in the range."""
        until = "current_date" if self.question.subject == "person" else "e.month"
        code = self._any_code("m.codes", (measured.code,))
        months = self._value(measured.within_months)
        inside = " and ".join(self._range("last.value", measured.value)) or "true"
        return (
            f"exists (select 1 from (select m.value from measurement m where m.person = {person} and {code} "
            f"and m.month <= {until} and m.month >= {until} - to_months({months}::integer) "
            f"order by m.month desc, m.row limit 1) last where {inside})"
        )

    def _range(self, column: str, given: Range) -> list[str]:
        clauses = []
        if given.start is not None:
            clauses.append(f"{column} >= {self._value(given.start)}")
        if given.below is not None:
            clauses.append(f"{column} < {self._value(given.below)}")
        return clauses

    def _any_code(self, column: str, codes: tuple[str, ...]) -> str:
        tests = " or ".join(self._code_test("c", code) for code in codes)
        return f"len(list_filter({column}, lambda c: {tests})) > 0"

    def _code_test(self, column: str, code: str) -> str:
        if code.endswith("*"):
            return f"starts_with({column}, {self._value(code[:-1])})"
        return f"{column} = {self._value(code)}"
