"""Whether and when a session is tried anew; what follows from it is told in test_ending."""

from datetime import timedelta
from typing import Any

import pytest

from schedules.models import FINAL, INFRASTRUCTURE, INTERRUPTED, Reason, Run, Session
from schedules.retrying import LONGEST_WAIT, backoff, goes_on, may_retry

MINUTE = timedelta(minutes=1)


def session(*, attempt: int = 1, run: int = 7, number: int = 1, **policy: Any) -> Session:
    """One that is nowhere on record, by the policy of its run."""
    snapshot = {"runner": "claude", "retry": "all", "retry_attempts": 2, "retry_backoff": 60.0, **policy}
    return Session(run=Run(pk=run, snapshot=snapshot), number=number, attempt=attempt)


def test_the_wait_doubles_and_is_spread_by_a_quarter_at_most() -> None:
    waits = [backoff(session(attempt=attempt)) for attempt in (1, 2, 3)]
    for wait, least in zip(waits, (MINUTE, 2 * MINUTE, 4 * MINUTE), strict=True):
        assert least <= wait <= 1.25 * least


def test_it_is_always_the_same_for_one_and_another_one_for_others() -> None:
    assert backoff(session()) == backoff(session())
    assert len({backoff(session(number=number)) for number in range(1, 20)}) > 10


def test_it_is_an_hour_at_most_before_it_is_spread() -> None:
    assert LONGEST_WAIT <= backoff(session(attempt=10, retry_backoff=3000.0)) <= 1.25 * LONGEST_WAIT


def test_attempts_end() -> None:
    outcomes = [may_retry(session(attempt=attempt), status="failed", reason="exit_code") for attempt in (1, 2, 3)]
    assert outcomes == [True, True, False]


def test_a_run_from_before_there_was_a_policy_is_not_tried_anew() -> None:
    old = Session(run=Run(pk=7, snapshot={"runner": "claude"}), number=1, attempt=1)
    assert not may_retry(old, status="lost", reason="worker_died")


@pytest.mark.parametrize("reason", sorted(INTERRUPTED))
def test_an_agent_that_was_interrupted_is_gone_on_with_where_it_is_wanted(reason: str) -> None:
    policy: dict[str, Any] = {"retry": "none", "continue_interrupted": True}
    assert may_retry(session(**policy), status="lost", reason=reason)
    assert not may_retry(session(**policy, runner="script"), status="lost", reason=reason)
    assert not may_retry(session(retry="none"), status="lost", reason=reason)


def test_what_ended_otherwise_is_not_gone_on_with() -> None:
    policy = {"runner": "claude", "continue_interrupted": True}
    assert not any(goes_on(policy, reason) for reason in set(Reason.values) - INTERRUPTED)


def test_no_reason_is_final_and_a_fault_of_the_infrastructure() -> None:
    assert not FINAL & INFRASTRUCTURE
    assert INTERRUPTED <= INFRASTRUCTURE
