"""township-clinic's side of the demo: its visits and referrals as two CSV files in GB 18030."""

import csv
import io

from kanglian.demo.region import CHINA, DIAGNOSES, HOSPITALS, Resident, Visit

_HOSPITAL = "township-clinic"
_MINUTES = "%Y-%m-%d %H:%M"
_MEASURED = {"收缩压": "systolic", "舒张压": "diastolic", "空腹血糖": "glucose", "糖化血红蛋白": "hba1c"}


def _written(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode("gb18030")


def _person(resident: Resident) -> dict[str, str]:
    return {
        "病历号": resident.record_number("township-clinic"),
        "姓名": resident.family + resident.given,
        "出生日期": resident.born.isoformat(),
        "身份证号": resident.identity_number,
    }


def _visit(resident: Resident, visit: Visit) -> dict[str, str]:
    measured = {m.interest: m.value for m in visit.measurements}
    code = visit.diagnoses[0]
    return {
        "就诊号": visit.number,
        **_person(resident),
        "性别": "男" if resident.sex == "male" else "女",
        "电话": resident.phone,
        "乡镇": resident.township.name,
        "街道": resident.street,
        "就诊时间": visit.start.astimezone(CHINA).strftime(_MINUTES),
        "结束时间": visit.end.astimezone(CHINA).strftime(_MINUTES),
        "就诊类型": "复诊" if visit.kind == "follow-up" else "初诊",
        "诊断编码": code,
        "诊断名称": DIAGNOSES[code],
        **{column: measured.get(interest, "") for column, interest in _MEASURED.items()},  # type: ignore[call-overload]  # interests are plain texts here
    }


def visits_of_township_clinic(people: list[Resident]) -> bytes:
    """The file for the feed `township-clinic-visits`, oldest visit first."""
    visits = [(visit, resident) for resident in people for visit in resident.visits if visit.hospital == _HOSPITAL]
    visits.sort(key=lambda pair: (pair[0].start, pair[0].number))
    return _written([_visit(resident, visit) for visit, resident in visits])


def referrals_of_township_clinic(people: list[Resident]) -> bytes:
    """The file for the feed `township-clinic-referrals`."""
    names = {hospital.identifier: hospital.name for hospital in HOSPITALS}
    return _written(
        [
            {
                "转诊单号": referral.number,
                **_person(resident),
                "转诊时间": referral.at.strftime(_MINUTES),
                "转往": names[referral.receiver],
                "诊断编码": referral.diagnosis,
            }
            for resident in people
            for referral in resident.referrals
            if referral.sender == _HOSPITAL
        ]
    )
