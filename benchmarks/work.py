"""The work that is measured: search mix, create-read-update-delete mix, HL7 v2 messages."""

import asyncio
import json
import random
import time
import uuid
from typing import Any
from urllib.parse import quote

from load_client import Outcome, Request, run
from peer import Peer
from platform_process import Platform

_ACTIVE = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical", "code": "active"}]
}


def _resources(number: int) -> list[dict[str, Any]]:
    patient = {"reference": f"Patient/crud-{number}"}
    coded = {"coding": [{"system": "http://loinc.org", "code": "718-7"}], "text": "Haemoglobin"}
    return [
        {"resourceType": "Patient", "name": [{"family": f"Family{number}", "given": ["Anna"]}],
         "birthDate": "1970-01-01"},
        {"resourceType": "Practitioner", "name": [{"family": f"Doctor{number}"}]},
        {"resourceType": "Organization", "name": f"Clinic {number}"},
        {"resourceType": "Encounter", "status": "finished", "class": {"code": "AMB"}, "subject": patient},
        {
            "resourceType": "Observation",
            "status": "final",
            "code": coded,
            "subject": patient,
            "effectiveDateTime": "2026-01-02T03:04:05+08:00",
            "valueQuantity": {"value": 14.5, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL"},
        },
        {"resourceType": "Condition", "subject": patient, "code": coded},
        {"resourceType": "Procedure", "status": "completed", "subject": patient, "code": coded},
        {"resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": patient,
         "medicationCodeableConcept": coded},
        {"resourceType": "AllergyIntolerance", "patient": patient, "code": coded, "clinicalStatus": _ACTIVE},
    ]  # fmt: skip


async def crud_requests(base: str, token: str, amount: int, clients: int) -> Outcome:
    """`amount` resources of nine types: create, read, update, read, delete, each client one at a time."""
    prefix = uuid.uuid4().hex[:8]
    bodies = []
    for number in range(amount):
        resource = _resources(number)[number % 9]
        bodies.append(resource | {"id": f"{prefix}-{number}"})
    total = Outcome()
    stages = (
        lambda r: Request("PUT", f"/fhir/{r['resourceType']}/{r['id']}", json.dumps(r).encode(), (201,)),
        lambda r: Request("GET", f"/fhir/{r['resourceType']}/{r['id']}"),
        lambda r: Request(
            "PUT", f"/fhir/{r['resourceType']}/{r['id']}", json.dumps(r | {"language": "en"}).encode(), (200,)
        ),
        lambda r: Request("GET", f"/fhir/{r['resourceType']}/{r['id']}"),
        lambda r: Request("DELETE", f"/fhir/{r['resourceType']}/{r['id']}", b"", (200, 204)),
    )
    started = time.perf_counter()
    for stage in stages:
        outcome = await run(base, token, [stage(body) for body in bodies], clients)
        total.seconds += outcome.seconds
        total.errors += outcome.errors
    total.wall_s = time.perf_counter() - started
    return total


async def search_requests(platform: Platform | Peer, token: str, amount: int) -> list[Request]:
    """Searches with values sampled from the data."""
    chance = random.Random(2)  # noqa: S311 - a reproducible sample
    patients, observations = await asyncio.gather(
        platform.resources("/fhir/Patient?address-country=US&_count=200", token),
        platform.resources("/fhir/Observation?patient.address-country=US&_count=500", token),
    )
    quantities = [o for o in observations if "valueQuantity" in o]

    def person() -> Any:
        return chance.choice(patients)

    def seen() -> Any:
        return chance.choice(quantities)

    def code(resource: Any) -> str:
        return quote(f"http://loinc.org|{resource['code']['coding'][0]['code']}", safe="")

    kinds = {
        "name": lambda: f"Patient?name={quote(person()['name'][0].get('family', 'Wang')[:5])}",
        "address:contains": lambda: (
            f"Patient?address:contains={quote(person()['address'][0].get('city', 'Boston')[1:5])}"
        ),
        "birth date": lambda: f"Patient?birthdate=ge{person()['birthDate']}",
        "observation date": lambda: f"Observation?date=ge{seen()['effectiveDateTime'][:10]}",
        "category": lambda: "Observation?category=laboratory",
        "code and value": lambda: (
            f"Observation?code={code(seen())}&value-quantity=gt{seen()['valueQuantity']['value']}"
        ),
        "person and code": lambda: f"Observation?{_subject(seen())}&code={code(seen())}",
        "chain": lambda: (
            f"Observation?patient.family={quote(person()['name'][0].get('family', 'Wang'))}&code={code(seen())}"
        ),
        "_has": lambda: f"Patient?_has:Observation:patient:code={code(seen())}",
        "include": lambda: f"Observation?code={code(seen())}&_include=Observation:patient",
        "sort": lambda: f"Observation?code={code(seen())}&_sort=-date",
        "total": lambda: f"Observation?code={code(seen())}&_total=accurate",
    }

    def _subject(resource: Any) -> str:
        return f"patient={resource['subject']['reference']}"

    names = list(kinds)
    return [
        Request("GET", f"/fhir/{kinds[name]()}&_count=20", headers=(("X-Kind", name),))
        for name in (names[n % len(names)] for n in range(amount))
    ]


def mllp_messages(amount: int, start: int = 0) -> list[bytes]:
    """ADT A08 and ORU R01 of 500 patients, one ADT in four."""
    messages = []
    for number in range(start, start + amount):
        patient = number % 500
        header = (
            f"MSH|^~\\&|LIS|first-hospital|KANGLIAN|REGION|20260102{number % 24:02d}0000+0800||{{}}|B{number}|P|2.5.1"
        )
        pid = f"PID|1||B{patient}^^^first-hospital^MR||Test^Person{patient}||19700101|M|||Street 1^^Town^^^CHN"
        pv1 = f"PV1|1|O|OPD^^^first-hospital||||D1^Wang^Jianguo||||||||||||BV{patient}^^^first-hospital^VN"
        if number % 4 == 0:
            segments = [header.format("ADT^A08^ADT_A01"), "EVN|A08|20260102000000+0800", pid, pv1]
        else:
            results = [
                f"OBX|{n}|NM|{code}^{text}^LN||{4 + n / 10:.1f}|mmol/L^mmol/L^UCUM|3.5-5.3|N|||F|||20260102000000+0800"
                for n, (code, text) in enumerate((("2823-3", "K"), ("2951-2", "Na"), ("2075-0", "Cl")), 1)
            ]
            order = (
                f"OBR|1|O{number}^HIS|O{number}^LIS|24326-1^Electrolytes^LN|||20260102000000+0800|||||||||||||||||||F"
            )
            segments = [
                header.format("ORU^R01^ORU_R01"),
                pid,
                pv1,
                f"ORC|RE|O{number}^HIS|O{number}^LIS",
                order,
                *results,
            ]
        messages.append(("\r".join(segments) + "\r").encode())
    return messages
