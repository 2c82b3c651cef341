"""Which line is a program's result."""

import pytest

from runners.result_lines import ResultLine


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"type":"result","ok":true}', True),
        (b'{"ok": true, "type": "result"}', True),
        (b'{"type":"user","content":{"type":"result"}}', False),
        (b'{"type":"user","content":"{\\"type\\":\\"result\\"}"}', False),
        (b'{"type":"results"}', False),
        (b'["type","result"]', False),
        (b'{"type":"result"', False),
        (b'{"a":' * 100_000 + b'"result"', False),
        (b'{"type":"result","text":"\xff"}', False),
        (b' {"type":"result"}', False),
        (b"", False),
    ],
)
def test_a_json_object_is_one_by_its_own_type(line: bytes, expected: bool) -> None:
    assert ResultLine(kind="result").is_result(line) is expected


def test_a_prefix_makes_one() -> None:
    result = ResultLine(prefix="RESULT:")
    assert result.is_result(b"RESULT: all is well")
    assert not result.is_result(b"the RESULT: all is well")
    assert not result.is_result(b"RESULT")


def test_what_may_become_one_is_known_from_its_first_bytes() -> None:
    result = ResultLine(prefix="RESULT:")
    assert [result.may_begin(begin) for begin in (b"", b"RES", b"RESULT: x", b"REX", b"x")] == [True] * 3 + [False] * 2
    result = ResultLine(kind="result")
    assert [result.may_begin(begin) for begin in (b"", b'{"a', b"[", b"x")] == [True] * 2 + [False] * 2


def test_with_neither_there_is_none() -> None:
    assert not ResultLine().is_result(b"")
    assert not ResultLine().may_begin(b"{")
