r"""Escape sequences of HL7 v2 chapter 2.7: `\F\ \S\ \T\ \R\ \E\ \P\ \Xdd..\ \.br\ \H\ \N\ \Cxxyy\ \Mxxyyzz\ \Z..\`."""

import re
from collections.abc import Callable
from functools import lru_cache

_LINE_FORMATS = {".br": "\n", ".ce": "\n", ".sp": "\n", ".fi": "", ".nf": "", ".in": "", ".ti": "", ".sk": " "}
_COUNTED = re.compile(r"(\.sp|\.sk|\.in|\.ti)\s*([+-]?\d{1,3})?")
_MOST_LINES = 20


@lru_cache(maxsize=256)
def unescaper(separators: str, escape: str, codec: str) -> Callable[[str], str]:
    r"""A function that replaces the escape sequences of one value.

    `separators` are field, component, repetition, sub-component and, where given, truncation separator, in MSH order.
    Bytes of `\X..\` are read in `codec`. A sequence that is unknown or broken stays as it was sent.
    """
    names = dict(zip("FSRTP", separators, strict=False)) | {"E": escape, "H": "", "N": ""}
    pattern = re.compile(re.escape(escape) + "([^" + re.escape(escape) + "]{0,400})" + re.escape(escape))

    def replace(match: re.Match[str]) -> str:
        body = match.group(1)
        if body in names:
            return names[body]
        if body.startswith("X"):
            return _hexadecimal(body[1:], codec) or match.group(0)
        if body.startswith("."):
            return _layout(body, match.group(0))
        if body[:1] in ("C", "M") and len(body) in (5, 7):  # changes of character set: the text is decoded already
            return ""
        return match.group(0)

    def unescape(text: str) -> str:
        return pattern.sub(replace, text) if escape in text else text

    return unescape


def _hexadecimal(digits: str, codec: str) -> str | None:
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        return None
    for name in (codec, "utf-8", "iso8859-1"):
        try:
            return data.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
    return None


def _layout(body: str, unknown: str) -> str:
    if body in _LINE_FORMATS:
        return _LINE_FORMATS[body]
    counted = _COUNTED.fullmatch(body)
    if counted is None:
        return unknown
    repeat = min(abs(int(counted.group(2) or 1)), _MOST_LINES)
    return _LINE_FORMATS[counted.group(1)] * repeat
