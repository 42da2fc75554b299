"""A synthetic county: townships, residents with valid test identity numbers, illnesses, visits and results.

Pure and seeded: the same seed and day give the same county, whatever the machine. Nobody in it exists: the area code
of the identity numbers, 339901, was never given to a county.
"""

import random
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from typing import Literal

CHINA = timezone(timedelta(hours=8))
COUNTY = "清溪县"
CITY = "云州市"
PROVINCE = "浙江省"
AREA_CODE = "339901"
HospitalId = Literal["first-hospital", "county-hospital", "township-clinic"]


@dataclass(frozen=True, slots=True)
class Township:
    """A township with the position of its centre, WGS 84 degrees."""

    code: str
    name: str
    latitude: float
    longitude: float


TOWNSHIPS = (
    Township("339901100", "清溪镇", 29.6100, 119.0300),
    Township("339901101", "白云镇", 29.7400, 119.1200),
    Township("339901102", "石桥镇", 29.5200, 118.8900),
    Township("339901103", "梅林乡", 29.8000, 118.9500),
    Township("339901104", "竹山乡", 29.4300, 119.1800),
)


@dataclass(frozen=True, slots=True)
class Hospital:
    """A hospital, its place and its rank: referrals from a lower to a higher rank go up."""

    identifier: HospitalId
    name: str
    rank: int
    latitude: float
    longitude: float


HOSPITALS = (
    Hospital("first-hospital", "云州市第一医院", 3, 29.8900, 119.3300),
    Hospital("county-hospital", "清溪县人民医院", 2, 29.6120, 119.0350),
    Hospital("township-clinic", "白云镇卫生院", 1, 29.7400, 119.1200),
)

Interest = Literal["hba1c", "systolic", "diastolic", "glucose", "creatinine", "cholesterol", "haemoglobin", "hiv"]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One result: what was measured, when and how much (in the unit of `LABORATORY`), or a text."""

    interest: Interest
    at: datetime
    value: str


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit to a hospital; `number` is unique within the hospital."""

    hospital: HospitalId
    number: str
    start: datetime
    end: datetime
    kind: Literal["outpatient", "inpatient", "follow-up"]
    diagnoses: tuple[str, ...]
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class Referral:
    """One hospital sends the resident to another."""

    number: str
    sender: HospitalId
    receiver: HospitalId
    at: datetime
    diagnosis: str


@dataclass(slots=True)
class Resident:
    """One resident with everything that happened; `account` names those who can sign in."""

    number: int
    family: str
    given: str
    sex: Literal["male", "female"]
    born: date
    identity_number: str
    township: Township
    street: str
    phone: str
    account: str | None = None
    illnesses: tuple[str, ...] = ()
    visits: list[Visit] = field(default_factory=list)
    referrals: list[Referral] = field(default_factory=list)
    refuses: bool = False
    registered_twice: bool = False

    def record_number(self, hospital: HospitalId) -> str:
        """The hospital's own number of this patient."""
        prefix = {"first-hospital": "F", "county-hospital": "C", "township-clinic": "T"}[hospital]
        return f"{prefix}{100_000 + self.number}"


@dataclass(frozen=True, slots=True)
class Analyte:
    """How a measurement is coded, and its reference range."""

    loinc: str
    text: str
    unit: str
    low: str | None
    high: str | None


LABORATORY: dict[Interest, Analyte] = {
    "hba1c": Analyte("4548-4", "糖化血红蛋白", "%", "4.0", "6.0"),
    "systolic": Analyte("8480-6", "收缩压", "mm[Hg]", "90", "139"),
    "diastolic": Analyte("8462-4", "舒张压", "mm[Hg]", "60", "89"),
    "glucose": Analyte("14771-0", "空腹血糖", "mmol/L", "3.9", "6.1"),
    "creatinine": Analyte("14682-9", "肌酐", "umol/L", "57", "111"),
    "cholesterol": Analyte("14647-2", "总胆固醇", "mmol/L", "2.8", "5.2"),
    "haemoglobin": Analyte("718-7", "血红蛋白", "g/dL", "11.5", "17.5"),
    "hiv": Analyte("75622-1", "HIV 1+2 抗体/抗原", "", None, None),
}

