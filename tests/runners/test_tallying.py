"""What an agent's events add up to."""

from typing import Any

import pytest

from runners import tallying
from runners.base import Event, EventKind, Tally


def event(kind: EventKind, text: str = "", **data: Any) -> Event:
    return Event(kind=kind, at_ms=1, text=text, data=data)


def test_the_live_counters_count_an_answer_once_and_a_subagent_apart() -> None:
    tally = Tally()
    used: dict[str, Any] = {"input_tokens": 10, "output_tokens": 2, "cached_tokens": 100}
    for answer, model, subagent in [("a", "m-1", False), ("a", "m-1", False), ("b", "m-2", True), ("c", "m-1", False)]:
        tallying.add(tally, event("usage", answer_id=answer, model=model, subagent=subagent, **used))

    assert (tally.turns, tally.models) == (2, ["m-1"])
    assert (tally.input_tokens, tally.output_tokens, tally.cached_tokens) == (30, 6, 300)


@pytest.mark.parametrize(
    ("kind", "text", "activity"),
    [
        ("init", "", "waiting for the model"),
        ("thinking", "Hm.", "thinking"),
        ("text", "Let me see.", "writing"),
        ("tool_use", "Bash: git log", "Bash: git log"),
        ("tool_result", "abc", "waiting for the model"),
        ("error", "Overloaded (529): retry 1 of 6 in 0.5 s", "Overloaded (529): retry 1 of 6 in 0.5 s"),
        ("result", "Done.", ""),
        ("note", "By the way.", "before"),
    ],
)
def test_the_activity_follows_the_events(kind: EventKind, text: str, activity: str) -> None:
    tally = Tally(activity="before")
    tallying.add(tally, event(kind, text=text))

    assert tally.activity == activity


def test_only_the_last_errors_are_kept() -> None:
    tally = Tally()
    for number in range(100):
        tallying.add(tally, event("stderr", text=f"error {number}"))

    assert len(tally.errors) == tallying.ERRORS_KEPT
    assert tally.errors[-1] == "error 99"


def test_a_fault_it_recovered_from_is_forgotten() -> None:
    tally = Tally()
    tallying.add(tally, event("error", text="Overloaded", fault="overloaded"))
    assert tally.fault == "overloaded"

    tallying.add(tally, event("usage", answer_id="a", model="m"))
    assert tally.fault == ""


def test_a_rejection_where_usage_beyond_the_quota_is_paid_for_stops_nobody() -> None:
    tally = Tally()
    tallying.add(tally, event("rate_limit", status="rejected", resets_at=1795200000, overage=True))
    assert tally.rate_limit_resets_at is None
    tallying.add(tally, event("rate_limit", status="rejected", resets_at=1795200000, overage=False))
    assert tally.rate_limit_resets_at == 1795200000


def test_a_limit_can_be_that_of_one_model_alone() -> None:
    tally = Tally()
    tallying.add(tally, event("rate_limit", status="rejected", resets_at=1795200000, model="opus"))
    assert tally.rate_limit_model == "opus"
