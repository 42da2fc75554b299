"""What the oracle says of names in Chinese, of value sets and hierarchies of codes, and of composites.

Readings, forms and memberships of the few characters and codes in the data are written down here by hand.
"""

import re
from collections import Counter
from itertools import product
from typing import Any

SIMPLIFIED = {"張": "张", "偉": "伟"}
READINGS = {
    "王": ("wang", "yu"), "小": ("xiao",), "明": ("ming", "meng"), "张": ("zhang",), "伟": ("wei",),
}  # fmt: skip
NAMES = ["王小明", "王", "張偉", "张伟"]
ASKED_NAMES = [
    "明小", "王明", "小", "偉張", "张", "伟", "王小明张", "wang", "wangxiaoming", "xiaoming wang", "wáng xiǎo", "wei",
    "zhang wei", "zw", "w z", "wxm", "mingwang", "wang2 xiao3", "ｚｈａｎｇ", "zhangw", "xiao ming",
    "wang li", "li wei",
]  # fmt: skip
NAME_CODES = frozenset({"name", "family", "given", "phonetic"})

CODE_SYSTEM: dict[str, Any] = {
    "resourceType": "CodeSystem", "id": "letters", "url": "urn:a", "status": "active", "content": "complete",
    "hierarchyMeaning": "is-a", "concept": [{"code": "a", "concept": [{"code": "b"}]}, {"code": "c"}],
}  # fmt: skip
VALUE_SETS: list[dict[str, Any]] = [
    {"resourceType": "ValueSet", "id": "set-ac", "url": "http://sets/ac", "status": "active", "compose": {
        "include": [{"system": "urn:a", "concept": [{"code": "a"}, {"code": "c"}]}]}},
    {"resourceType": "ValueSet", "id": "set-tree", "url": "http://sets/tree", "status": "active", "compose": {
        "include": [{"system": "urn:a", "filter": [{"property": "concept", "op": "is-a", "value": "a"}]},
                    {"system": "urn:b"}],
        "exclude": [{"valueSet": ["http://sets/ac"]}]}},
]  # fmt: skip
MEMBERS = {
    ("in", "http://sets/ac"): {("urn:a", "a"), ("urn:a", "c")},
    ("in", "http://sets/tree"): {("urn:a", "b"), *(("urn:b", code) for code in "abc")},
    ("below", "urn:a|a"): {("urn:a", "a"), ("urn:a", "b")},
    ("below", "urn:a|b"): {("urn:a", "b")},
    ("above", "urn:a|b"): {("urn:a", "a"), ("urn:a", "b")},
    ("above", "urn:a|c"): {("urn:a", "c")},
}
"""What a modifier and its value stand for in the data; `not-in` is what `in` is not."""
COMPOSITES = frozenset({"code-value-quantity", "component-code-value-quantity", "combo-code-value-quantity"})


def is_member(token: tuple[str | None, str | None], modifier: str, text: str) -> bool:
    """Whether a coding is one of those that a modifier and its value stand for."""
    return token in MEMBERS["in" if modifier == "not-in" else modifier, text]


def whole_names(value: Any) -> list[str]:
    """A name with its parts in one, and its text."""
    if isinstance(value, str):
        return [value]
    parts = [value.get("family", ""), *value.get("given", []), *value.get("prefix", []), *value.get("suffix", [])]
    return ["".join(parts), value.get("text", "")]


def _characters(text: str) -> str:
    return "".join(SIMPLIFIED.get(each, each) for each in text if SIMPLIFIED.get(each, each) in READINGS)


def name_matches(names: list[str], folded: str) -> bool:
    """Whether a name has all the characters that are asked for, or is spelt so."""
    asked = _characters(folded)
    if asked and len(asked) == len(folded.replace(" ", "")):
        return any(Counter(asked) <= Counter(_characters(name)) for name in names)
    letters = re.sub(r"[ '\-]|(?<=[a-z])[1-5]", "", folded)
    return bool(letters) and any(form.startswith(letters) for name in names for form in _spellings(_characters(name)))


def _spellings(characters: str) -> set[str]:
    found = set()
    for start in range(len(characters)):
        for read in product(*(READINGS[each] for each in characters[start:] + characters[:start])):
            found |= {"".join(read), "".join(each[0] for each in read)}
    return found
