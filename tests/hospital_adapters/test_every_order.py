"""Whatever the order in which messages come, the record ends the same (DESIGN 4.7).

Every permutation is tried on people of its own, through inbox and worker, on a real database. A scenario's messages
name people by a letter (`{a}`, `{b}`: record numbers, `{A}`: an identity card number).
"""

import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from consent import Consent
from ehr.keys import row_key
from ehr.store import Store, migrate
from ehr.store.bodies import open_body
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.parse import Message, parse
from hospital_adapters.mllp.door import inbox_message
from hospital_adapters.mllp.frames import Frame
from hospital_adapters.worker import ConversionWorker
from kanglian.demo.region import identity_number

pytestmark = pytest.mark.database
FIRST = Feed("first-hospital", "first-hospital", "hl7v2")
COUNTY = Feed("county-hospital", "county-hospital", "hl7v2")
CARD = "2.16.156.10011.1.3"
DIRECTORY = ("Organization", "Practitioner", "PractitionerRole", "Location")


@dataclass(frozen=True)
class Sent:
    """One message of a scenario: its feed, event, hour of the day, and segments behind MSH."""

    feed: Feed
    event: str
    hour: int
    segments: tuple[str, ...]

    def content(self, names: dict[str, str]) -> bytes:
        at = f"20260302{self.hour:02d}0000+0800"
        head = f"MSH|^~\\&|HIS|{self.feed.name}|K|R|{at}||{self.event}|{{a}}-{self.hour}|P|2.5.1||||||UNICODE UTF-8"
        segments = [head, *(["EVN||" + at] if self.event.startswith("ADT") else []), *self.segments]
        return "\r".join(segments).format_map(names).encode()


def pid(letter: str = "a", given: str = "静", *, card: bool = False) -> str:
    number = f"~{{{letter.upper()}}}^^^&{CARD}&ISO^NNCHN" if card else ""
    return f"PID|1||{{{letter}}}^^^H^MR{number}||陈^{given}^^^^^L||19800101|F"


def visit(letter: str = "a", *, discharged: str = "") -> str:
    return f"PV1|1|I|W^1^2^H||||D1^李||||||||||||{{{letter}}}V^^^H^VN" + "|" * 25 + f"20260302080000+0800|{discharged}"


def result(letter: str, value: str, status: str = "F") -> tuple[str, ...]:
    obr = f"OBR|1|{{{letter}}}O^HIS|{{{letter}}}O^LIS|718-7^Hb^LN|||20260302090000+0800"
    return (
        f"PID|1||{{{letter}}}^^^H^MR||陈",
        f"PV1|1|I|||||||||||||||||{{{letter}}}V^^^H^VN",
        f"{obr}|||||||||||||||20260302{9 if status == 'F' else 10:02d}0000+0800||LAB|{status}",
        f"OBX|1|NM|718-7^Hb^LN||{value}|g/L|120-160||||{status}",
    )


DISCHARGED = visit(discharged="20260302160000+0800")
STAY = (
    Sent(FIRST, "ADT^A01", 8, (pid(), visit(), "DG1|1||I10^高血压^I10|||A", "AL1|1|DA|PCN^青霉素^L")),
    Sent(FIRST, "ORU^R01", 9, result("a", "130")),
    Sent(FIRST, "ADT^A08", 10, (pid(given="婧"), visit(), "NK1|1|陈^父|FTH")),
    Sent(FIRST, "ORU^R01", 11, result("a", "103", "C")),
    Sent(FIRST, "ADT^A03", 16, (pid(given="婧"), DISCHARGED)),
)
MERGED = (
    Sent(FIRST, "ADT^A04", 8, (pid(card=True), visit())),
    Sent(FIRST, "ORU^R01", 10, result("b", "130")),
    Sent(FIRST, "ADT^A40", 12, (pid(card=True), "MRG|{b}^^^H^MR")),
    Sent(FIRST, "ADT^A08", 13, (pid("b", "婧"), visit("b"))),
    Sent(COUNTY, "ADT^A08", 14, (pid(card=True), visit())),
)
TWO_HOSPITALS = (
    Sent(FIRST, "ADT^A01", 8, (pid(card=True), visit())),
    Sent(FIRST, "ORU^R01", 9, result("a", "130")),
    Sent(COUNTY, "ADT^A04", 10, (pid(card=True), visit())),
    Sent(COUNTY, "ADT^A08", 11, (pid(given="婧"), visit())),
    Sent(COUNTY, "ORU^R01", 12, result("a", "103")),
)
SCENARIOS = {"a stay": STAY, "a merge": MERGED, "two hospitals": TWO_HOSPITALS}
PERSONS = {"a stay": 1, "a merge": 1, "two hospitals": 2}
"""In the last one county-hospital takes the identity card number back."""


class People:
    """Names of people that nobody had before."""

    def __init__(self) -> None:
        self._number = 0

    def somebody(self) -> dict[str, str]:
        self._number += 1
        card = identity_number("330199", date(1980, 1, 1), self._number, "female")
        return {"a": f"P{self._number:05d}A", "b": f"P{self._number:05d}B", "A": card}


