"""Page links hold only for the caller, purpose and query that they were made for."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr.errors import Expired
from ehr.search import page
from ehr.search.page import Position

KEY = b"0" * 32
POSITION = Position((5, "x", None), 7, 1_000, "1:2:", large=True)


def test_a_link_opens_for_what_it_was_made_for() -> None:
    assert page.unseal(KEY, "a", page.seal(KEY, "a", POSITION), 2_000) == POSITION


def test_a_link_hides_its_place() -> None:
    secret = Position(("hidden-name",), 7, 1_000, "", large=False)
    assert "hidden" not in page.seal(KEY, "a", secret)
    assert page.seal(KEY, "a", secret) != page.seal(KEY, "a", secret)


@pytest.mark.parametrize(
    ("key", "binding", "later_us"), [(b"1" * 32, "a", 0), (KEY, "b", 0), (KEY, "a", 86_401 * 10**6)]
)
def test_another_key_binding_or_day_is_expired(key: bytes, binding: str, later_us: int) -> None:
    with pytest.raises(Expired):
        page.unseal(key, binding, page.seal(KEY, "a", POSITION), 1_000 + later_us)


@given(st.integers(0, 200), st.sampled_from(string.ascii_letters + "-_=\n%é"))
def test_an_altered_link_is_expired(place: int, letter: str) -> None:
    token = page.seal(KEY, "a", POSITION)
    place %= len(token) - 1
    if token[place] == letter:
        return
    with pytest.raises(Expired):
        page.unseal(KEY, "a", token[:place] + letter + token[place + 1 :], 2_000)


@given(st.text(max_size=300))
def test_noise_is_expired(token: str) -> None:
    with pytest.raises(Expired):
        page.unseal(KEY, "a", token, 2_000)
