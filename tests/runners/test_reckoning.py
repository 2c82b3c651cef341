"""What a session spent, reckoned from recorded streams of the real program and from made-up ones."""

from typing import Any

import pytest

from runners import reckoning, tallying, verdict
from runners.base import Event, Line, Tally
from runners.claude_stream import read
from tests.runners.claude_sessions import make_ending
from tests.runners.test_verdict import recorded, tally_of

PRICED = "claude-sonnet-5-5"  # 2 and 10 dollars


def answer(number: int, *, model: str = PRICED, input_tokens: int = 500_000, **data: Any) -> Event:
    """A line of an answer; its prompt costs a dollar."""
    given = {"answer_id": f"msg_{number}", "model": model, "input_tokens": input_tokens, "output_tokens": 1, **data}
    return Event(kind="usage", at_ms=1, data=given)


def tally(*events: Event) -> Tally:
    made = Tally()
    for event in events:
        tallying.add(made, event)
    return made


def result(**data: Any) -> Event:
    return Event(kind="result", at_ms=1, text="Done.", data={"subtype": "success", "is_error": False, **data})


@pytest.mark.parametrize("name", ["success", "writes-a-file", "max-turns", "many-tools-at-once", "fell-back", "budget"])
def test_what_is_reckoned_comes_close_to_what_the_program_reports(name: str) -> None:
    lines = recorded(name)[1]
    reported, source = reckoning.spent(tally_of(lines))
    cut_off = tally_of([line for line in lines if b'"type":"result"' not in line.data])
    reckoned, other_source = reckoning.spent(cut_off)

    assert (source, other_source) == ("reported", "reckoned")
    assert reckoned == pytest.approx(reported, rel=0.05)


def test_a_session_that_was_killed_costs_what_it_used() -> None:
    lines = [line for line in recorded("writes-a-file")[1] if b'"type":"result"' not in line.data]
    judged = verdict.judge(make_ending(-9, "timed_out"), tally_of(lines), {"model": "haiku"})

    assert (judged.outcome, judged.cost_source) == ("timed_out", "reckoned")
    assert judged.cost_usd > 0.001


def test_an_answer_of_several_lines_is_paid_for_once() -> None:
    assert reckoning.spent(tally(answer(1), answer(1), answer(1)))[0] == pytest.approx(1.00001)


def test_output_is_at_least_what_was_printed_of_it() -> None:
    spent = tally(answer(1, said_tokens=60_000), answer(1, said_tokens=40_000))

    assert spent.output_tokens == 100_000
    assert reckoning.spent(spent)[0] == pytest.approx(1 + 1)


def test_what_is_printed_of_an_answer_is_measured() -> None:
    blocks = b'[{"type":"text","text":"%s"},{"type":"tool_use","name":"Write","input":{"content":"%s"}}]'
    line = b'{"type":"assistant","message":{"id":"m","model":"x","usage":{"output_tokens":1},"content":%s}}'
    events = read(Line(at_ms=1, stream="out", data=line % (blocks % (b"a" * 400, b"b" * 4000))))

    assert events[-1].data["said_tokens"] == pytest.approx(1100, rel=0.02)


def test_a_subagents_answers_are_paid_for_too() -> None:
    assert reckoning.spent(tally(answer(1), answer(2, subagent=True)))[0] == pytest.approx(2, rel=0.001)


def test_a_model_without_a_price_makes_the_cost_unknown_and_it_is_said() -> None:
    spent = tally(answer(1), answer(2, model="my-own-model"))

    assert reckoning.spent(spent)[0] == pytest.approx(1.00001)
    assert reckoning.spent(spent)[1] == "unknown"
    assert "no price of my-own-model" in reckoning.remark(spent)
    judged = verdict.judge(make_ending(1), spent, {"model": "my-own-model"})
    assert judged.cost_source == "unknown"
    assert "What it cost is not known" in judged.message


def test_tokens_that_came_without_answers_have_a_cost_that_is_unknown() -> None:
    told = result(cost_known=False, input_tokens=10, output_tokens=5, cached_tokens=0)
    assert reckoning.spent(tally(told)) == (0, "unknown")


def test_what_the_program_reports_goes_before_what_is_reckoned() -> None:
    assert reckoning.spent(tally(answer(1, model="my-own-model"), result(cost_usd=0.25))) == (0.25, "reported")


def test_a_program_that_reports_nothing_for_tokens_that_it_used_is_not_believed() -> None:
    assert reckoning.spent(tally(answer(1), result(cost_usd=0.0)))[1] == "reckoned"


def test_a_session_that_asked_no_model_has_no_source() -> None:
    assert reckoning.spent(Tally()) == (0, "")


def test_a_rehearsal_costs_nothing_and_says_nothing_of_it() -> None:
    judged = verdict.judge(make_ending(0), tally(answer(1, model="my-own-model")), {}, rehearse=True)

    assert (judged.cost_usd, judged.cost_source) == (0, "")
    assert "cost" not in judged.message


@pytest.mark.parametrize(
    ("answers", "budget", "is_over"),
    [
        (1, "0.50", False),  # it knows only now
        (2, "0.50", True),
        (2, "0.95", False),  # within the slack between two price lists
        (3, "1.50", True),
        (9, None, False),
    ],
)
def test_who_asks_once_more_when_the_money_is_spent_is_over_budget(
    answers: int, budget: str | None, is_over: bool
) -> None:
    spent = tally(*(answer(number) for number in range(answers)))
    assert reckoning.is_over_budget(spent, {"max_budget_usd": budget}) is is_over
