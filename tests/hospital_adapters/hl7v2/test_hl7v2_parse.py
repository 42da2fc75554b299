import pytest

from hospital_adapters.hl7v2.parse import Message, messages_in, parse
from hospital_adapters.hl7v2.problems import ParseProblem

HEAD = "MSH|^~\\&|A|B|C|D|20240601||ADT^A01^ADT_A01|1|P|2.5.1"


def read(text: str | bytes) -> Message:
    message = parse(text if isinstance(text, bytes) else text.encode())
    assert isinstance(message, Message), message
    return message


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n", "\r\r", "\n\n"])
def test_any_line_end_parts_segments(end: str) -> None:
    assert [s.name for s in read(end.join([HEAD, "PID|1", "PV1|1"]) + end).segments] == ["MSH", "PID", "PV1"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (r"a\F\b", "a|b"),
        (r"a\S\b", "a^b"),
        (r"a\T\b", "a&b"),
        (r"a\R\b", "a~b"),
        (r"a\E\b", "a\\b"),
        (r"a\P\b", "a#b"),
        (r"\X41\\X4243\x", "ABCx"),
        (r"\XE5BAB7\\XE88194\x", "康联x"),
        (r"\H\bold\N\ plain", "bold plain"),
        (r"one\.br\two", "one\ntwo"),
        (r"one\.sp2\two", "one\n\ntwo"),
        (r"a\.fi\b", "ab"),
        (r"a\Zown\b", "a\\Zown\\b"),
        (r"a\Xzz\b", "a\\Xzz\\b"),
        (r"half \ only", "half \\ only"),
        (r"\.sp999999\x", "\\.sp999999\\x"),
    ],
)
def test_escapes(raw: str, text: str) -> None:
    head = HEAD.replace("^~\\&", "^~\\&#")
    segment = read(f"{head}\rNTE|1||{raw}").segments[1]
    assert segment.text(3) == text


def test_custom_delimiters() -> None:
    message = read("MSH$%*!@$A$B$C$D$20240601$$ADT%A01$1$P$2.3\rPID$1$$1%%%X@Y*2$$a!S!b")
    pid = message.segments[1]
    assert message.kind == ("ADT", "A01")
    assert [node.text(1) for node in pid.repetitions(3)] == ["1", "2"]
    assert pid.repetitions(3)[0].child(4).text(2) == "Y"
    assert pid.text(5) == "a%b"


@pytest.mark.parametrize("encoding", ["^~\\&#", "^~\\&", "^~\\", "^~", "^"])
def test_encoding_characters_of_any_number(encoding: str) -> None:
    message = read(HEAD.replace("^~\\&", encoding) + "\rPID|1||7^^^A")
    assert message.segments[1].text(3) == "7"
    assert message.kind == ("ADT", "A01")


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("", "utf-8"),
        ("UNICODE UTF-8", "utf-8"),
        ("GB 18030-2000", "gb18030"),
        ("GB2312", "gb18030"),
        ("~GB 18030-2000", "gb18030"),
        ("BIG-5", "big5hkscs"),
        ("UNICODE UTF-16", "utf-16"),
    ],
)
def test_declared_character_sets(charset: str, codec: str) -> None:
    text = HEAD + f"||||||{charset}\rPID|1||7||王^小明"
    message = read(text.encode(codec))
    assert message.segments[1].text(5) == "王"
    assert bool(message.notes) == (charset == "")


@pytest.mark.parametrize(
    ("declared", "codec", "note"),
    [
        ("UNICODE UTF-8", "gb18030", True),
        ("GB 18030-2000", "gb18030", False),
        ("KLINGON", "utf-8", True),
        ("ASCII", "utf-8", True),
        ("", "gb18030", True),
        ("8859/1", "iso8859-1", False),
        ("ROT13", "utf-8", True),
        ("HEX", "utf-8", True),
    ],
)
def test_a_wrong_character_set_is_noted_never_raised(declared: str, codec: str, note: bool) -> None:  # noqa: FBT001  a table's column
    name = "Müller" if codec == "iso8859-1" else "王小明"
    message = read((HEAD + f"||||||{declared}\rPID|1||7||{name}").encode(codec))
    assert message.segments[1].text(5) == name
    assert bool(message.notes) == note


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"])
def test_byte_order_marks(mark: bytes) -> None:
    codec = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}[mark]
    assert read(mark + (HEAD + "\rPID|1||7||王").encode(codec)).segments[1].text(5) == "王"