DIAGNOSES = {"E11.9": "2型糖尿病", "I10": "原发性高血压", "J06.9": "急性上呼吸道感染", "K29.5": "慢性胃炎"}

_FAMILIES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢"
_GIVEN_MALE = "伟强磊军勇杰涛明超刚平辉鹏华飞鑫波斌宇浩凯健俊帆帅旭宁龙林欢"
_GIVEN_FEMALE = "芳娜敏静丽艳娟霞秀英慧巧美玲燕红云洁梅琳雪荣爱妹香月莺媛珍莉桂"
_STREETS = ("人民路", "解放街", "溪滨路", "文昌巷", "新村", "竹园路")


def identity_number(area_code: str, born: date, sequence: int, sex: str) -> str:
    """A number whose check character is right by GB 11643-1999; the sequence's last digit is odd for men."""
    order = sequence * 2 % 1000 + (1 if sex == "male" else 0)
    digits = f"{area_code}{born:%Y%m%d}{order:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return digits + "10X98765432"[sum(int(d) * w for d, w in zip(digits, weights, strict=True)) % 11]


def quarters(today: date) -> list[date]:
    """First days of the last eight calendar quarters; the present one counts once it is thirty days old."""
    number = today.year * 4 + (today.month - 1) // 3
    if (today - date(today.year, today.month - (today.month - 1) % 3, 1)).days < 30:
        number -= 1
    return [date(each // 4, each % 4 * 3 + 1, 1) for each in range(number - 7, number + 1)]


class _Maker:
    def __init__(self, seed: int, today: date) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a reproducible county, not a secret
        self.today = today
        self.visit_numbers = {hospital.identifier: 0 for hospital in HOSPITALS}

    def instant(self, day: date) -> datetime:
        """A moment of that day's consulting hours."""
        return datetime(
            day.year, day.month, day.day, self.random.randint(8, 16), self.random.randint(0, 59), tzinfo=CHINA
        )

    def resident(self, number: int) -> Resident:
        """A resident with name, address and identity number, without any history."""
        sex: Literal["male", "female"] = "male" if number % 2 else "female"
        given = _GIVEN_MALE if sex == "male" else _GIVEN_FEMALE
        born = date(1938, 1, 1) + timedelta(days=self.random.randint(0, 65 * 365))
        return Resident(
            number=number,
            family=self.random.choice(_FAMILIES),
            given="".join(self.random.sample(given, self.random.choice((1, 2, 2)))),
            sex=sex,
            born=born,
            identity_number=identity_number(AREA_CODE, born, number, sex),
            township=TOWNSHIPS[number % len(TOWNSHIPS)],
            street=f"{self.random.choice(_STREETS)}{self.random.randint(1, 199)}号",
            phone=f"199{self.random.randint(0, 99_999_999):08d}",
        )

    def visit(
        self,
        hospital: HospitalId,
        day: date,
        kind: Literal["outpatient", "inpatient", "follow-up"],
        diagnoses: tuple[str, ...],
        results: dict[Interest, str],
    ) -> Visit:
        """A visit of half an hour, or of four days for an inpatient, with its results."""
        self.visit_numbers[hospital] += 1
        start = self.instant(day)
        end = start + (timedelta(days=4) if kind == "inpatient" else timedelta(minutes=30))
        measurements = tuple(
            Measurement(interest, start + timedelta(minutes=10 + 2 * i), value)
            for i, (interest, value) in enumerate(results.items())
        )
        number = f"{hospital[0].upper()}V{self.visit_numbers[hospital]:06d}"
        return Visit(hospital, number, start, end, kind, diagnoses, measurements)

    def quarterly(self, resident: Resident, hospital: HospitalId) -> None:
        """A follow-up visit in each quarter of two years, with HbA1c and blood pressure as the illnesses ask."""
        controlled = self.random.random() < 0.5
        for begin in quarters(self.today):
            day = min(begin + timedelta(days=45 + self.random.randint(-20, 20)), self.today - timedelta(days=5))
            results: dict[Interest, str] = {}
            if "E11.9" in resident.illnesses:
                middle = 6.4 if controlled else 8.2
                results["hba1c"] = f"{max(4.8, self.random.gauss(middle, 0.5)):.1f}"
            if "I10" in resident.illnesses:
                middle = 128 if controlled else 150
                results["systolic"] = str(round(self.random.gauss(middle, 8)))
                results["diastolic"] = str(round(self.random.gauss(middle - 48, 6)))
            resident.visits.append(self.visit(hospital, day, "follow-up", resident.illnesses, results))

    def check_up(self, resident: Resident, hospital: HospitalId) -> None:
        """One visit with the common laboratory results."""
        day = self.today - timedelta(days=self.random.randint(10, 600))
        results: dict[Interest, str] = {
            "glucose": f"{self.random.gauss(5.2, 0.6):.1f}",
            "creatinine": f"{self.random.gauss(80, 12):.0f}",
            "cholesterol": f"{self.random.gauss(4.6, 0.7):.2f}",
            "haemoglobin": f"{self.random.gauss(14, 1.2):.1f}",
            "systolic": str(round(self.random.gauss(124, 9))),
        }
        kind: Literal["inpatient", "outpatient"] = "inpatient" if self.random.random() < 0.1 else "outpatient"
        diagnosis = self.random.choice(("J06.9", "K29.5"))
        resident.visits.append(self.visit(hospital, day, kind, (diagnosis,), results))

    def refer(self, resident: Resident, sender: HospitalId, receiver: HospitalId) -> None:
        """A visit at the sender, a referral, and a visit at the receiver some days later."""
        day = self.today - timedelta(days=self.random.randint(20, 80))
        diagnosis = resident.illnesses[0] if resident.illnesses else "K29.5"
        resident.visits.append(self.visit(sender, day, "outpatient", (diagnosis,), {"systolic": "146"}))
        number = f"R{resident.number:05d}"
        resident.referrals.append(Referral(number, sender, receiver, self.instant(day), diagnosis))
        later = day + timedelta(days=5)
        resident.visits.append(self.visit(receiver, later, "outpatient", (diagnosis,), {"glucose": "5.9"}))


def make_region(seed: int = 20_261, residents: int = 200, *, today: date) -> list[Resident]:
    """The county's residents with their histories, which end some days before `today`.

    Of 200: zhang.wei and liu.yang, who can sign in and were only ever at first-hospital; about 70 with diabetes and
    60 with hypertension, followed each quarter for two years; 60 referred up and 19 down; one registered twice (a merge
    follows), one HIV result, one who refuses to share. Smaller counties keep the proportions.
    """
    maker = _Maker(seed, today)
    people = [maker.resident(number) for number in range(1, residents + 1)]
    _name_accounts(people)
    for resident in people[:2]:
        maker.check_up(resident, "first-hospital")
        maker.check_up(resident, "first-hospital")
    for resident in people[2:]:
        _live(maker, resident)
    for resident in people[-2:]:
        maker.check_up(resident, "first-hospital")
    people[-1].refuses = True
    people[-2].registered_twice = True
    hiv_day = today - timedelta(days=70)
    people[-3].visits.append(maker.visit("first-hospital", hiv_day, "outpatient", ("K29.5",), {"hiv": "阳性"}))
    return people


def _name_accounts(people: list[Resident]) -> None:
    zhang, liu = people[0], people[1]
    zhang.family, zhang.given, zhang.account = "张", "伟", "zhang.wei"
    liu.family, liu.given, liu.account = "刘", "洋", "liu.yang"


def _live(maker: _Maker, resident: Resident) -> None:
    spread = resident.number % 20
    homes: tuple[HospitalId, ...] = ("first-hospital", "county-hospital", "township-clinic")
    home = homes[resident.number % 3]
    if spread < 7:
        resident.illnesses = ("E11.9", "I10") if spread < 2 else ("E11.9",)
    elif spread < 11:
        resident.illnesses = ("I10",)
    if resident.illnesses:
        maker.quarterly(resident, home)
    else:
        maker.check_up(resident, home)
    if resident.number % 5 == 0:
        maker.refer(resident, "township-clinic", "county-hospital")
    elif resident.number % 8 == 1:
        maker.refer(resident, "county-hospital", "township-clinic")
    elif resident.number % 8 == 3:
        maker.refer(resident, "county-hospital", "first-hospital")
