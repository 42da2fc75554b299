"""Criteria made of what rows hold, hidden ones first of all: each search is one that a hidden row would answer."""

import json
import random
from functools import lru_cache
from typing import Any

from ehr.definitions import search_parameters
from tests.generative.naive_search import Values, escaped, folded, values_of
from tests.security.non_interference.oracle import Oracle
from tests.security.non_interference.story import Name

KINDS = frozenset({"token", "string", "reference", "date", "quantity", "number", "uri"})
PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
Pair = tuple[str, str]


@lru_cache(maxsize=256)
def parameters_of(resource_type: str) -> tuple[tuple[str, str], ...]:
    """(name, kind) of the search parameters of a type."""
    return tuple(
        (code, parameter.kind)
        for code, parameter in search_parameters(resource_type).items()
        if parameter.kind in KINDS and parameter.expression is not None and code != "_lastUpdated"
    )


class Questions:
    """Criteria about the rows of one region."""

    def __init__(self, oracle: Oracle) -> None:
        """Take the rows."""
        self.oracle = oracle
        self.names = list(oracle.rows)
        self._values: dict[tuple[Name, str], Values] = {}
        self._referring: dict[Name, list[tuple[Name, str]]] = {}

    def values(self, name: Name, code: str) -> Values:
        """What a row has for a parameter."""
        if (name, code) not in self._values:
            self._values[name, code] = values_of(self.oracle.rows[name].current.resource, code)
        return self._values[name, code]

    def present(self, name: Name) -> list[tuple[str, str]]:
        """(parameter, kind) of those for which the row has something."""
        found = [each for each in parameters_of(name[0]) if each[0] != "_id"]
        return [each for each in found if self.values(name, each[0]).present or self.values(name, each[0]).tokens]

    def references(self, name: Name) -> list[tuple[str, Name]]:
        """(parameter, row) that a row refers to by a reference parameter, stored ones only."""
        found = []
        for code, kind in self.present(name):
            for text in self.values(name, code).references if kind == "reference" else ():
                parts = text.split("/")
                if len(parts) == 2 and (parts[0], parts[1]) in self.oracle.rows:
                    found.append((code, (parts[0], parts[1])))
        return found

    def referring(self, name: Name) -> list[tuple[Name, str]]:
        """(row, parameter) of those that refer to a row."""
        if not self._referring:
            for each in self.names:
                for code, target in self.references(each):
                    self._referring.setdefault(target, []).append((each, code))
        return self._referring.get(name, [])

    # ---- one criterion -----------------------------------------------------------------------------------------------

    def criterion(self, rnd: random.Random, name: Name) -> Pair:
        """A criterion that the row meets, or nearly."""
        chosen = rnd.random()
        if chosen < 0.12:
            return self._identity(rnd, name)
        present = self.present(name)
        if not present or chosen < 0.18:
            code = rnd.choice(parameters_of(name[0]))[0]
            return (f"{code}:missing", rnd.choice(("true", "false"))) if code != "_id" else self._identity(rnd, name)
        code, kind = rnd.choice(present)
        found = self.values(name, code)
        return self._asked(rnd, code, kind, found)

    def _identity(self, rnd: random.Random, name: Name) -> Pair:
        others = [each for each in self.names if each[0] == name[0]]
        ids = [name[1], *(each[1] for each in rnd.sample(others, min(2, len(others)))), "absent"]
        return "_id", ",".join(ids[: rnd.randrange(1, len(ids) + 1)])

    def _asked(self, rnd: random.Random, code: str, kind: str, found: Values) -> Pair:
        match kind:
            case "token":
                return self._token(rnd, code, found)
            case "string":
                text = rnd.choice([each for each in found.texts if folded(each)] or ["x"])
                modifier = rnd.choice(("", "", ":exact", ":contains"))
                part = text[1:] if modifier == ":contains" and len(text) > 1 else text[: rnd.randrange(1, 9)]
                asked = text if modifier == ":exact" or not folded(part) else part
                return code + modifier, escaped(asked, plain=True)
            case "reference":
                return self._reference(rnd, code, found)
            case "date":
                span = rnd.choice(found.spans)
                text = span[0].isoformat() if 1900 < span[0].year < 9000 else span[1].isoformat()
                return code, rnd.choice(("", *PREFIXES)) + (
                    text[: rnd.choice((4, 7, 10))] if "1900" < text[:4] < "9000" else "2020"
                )
            case "quantity" | "number":
                value, _, unit = rnd.choice(found.quantities)
                text = rnd.choice(("", *PREFIXES)) + str(value)
                if kind == "quantity" and "code" in unit and rnd.random() < 0.5:
                    text += rnd.choice((f"||{unit['code']}", f"|{unit['system']}|{unit['code']}"))
                return code, text
        return code, rnd.choice(found.references)

    def _token(self, rnd: random.Random, code: str, found: Values) -> Pair:
        if found.texts and rnd.random() < 0.15:
            text = rnd.choice([each for each in found.texts if folded(each)] or ["x"])
            return f"{code}:text", escaped(text[: rnd.randrange(1, 12)], plain=True)
        tokens = [each for each in found.tokens if each[1]] or [(None, "x")]
        values = []
        for system, value in rnd.sample(tokens, 1 if rnd.random() < 0.8 else len(tokens)):
            bare = escaped(str(value), plain=True)
            values.append(rnd.choice((bare, f"{system}|{bare}", f"{system}|") if system else (bare,)))
        if rnd.random() < 0.2:
            values.append("718-7")
        return code + (":not" if rnd.random() < 0.12 else ""), ",".join(values)

    def _reference(self, rnd: random.Random, code: str, found: Values) -> Pair:
        if not found.references:
            return f"{code}:missing", "false"
        text = rnd.choice(found.references)
        kind, _, identity = text.partition("/")
        forms: list[Pair] = [(code, text), (code, text)]
        if identity and kind[:1].isupper():
            forms += [(code, identity), (f"{code}:{kind}", identity), (code, f"http://platform.test/fhir/{text}")]
            if kind == "Patient":
                forms += [(f"{code}:mdm", text)] * 2
        return rnd.choice(forms)

    # ---- whole queries -----------------------------------------------------------------------------------------------

    def clause(self, rnd: random.Random, name: Name) -> Pair:
        """A criterion, or chains and reverse chains of any depth."""
        chosen = rnd.random()
        if chosen < 0.22 and (links := self.references(name)):
            code, target = rnd.choice(links)
            inner, value = self.clause(rnd, target)
            return f"{code}:{target[0]}.{inner}", value
        if chosen < 0.4 and (sources := self.referring(name)):
            source, code = rnd.choice(sources)
            inner, value = self.clause(rnd, source)
            return f"_has:{source[0]}:{code}:{inner}", value
        return self.criterion(rnd, name)

    def shape(self, rnd: random.Random, name: Name) -> list[Pair]:
        """Order, page, total, includes and parts of the answer."""
        found: list[Pair] = []
        if rnd.random() < 0.35:
            codes = [code for code, _ in parameters_of(name[0])] + ["_lastUpdated"]
            found.append(
                ("_sort", ",".join(rnd.choice(("", "-")) + rnd.choice(codes) for _ in range(rnd.randrange(1, 3))))
            )
        if rnd.random() < 0.6:
            found.append(("_count", rnd.choice(("1", "2", "3", "5", "50", "0"))))
        if rnd.random() < 0.3:
            found.append(("_total", rnd.choice(("accurate", "none", "estimate"))))
        summary = rnd.random()
        if summary < 0.08:
            found.append(("_summary", "count"))
        elif summary < 0.16:
            found.append(("_summary", rnd.choice(("true", "data"))))
        elif summary < 0.24:
            found.append(("_elements", rnd.choice(("id", "meta", "id,meta"))))
        for _ in range(rnd.choice((0, 0, 1, 2))):
            found += self._include(rnd, name)
        return found

    def _include(self, rnd: random.Random, name: Name) -> list[Pair]:
        links, sources = self.references(name), self.referring(name)
        if sources and rnd.random() < 0.5:
            source, code = rnd.choice(sources)
            found = [("_revinclude", f"{source[0]}:{code}" + rnd.choice(("", f":{name[0]}")))]
            return found + self._iterated(rnd, source)
        if not links:
            return [("_include", f"{name[0]}:*")]
        code, target = rnd.choice(links)
        found = [("_include", rnd.choice((f"{name[0]}:{code}", f"{name[0]}:{code}:{target[0]}", f"{name[0]}:*")))]
        return found + self._iterated(rnd, target)

    def _iterated(self, rnd: random.Random, name: Name) -> list[Pair]:
        """What is followed on from an included row, now and then."""
        links, sources = self.references(name), self.referring(name)
        chosen = rnd.random()
        if chosen < 0.04:
            return [(rnd.choice(("_include:iterate", "_revinclude:iterate")), "*")]
        if chosen < 0.2 and links:
            return [("_include:iterate", f"{name[0]}:{rnd.choice(links)[0]}")]
        if chosen < 0.3 and sources:
            source, code = rnd.choice(sources)
            return [("_revinclude:iterate", f"{source[0]}:{code}")]
        return []

    def filtered(self, rnd: random.Random, name: Name) -> Pair:
        """A `_filter` of one to three comparisons, one of them behind a reference now and then."""
        parts = [self._comparison(rnd, name) for _ in range(rnd.randrange(1, 3))]
        links = self.references(name)
        if links and rnd.random() < 0.5:
            code, target = rnd.choice(links)
            inner = self._comparison(rnd, target)
            parts.append(rnd.choice((f"{code}:{target[0]}.{inner}", f"{code}:{target[0]}[{inner}]._id eq {target[1]}")))
        text = parts[0]
        for part in parts[1:]:
            text = rnd.choice((f"{text} and {part}", f"{text} or ({part})", f"not ({text}) and {part}"))
        return "_filter", text if rnd.random() < 0.8 else f"not ({text})"

    def _comparison(self, rnd: random.Random, name: Name) -> str:
        """One comparison that the row meets, or nearly."""
        present = self.present(name)
        if not present or rnd.random() < 0.15:
            return f"_id {rnd.choice(('eq', 'ne'))} {name[1]}"
        code, kind = rnd.choice(present)
        found = self.values(name, code)
        texts = [each for each in found.texts if folded(each)]
        tokens = [value for _, value in found.tokens if value]
        match kind:
            case "string" if texts:
                return f"{code} {rnd.choice(('eq', 'ne', 'co', 'sw', 'ew'))} {json.dumps(rnd.choice(texts)[:12])}"
            case "token" if tokens:
                return f"{code} {rnd.choice(('eq', 'ne'))} {json.dumps(rnd.choice(tokens).replace('|', ''))}"
            case "reference" if found.references:
                return f"{code} {rnd.choice(('re', 'eq', 'ne'))} {json.dumps(rnd.choice(found.references))}"
            case "date" if 1900 < found.spans[0][0].year < 9000:
                return f"{code} {rnd.choice((*PREFIXES, 'po'))} {found.spans[0][0].isoformat()[:10]}"
        return f"{code} pr {rnd.choice(('true', 'false'))}"

    def query(self, rnd: random.Random, name: Name) -> list[Pair]:
        """A whole search that the row might answer."""
        clauses = [self.clause(rnd, name) for _ in range(rnd.choice((0, 1, 1, 1, 2)))]
        if rnd.random() < 0.12:
            clauses.append(self.filtered(rnd, name))
        if rnd.random() < 0.05:
            lists = [each[1] for each in self.names if each[0] == "List"]
            clauses.append(("_list", rnd.choice([*lists, "absent"])))
        if rnd.random() < 0.08:
            clauses.append(("_lastUpdated", rnd.choice(("gt2020", "lt2020", "ge2020-01-01"))))
        return [*clauses, *self.shape(rnd, name)]


def body_of(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource without what the server makes."""
    return {key: value for key, value in resource.items() if key not in ("id", "meta")}
