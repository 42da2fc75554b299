"""Questions: those that come with the platform are understood, wrong ones are told by their key."""

from importlib.resources import files
from pathlib import Path
from typing import get_args

import pytest

from analytics import question
from analytics.question import Conditions, Question, read_question
from ehr.errors import Invalid


@pytest.mark.parametrize("name", ["diabetes-control", "patient-flow", "video-visits"])
def test_the_questions_that_come_with_it_are_understood(name: str) -> None:
    assert read_question(files("analytics").joinpath("questions", f"{name}.json").read_bytes()).title


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "not understood"),
        ('{"title": "x", "subject": "person", "where": {}, "group": []}', "group"),
        ('{"title": "x", "subject": "rows", "where": {}}', "subject"),
        ('{"title": "x", "subject": "person", "where": {}, "group_by": ["quarter"]}', "cannot be grouped by quarter"),
        ('{"title": "x", "subject": "person", "where": {}, "group_by": ["sex", "sex"]}', "at most 3 different"),
        ('{"title": "x", "subject": "person", "where": {"kind": ["a|b"]}}', "no 'kind'"),
        ('{"title": "x", "subject": "measurement", "where": {}}', "names their code"),
        ('{"title": "x", "subject": "person", "where": {"diagnosed": ["E11"]}}', "'E11'"),
        ('{"title": "x", "subject": "person", "where": {"diagnosed": ["a|b**"]}}', "is not of the form"),
        ('{"title": "x", "subject": "person", "where": {"age": {"from": 41}}}', "age: 41 is no bound"),
        ('{"title": "x", "subject": "person", "where": {"age": {"below": 64.5}}}', "age: 64.5"),
        ('{"title": "x", "subject": "encounter", "where": {"distance_km": {"from": 7}}}', "distance_km: 7 is not"),
        (
            '{"title": "x", "subject": "measurement", "where": {"code": ["a|b"], "value": {"from": 7.005}}}',
            "value: 7.005 has more than 3",
        ),
        (
            '{"title": "x", "subject": "person", "where": {"controlled": [{"code": "ab", "value": {}}]}}',
            "'ab' is not of the form",
        ),
        (
            '{"title": "x", "subject": "person", "where": {"measured": {"code": "a|b", "value": {"below": 11.13}}}}',
            "value: 11.13",
        ),
        ('{"title": "x", "subject": "encounter", "where": {}, "period": {"from": "2025", "below": "2026-01"}}', "2025"),
    ],
)
def test_a_wrong_question_is_told_by_its_key(text: str, cause: str) -> None:
    with pytest.raises(Invalid, match=cause.replace("*", r"\*").replace("|", r"\|")):
        read_question(text.encode())


def test_bounds_that_medicine_and_law_use_are_taken() -> None:
    text = (
        '{"title": "x", "subject": "measurement", "where": {"code": ["a|b"], "age": {"from": 18, "below": 65},'
        '"value": {"from": 11.1, "below": 140}}}'
    )
    assert read_question(text.encode()).where.age


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "analytics.md").read_text("utf-8")
    keys = {*Question.__struct_encode_fields__, *Conditions.__struct_encode_fields__}
    words = {*get_args(question.Subject), *get_args(question.Group)}
    assert [name for name in sorted(keys | words) if f"`{name}`" not in page and f'"{name}"' not in page] == []
