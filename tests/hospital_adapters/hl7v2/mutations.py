"""Messages that nobody has sent yet: mutations of given and of whole synthetic messages, and what must hold of each.

python -m tests.hospital_adapters.hl7v2.mutations 3000
"""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from ehr import json_text
from ehr.validation import check
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2 import ack
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, messages_in, parse
from hospital_adapters.mllp.door import inbox_message
from hospital_adapters.mllp.frames import Frame
from tests.hospital_adapters.hl7v2.standard_fields import EVENTS, SEGMENTS, Words, whole_message

SHARED = Path(os.environ.get("KANGLIAN_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))
FEED = Feed("first-hospital", "first-hospital", "hl7v2")
_DATES = ("2009022911", "19000101", "00000000", "20240601083000+0800", "2024", "202406", "20240631", "2024060124")
_DATES += (
    "20240601083000.1234-0500",
    "1949-10-01",
    "2024/06/01",
    "99991231",
    "20240601083000+2500",
    '""',
    "about 1950",
)
_ODD = (
    "\\H\\bold\\N\\",
    "one\\.br\\two",
    "\\X4869\\",
    "\\XZZ\\",
    "\\C2842\\",
    "\\M242A41\\",
    "\\Zown\\",
    "\\F\\ \\S\\ \\T\\",
)
_ODD += (
    "a\\",
    "\\E\\",
    "王小明",
    "x" * 5000,
    "<script>",
    "'; drop table",
    "\x01\x02",
    "\u200bzero\ufeff",
    "-0",
    "1e999",
)
_ODD += (
    "1.2.3.4",
    "2.16.840.1.113883",
    "http://a b",
    "urn:x",
    "NaN",
    ">=5.5",
    "^",
    "&&&",
    "~~",
    "5^mg",
    "a&b&c",
    "Y^N",
)
_RESULTS = (
    "NM|718-7^Hb^LN||about 12",
    "NM|718-7^Hb^LN||>100",
    "SN|X||>^100",
    "SN|X||^1^:^128",
    "SN|X||^2^-^10",
    "SN|X||a^b",
)
_RESULTS += (
    "ED|PDF^R^L||^application^pdf^Base64^JVBERi0xLjQK",
    "ED|RTF||^TEXT^RTF^A^{\\rtf1}",
    "RP|IMG||http://p/1^PACS^IM^JPEG",
)
_RESULTS += (
    "ED|X||^^^Base64^not base64!",
    "CE|X||A^B^L",
    "CWE|X||A^B^L^C^D^LN^1^2^words",
    "TS|X||20240230",
    "DT|X||soon",
)
_RESULTS += (
    "TM|X||2530",
    "ZZZ|X||own^type",
    "|X||typeless",
    "XPN|X||Wang^Ming",
    "NR|X||5^1",
    "CQ|X||5^mg&milligram&UCUM",
)
_RESULTS += ("FT|X||a\\.br\\b~c", "NM|X||1~2~3", "ST|X||", "NA|X||1^2^3", "MA|X||1^2~3^4", "TX|X||<5")
Segments = list[str]


def _somewhere(chance: random.Random, segments: Segments) -> int:
    return chance.randrange(1, len(segments)) if len(segments) > 1 else 0


def drop(chance: random.Random, segments: Segments) -> None:
    """Leave a segment out."""
    if len(segments) > 2:
        del segments[_somewhere(chance, segments)]


def double(chance: random.Random, segments: Segments) -> None:
    """Send a segment twice, perhaps elsewhere, perhaps with another value in it."""
    again = segments[_somewhere(chance, segments)]
    segments.insert(chance.randint(1, len(segments)), again)
    change(chance, segments)


def reorder(chance: random.Random, segments: Segments) -> None:
    """Shuffle what follows MSH."""
    rest = segments[1:]
    chance.shuffle(rest)
    segments[1:] = rest


def _in_field(chance: random.Random, segments: Segments, value: Callable[[str], str]) -> None:
    place = _somewhere(chance, segments)
    fields = segments[place].split("|")
    first = 3 if place == 0 else 1
    if len(fields) > first:
        number = chance.randrange(first, len(fields))
        fields[number] = value(fields[number])
        segments[place] = "|".join(fields)


def change(chance: random.Random, segments: Segments) -> None:
    """Put an odd value into a field, instead of it or of one of its components."""
    odd = chance.choice(_ODD)

    def value(field: str) -> str:
        parts = field.split("^")
        parts[chance.randrange(len(parts))] = odd
        return "^".join(parts) if chance.random() < 0.5 else odd

    _in_field(chance, segments, value)


def empty(chance: random.Random, segments: Segments) -> None:
    """Leave a field empty, or say that it is to be deleted."""
    _in_field(chance, segments, lambda _: chance.choice(("", '""')))


def date(chance: random.Random, segments: Segments) -> None:
    """Put an odd date somewhere."""
    _in_field(chance, segments, lambda _: chance.choice(_DATES))


def repeat(chance: random.Random, segments: Segments) -> None:
    """Repeat a field, the second time with other words."""
    words = Words(chance.randrange(10**6))
    _in_field(chance, segments, lambda field: f"{field}~{words.value('ST')}^{words.value('ST')}~{field}")


def nest(chance: random.Random, segments: Segments) -> None:
    """Send sub-components in the place of components, or the other way round."""
    pair = chance.choice((("^", "&"), ("&", "^")))
    _in_field(chance, segments, lambda field: field.replace(*pair))


def result(chance: random.Random, segments: Segments) -> None:
    """Add a result of an odd type."""
    kind, _, rest = chance.choice(_RESULTS).partition("|")
    segments.append(f"OBX|9|{kind}|{rest}|mg/dL|5-8|H|||F")


def own_segment(chance: random.Random, segments: Segments) -> None:
    """Add a segment that nobody knows, or one in small letters."""
    segments.insert(
        chance.randint(1, len(segments)), chance.choice(("ZPI|1|own&value^2", "pid|1||9", "Z9|x", "nte|1||small"))
    )


def more(chance: random.Random, segments: Segments) -> None:
    """Add a whole segment of the standard, wherever."""
    name = chance.choice([name for name in SEGMENTS if name != "MSH"])
    words = Words(chance.randrange(10**6))
    segments.insert(chance.randint(1, len(segments)), words.segment(name, chance.choice((1, 3, 99))))


def version(chance: random.Random, segments: Segments) -> None:
    """Say another version of the standard."""
    fields = segments[0].split("|")
    if len(fields) > 11:
        fields[11] = chance.choice(
            ("2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.6", "2.7", "2.8", "2.8.2", "", "3.0")
        )
    segments[0] = "|".join(fields)


def delimiters(chance: random.Random, segments: Segments) -> None:
    """Use other delimiters throughout, five of them, or fewer."""
    new = chance.choice(("$%*!@", "#:;?/", "|^~\\&#", "|^~", "|^"))
    table = {old: new[n] if n < len(new) else old for n, old in enumerate("|^~\\&")}
    translation = str.maketrans({old: sign for old, sign in table.items() if sign != old})
    segments[:] = [segment.translate(translation) for segment in segments]


MUTATIONS = (drop, double, reorder, change, change, empty, date, date, repeat, nest, result, own_segment, more, version)


def originals(most_bytes: int = 60_000) -> list[str]:
    """Messages to begin with: the given ones where they are here, and whole ones of our own."""
    texts = [whole_message(event, components=components) for event in EVENTS for components in (1, 2, 4)]
    for path in sorted((SHARED / "hl7v2").rglob("*.hl7")):
        contents = (content for content in messages_in(path.read_bytes()) if len(content) < most_bytes)
        texts.extend("\r".join(content.decode("utf-8", "replace").splitlines()) for content in contents)
    return texts


def mutated(chance: random.Random, texts: Sequence[str]) -> bytes:
    """One message with one to six mutations, framed as a file or batch now and then."""
    segments = [line for line in chance.choice(texts).split("\r") if line.strip()]
    for _ in range(chance.randint(1, 6)):
        chance.choice(MUTATIONS)(chance, segments)
    if chance.random() < 0.1:
        delimiters(chance, segments)
    text = chance.choice(("\r", "\r", "\n", "\r\n")).join(segments)
    if chance.random() < 0.05:
        text = f"FHS|^~\\&\rBHS|^~\\&\r{text}\rBTS|1\rFTS|1\r"
    return text.encode(chance.choice(("utf-8", "utf-8", "gb18030", "utf-16")), "replace")


def faults_of(data: bytes) -> list[str]:
    """What does not hold of a message: an answer, the same twice, valid resources, each value mapped or listed."""
    row = inbox_message(FEED, Frame(data))
    message, again = parse(data), parse(data)
    faults = [] if row.answer or not ack.wanted(message).original_mode else ["no answer"]
    if not isinstance(message, Message) or not isinstance(again, Message):
        return faults
    one, two = convert(message, FEED), convert(again, FEED)
    if not isinstance(one, Conversion) or not isinstance(two, Conversion):
        refused = one if not isinstance(one, Conversion) else None
        return faults if refused is None or ack.acknowledge(message, "AE", [refused]) else ["no answer"]
    if json_text.encode(one.bundle) != json_text.encode(two.bundle) or one.loss != two.loss:
        faults.append("not the same twice")
    addresses = [entry["request"]["url"] for entry in one.bundle["entry"]]
    faults += ["an address twice"] if len(set(addresses)) < len(addresses) else []
    for entry in one.bundle["entry"]:
        faults += [
            f"{entry['request']['url']}: {issue.expression} {issue.diagnostics}" for issue in check(entry["resource"])
        ]
    return [*faults, *missing(message, one)]


def missing(message: Message, conversion: Conversion) -> list[str]:
    """Places whose value is neither in the Bundle nor in the loss report."""
    from benchmarks.hl7v2_kept_values import Haystack, values_of  # noqa: PLC0415 - a script, not a package of ours

    haystack = Haystack(conversion.bundle)
    listed = {
        (each.segment, each.sequence, each.field, each.component, each.subcomponent or 1) for each in conversion.loss
    }
    found = []
    for place, text in values_of(message):
        is_set_id = "-1.1.1" in place and text.strip().isdigit()
        if not is_set_id and not haystack.strict(text) and not haystack.equivalent(text):
            found.append(place)
    # the type of a result is the choice of its value; of a document, the encoding and media type are said in FHIR's way
    told = [
        place for place in found if not place.startswith(("OBX-2.", "OBX-5.2.", "OBX-5.3.", "OBX-5.4.", "OBX-5.5."))
    ]
    return [f"lost unsaid: {place}" for place in told if not _is_listed(place, listed)]


def _is_listed(place: str, listed: set[tuple[str, int, int, int, int]]) -> bool:
    name, _, numbers = place.partition("-")
    field, component, inner = (int(number) for number in numbers.split("."))
    return any(each[0] == name and each[2:] in ((field, component, inner), (field, component, 1)) for each in listed)
