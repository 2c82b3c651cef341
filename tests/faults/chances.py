"""What may come about in a house at random, and of what it is made: strategies for Hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from hypothesis import strategies as st

NOW = datetime(2027, 1, 30, 23, 40, tzinfo=UTC)  # a day and a month end soon
MINUTE = timedelta(minutes=1)
MOST, MOST_IN_REPOSITORY = 5, 2
CROWD = 24  # open sessions: then nobody asks for more
CREDENTIALS = {"claude": "anthropic", "codex": "openai", "script": ""}

Thing = TypeVar("Thing")
Act = tuple[str, dict[str, Any]]
End = tuple[str, str, int]  # status, reason, turns

ENDS: tuple[End, ...] = (
    ("succeeded", "ok", 3),
    ("failed", "exit_code", 0),
    ("failed", "agent_error", 2),
    ("timed_out", "timed_out", 2),
    ("failed", "overloaded", 0),
    ("failed", "rate_limited", 0),
    ("failed", "api_error", 1),
    ("failed", "fetch_failed", 0),
    ("cancelled", "shutdown", 0),
    ("failed", "budget", 5),
)
SPANS = tuple(timedelta(seconds=one) for one in (1, 6, 21, 25, 61, 65, 200, 1900, 5 * 3600, 26 * 3600))
COSTS = tuple(map(Decimal, ("0", "0.25", "0.50", "1.00", "1.75")))

nth = st.integers(0, 11)


def some(things: Sequence[Thing], n: int) -> Thing:
    return things[n % len(things)]


def acts(**arguments: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Act]:
    """One of these methods, with what it is called with. What is a rule of its own comes about more often."""
    return st.one_of(*(st.tuples(st.just(name), st.fixed_dictionaries(given)) for name, given in arguments.items()))


HOLDS = acts(
    service_is_overloaded={"n": nth, "times": st.sampled_from((3, 1, 4))},
    quota_is_used_up={"n": nth, "minutes": st.sampled_from((5, 30, -1)), "of_model": st.booleans()},
)


def kinds() -> st.SearchStrategy[dict[str, Any]]:
    """What a schedule is made of."""
    limited = st.sampled_from((None, None, Decimal("1.00"), Decimal("1.50")))
    agents = st.fixed_dictionaries(
        {
            "runner": st.just("claude"),
            "model": st.sampled_from(("haiku", "opus", "claude-opus-4-5")),
            "max_budget_usd": st.sampled_from((None, Decimal("0.50"), Decimal("1.00"))),
            "max_run_usd": limited,
        }
    )
    others = st.sampled_from(({"runner": "script"}, {"runner": "codex", "model": "gpt-5"}))
    common = st.fixed_dictionaries(
        {
            "overlap": st.sampled_from(("allow", "skip", "queue_one", "cancel_other")),
            "max_sessions": st.sampled_from((3, 1, 2)),
            "weight": st.sampled_from((1, 2)),
            "priority": st.sampled_from((0, 5)),
            "retry": st.sampled_from(("none", "infrastructure", "all")),
            "retry_attempts": st.sampled_from((1, 2)),
            "retry_backoff": st.sampled_from((timedelta(), 3 * MINUTE)),
            "pause_after": st.sampled_from((None, 1, 2)),
            "cron": st.sampled_from(("*/10 * * * *", "0 3 * * *")),
        }
    )
    return st.builds(lambda one, other: one | other, common, agents | others)
