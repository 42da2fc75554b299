"""Character sets of messages: MSH-18 (HL7 table 0211) to Python codecs, and what to do when it is wrong or absent."""

import codecs
import re
from functools import lru_cache

_TABLE_0211 = {
    "ASCII": "ascii",
    "8859/1": "iso8859-1",
    "8859/2": "iso8859-2",
    "8859/3": "iso8859-3",
    "8859/4": "iso8859-4",
    "8859/5": "iso8859-5",
    "8859/6": "iso8859-6",
    "8859/7": "iso8859-7",
    "8859/8": "iso8859-8",
    "8859/9": "iso8859-9",
    "8859/15": "iso8859-15",
    "ISO IR6": "ascii",
    "ISO IR14": "shift_jis",
    "ISO IR87": "iso2022_jp",
    "ISO IR159": "iso2022_jp_1",
    "GB 18030-2000": "gb18030",
    "GB18030": "gb18030",
    "GB 2312": "gb18030",
    "GB2312": "gb18030",
    "GBK": "gb18030",
    "KS X 1001": "euc_kr",
    "CNS 11643-1992": "euc_tw",
    "BIG-5": "big5hkscs",
    "BIG5": "big5hkscs",
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UNICODE UTF-16": "utf-16",
    "UNICODE UTF-32": "utf-32",
    "UTF-8": "utf-8",
    "UTF8": "utf-8",
}
_SEPARATORS = re.compile(r"[\s_]+")
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@lru_cache(maxsize=256)
def codec_of(declared: str) -> str | None:
    """The Python codec of a table 0211 name (first repetition of MSH-18), or None where the name is unknown."""
    name = _SEPARATORS.sub(" ", declared.strip().upper())
    codec = _TABLE_0211.get(name) or _TABLE_0211.get(name.removeprefix("ISO").lstrip(" -")) or name.replace(" ", "-")
    try:
        found = codecs.lookup(codec)
    except LookupError:
        return None
    is_text: bool = getattr(found, "_is_text_encoding", True)
    return found.name if is_text else None


def decode(data: bytes, declared: str) -> tuple[str, str, str | None]:
    """Decode a message: (text, codec used, note or None).

    A byte order mark wins; then UTF-8 where another set is declared that fits by chance alone (`_is_utf_8_after_all`);
    then the declared set; where that is absent, unknown or does not fit, UTF-8, then GB 18030, then ISO 8859-1, which
    fits anything. The note says what was wrong; it goes into the loss report.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            try:
                return data.decode(codec).lstrip("\ufeff"), codec, None
            except UnicodeDecodeError:
                data = data[len(mark) :]
                break
    if data.isascii() and b"\x1b" not in data and b"\x00" not in data:
        return data.decode("ascii"), codec_of(declared) or "ascii", _unknown(declared)
    wanted = codec_of(declared) if declared else None
    note = _unknown(declared) if declared else "MSH-18 is empty and the message is not ASCII"
    if wanted is not None and wanted != "utf-8" and _is_utf_8_after_all(data, wanted):
        return data.decode("utf-8"), "utf-8", f"the message is UTF-8, although MSH-18 says '{declared}'"
    for codec in dict.fromkeys(filter(None, (wanted, "utf-8", "gb18030", "iso8859-1"))):
        try:
            text = data.decode(codec)
        except (UnicodeDecodeError, ValueError):
            note = note or f"the bytes are not in the declared character set '{declared}'"
            continue
        return text, codec, f"{note}; read as {codec}" if note else None
    raise AssertionError  # ISO 8859-1 decodes every byte


def _is_utf_8_after_all(data: bytes, declared: str) -> bool:
    """Whether bytes declared in another set are UTF-8, as far as bytes can tell.

    Text of a single-byte set is UTF-8 by chance almost never. A Chinese character has three bytes in UTF-8 and two in
    GB 18030 or Big5: a few of theirs may look like characters of two bytes in UTF-8, hardly ever of three.
    """
    if declared.startswith(("utf", "iso2022")) or b"\x1b" in data:
        return False
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if declared.startswith(("iso8859", "cp125", "latin", "ascii")):
        return True
    long = sum(character >= "\u0800" for character in text)
    return long > sum("\x7f" < character < "\u0800" for character in text)


def _unknown(declared: str) -> str | None:
    return f"MSH-18 names an unknown character set '{declared}'" if declared and codec_of(declared) is None else None
