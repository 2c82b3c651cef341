"""Output that survives its reader and steers no terminal."""

import io
import os
import sys
from pathlib import Path
from typing import TextIO

import pytest
from django.core.management.base import OutputWrapper

from schedules.management.streams import Stream, one_line, printable


def stream(out: TextIO) -> Stream:
    return Stream(OutputWrapper(out))


def test_text_is_written_as_it_is_given() -> None:
    out = io.StringIO()

    print("a", "b", end="", file=stream(out))

    assert out.getvalue() == "a b"


def test_a_reader_that_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        gone = stream(out)
        print("a", file=gone)
        gone.flush()
        print("b" * 100_000, file=gone)
        gone.flush()


def test_a_character_that_the_terminal_does_not_know_is_spelt_out() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")

    print("naïve “→”", file=stream(out))
    out.flush()

    assert raw.getvalue() == b"na\\xefve \\u201c\\u2192\\u201d\n"


def test_a_file_is_no_terminal(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        assert not stream(out).isatty()
        assert stream(out).fileno() == out.fileno()
        assert stream(out).encoding == out.encoding
    assert stream(io.StringIO()).encoding == "utf-8"
    assert sys.stdout is not None


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[2J\x1b]0;title\x07", "[2J]0;title"),
        ("\x9b31m", "31m"),
        ("\r\x08over", "over"),
        ("abc\u202ecba\u2066", "abccba"),
        ("größe → ✓ 漢字", "größe → ✓ 漢字"),
    ],
)
def test_nothing_that_would_steer_a_terminal_is_left(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_one_line_is_one_line() -> None:
    assert one_line(" a\n\n\tb\x1b c ") == "a b c"
