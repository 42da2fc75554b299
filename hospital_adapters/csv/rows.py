"""Rows of a CSV file: reading them with their line numbers, and turning one into FHIR resources."""

import codecs
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from ehr.errors import Invalid, Issue
from hospital_adapters.csv.layout import CsvLayout, Element, ResourceLayout, Source
from hospital_adapters.feeds import Feed
from hospital_adapters.identifiers import resource_id

_REPLACED = "\ufffd"
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_MOST_LINES = 1000
"""Of one row with line ends inside of quotes."""
_MOST_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row by column name, with the file's line on which it begins."""

    line: int
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read as the layout says; `text` is what stood there."""

    line: int
    text: str
    cause: str


def read_rows(layout: CsvLayout, data: bytes) -> Iterator[Row | BadRow]:
    """Read a file row by row; `Invalid` only where its header lacks a column of the layout, or names one twice.

    Bytes that are not of the declared encoding, NUL characters, a wrong number of columns, quotes that never close and
    cells over 128 Ki characters make a BadRow of that row alone. A byte-order mark wins over the declared encoding.
    Values are stripped of surrounding white space; empty cells behind the last column are passed over.
    """
    encoding, text = _decoded(layout.encoding, data)
    lines = list(io.StringIO(text, newline=""))  # ends lines as CSV does, not where str.splitlines would
    records = _records(lines, layout.delimiter)
    header = _header(layout, next(records, None), encoding)
    for record in records:
        cells = record.cells
        while len(cells) > len(header) and not cells[-1].strip():
            cells = cells[:-1]
        cause = record.cause or _fault(cells, header, encoding)
        if cause is not None:
            yield BadRow(record.line, record.text, cause)
        elif any(cell.strip() for cell in cells):
            yield Row(record.line, dict(zip(header, (cell.strip() for cell in cells), strict=True)))


@dataclass(frozen=True, slots=True)
class _Record:
    """The cells of one row, the line on which it begins, what stood there, and why it is unreadable, if it is."""

    line: int
    cells: list[str]
    text: str
    cause: str | None = None


def _decoded(declared: str, data: bytes) -> tuple[str, str]:
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return marked, data.decode(marked, errors="replace").removeprefix("\ufeff")
    return declared, data.decode(declared, errors="replace").removeprefix("\ufeff")


def _records(lines: Sequence[str], delimiter: str) -> Iterator[_Record]:
    """The rows of the file; where a quote does not close, its line alone is unreadable: the next one is a row again."""
    place = 0
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
            continue
        reader = csv.reader(islice(lines, place, place + _MOST_LINES), delimiter=delimiter, strict=True)
        try:
            cells = next(reader)
        except csv.Error as error:
            yield _one_line(place + 1, line, delimiter, str(error))
            place += 1
            continue
        yield _Record(place + 1, cells, "".join(lines[place : place + reader.line_num]).rstrip("\r\n"))
        place += reader.line_num


def _one_line(number: int, line: str, delimiter: str, fault: str) -> _Record:
    """A line that is no row by the rules; signs of quotation inside of a cell do no harm where they come in pairs."""
    text = line.rstrip("\r\n")
    try:
        cells = next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        return _Record(number, [], text[:_MOST_TEXT], f"not readable as CSV: {error}")
    cause = f"not readable as CSV: {fault}" if line.count('"') % 2 else None
    return _Record(number, cells, text, cause)


def _header(layout: CsvLayout, record: _Record | None, encoding: str) -> list[str]:
    if record is None:
        raise Invalid("the file is empty: it has no header")
    header = [name.strip() for name in record.cells]
    while header and not header[-1]:
        header.pop()
    where = f"line {record.line}"
    missing = sorted(layout.columns - set(header))
    if missing:
        raise Invalid(f"{where}: the header lacks {', '.join(missing)} (read as {encoding})")
    twice = sorted(name for name in layout.columns if header.count(name) > 1)
    if twice:
        raise Invalid(f"{where}: the header names {', '.join(twice)} twice")
    return [name if header.index(name) == place else f"{name} ({place + 1})" for place, name in enumerate(header)]


def _fault(cells: Sequence[str], header: Sequence[str], encoding: str) -> str | None:
    if not any(cell.strip() for cell in cells):
        return None if len(cells) <= len(header) else "columns behind the last one"
    if len(cells) != len(header):
        return f"{len(cells)} columns where the header has {len(header)}"
    if any(_REPLACED in cell for cell in cells):
        return f"bytes that are not {encoding}"
    return "a NUL character" if any("\x00" in cell for cell in cells) else None


def resources_of(feed: Feed, layout: CsvLayout, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """The resources that one row gives, in the layout's order; `Invalid` names column and value of each fault."""
    faults: list[Issue] = []
    resources = []
    for resource in layout.resources:
        if resource.when is not None and not values.get(resource.when, ""):
            continue
        try:
            identifier = _identifier(feed, resource, values)
        except Invalid as error:
            faults.extend(error.issues)
            continue
        built: dict[str, Any] = {"resourceType": resource.resource_type, "id": identifier}
        for group in _groups(resource.elements):
            faults.extend(_fill(feed, layout, values, built, group))
        resources.append(_without_holes(built))
    if faults:
        raise Invalid(*faults)
    return resources


