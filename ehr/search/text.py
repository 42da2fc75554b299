"""Splitting of parameter values: https://hl7.org/fhir/R4/search.html#escaping."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"\\([\\,$|])")


def split(text: str, separator: str) -> list[str]:
    r"""Split at separators that no backslash escapes; the parts keep their escapes."""
    if separator not in text:
        return [text]
    if "\\" not in text:
        return text.split(separator)
    parts, start, position = [], 0, 0
    while position < len(text):
        if text[position] == "\\":
            position += 2
            continue
        if text[position] == separator:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts


def unescape(text: str) -> str:
    r"""Resolve `\,`, `\$`, `\|` and `\\`; another backslash stands for itself."""
    return _ESCAPE.sub(r"\1", text) if "\\" in text else text


def usable(text: str) -> bool:
    """Whether the text can be compared at all: no NUL, no lone surrogate."""
    return "\x00" not in text and (text.isascii() or not _SURROGATE.search(text))
