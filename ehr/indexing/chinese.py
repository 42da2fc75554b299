"""Chinese names as people look for them: characters in any order and form, pinyin, initials; identity numbers.

Traditional and simplified forms are those of OpenCC's tables, readings those of pypinyin's; both are read as files of
the packages, without their code. A name is found by pinyin from any of its characters on and around ("xiaoming wang"),
by each reading that a dictionary gives for a character.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import islice, product
from pathlib import Path
from typing import Any

from ehr.indexing.plan import NotPlain, branches_of

_HAN = re.compile("[\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_ONLY_HAN = re.compile(f"(?:{_HAN.pattern}|[ ·•・.])+")
_SEPARATORS = re.compile(r"[ '’·•・.\-]+")
_TONE_NUMBERS = re.compile(r"(?<=[a-z])[1-5]")
_DIAERESIS = "\u0308"
_DASHES = re.compile(r"[\s\-\u2010-\u2015\u2212]+")
_IDENTITY_NUMBER = re.compile(r"[0-9]{17}[0-9X]|[0-9]{15}")
_ROTATED = 6
"""Characters of the longest name that is found from each of its characters on; a longer one from its first."""
_LONGEST = 30
_READINGS = 3
_COMBINED = 24
"""Readings of a whole name."""
_SYLLABLE = 6
"""Letters of the longest syllable."""


def _lines(package: str, *path: str) -> str:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(package)
    return Path(found.submodule_search_locations[0], *path).read_text(encoding="utf-8-sig")


@cache
def _simplified() -> dict[str, str]:
    """Each character that has a simplified form, or is a form that Taiwan or Hong Kong writes of one."""
    table: dict[str, str] = {}
    for name in ("TSCharacters", "TWVariantsRev", "HKVariantsRev"):
        for line in _lines("opencc", "dictionary", f"{name}.txt").splitlines():
            character, _, forms = line.partition("\t")
            if forms and len(character) == 1:
                table.setdefault(character, forms.split()[0])
    return {character: table.get(form, form) for character, form in table.items()}


@cache
def _dictionary() -> dict[str, str]:
    found: dict[str, str] = json.loads(_lines("pypinyin", "pinyin_dict.json"))
    return found


@lru_cache(maxsize=8192)
def readings_of(character: str) -> tuple[str, ...]:
    """The syllables that a character is read as, without tones; ü also as v and, as in passports, yu."""
    marked = _dictionary().get(str(ord(character)), "").split(",")
    return tuple(dict.fromkeys(spelt for syllable in marked for spelt in _without_tone(syllable)))


@lru_cache(maxsize=4096)
def _without_tone(marked: str) -> tuple[str, ...]:
    parts = unicodedata.normalize("NFD", marked)
    bare = "".join(part for part in parts if not unicodedata.combining(part) or part == _DIAERESIS)
    if not bare:
        return ()
    spelt = ("u", "v", "yu") if f"u{_DIAERESIS}" in bare else ("",)
    return tuple(bare.replace(f"u{_DIAERESIS}", each) for each in spelt)


@cache
def _syllables() -> frozenset[str]:
    marked = {syllable for readings in _dictionary().values() for syllable in readings.split(",")}
    return frozenset(spelt for syllable in marked for spelt in _without_tone(syllable))


def han_of(text: str) -> str:
    """The Chinese characters of a text, each in its simplified form."""
    simplified = _simplified()
    composed = unicodedata.normalize("NFKC", text)
    return "".join(simplified.get(character, character) for character in _HAN.findall(composed))


@lru_cache(maxsize=1024)
def pinyin_of(characters: str) -> tuple[str, ...]:
    """The spellings of a name, in letters without spaces: in full and by initials, from each character on."""
    if not 0 < len(characters) <= _LONGEST:
        return ()
    many = _READINGS if len(characters) <= _ROTATED else 1
    readings = [readings_of(character)[: many + 1] for character in characters]
    starts = range(len(characters)) if len(characters) <= _ROTATED else (0,)
    found: dict[str, None] = {}
    for syllables in islice(product(*readings), _COMBINED):
        for start in starts:
            turned = syllables[start:] + syllables[:start]
            found["".join(turned)] = None
            found["".join(syllable[0] for syllable in turned)] = None
    return tuple(found)


def names_of(value: Any) -> Iterator[str]:
    """The texts of one HumanName, or of a part of one, whose characters belong together."""
    if isinstance(value, str):
        yield value
        return
    parts = [value.get("family"), *value.get("given", ()), *value.get("prefix", ()), *value.get("suffix", ())]
    yield "".join(part for part in parts if part is not None)
    if value.get("text") is not None:
        yield value["text"]


@cache
def is_of_names(expression: str) -> bool:
    """Whether a string parameter selects the names of people, or parts of them."""
    try:
        branches = branches_of(expression.partition(".")[0], expression)
    except NotPlain:
        return False
    return any(branch.type_name == "HumanName" or branch.element.startswith("HumanName.") for branch in branches)


def asked_characters(normalised: str) -> str:
    """The characters of a searched name that is written in Chinese alone, else ""."""
    return han_of(normalised) if _ONLY_HAN.fullmatch(normalised) else ""


def asked_letters(normalised: str) -> str:
    """What a searched name spells as pinyin, without spaces and tones; "" where it cannot be pinyin.

    Of one word its beginning may be any; several words are syllables, the last perhaps begun, or initials.
    """
    words = [_TONE_NUMBERS.sub("", word) for word in _SEPARATORS.split(normalised) if word]
    letters = "".join(words)
    if not letters.isascii() or not letters.isalpha():
        return ""
    if letters == normalised or all(len(word) == 1 for word in words) or _is_spelt(letters):
        return letters
    return ""


def _is_spelt(letters: str) -> bool:
    """Whether letters are syllables, the last one perhaps not finished."""
    if len(letters) > _LONGEST * _SYLLABLE:
        return False
    syllables = _syllables()
    ends = {0}
    for end in range(1, len(letters) + 1):
        if any(start in ends and letters[start:end] in syllables for start in range(max(0, end - _SYLLABLE), end)):
            ends.add(end)
    last = max(ends)
    return last == len(letters) or any(
        syllable.startswith(letters[end:]) for end in ends if len(letters) - end < _SYLLABLE for syllable in syllables
    )


def has_characters(names: Sequence[str], characters: str) -> bool:
    """Whether one of the names has all these characters, in any order."""
    asked = Counter(characters)
    return any(asked <= Counter(han_of(name)) for name in names)


def is_spelt(names: Sequence[str], letters: str) -> bool:
    """Whether the spelling of one of the names begins with these letters."""
    return any(form.startswith(letters) for name in names for form in pinyin_of(han_of(name)))


def identity_number(text: str) -> str | None:
    """A resident's identity number as it is compared: without hyphens and spaces, its last X a capital; else None."""
    plain = _DASHES.sub("", unicodedata.normalize("NFKC", text)).upper()
    return plain if _IDENTITY_NUMBER.fullmatch(plain) else None
