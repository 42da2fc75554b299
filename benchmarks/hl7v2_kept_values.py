"""How many values of HL7 v2 messages are found again in the Bundle that they become.

A value is a component or sub-component with at least three letters or digits, in any segment (MSH-1 and MSH-2 are
delimiters, not values). It is kept if it is found, normalised (case folded, letters and digits only), in a value of the
Bundle: as a whole value, or as whole words of one; of a time stamp its date suffices. Element names and our own marks
play no part. `strict` counts that and nothing else; `kept` counts also what the standard says in another way: a
universal id type in the URI that it makes (ISO, `urn:oid:`), a code system's name in its URI (SCT, HL70005), codes in
their FHIR code (WPN, `work`).

    python benchmarks/hl7v2_kept_values.py [FOLDER ...] [--lost]
"""

import argparse
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.coding import code_maps, known_system
from hospital_adapters.hl7v2.convert import convert
from hospital_adapters.hl7v2.parse import Message, messages_in, parse
from hospital_adapters.hl7v2.problems import ParseProblem

SEVEN = ("ADT^A01", "ADT^A02", "ADT^A03", "ADT^A04", "ADT^A08", "ADT^A40", "ORU^R01")
SHARED = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
_OTHER = re.compile(r"[\W_]+")
_STAMP = re.compile(r"(\d{8})(\d{2,6}(\.\d+)?)?([+-]\d+)?")
_EQUIVALENT_MAPS = ("telecom-use", "telecom-system", "name-use", "address-use", "address-type", "administrative-sex")


def normalised(text: str) -> str:
    """Case folded, words of letters and digits joined by one blank, a blank at both ends."""
    return f" {' '.join(_OTHER.sub(' ', text.casefold()).split())} "


def values_of(message: Message) -> Iterator[tuple[str, str]]:
    """(place, text) of each value of the message."""
    separators = message.delimiters
    for segment in message.segments:
        for field in range(3 if segment.name == "MSH" else 1, len(segment.fields)):
            for repetition in segment.fields[field].split(separators.repetition or "\0"):
                for component, text in enumerate(repetition.split(separators.component or "\0"), 1):
                    for inner, part in enumerate(text.split(separators.subcomponent or "\0"), 1):
                        value = separators.unescape(part)
                        if sum(character.isalnum() for character in value) >= 3:
                            yield f"{segment.name}-{field}.{component}.{inner}", value


def texts_of(value: Any) -> Iterator[str]:
    """Each primitive value of the Bundle as text; element names and ids left out."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in ("id", "resourceType", "request"):
                yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)
    elif not isinstance(value, bool):
        yield str(value)


class Haystack:
    """The Bundle's values, to look up a message's values in."""

    def __init__(self, bundle: dict[str, Any]) -> None:
        """Collect the values of all resources."""
        texts = set(texts_of([entry["resource"] for entry in bundle["entry"]]))
        self.words = "\n".join({normalised(text) for text in texts})
        self.joined = "\n".join({normalised(text).replace(" ", "") for text in texts})
        self.raw = "\n".join(texts)

    def strict(self, text: str) -> bool:
        """Whether the value itself, or the date of a time stamp, is there."""
        if normalised(text) in self.words:
            return True
        stamp = _STAMP.fullmatch(text.strip())
        if stamp:
            date = stamp.group(1)
            return f" {date[:4]} {date[4:6]} {date[6:8]}" in self.words
        joined = normalised(text).replace(" ", "")
        return len(joined) >= 6 and f"\n{joined}\n" in f"\n{self.joined}\n"

    def equivalent(self, text: str) -> bool:
        """Whether the standard's other way of saying the value is there."""
        if text in ("ISO", "UUID", "GUID", "CLIA"):
            return "urn:oid:" in self.raw or "urn:uuid:" in self.raw
        system = known_system(text)
        if system and system in self.raw:
            return True
        found = (code_maps()[name].get(text.upper()) for name in _EQUIVALENT_MAPS)
        return any(f"\n{code}\n" in f"\n{self.raw}\n" for code in found if code)


def main() -> None:
    """Convert every message of the folders and print a table per folder and type."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folders", nargs="*", type=Path, default=[SHARED / "hl7v2"])
    arguments.add_argument("--lost", action="store_true", help="list the places whose values are lost most")
    arguments.add_argument("--json", action="store_true", help="print the totals as JSON")
    chosen = arguments.parse_args()
    feed = Feed("first-hospital", "first-hospital", "hl7v2")
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    lost: Counter[str] = Counter()
    for path in sorted(p for folder in chosen.folders for p in folder.rglob("*.hl7")):
        _count(path, counts, lost, feed)
    _print(counts, lost, chosen)


def _count(path: Path, counts: dict[tuple[str, str], Counter[str]], lost: Counter[str], feed: Feed) -> None:
    for content in messages_in(path.read_bytes()):
        message = parse(content)
        if isinstance(message, ParseProblem):
            counts[(path.parent.name, "unreadable")]["messages"] += 1
            continue
        row = counts[(_folder(path), "^".join(message.kind))]
        row["messages"] += 1
        conversion = convert(message, feed)
        if isinstance(conversion, ParseProblem):
            row["refused"] += 1
            continue
        haystack = Haystack(conversion.bundle)
        for place, text in values_of(message):
            row["values"] += 1
            strict = haystack.strict(text)
            row["strict"] += strict
            row["kept"] += strict or haystack.equivalent(text)
            if not strict:
                lost[f"{place} {text[:24]}"] += 1


def _folder(path: Path) -> str:
    parts = path.parts
    return next((name for name in ("microsoft", "reportstream") if name in parts), path.parent.name)


def _print(counts: dict[tuple[str, str], Counter[str]], lost: Counter[str], chosen: argparse.Namespace) -> None:
    total: Counter[str] = Counter()
    print(f"{'folder':16}{'type':10}{'messages':>9}{'refused':>8}{'values':>8}{'strict %':>9}{'kept %':>8}")
    for (folder, kind), row in sorted(counts.items(), key=lambda item: (item[0][1] not in SEVEN, item[0])):
        if kind in SEVEN:
            total.update(row)
        print(_line(folder, kind, row))
    print(_line("all", "the seven", total))
    if chosen.lost:
        for place, number in lost.most_common(80):
            print(f"{number:6} {place}")
    if chosen.json:
        print(json.dumps(total))


def _line(folder: str, kind: str, row: Counter[str]) -> str:
    values = row["values"]
    shares = [f"{100 * row[key] / values:9.1f}" if values else f"{'-':>9}" for key in ("strict", "kept")]
    return f"{folder:16}{kind:10}{row['messages']:9}{row['refused']:8}{values:8}{shares[0]}{shares[1][1:]}"


if __name__ == "__main__":
    main()
