"""Random requests over the whole interface, made of the names and values of hidden and visible rows."""

import json
import random
from typing import Any
from urllib.parse import quote, urlencode

from consent import Caller
from tests.security.non_interference.oracle import Oracle, View
from tests.security.non_interference.platforms import Request
from tests.security.non_interference.questions import Pair, Questions, body_of
from tests.security.non_interference.story import Name

Json = dict[str, Any]
JSON_BODY = (("content-type", "application/fhir+json"),)
_WRITABLE = (
    *("Observation", "Condition", "Procedure", "AllergyIntolerance", "DiagnosticReport", "DocumentReference"),
    *("Encounter", "Task", "List", "Flag"),
)


class Requests:
    """Requests of one caller in one way of looking."""

    def __init__(self, views: tuple[View, ...], oracle: Oracle, questions: Questions, rnd: random.Random) -> None:
        """Take the views, which all see the same rows."""
        self.views = views
        self.oracle = oracle
        self.questions = questions
        self.rnd = rnd
        view = views[0]
        names = questions.names
        self.hidden = [name for name in names if not oracle.sees(view, name)]
        self.visible = [name for name in names if oracle.sees(view, name)]
        self.interactions = {each.interaction for each in views}
        self.caller: Caller = view.caller
        named = {scope.split("/")[1].split(".")[0] for scope in self.caller.scopes}
        self.scoped = None if "*" in named else named
        """Types that the token's scopes name; most requests are about these."""

    def _row(self, *types: str) -> Name:
        """A row, more often a hidden one."""
        pool = self.hidden if self.rnd.random() < 0.55 and self.hidden else self.questions.names
        allowed = self.scoped if self.rnd.random() < 0.9 else None
        fitting = [n for n in pool if (not types or n[0] in types) and (allowed is None or n[0] in allowed)]
        return self.rnd.choice(
            fitting or [name for name in pool if not types or name[0] in types] or self.questions.names
        )

    def one(self) -> Request:
        """A request that this way of looking is asked for."""
        kinds = {"read": self.read, "search": self.search, "write": self.write}
        weights = {"read": 25, "search": 50, "write": 25}
        names = sorted(self.interactions)
        name = self.rnd.choices(names, [weights[each] for each in names])[0]
        return kinds[name]()

    # ---- reads -------------------------------------------------------------------------------------------------------

    def read(self) -> Request:
        """Read, vread or history, with the headers and parameters they take."""
        rnd, (kind, identity) = self.rnd, self._row()
        while kind == "Patient" and self._opens_a_record(identity):
            kind, identity = self._row()
        if rnd.random() < 0.08:
            identity = "absent"
        address = f"/fhir/{kind}/{identity}"
        headers = [("accept", "application/fhir+json")]
        if rnd.random() < 0.2:
            headers.append(("if-none-match", rnd.choice(('W/"1"', 'W/"2"', "*"))))
        if rnd.random() < 0.15:
            headers.append(
                ("if-modified-since", rnd.choice(("Wed, 01 Jan 2020 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT")))
            )
        chosen = rnd.random()
        if chosen < 0.2:
            address += f"/_history/{rnd.randrange(1, 5)}"
        elif chosen < 0.5:
            address += "/_history" + rnd.choice(
                ("", "?_count=1", "?_count=1&_before=3", "?_since=2020-01-01", "?_since=2100-01-01")
            )
        elif chosen < 0.54:
            address += "/$meta"
        elif chosen < 0.56:
            return Request("GET", f"{address}/$validate")
        elif chosen < 0.6:
            address += rnd.choice(("?_summary=true", "?_elements=id", "?_pretty=true", "?_format=json"))
        return Request("HEAD" if rnd.random() < 0.04 else "GET", address, tuple(headers))

    def _opens_a_record(self, patient: str) -> bool:
        """Whether a request that names this Patient would break the glass anew."""
        return any(each.emergency for each in self.views) and not self.oracle.is_open(self.caller.subject, patient)

    # ---- searches ----------------------------------------------------------------------------------------------------

    def search(self) -> Request:
        """A search by GET or POST."""
        rnd = self.rnd
        if self.caller.roles & {"resident", "auditor"} and rnd.random() < 0.15:
            return self._log()
        if rnd.random() < 0.06 and not any(each.emergency for each in self.views):
            return self._changes()
        if rnd.random() < 0.12 and self.caller.purpose_of_use != "BTG" and not any(e.emergency for e in self.views):
            return self._tried() if rnd.random() < 0.2 else self._around()
        name = self._row()
        pairs = self.questions.query(rnd, name)
        if rnd.random() < 0.05:
            name = self._row("Observation", "Encounter", "Condition")
            pairs = [("patient:mdm", self._row("Patient")[1]), *self.questions.shape(rnd, name)]
        if self.caller.purpose_of_use == "BTG":
            name, pairs = self._in_emergency(name, pairs)
        if rnd.random() < 0.04:
            pairs.append((rnd.choice(("unknown", "code:x", "_has:x")), "1"))
        headers = (("prefer", "handling=lenient"),) if rnd.random() < 0.1 else ()
        text = urlencode(pairs, quote_via=quote)
        if rnd.random() < 0.15:
            form = (("content-type", "application/x-www-form-urlencoded"),)
            return Request("POST", f"/fhir/{name[0]}/_search", form + headers, text)
        return Request("GET", f"/fhir/{name[0]}?{text}", headers)

    def _around(self) -> Request:
        """What belongs to a row, the newest of each code, or who a person may be."""
        rnd = self.rnd
        patient = "absent" if rnd.random() < 0.08 else self._row("Patient")[1]
        centre = rnd.choice(
            (f"Patient/{patient}", f"Patient/{patient}", "/".join(self._row("Encounter", "Practitioner")))
        )
        shape = rnd.choice(("", "?_count=1", "?_count=3", "?_type=Observation,Patient", "?_count=2&_type=Observation"))
        chosen = rnd.random()
        if chosen < 0.35:
            more = rnd.choice(("", "", "_mdm=true", "start=2020-01-01", "_since=2020-01-01", "end=2023-06-01"))
            query = f"{shape}{'&' if shape else '?'}{more}" if more and centre.startswith("Patient/") else shape
            return Request("GET", f"/fhir/{centre}/$everything{query}")
        if chosen < 0.45:
            return Request("GET", f"/fhir/Patient/$everything{shape}")
        if chosen < 0.6:
            return Request("GET", f"/fhir/{centre}/*{shape}")
        if chosen < 0.75:
            name = self._row("Observation", "Encounter", "Condition", "Procedure")
            pairs = self.questions.query(rnd, name)
            return Request("GET", f"/fhir/{centre}/{name[0]}?{urlencode(pairs, quote_via=quote)}")
        if chosen < 0.88:
            pairs = [rnd.choice((("patient", patient), ("patient:mdm", patient))), ("max", rnd.choice(("1", "2", "9")))]
            return Request("GET", f"/fhir/Observation/$lastn?{urlencode(pairs)}")
        described = body_of(self.oracle.rows[self._row("Patient")].current.resource)
        kept = {name: value for name, value in described.items() if name == "resourceType" or rnd.random() < 0.8}
        return Request("POST", "/fhir/Patient/$match", JSON_BODY, json.dumps(kept))

    def _tried(self) -> Request:
        """A write that is only tried: to a row that is there or absent, about persons whom its body names."""
        rnd, (kind, identity) = self.rnd, self._row()
        address = f"/fhir/{kind}/{identity if rnd.random() < 0.9 else 'absent'}/$validate"
        if rnd.random() < 0.3:
            return Request("POST", f"{address}?mode=delete")
        resource = self.oracle.rows[kind, identity].current.resource
        body = body_of(resource) if resource is not None else {"resourceType": kind}
        if rnd.random() < 0.4:
            return Request("POST", f"/fhir/{kind}/$validate?mode=create", JSON_BODY, json.dumps(body))
        return Request("POST", f"{address}?mode=update", JSON_BODY, json.dumps(body | {"id": identity}))

    def _changes(self) -> Request:
        """The history of a type or of the system."""
        rnd = self.rnd
        where = rnd.choice(("", f"/{self._row()[0]}"))
        pairs = [("_count", rnd.choice(("2", "7", "50")))]
        if rnd.random() < 0.5:
            pairs.append(rnd.choice((("_since", "2020-01-01"), ("_at", "2100-01-01"), ("_sort", "_lastUpdated"))))
        return Request("GET", f"/fhir{where}/_history?{urlencode(pairs)}")

    def _log(self) -> Request:
        asked = self.rnd.choice(("", "_count=3", "action=C", "date=ge2020-01-01", f"patient={self._row('Patient')[1]}"))
        return Request("GET", f"/fhir/AuditEvent?{asked}")

    def _in_emergency(self, name: Name, pairs: list[Pair]) -> tuple[Name, list[Pair]]:
        """A search names one person whose record is open where emergencies count, and nobody where they do not."""
        naming = ("patient", "subject")
        kept = [
            pair
            for pair in pairs
            if pair[0].split(":")[0] not in naming and not (name[0] == "Patient" and pair[0] == "_id")
        ]
        if not any(each.emergency for each in self.views):
            return name, kept
        fitting = [
            each for each in self.questions.names if each[0] in ("Observation", "Condition", "Encounter", "Procedure")
        ]
        name = self.rnd.choice([each for each in fitting if each[0] == name[0]] or fitting)
        patient = self.rnd.choice(self.oracle.opened_by(self.caller.subject))
        more = [self.questions.clause(self.rnd, name), *self.questions.shape(self.rnd, name)]
        return name, [("patient", patient), *(pair for pair in more if pair[0].split(":")[0] not in naming)]

    # ---- writes ------------------------------------------------------------------------------------------------------

    def write(self) -> Request:
        """A create, update, delete, batch or transaction, conditional ones among them."""
        rnd = self.rnd
        chosen = rnd.random()
        if chosen < 0.25:
            return self._bundle()
        return self._single(chosen)

    def _single(self, chosen: float) -> Request:
        rnd = self.rnd
        headers = list(JSON_BODY)
        if rnd.random() < 0.3:
            headers.append(("prefer", f"return={rnd.choice(('minimal', 'representation', 'OperationOutcome'))}"))
        if rnd.random() < 0.2:
            headers.append(("if-match", rnd.choice(('W/"1"', 'W/"2"', 'W/"9"'))))
        kind = "Consent" if "resident" in self.caller.roles and rnd.random() < 0.5 else None
        name = self._row(*((kind,) if kind else _WRITABLE))
        if chosen < 0.4:
            if rnd.random() < 0.7:
                headers.append(("if-none-exist", urlencode([self.questions.clause(rnd, name)], quote_via=quote)))
            return Request("POST", f"/fhir/{name[0]}", tuple(headers), json.dumps(self._new(name)))
        if chosen < 0.6:
            return Request(
                "PUT", f"/fhir/{name[0]}/{name[1]}", tuple(headers), json.dumps(self._changed(name, name[1]))
            )
        if chosen < 0.75:
            query = urlencode(self._condition(name), quote_via=quote)
            identity = name[1] if rnd.random() < 0.3 else None
            return Request("PUT", f"/fhir/{name[0]}?{query}", tuple(headers), json.dumps(self._changed(name, identity)))
        if chosen < 0.82:
            patch = json.dumps([{"op": "add", "path": "/language", "value": "zh"}])
            query = f"?{urlencode(self._condition(name), quote_via=quote)}" if rnd.random() < 0.4 else f"/{name[1]}"
            form = ("content-type", "application/json-patch+json")
            return Request("PATCH", f"/fhir/{name[0]}{query}", (form, *headers[1:]), patch)
        if chosen < 0.91:
            return Request("DELETE", f"/fhir/{name[0]}/{name[1]}", tuple(headers[1:]))
        return Request(
            "DELETE", f"/fhir/{name[0]}?{urlencode(self._condition(name), quote_via=quote)}", tuple(headers[1:])
        )

    def _condition(self, name: Name) -> list[Pair]:
        pairs = [self.questions.clause(self.rnd, name)]
        return [("_id", name[1])] if self.rnd.random() < 0.25 else pairs

    def _new(self, name: Name) -> Json:
        return body_of(self.oracle.rows[name].current.resource)

    def _changed(self, name: Name, identity: str | None) -> Json:
        changed = body_of(self.oracle.rows[name].current.resource) | {"language": "zh"}
        return changed | ({"id": identity} if identity else {})

    def _bundle(self) -> Request:
        rnd = self.rnd
        kind = rnd.choice(("batch", "transaction"))
        reads = self.interactions == {"read", "search", "write"}
        # the entries of a batch are written in no order: more than one write would make rows of uncertain order
        entries = [self._entry(place, reads=reads) for place in range(1 if kind == "batch" else rnd.randrange(1, 4))]
        if kind == "batch" and reads and self.caller.purpose_of_use != "BTG":
            entries += [self._get() for _ in range(rnd.randrange(0, 3))]
        if (
            kind == "transaction"
            and rnd.random() < 0.5
            and (patients := [each for each in self.questions.names if each[0] == "Patient"])
        ):
            identifier = self.oracle.rows[rnd.choice(patients)].current.resource["identifier"][0]
            link = f"Patient?identifier={identifier['system']}|{identifier['value']}"
            resource = self._new(self._row("Observation")) | {"subject": {"reference": link}}
            entries.append({"resource": resource, "request": {"method": "POST", "url": "Observation"}})
        return Request(
            "POST", "/fhir", JSON_BODY, json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})
        )

    def _get(self) -> Json:
        asked = self.read() if self.rnd.random() < 0.5 else self.search()
        while asked.method != "GET" or "AuditEvent" in asked.target or asked.target.split("?")[0].endswith("_history"):
            asked = self.search()
        return {"request": {"method": "GET", "url": asked.target.removeprefix("/fhir/")}}

    def _entry(self, place: int, *, reads: bool) -> Json:
        rnd = self.rnd
        chosen = rnd.random()
        name = self._row(*_WRITABLE)
        if reads and chosen < 0.35 and self.caller.purpose_of_use != "BTG":
            return self._get()
        if chosen < 0.6:
            request = {"method": "POST", "url": name[0]}
            if rnd.random() < 0.6:
                request["ifNoneExist"] = urlencode([self.questions.clause(rnd, name)], quote_via=quote)
            return {
                "fullUrl": f"urn:uuid:00000000-0000-4000-8000-00000000000{place}",
                "resource": self._new(name),
                "request": request,
            }
        if chosen < 0.8:
            conditional = rnd.random() < 0.5
            url = f"{name[0]}?{urlencode(self._condition(name), quote_via=quote)}" if conditional else "/".join(name)
            return {
                "resource": self._changed(name, None if conditional else name[1]),
                "request": {"method": "PUT", "url": url},
            }
        return {"request": {"method": "DELETE", "url": "/".join(name)}}
