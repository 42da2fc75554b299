"""The demo county: what its readers and questions rest on."""

from collections import Counter
from datetime import date

import pytest

from kanglian.demo.region import HOSPITALS, Resident, make_region, quarters

DAY = date(2026, 11, 20)


def _quarters_of(resident: Resident, interest: str) -> Counter[tuple[int, int]]:
    days = [each.at for visit in resident.visits for each in visit.measurements if each.interest == interest]
    return Counter((day.year, (day.month - 1) // 3 + 1) for day in days)


@pytest.mark.parametrize("today", [date(2026, 11, 20), date(2027, 1, 3), date(2028, 2, 29)])
def test_sixty_diabetics_are_measured_in_each_quarter_of_two_years(today: date) -> None:
    people = make_region(today=today)
    wanted = {(begin.year, (begin.month - 1) // 3 + 1) for begin in quarters(today)}
    assert len(wanted) == 8
    diabetics = [resident for resident in people if "E11.9" in resident.illnesses]
    assert len([each for each in diabetics if set(_quarters_of(each, "hba1c")) == wanted]) >= 60
    assert max(visit.end.date() for resident in people for visit in resident.visits) <= today


def test_the_county_has_what_the_demo_promises() -> None:
    people = make_region(today=DAY)
    rank = {hospital.identifier: hospital.rank for hospital in HOSPITALS}
    referrals = [referral for resident in people for referral in resident.referrals]
    up = Counter((each.sender, each.receiver) for each in referrals if rank[each.sender] < rank[each.receiver])
    assert all(
        up[pair] >= 10 for pair in (("township-clinic", "county-hospital"), ("county-hospital", "first-hospital"))
    )
    assert sum(rank[each.sender] > rank[each.receiver] for each in referrals) >= 10
    assert [sum(resident.refuses for resident in people), sum(resident.registered_twice for resident in people)] == [
        1,
        1,
    ]
    assert sum(bool(_quarters_of(resident, "hiv")) for resident in people) == 1
    assert len({resident.identity_number for resident in people}) == 200


@pytest.mark.parametrize("residents", [20, 200])
def test_those_who_sign_in_were_at_first_hospital_only(residents: int) -> None:
    accounts = {each.account: each for each in make_region(residents=residents, today=DAY) if each.account}
    assert set(accounts) == {"zhang.wei", "liu.yang"}
    for resident in accounts.values():
        assert {visit.hospital for visit in resident.visits} == {"first-hospital"}
        assert sum(len(visit.measurements) for visit in resident.visits) >= 5
        assert not resident.referrals
        assert not resident.refuses
