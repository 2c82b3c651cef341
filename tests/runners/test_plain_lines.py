"""Lines of text become events that are safe to show and to store."""

import pytest

from runners import plain_lines
from runners.base import Line


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"plain", "plain"),
        ("grüße".encode(), "grüße"),
        (b"caf\xe9", "caf\ufffd"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"a\x00b\x08c\td", "abc\td"),
        (b"windows\r", "windows"),
        (b" 10%\r 20%\r100%", "100%"),
        (b"", ""),
    ],
)
def test_a_line_is_shown_without_what_would_do_something(data: bytes, shown: str) -> None:
    assert plain_lines.printable(data) == shown


def test_a_long_line_is_cut_and_its_length_told() -> None:
    assert plain_lines.printable(b"x" * 5000, length=10) == "xxxxxxxxxx… [5000 bytes]"
    assert plain_lines.printable(b"x" * 50, length=10) == "xxxxxxxxxx… [50 bytes]"
    assert plain_lines.printable("é".encode() * 10, length=10) == "é" * 10


@pytest.mark.parametrize(
    ("stream", "data", "kind", "text", "more"),
    [
        ("out", b"hello", "output", "hello", {}),
        ("err", b"oops", "stderr", "oops", {}),
        ("shim", b"stalled: Too quiet.", "limit", "Too quiet.", {"ended_by": "stalled"}),
        ("shim", b"truncated: Too much.", "note", "Too much.", {}),
        ("shim", b"something", "note", "something", {}),
    ],
)
def test_the_stream_decides_on_the_kind(stream: str, data: bytes, kind: str, text: str, more: object) -> None:
    event = plain_lines.read(Line(at_ms=17, stream=stream, data=data))  # type: ignore[arg-type]
    assert (event.kind, event.at_ms, event.text, event.data) == (kind, 17, text, more)