class Record:
    """The record with its worker."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.people = People()
        self.worker = ConversionWorker(store, lambda: {feed.name: feed for feed in (FIRST, COUNTY)})

    async def take(self, messages: Sequence[tuple[Feed, bytes]]) -> None:
        await self.store.inbox.accept([inbox_message(feed, Frame(content)) for feed, content in messages])

    async def settle(self) -> None:
        while await self.worker.convert_waiting():
            pass

    async def ends(self, scenario: Sequence[Sent], names: dict[str, str]) -> dict[str, Any]:
        """What the record holds of these people, ids named by the place where the scenario first makes them."""
        ids = _ids(scenario, names)
        rows = await self.store.pool.fetch(
            """select r.id, r.type, r.body, r.dictionary, r.deleted, r.labels, r.holder, r.others, r.order_key,
              (select person from holder_person h where h.holder = r.holder) as person, r."class"
            from resource r where r.key = any($1::bigint[]) and r.key is not null""",
            [row_key(*reference.split("/")) for reference in ids],
        )
        persons = sorted({row["person"] for row in rows if row["person"] is not None})
        reach = await self.store.pool.fetch(
            "select organisation, source, kind, until from reach where person = any($1::bigint[]) order by 1, 2, 3",
            persons,
        )
        places = {reference.partition("/")[2]: f"<{place}>" for place, reference in enumerate(ids)}
        keys = {row_key(*reference.split("/")): place for place, reference in enumerate(ids)}
        found: dict[str, Any] = {"persons": len(persons), "reach": sorted(_named(row, keys) for row in reach)}
        for row in rows:
            resource = json.loads(open_body(row["body"], row["dictionary"]))
            del resource["meta"]["versionId"], resource["meta"]["lastUpdated"]
            text = json.dumps(resource, ensure_ascii=False, sort_keys=True)
            for name, place in {**places, **{value: f"<{key}>" for key, value in names.items()}}.items():
                text = text.replace(name, place)
            holders = sorted(keys[key] for key in [row["holder"], *(row["others"] or ())] if key)
            order = re.sub(r"P\d{5}", "P", row["order_key"])
            found[places[row["id"]]] = [json.loads(text), row["labels"], holders, row["class"], row["deleted"], order]
        return found


def _named(row: Any, keys: dict[int, int]) -> tuple[int, int, int, int]:
    return row["organisation"], keys.get(row["source"], -1), row["kind"], row["until"]


def _ids(scenario: Sequence[Sent], names: dict[str, str]) -> list[str]:
    """Addresses of what the messages make, in their order; shared directory entries left out."""
    found: dict[str, None] = {}
    for sent in scenario:
        message = parse(sent.content(names))
        assert isinstance(message, Message)
        conversion = convert(message, sent.feed)
        assert isinstance(conversion, Conversion)
        addresses = (entry["request"]["url"] for entry in conversion.bundle["entry"])
        found |= dict.fromkeys(address for address in addresses if not address.startswith(DIRECTORY))
    return list(found)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def record(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Record]:
    await migrate(database_url)
    decisions = Consent("cn-county")
    keys: Path = tmp_path_factory.mktemp("keys") / "index.key"
    store = await Store.open(database_url, keys_path=keys, projections=decisions.projections())
    await decisions.open(store)
    yield Record(store)
    await store.close()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_all_120_orders_end_the_same(record: Record, name: str) -> None:
    scenario = SCENARIOS[name]
    lives = [(order, record.people.somebody()) for order in permutations(range(len(scenario)))]
    for step in range(len(scenario)):
        sent = ((scenario[order[step]], names) for order, names in lives)
        await record.take([(each.feed, each.content(names)) for each, names in sent])
        await record.settle()
    whole = await record.ends(scenario, lives[0][1])
    assert whole["persons"] == PERSONS[name]
    assert whole["reach"], "an Encounter opens reach"
    for order, names in lives[1:]:
        assert await record.ends(scenario, names) == whole, f"order {order}"


@pytest.mark.parametrize("seed", [1, 2])
async def test_feeds_at_once_end_as_one_after_the_other(record: Record, seed: int) -> None:
    """Messages about the same people, of both feeds, lie in one batch: they are written concurrently."""
    chance = random.Random(seed)  # noqa: S311 - the same interleavings each run
    lives = [(scenario, record.people.somebody()) for scenario in SCENARIOS.values() for _ in range(8)]
    waiting = [(each.feed, each.content(names)) for scenario, names in lives for each in scenario]
    chance.shuffle(waiting)
    while waiting:
        number = chance.randint(1, 80)
        await record.take(waiting[:number])
        del waiting[:number]
        await record.worker.convert_waiting()
    await record.settle()
    for scenario in SCENARIOS.values():
        names = record.people.somebody()
        for each in scenario:
            await record.take([(each.feed, each.content(names))])
            await record.settle()
        whole = await record.ends(scenario, names)
        for other, others_names in lives:
            if other is scenario:
                assert await record.ends(scenario, others_names) == whole
