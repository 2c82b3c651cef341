import json
from typing import Any

import pytest

from runners import tallying
from runners.answer_lines import AnswerLines
from runners.base import Tally
from runners.claude import ANSWERS
from runners.claude_stream import read
from tests.runners.claude_sessions import RECORDED
from tests.runners.test_verdict import recorded

RULE = {"type": ANSWERS.type, "id": ANSWERS.id, "without": list(ANSWERS.without), "but": dict(ANSWERS.but)}


def count(*lines: bytes) -> int:
    counted = AnswerLines(RULE)
    for line in lines:
        counted.see(line)
    return counted.count


def answer(id: object, **more: Any) -> bytes:
    return json.dumps({"message": {"id": id, "model": "claude-x"}, **more, "type": "assistant"}).encode()


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_as_many_are_counted_as_the_verdict_counts(name: str) -> None:
    lines, tally = recorded(name)[1], Tally()
    for event in (event for line in lines for event in read(line)):
        tallying.add(tally, event)
    assert count(*(line.data for line in lines)) == tally.turns


def test_the_lines_of_one_answer_are_counted_once() -> None:
    assert count(answer("a"), answer("a"), answer("b")) == 2


def test_a_subagents_answers_are_not_counted() -> None:
    assert count(answer("a", parent_tool_use_id="t"), answer("b", parent_tool_use_id=None)) == 1


@pytest.mark.parametrize(
    "line",
    [
        b'{"type": "assistant"',
        b'"assistant"',
        b'["assistant"]',
        b'{"type": "user", "message": {"role": "assistant", "type": "assistant"}}',
        b'{"a": ' * 100_000 + b'"assistant"',
    ],
)
def test_what_is_no_answer_counts_nothing(line: bytes) -> None:
    assert count(line) == 0


def test_an_answer_whose_id_is_not_where_it_belongs_counts_once() -> None:
    assert count(b'{"type":"assistant","message":"x"}', b'{"type":"assistant"}') == 1


def test_without_a_rule_nothing_is_counted() -> None:
    counted = AnswerLines()
    counted.see(answer("a"))
    assert (counted.count, counted.sign) == (0, b"")
