"""HTML pages that need no scripts: one frame, everything escaped, a policy that runs nothing.

https://www.w3.org/TR/CSP3/
"""

from collections.abc import Sequence
from html import escape

from starlette.responses import HTMLResponse

_STYLE = (
    "body{font:16px/1.6 system-ui,'Noto Sans CJK SC',sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;"
    "color:#1d2b36}h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse}"
    "td,th{border:1px solid #c7d1d8;padding:.25rem .6rem;text-align:left}pre{background:#f2f5f7;padding:.8rem;"
    "overflow:auto}label{display:block;margin:.8rem 0}input,select{font:inherit;padding:.3rem;min-width:18rem}"
    "button{font:inherit;padding:.4rem 1.2rem}.refused{color:#a1260d}"
)

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


def page(title: str, content: str, status: int = 200) -> HTMLResponse:
    """A whole page around content that is already escaped."""
    text = (
        f'<!doctype html><html lang="zh-CN"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{content}</main></body></html>"
    )
    return HTMLResponse(text, status, headers=SECURITY_HEADERS)


def hidden(name: str, value: str) -> str:
    """A hidden form field."""
    return f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table of plain texts."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
