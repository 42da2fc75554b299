"""The rules of Narrative.div, txt-1 and txt-2 (https://hl7.org/fhir/R4/narrative.html#xhtml).

Read with expat. A document type is refused, hence there are no entities but XML's own five (R4 leaves out &nbsp; and
its like on purpose); the depth is bounded.
"""

import re
from xml.parsers import expat

XHTML = "http://www.w3.org/1999/xhtml"
MAXIMUM_DEPTH = 200

_ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym address area b bdo big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2"
        " h3 h4 h5 h6 hr i img kbd li map ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt"
        " ul var",
    )
)
_ATTRIBUTES = frozenset(
    re.findall(
        r"\w+",
        "title style class id lang dir accesskey tabindex span width align valign char charoff abbr axis headers scope"
        " rowspan colspan",
    )
)
_ATTRIBUTES_OF: dict[str, frozenset[str]] = {
    element: frozenset(names.split())
    for element, names in {
        "a": "href name charset type hreflang rel rev shape coords",
        "img": "src alt longdesc height width usemap ismap border",
        "blockquote": "cite",
        "q": "cite",
        "map": "name",
        "area": "shape coords href nohref alt",
        "table": "summary width border frame rules cellspacing cellpadding",
        "pre": "space",
        "td": "nowrap",
    }.items()
}
_XML_ATTRIBUTES = frozenset(f"http://www.w3.org/XML/1998/namespace {name}" for name in ("lang", "space"))
_LINKS = frozenset(("href", "src", "cite", "longdesc", "usemap"))
_ACTIVE_LINK = re.compile(r"(?:javascript|vbscript|data(?!:image/)):", re.IGNORECASE)
# browsers leave tabs and line ends out of an address wherever they stand, and XML reads them as spaces
_LEFT_OUT = re.compile(r"[\x00-\x20]+")


class _Refusal(Exception):
    pass


class _Reader:
    def __init__(self) -> None:
        self.depth = 0
        self.has_content = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        if namespace != XHTML:
            raise _Refusal(f"the element {local} is not in the namespace {XHTML}")
        if self.depth == 0 and local != "div":
            raise _Refusal(f"the outermost element is {local}, not div")
        if local not in _ELEMENTS:
            raise _Refusal(f"the element {local} is not allowed")
        for attribute, value in attributes.items():
            self.attribute(local, attribute, value)
        self.has_content = self.has_content or local == "img"
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise _Refusal(f"it is nested deeper than {MAXIMUM_DEPTH}")

    def attribute(self, element: str, attribute: str, value: str) -> None:
        allowed = attribute in _ATTRIBUTES or attribute in _ATTRIBUTES_OF.get(element, ())
        if not allowed and attribute not in _XML_ATTRIBUTES:
            raise _Refusal(f"the attribute {attribute.rpartition(' ')[2]} is not allowed on {element}")
        if attribute in _LINKS and _ACTIVE_LINK.match(_LEFT_OUT.sub("", value)):
            raise _Refusal(f"the attribute {attribute} of {element} holds active content")

    def end(self, _name: str) -> None:
        self.depth -= 1

    def text(self, data: str) -> None:
        self.has_content = self.has_content or not data.isspace()

    def refuse(self, *_ignored: object) -> None:
        raise _Refusal("document types, entities and processing instructions are not allowed")


def problem_of(div: str) -> tuple[str, str] | None:
    """The first rule that a Narrative.div breaks and how ("txt-1", "..."), or None."""
    reader = _Reader()
    parser = expat.ParserCreate("UTF-8", " ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    parser.ProcessingInstructionHandler = reader.refuse
    try:
        parser.Parse(div, True)  # noqa: FBT003 - expat's signature
    except expat.ExpatError as error:
        return "txt-1", f"The narrative is not well-formed XHTML: {expat.ErrorString(error.code)}"
    except _Refusal as refusal:
        return "txt-1", f"The narrative is not allowed as it is: {refusal}"
    if not reader.has_content:
        return "txt-2", "The narrative has no content: it needs text or an image"
    return None
