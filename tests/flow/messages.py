"""HL7 v2 messages of first-hospital about people of its own, each with a record number that nobody had before."""

from dataclasses import dataclass
from itertools import count

from hospital_adapters.feeds import Feed
from hospital_adapters.hl7v2.convert import convert
from hospital_adapters.hl7v2.parse import Message, parse

FEED = Feed("first-hospital", "first-hospital", "hl7v2")
IDENTITY_CARD = "2.16.156.10011.1.3"
_numbers = count(1)
_controls = count(1)
_COMPLETE = 6
DAY = "20261120"


@dataclass(frozen=True)
class Person:
    """A person as first-hospital knows him."""

    record: str
    family: str = "陈"
    given: str = "静"
    born: str = "19800101"
    sex: str = "F"
    identity_number: str = ""

    def pid(self, *, given: str | None = None) -> str:
        numbers = f"{self.record}^^^first-hospital^MR"
        if self.identity_number:
            numbers += f"~{self.identity_number}^^^&{IDENTITY_CARD}&ISO^NNCHN"
        return f"PID|1||{numbers}||{self.family}^{given or self.given}^^^^^L||{self.born}|{self.sex}"

    @property
    def patient(self) -> str:
        """The id of the Patient that this person's messages make."""
        message = parse(adt(self, "A04"))
        assert isinstance(message, Message)
        conversion = convert(message, FEED)
        assert not hasattr(conversion, "cause")
        return conversion.patients[0].removeprefix("Patient/")  # type: ignore[union-attr]  # no problem, as asserted


def somebody(**members: str) -> Person:
    """A person with a record number of his own."""
    return Person(f"FT{next(_numbers):06d}", **members)


def pv1(person: Person, visit: str = "1", *, discharged: str = "") -> str:
    fields = [""] * 45
    fields[0:3] = ["1", "I", "内科^101^1^first-hospital"]
    fields[18] = f"{person.record}-{visit}^^^first-hospital^VN"
    fields[43:45] = [f"{DAY}080000+0800", discharged]
    return "PV1|" + "|".join(fields)


def message(
    kind: str,
    *segments: str,
    at: str = f"{DAY}090000+0800",
    control: str | None = None,
    accept: str = "",
    application: str = "",
    charset: str = "UNICODE UTF-8",
    sender: str = "HIS",
) -> bytes:
    """Segments behind an MSH; the bytes are in the character set that MSH-18 names."""
    control = control or f"FLOW{next(_controls):06d}"
    header = (
        f"MSH|^~\\&|{sender}|first-hospital|KANGLIAN|REGION|{at}||{kind}|{control}|P|2.5.1|||{accept}|{application}"
        f"||{charset}"
    )
    encoding = "gb18030" if charset.startswith("GB") else "utf-8"
    return ("\r".join((header, *segments)) + "\r").encode(encoding)


def adt(person: Person, event: str, *more: str, at: str = f"{DAY}090000+0800", given: str | None = None) -> bytes:
    """An admission, registration, discharge or update."""
    discharged = at if event == "A03" else ""
    segments = (
        f"EVN|{event}|{at}|||| {at}".replace(" ", ""),
        person.pid(given=given),
        pv1(person, discharged=discharged),
    )
    return message(f"ADT^{event}", *segments, *more, at=at)


def result(
    person: Person,
    order: str = "1",
    *,
    value: str = "4.20",
    at: str = f"{DAY}091500+0800",
    code: str = "2823-3^血钾^LN",
    visit: bool = True,
    **header: str,
) -> bytes:
    """A potassium result of the person's, by default, with reference range and interpretation."""
    number = f"{person.record}-{order}"
    segments = [
        person.pid(),
        *([pv1(person)] if visit else []),
        f"ORC|RE|{number}^HIS|{number}^LIS",
        f"OBR|1|{number}^HIS|{number}^LIS|24326-1^电解质^LN|||{at}|||||||||||||||{at}||LAB|F",
        f"OBX|1|NM|{code}||{value}|mmol/L^mmol/L^UCUM|3.5-5.3|N|||F|||{at}",
    ]
    return message("ORU^R01^ORU_R01", *segments, at=at, **header)


def merge(survivor: Person, retired: Person, *, at: str = f"{DAY}120000+0800") -> bytes:
    """A40: `retired`'s record number becomes `survivor`'s."""
    return message(
        "ADT^A40^ADT_A39",
        f"EVN|A40|{at}",
        survivor.pid(),
        f"MRG|{retired.record}^^^first-hospital^MR",
        at=at,
    )
