"""The part of a feed file that says how the columns of a CSV file become FHIR resources.

    encoding: gb18030               # any Python codec
    delimiter: ","
    row: 就诊号                      # column or list of columns that identify a row (its control id)
    event_time: {column: 更新时间, date: "%Y-%m-%d %H:%M"}   # orders updates of the same resource
    resources:
      - type: Patient
        identity: [病历号]           # columns ("=text" is a constant) from which the id is made
        elements:
          name[0].text: 姓名         # a column
          active: "=true"           # a constant, JSON after the equals sign
          gender: {column: 性别, map: sex}
          birthDate: {column: 出生日期, date: "%Y/%m/%d"}
      - type: Observation
        when: 收缩压                 # only rows in which this column is not empty
        identity: [就诊号, "=8480-6"]
        elements:
          subject: {reference: Patient}
          performer[0]: {organisation: true}
          valueQuantity.value: {column: 收缩压, number: true}

`reference` names another resource of the row by type, or by `name` where several have the type; `patient_of: COLUMN`
is not needed: identity columns decide. Dates with a clock become dateTimes in the feed's zone.
"""

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ehr.definitions import RESOURCE_TYPES
from ehr.errors import Invalid
from hospital_adapters.feeds import Feed

_STEP = re.compile(r"([A-Za-z][A-Za-z0-9]*)(?:\[(\d{1,3})\])?")
_SOURCES = ("column", "constant", "reference", "organisation")


@dataclass(frozen=True, slots=True)
class Source:
    """Where one element's value comes from; exactly one of column, constant, reference, organisation is given."""

    column: str | None = None
    constant: Any = None
    reference: str | None = None
    organisation: str | None = None
    code_map: str | None = None
    date: str | None = None
    number: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a resource: its path as steps of (name, index or None), and the source of its value."""

    path: tuple[tuple[str, int | None], ...]
    source: Source


@dataclass(frozen=True, slots=True)
class ResourceLayout:
    """One resource that each row gives, where its `when` column is not empty."""

    name: str
    resource_type: str
    identity: tuple[Source, ...]
    when: str | None
    elements: tuple[Element, ...]


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How to read a CSV feed's files."""

    encoding: str
    delimiter: str
    row: tuple[str, ...]
    event_time: Source | None
    resources: tuple[ResourceLayout, ...]

    @property
    def columns(self) -> frozenset[str]:
        """All columns that the layout reads."""
        named = {*self.row, *([self.event_time.column] if self.event_time else [])}
        for resource in self.resources:
            named.add(resource.when)
            named |= {source.column for source in resource.identity}
            named |= {element.source.column for element in resource.elements}
        return frozenset(name for name in named if name is not None)


def csv_layout(feed: Feed) -> CsvLayout:
    """Read the layout out of a csv feed; `Invalid` names the feed, the resource and the key that is wrong."""
    settings = feed.settings
    encoding = str(settings.get("encoding", "utf-8-sig"))
    try:
        codecs.lookup(encoding)
    except LookupError as error:
        raise Invalid(f"feed {feed.name}: unknown encoding '{encoding}'") from error
    delimiter = settings.get("delimiter", ",")
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise Invalid(f"feed {feed.name}: 'delimiter' is one character")
    resources = settings.get("resources")
    if not isinstance(resources, list) or not resources:
        raise Invalid(f"feed {feed.name}: 'resources' is a list of at least one resource")
    event_time = settings.get("event_time")
    layout = CsvLayout(
        encoding=encoding,
        delimiter=delimiter,
        row=tuple(_list(settings.get("row"))),
        event_time=_source(feed, "event_time", event_time) if event_time is not None else None,
        resources=tuple(_resource(feed, item) for item in resources),
    )
    if not layout.row:
        raise Invalid(f"feed {feed.name}: 'row' names the column or columns that identify a row")
    _check_names(feed, layout)
    return layout


def _check_names(feed: Feed, layout: CsvLayout) -> None:
    names = [resource.name for resource in layout.resources]
    for name in names:
        if names.count(name) > 1:
            raise Invalid(f"feed {feed.name}: two resources are called '{name}'; give each a 'name'")
    for resource in layout.resources:
        for element in resource.elements:
            target = element.source.reference
            if target is not None and target not in names:
                raise Invalid(
                    f"feed {feed.name}, {resource.name}: reference to '{target}', which no resource is called"
                )


def _list(value: object) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _resource(feed: Feed, item: Any) -> ResourceLayout:
    if not isinstance(item, Mapping) or item.get("type") not in RESOURCE_TYPES:
        raise Invalid(f"feed {feed.name}: each resource has a 'type' of FHIR R4, not {item!r}")
    name = str(item.get("name", item["type"]))
    identity = tuple(_source(feed, f"{name}.identity", part) for part in _list(item.get("identity")))
    elements = item.get("elements")
    if not identity or not isinstance(elements, Mapping):
        raise Invalid(f"feed {feed.name}, {name}: 'identity' (a list of columns) and 'elements' (a mapping) are needed")
    return ResourceLayout(
        name=name,
        resource_type=item["type"],
        identity=identity,
        when=str(item["when"]) if "when" in item else None,
        elements=tuple(
            Element(_path(feed, name, path), _source(feed, f"{name}.{path}", source))
            for path, source in elements.items()
        ),
    )


def _path(feed: Feed, name: str, path: object) -> tuple[tuple[str, int | None], ...]:
    steps = []
    for part in str(path).split("."):
        match = _STEP.fullmatch(part)
        if match is None:
            raise Invalid(f"feed {feed.name}, {name}: '{path}' is not a path such as name[0].given[0]")
        steps.append((match[1], int(match[2]) if match[2] is not None else None))
    return tuple(steps)


def _source(feed: Feed, where: str, source: Any) -> Source:
    if isinstance(source, str):
        return Source(constant=_constant(source[1:])) if source.startswith("=") else Source(column=source)
    if not isinstance(source, Mapping):
        raise Invalid(f"feed {feed.name}, {where}: a column name, '=constant' or a mapping")
    unknown = set(source) - {*_SOURCES, "map", "date", "number", "prefix"}
    if unknown or sum(key in source for key in _SOURCES) != 1:
        raise Invalid(
            f"feed {feed.name}, {where}: exactly one of {', '.join(_SOURCES)}; not understood: {unknown or '-'}"
        )
    code_map = source.get("map")
    if code_map is not None and code_map not in feed.code_maps:
        raise Invalid(f"feed {feed.name}, {where}: there is no code map '{code_map}'")
    organisation = source.get("organisation")
    return Source(
        column=source.get("column"),
        constant=source.get("constant"),
        reference=source.get("reference"),
        organisation=feed.organisation if organisation is True else organisation,
        code_map=code_map,
        date=source.get("date"),
        number=bool(source.get("number", False)),
        prefix=str(source.get("prefix", "")),
    )


def _constant(text: str) -> Any:
    return {"true": True, "false": False}.get(text, text)
