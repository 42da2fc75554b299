"""Narratives: what XHTML may stand in Narrative.div."""

from typing import Any

import pytest

from ehr.validation import check

XMLNS = 'xmlns="http://www.w3.org/1999/xhtml"'


def narrated(div: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "text": {"status": "generated", "div": div}}


NARRATIVES_TAKEN = [
    f"<div {XMLNS}>text</div>",
    f'<div {XMLNS} xml:lang="zh" lang="zh"><p style="color:red">中文</p></div>',
    f'<div {XMLNS}><table class="grid" border="1"><tbody><tr><td rowspan="2">a<br/></td></tr></tbody></table></div>',
    f"<div {XMLNS}>&lt;script&gt; &amp; &#169;</div>",
    f'<div {XMLNS}><img src="a.png" alt="x"/></div>',
    f'<div {XMLNS}><a href="http://a.org" name="n">x</a> <b>b</b><!-- comment --></div>',
    f'<div {XMLNS}><ul><li id="a" title="t">x</li></ul><h1>h</h1><pre>p</pre><hr/></div>',
    '<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:p>x</h:p></h:div>',
]
NARRATIVES_REFUSED = [
    "text",
    "<div>text</div>",
    f"<p {XMLNS}>text</p>",
    f"<div {XMLNS}>text",
    f"<div {XMLNS}></div>",
    f"<div {XMLNS}>  <p> </p> </div>",
    f"<div {XMLNS}><b>x</i></div>",
    f"<div {XMLNS}>a & b</div>",
    f"<div {XMLNS}><script>alert(1)</script></div>",
    f'<div {XMLNS} onclick="x()">text</div>',
    f'<div {XMLNS}><a href="javascript:alert(1)">x</a></div>',
    f'<div {XMLNS}><a href=" &#x6A;avascript:alert(1)">x</a></div>',
    f'<div {XMLNS}><a href="java\tscript:alert(1)">x</a></div>',
    f'<div {XMLNS}><a href="java&#10;script&#13;:alert(1)">x</a></div>',
    f"<div {XMLNS}><iframe src='http://a.org'/>x</div>",
    f"<div {XMLNS}><form><input/></form>x</div>",
    f"<div {XMLNS}><object data='x'/>x</div>",
    f"<div {XMLNS}><style>p {{}}</style>x</div>",
    f"<div {XMLNS}><blink>x</blink></div>",
    f'<!DOCTYPE div [<!ENTITY a "b">]><div {XMLNS}>&a;</div>',
    f"<div {XMLNS}>&undefined;</div>",
    f"<div {XMLNS}>a&nbsp;b</div>",
    f"<div {XMLNS}><?php x ?>x</div>",
    f"<div {XMLNS}>x</div><div {XMLNS}>y</div>",
    f"<div {XMLNS}>" + "<p>" * 300 + "x" + "</p>" * 300 + "</div>",
    f'<div {XMLNS}><svg xmlns="http://www.w3.org/2000/svg"><circle/></svg>x</div>',
]


@pytest.mark.parametrize("div", NARRATIVES_TAKEN)
def test_narrative_taken(div: str) -> None:
    assert check(narrated(div)) == []


@pytest.mark.parametrize("div", NARRATIVES_REFUSED)
def test_narrative_refused(div: str) -> None:
    assert [issue.expression for issue in check(narrated(div))] == ["Patient.text.div"]
