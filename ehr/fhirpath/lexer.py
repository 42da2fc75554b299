"""Tokens of FHIRPath (http://hl7.org/fhirpath/N1/grammar.html)."""

import re
from dataclasses import dataclass
from typing import Literal

from ehr.fhirpath.errors import FhirPathError

Kind = Literal["word", "quoted", "string", "number", "date", "datetime", "time", "variable", "external", "sign", "end"]

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\r\n]*|/\*.*?\*/)
    |@(?P<time>T\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?(?P<zoned>Z|[+-]\d{2}:\d{2})?)
    |@(?P<datetime>\d{4}(?:-\d{2}(?:-\d{2})?)?T(?:\d{2}(?::\d{2}(?::\d{2}(?:\.\d+)?)?)?(?:Z|[+-]\d{2}:\d{2})?)?)
    |@(?P<date>\d{4}(?:-\d{2}(?:-\d{2})?)?)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<word>[A-Za-z_]\w*)
    |`(?P<quoted>(?:[^`\\]|\\.)*)`
    |'(?P<string>(?:[^'\\]|\\.)*)'
    |\$(?P<variable>this|index|total)\b
    |%(?P<external>[A-Za-z_][\w-]*|`(?:[^`\\]|\\.)*`|'(?:[^'\\]|\\.)*')
    |(?P<sign><=|>=|!=|!~|[-+*/&|<>=~.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `text` is unescaped for quoted identifiers, strings and external constants."""

    kind: Kind
    text: str
    at: int


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        mark = match.group(1)
        return chr(int(mark[1:], 16)) if len(mark) == 5 else _ESCAPED.get(mark, mark)

    return _ESCAPE.sub(replace, text) if "\\" in text else text


def tokens(expression: str) -> list[Token]:
    """Cut an expression into tokens, the last of kind "end"."""
    found: list[Token] = []
    at = 0
    while at < len(expression):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise FhirPathError(f"FHIRPath: nothing known begins at character {at + 1}: {expression[at : at + 20]!r}")
        if match.group("zoned"):
            raise FhirPathError("FHIRPath: a time literal takes no time zone")
        kind = next(name for name, text in match.groupdict().items() if text is not None and name != "zoned")
        text = match.group(kind)
        if kind == "external" and text[0] in "`'":
            text = text[1:-1]
        if kind in {"quoted", "string", "external"}:
            text = _unescape(text)
        if kind != "space":
            found.append(Token(kind, text, at))  # type: ignore[arg-type]  # group names are the kinds
        at = match.end()
    found.append(Token("end", "", at))
    return found
