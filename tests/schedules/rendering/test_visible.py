import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schedules.rendering.visible import shorten, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07rest", "rest"),
        ("\x1b]8;;https://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b(Bplain", "plain"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("bell\x07 null\x00", "bell\u2407 null\u2400"),
        ("\u202etxt.exe", "<U+202E>txt.exe"),
        ("a\u200bb", "a<U+200B>b"),
        ("\x9b31m", "<9B>31m"),
        ("\ttab\n", "\ttab\n"),
        ("Grüße 🚀", "Grüße 🚀"),
    ],
)
def test_nothing_moves_hides_or_colours_anything(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    left = {char for char in visible(text) if unicodedata.category(char) == "Cc"}

    assert left <= {"\n", "\t"}


def test_a_long_text_becomes_one_short_line() -> None:
    assert shorten("one\n  two   three", 50) == "one two three"
    assert shorten("abcdefghij", 5) == "abcd…"
