"""Questions: those that come with the platform are understood, wrong ones are told by their key."""

from importlib.resources import files

import pytest

from analytics.question import read_question
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
        ('{"title": "x", "subject": "encounter", "where": {}, "period": {"from": "2025", "below": "2026-01"}}', "2025"),
    ],
)
def test_a_wrong_question_is_told_by_its_key(text: str, cause: str) -> None:
    with pytest.raises(Invalid, match=cause.replace("*", r"\*").replace("|", r"\|")):
        read_question(text.encode())