def test_batches_and_line_breaks_inside_of_a_value() -> None:
    message = read(f"FHS|^~\\&\rBHS|^~\\&\r{HEAD}\rPID|1\rNTE|1||first\nof two lines\rBTS|1\rFTS|1")
    assert [s.name for s in message.segments] == ["MSH", "PID", "NTE"]
    assert message.segments[2].text(3) == "first\nof two lines"


@pytest.mark.parametrize(
    ("text", "code", "field"),
    [
        ("", 100, None),
        ("PID|1", 100, None),
        ("MSH", 101, 1),
        ("MSHA^~\\&", 101, 1),
        ("MSH|^~\\&|A|B|C|D|2024|||1|P|2.5", 101, 9),
        ("MSH|^~\\&|A|B|C|D|2024||ADT^A01||P|2.5", 101, 10),
        ("MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|9.9", 203, 12),
        ("MSH|^~\\&|A|B|C|D|2024||ADT^A01|1|P|2.5\rnot a segment", 100, None),
    ],
)
def test_problems_name_cause_and_place(text: str, code: int, field: int | None) -> None:
    problem = parse(text.encode())
    assert isinstance(problem, ParseProblem)
    assert (problem.code, problem.field) == (code, field)
    assert problem.cause


@pytest.mark.parametrize(
    ("kind", "evn", "expected"),
    [
        ("ADT^A08^ADT_A01", "", ("ADT", "A08")),
        ("ADT", "EVN|A04", ("ADT", "A04")),
        ("ORU^^ORU_R01", "", ("ORU", "R01")),
        ("ORU_R01", "", ("ORU", "R01")),
        ("adt^a01", "", ("ADT", "A01")),
    ],
)
def test_kinds(kind: str, evn: str, expected: tuple[str, str]) -> None:
    assert read(HEAD.replace("ADT^A01^ADT_A01", kind) + f"\r{evn}").kind == expected


def test_a_file_of_several_messages() -> None:
    file = f"FHS|^~\\&\nBHS|^~\\&\n{HEAD}\nPID|1||7\n\n{HEAD.replace('|1|', '|2|')}\nPID|1||8\nBTS|2\n".encode()
    messages = [read(part) for part in messages_in(file)]
    assert [(m.control_id, m.segments[1].text(3)) for m in messages] == [("1", "7"), ("2", "8")]
    assert [m.notes for m in messages] == [[], []]
    assert messages_in(b"no message") == [b"no message"]


@pytest.mark.parametrize(
    ("declared", "sent", "name"),
    [
        ("GB 18030-2000", "utf-8", "欧阳小明"),
        ("BIG-5", "utf-8", "歐陽"),
        ("8859/1", "utf-8", "Müller"),
        ("GB 18030-2000", "gb18030", "欧阳小明"),
        ("GB 18030-2000", "gb18030", "联通"),  # fits UTF-8 by chance, as characters of two bytes
        ("8859/1", "iso8859-1", "Müller"),
    ],
)
def test_utf_8_declared_as_something_else_is_read_as_what_it_is(declared: str, sent: str, name: str) -> None:
    message = read((HEAD + f"||||||{declared}\rPID|1||7||{name}").encode(sent))
    assert message.segments[1].text(5) == name
    assert bool(message.notes) == (sent == "utf-8")


def test_any_mix_of_line_ends_ends_segments() -> None:
    message = read((HEAD + "\r\nEVN|A01\nPID|1||7\r\r\nPV1|1|I\n\n\rNTE|1||x\r").encode())
    assert [segment.name for segment in message.segments] == ["MSH", "EVN", "PID", "PV1", "NTE"]


def test_segments_in_small_letters_are_segments_and_other_lines_are_text() -> None:
    message = read(f"{HEAD}\rPID|1||7\rnte|1||a note\rnot|a segment\robx|1|NM|GLU||5")
    assert [segment.name for segment in message.segments] == ["MSH", "PID", "NTE", "OBX"]
    assert message.segments[2].peek(3) == "a note\nnot"
    assert len(message.notes) == 3


@pytest.mark.parametrize(
    ("type_", "evn", "kind"),
    [("ORU", "", ("ORU", "R01")), ("ADT", "\rEVN|A01", ("ADT", "A01")), ("ADT_A08", "", ("ADT", "A08"))],
)
def test_kinds_as_the_oldest_versions_say_them(type_: str, evn: str, kind: tuple[str, str]) -> None:
    assert read(f"MSH|^~\\&|LAB|H|K|R|20240601||{type_}|1|P|2.1{evn}\rPID|1||7").kind == kind