def event_time(feed: Feed, layout: CsvLayout, values: Mapping[str, str]) -> str:
    """The row's event time as an ISO instant, or "" where the layout names none."""
    if layout.event_time is None:
        return ""
    return str(_value(feed, layout, values, layout.event_time) or "")


def unread_columns(layout: CsvLayout, values: Mapping[str, str]) -> list[str]:
    """Columns that hold a value and that the layout does not read: the row's loss report."""
    return [column for column, value in values.items() if value and column not in layout.columns]


def _identifier(feed: Feed, resource: ResourceLayout, values: Mapping[str, str]) -> str:
    keys = [
        str(source.constant) if source.column is None else values.get(source.column, "") for source in resource.identity
    ]
    for source, key in zip(resource.identity, keys, strict=True):
        if not key:
            raise Invalid(f"column {source.column}: empty, and it identifies the {resource.name}")
    return resource_id(feed.organisation, resource.resource_type, *keys)


def _groups(elements: tuple[Element, ...]) -> Iterator[list[Element]]:
    """Elements that share their first step: an optional part of the resource that is there as a whole or not at all."""
    groups: dict[tuple[str, int | None], list[Element]] = {}
    for element in elements:
        groups.setdefault(element.path[0], []).append(element)
    yield from groups.values()


def _fill(
    feed: Feed, layout: CsvLayout, values: Mapping[str, str], built: dict[str, Any], group: list[Element]
) -> Iterator[Issue]:
    found: list[tuple[Element, Any]] = []
    columns_given = False
    for element in group:
        try:
            value = _value(feed, layout, values, element.source)
        except Invalid as error:
            yield from error.issues
            continue
        if value is not None:
            found.append((element, value))
            columns_given = columns_given or element.source.column is not None
    if columns_given or all(element.source.column is None for element in group):
        for element, value in found:
            _set(built, element.path, value)


def _value(feed: Feed, layout: CsvLayout, values: Mapping[str, str], source: Source) -> Any:
    if source.reference is not None:
        target = next(resource for resource in layout.resources if resource.name == source.reference)
        return {"reference": f"{target.resource_type}/{_identifier(feed, target, values)}"}
    if source.organisation is not None:
        return {"reference": f"Organization/{source.organisation}"}
    if source.column is None:
        return source.constant
    text = values.get(source.column, "")
    return _read(feed, source, text) if text else None


def _read(feed: Feed, source: Source, text: str) -> Any:
    if source.code_map is not None:
        mapped = feed.code_maps[source.code_map].get(text)
        if mapped is None:
            raise Invalid(f"column {source.column}: '{text}' is not in the code map '{source.code_map}'")
        return mapped
    if source.date is not None:
        return _date(feed.timezone, source, text)
    return _number(source, text) if source.number else source.prefix + text


def _date(zone: ZoneInfo, source: Source, text: str) -> str:
    pattern = source.date or ""
    try:
        parsed = datetime.strptime(text, pattern).replace(tzinfo=zone)
    except ValueError as error:
        raise Invalid(f"column {source.column}: '{text}' is not a date of the form {pattern}") from error
    return parsed.isoformat() if "%H" in pattern or "%I" in pattern else parsed.date().isoformat()


def _number(source: Source, text: str) -> Decimal | int:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise Invalid(f"column {source.column}: '{text}' is not a number") from error
    if not number.is_finite() or not -20 < number.adjusted() < 20:
        raise Invalid(f"column {source.column}: '{text}' is not a number that a measurement can have")
    return int(number) if text.lstrip("+-").isdigit() else number


def _set(target: dict[str, Any], path: tuple[tuple[str, int | None], ...], value: Any) -> None:
    for position, (name, index) in enumerate(path):
        last = position == len(path) - 1
        if index is None:
            if last:
                target[name] = value
            else:
                target = target.setdefault(name, {})
            continue
        items: list[Any] = target.setdefault(name, [])
        items.extend([None] * (index + 1 - len(items)))
        if last:
            items[index] = value
        else:
            items[index] = items[index] if items[index] is not None else {}
            target = items[index]


def _without_holes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_holes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_holes(item) for item in value if item is not None]
    return value
