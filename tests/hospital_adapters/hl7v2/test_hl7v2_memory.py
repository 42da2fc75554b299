"""What is remembered of fields changes no message: each becomes what it becomes to a converter that met no other."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from ehr import json_text
from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2 import memory
from hospital_adapters.hl7v2.convert import Conversion, convert
from hospital_adapters.hl7v2.memory import Copies, copied, maker
from hospital_adapters.hl7v2.parse import Message, parse
from tests.hospital_adapters.hl7v2.hl7v2_messages import message_text

LOCATION = "OPD&1.2.3&ISO^7^1^H^{}^C^B2^3^the ward^W7&own"
STAY = [
    "PID|1|7|A1^^^H&1.2.3&ISO^MR~A2^^^^XX|B|Wang^Wei&Own^^^^^L~王^伟|M|19700101|{}^text^X|Alias|2106-3^W^HL70005^w^W^L",
    "PD1||||D1^Wang^Jianguo&a&b|||||||||||Y",
    "NK1|1|Li^Na|SPO^Spouse^HL70063|Street&1&2^^Town^^^CHN|(010)555~^NET^Internet^a@b.cn",
    f"PV1|1|{{}}|{LOCATION}|||{LOCATION}|D1^Wang^Jianguo~D2^Li|||MED|||||||||V1^^^H^VN||||||||||||||||||||||||||20240101",
    "DG1|1|{}|D50^Anaemia~D51||20240101|A",
    "DG1|2||D50^Anaemia^I10~D51||20240101|A",
    "PR1|1|{}|P1^Procedure||20240101",
]
RESULT = [
    "ORC|RE|O1^HIS|F1^LIS&1.2&ISO||CM||||20240101|||D1^Wang^Jianguo|||||||||ORG^^^^^H|Street^^Town",
    "OBR|1|O1^HIS|F1^LIS&1.2&ISO|24326-1^Electrolytes^LN~more|{}||20240101||2^mL||||||Blood&Blood^Add|D1^Wang|||||||F",
    "OBX|1|NM|2823-3^K^LN^k^Kalium^L||{}|mmol/L|3.5-5.3|{}~H|||F|||20240101||T1^Who|M1^m~M2|DEV^a^1.2^ISO",
    "OBX|2|CWE|883-9^ABO^LN||{}^text^L||||||F||||||M1^m~M2",
    "NTE|1||a note~and more",
    "SPM|1|S1&HIS^S2&LIS||119364003^Serum^SCT|||||||P||||||20240101",
]
WORDS = ("M", "4.1", "20240101", "A^^^H", "", '""', "Y", "I", "D1^Wang^Jianguo", "1&2^3~4", "R\\S\\x", "I10", "no  one")


def outcome(text: bytes, feed: Feed) -> tuple[object, ...]:
    message = parse(text)
    assert isinstance(message, Message)
    made = convert(message, feed)
    assert isinstance(made, Conversion)
    assert [json_text.encode(entry["resource"]) for entry in made.bundle["entry"]] == list(made.bodies)
    return json_text.encode(made.bundle), made.order_keys, made.loss, made.warnings, made.patients


def messages(chance: random.Random, amount: int) -> list[bytes]:
    """Messages of a few patients, some of whose fields say something else each time, in segments of any order."""
    made = []
    for _ in range(amount):
        kind, lines = chance.choice((("ADT^A01", STAY), ("ORU^R01", [STAY[0], STAY[3], *RESULT])))
        chosen = [lines[0], *(line for line in lines[1:] if chance.random() < 0.8)]
        chosen += chance.sample(chosen[1:], chance.randrange(2)) if len(chosen) > 1 else []
        made.append(message_text(kind, *(_changed(line, chance) for line in chosen)).encode())
    return made


def _changed(line: str, chance: random.Random) -> str:
    fields = line.replace("{}", chance.choice(WORDS)).split("|")
    for _ in range(chance.choice((0, 0, 1, 2))):
        fields[chance.randrange(2, len(fields))] = chance.choice(WORDS)
    return "|".join(fields)


@pytest.mark.parametrize("most", [memory.MOST, 7])
def test_what_other_messages_said_changes_nothing(feed: Feed, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST", most)
    sent = messages(random.Random(most), 150)  # noqa: S311 - repeatable, not secret
    alone = [outcome(text, replace(feed)) for text in sent]
    experienced = replace(feed)
    for _ in range(2):
        assert [outcome(text, experienced) for text in sent] == alone


def test_each_feed_remembers_for_itself(feed: Feed) -> None:
    text = message_text("ADT^A01", STAY[0].replace("{}", "X"), STAY[3].replace("{}", "Q")).encode()
    other = replace(feed, organisation="other", code_maps={"PID-8": {"X": "M"}})
    alone = outcome(text, replace(feed)), outcome(text, replace(other))
    for _ in range(3):
        assert (outcome(text, feed), outcome(text, other)) == alone


def test_what_is_made_of_a_copy_stays_there() -> None:
    value = {
        "coding": [{"code": "a\"'{}\n", "system": "s"}],
        "text": "t",
        "extension": [{"url": "u", "valueBoolean": True}],
    }
    copies = Copies(value)
    whole = json_text.encode(value)
    for _ in range(30):
        again = copies.next()
        assert json_text.encode(again) == whole
        _change(again)
    assert json_text.encode(value) == whole
    assert maker(value)() == copied(value) == value


def _change(value: object) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            _change(inner)
        value["more"] = 1
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            _change(inner)
        assert isinstance(value, list)
        value.append("more")
