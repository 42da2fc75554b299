"""first-hospital's side of the demo: its registrations, visits and results as HL7 v2.5.1 messages."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from kanglian.demo.region import (
    CHINA,
    CITY,
    COUNTY,
    DIAGNOSES,
    LABORATORY,
    PROVINCE,
    Measurement,
    Resident,
    Visit,
)

IDENTITY_CARD = "2.16.156.10011.1.3"
_HOSPITAL = "first-hospital"


def _stamp(at: datetime) -> str:
    return at.strftime("%Y%m%d%H%M%S+0800")


class _Writer:
    def __init__(self) -> None:
        self.count = 0

    def message(self, kind: str, at: datetime, *segments: str) -> bytes:
        """Join segments behind an MSH; every second message is in GB 18030, the others in UTF-8."""
        self.count += 1
        character_set, encoding = ("GB 18030-2000", "gb18030") if self.count % 2 else ("UNICODE UTF-8", "utf-8")
        header = (
            f"MSH|^~\\&|HIS|{_HOSPITAL}|KANGLIAN|REGION|{_stamp(at)}||{kind}|D{self.count:06d}|P|2.5.1"
            f"||||||{character_set}"
        )
        return ("\r".join((header, *segments)) + "\r").encode(encoding)


def _pid(resident: Resident, record_number: str) -> str:
    identifiers = f"{record_number}^^^{_HOSPITAL}^MR~{resident.identity_number}^^^&{IDENTITY_CARD}&ISO^NNCHN"
    name = f"{resident.family}^{resident.given}^^^^^L"
    address = f"{resident.street}^{resident.township.name}^{CITY}^{PROVINCE}^^CHN^H^^{COUNTY}"
    sex = "M" if resident.sex == "male" else "F"
    return f"PID|1||{identifiers}||{name}||{resident.born:%Y%m%d}|{sex}|||{address}||^PRN^CP^^^^{resident.phone}"


def _pv1(visit: Visit) -> str:
    patient_class = "I" if visit.kind == "inpatient" else "O"
    fields = [""] * 45
    fields[0:2] = ["1", patient_class]
    fields[2] = "内科^101^1^first-hospital" if visit.kind == "inpatient" else "门诊^^^first-hospital"
    fields[6] = "D001^王^建国^^^^^^first-hospital"
    fields[18] = f"{visit.number}^^^first-hospital^VN"
    fields[43:45] = [_stamp(visit.start), _stamp(visit.end)]
    return "PV1|" + "|".join(fields)


def _obx(position: int, measurement: Measurement) -> str:
    analyte = LABORATORY[measurement.interest]
    kind = "NM" if analyte.low is not None else "ST"
    bounds = f"{analyte.low}-{analyte.high}" if analyte.low is not None else ""
    flag = ""
    if analyte.low is not None and analyte.high is not None:
        value = float(measurement.value)
        flag = "L" if value < float(analyte.low) else "H" if value > float(analyte.high) else "N"
    unit = f"{analyte.unit}^{analyte.unit}^UCUM" if analyte.unit else ""
    return (
        f"OBX|{position}|{kind}|{analyte.loinc}^{analyte.text}^LN||{measurement.value}|{unit}|{bounds}|{flag}"
        f"|||F|||{_stamp(measurement.at)}"
    )


def messages_of_first_hospital(people: list[Resident]) -> Iterator[bytes]:
    """All messages in the order in which the hospital would have sent them, the merge last."""
    writer = _Writer()
    events = sorted(
        ((visit, resident) for resident in people for visit in resident.visits if visit.hospital == _HOSPITAL),
        key=lambda pair: (pair[0].start, pair[0].number),
    )
    for visit, resident in events:
        yield from _visit(writer, resident, visit)
    for resident in people:
        if resident.registered_twice:
            yield from _registered_twice(writer, resident)


def _visit(writer: _Writer, resident: Resident, visit: Visit) -> Iterator[bytes]:
    pid, pv1 = _pid(resident, resident.record_number("first-hospital")), _pv1(visit)
    diagnoses = [f"DG1|{i}||{code}^{DIAGNOSES[code]}^I10|||F" for i, code in enumerate(visit.diagnoses, 1)]
    event = "A01^ADT_A01" if visit.kind == "inpatient" else "A04^ADT_A01"
    code = event.split("^", maxsplit=1)[0]
    yield writer.message(f"ADT^{event}", visit.start, f"EVN|{code}|{_stamp(visit.start)}", pid, pv1, *diagnoses)
    if visit.measurements:
        at = visit.measurements[0].at
        order = f"{visit.number}-1"
        obr = f"OBR|1|{order}^HIS|{order}^LIS|LAB^检验^L|||{_stamp(at)}|||||||||D001^王^建国||||||{_stamp(at)}||LAB|F"
        observations = [_obx(i, m) for i, m in enumerate(visit.measurements, 1)]
        yield writer.message(
            "ORU^R01^ORU_R01", at + timedelta(hours=2), pid, pv1, f"ORC|RE|{order}^HIS|{order}^LIS", obr, *observations
        )
    if visit.kind == "inpatient":
        yield writer.message("ADT^A03^ADT_A03", visit.end, f"EVN|A03|{_stamp(visit.end)}", pid, pv1)


def _registered_twice(writer: _Writer, resident: Resident) -> Iterator[bytes]:
    at = datetime.combine(resident.visits[-1].start.date(), datetime.min.time(), CHINA) + timedelta(hours=9)
    old_number = f"F9{resident.number:05d}"
    evn = f"EVN|A04|{_stamp(at)}"
    yield writer.message("ADT^A04^ADT_A01", at, evn, _pid(resident, old_number), "PV1|1|N")
    merged = at + timedelta(hours=3)
    yield writer.message(
        "ADT^A40^ADT_A39",
        merged,
        f"EVN|A40|{_stamp(merged)}",
        _pid(resident, resident.record_number("first-hospital")),
        f"MRG|{old_number}^^^{_HOSPITAL}^MR",
    )
