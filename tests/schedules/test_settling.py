"""A run's outcome follows from its sessions'."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from schedules.models import Run
from schedules.settling import outcome, settle_run
from tests.schedules.factories import make_run, make_session

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
OK = ("succeeded", "ok", "")
SLOW = ("timed_out", "timed_out", "It took too long.")
STOPPED = ("cancelled", "cancelled", "Cancelled by ada.")
CRASHED = ("failed", "crashed", "Signal 9.")


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        ([OK], ("succeeded", "ok", "")),
        ([OK, OK], ("succeeded", "ok", "")),
        ([SLOW], ("failed", "timed_out", "It took too long.")),
        ([OK, SLOW], ("partial", "timed_out", "1 of 2 sessions did not succeed.")),
        ([SLOW, CRASHED], ("failed", "sessions_failed", "2 of 2 sessions did not succeed.")),
        ([STOPPED], ("cancelled", "cancelled", "Cancelled by ada.")),
        ([STOPPED, CRASHED], ("failed", "sessions_failed", "2 of 2 sessions did not succeed.")),
        ([OK, STOPPED], ("partial", "cancelled", "1 of 2 sessions did not succeed.")),
        ([("lost", "worker_died", "Gone.")], ("failed", "worker_died", "Gone.")),
    ],
)
def test_the_outcome(sessions: list[tuple[str, str, str]], expected: tuple[str, str, str]) -> None:
    assert outcome(sessions) == expected


@pytest.mark.django_db
def test_a_run_settles_once_with_the_sum_of_its_sessions() -> None:
    run = make_run(now=NOW, status="running")
    make_session(run, now=NOW, status="succeeded", turns=3, output_tokens=50, cost_usd="0.25", summary="Fine.")
    make_session(run, now=NOW, status="failed", turns=2, output_tokens=5, cost_usd="0.05")

    assert settle_run(run.pk, now=NOW)
    assert not settle_run(run.pk, now=NOW)

    run.refresh_from_db()
    assert (run.status, run.turns, run.output_tokens, run.cost_usd) == ("partial", 5, 55, Decimal("0.30"))
    assert (run.items_processed, run.items_failed, run.summary, run.finished_at) == (2, 1, "Fine.", NOW)
    run.schedule.refresh_from_db()
    assert run.schedule.last_status == "partial"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sources", "of_run"),
    [
        (["", ""], ""),
        (["", "reported"], "reported"),
        (["reported", "reckoned"], "reckoned"),
        (["unknown", "reckoned", "reported"], "unknown"),
    ],
)
def test_the_cost_of_a_run_is_known_no_better_than_the_worst_of_its_sessions(sources: list[str], of_run: str) -> None:
    run = make_run(now=NOW, status="running")
    for source in sources:
        make_session(run, now=NOW, status="succeeded", cost_source=source)
    settle_run(run.pk, now=NOW)
    assert Run.objects.get().cost_source == of_run


@pytest.mark.django_db
@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_run_with_an_open_session_does_not_settle(status: str) -> None:
    run = make_run(now=NOW, status="running")
    make_session(run, now=NOW, status="succeeded")
    make_session(run, now=NOW, status=status)
    assert not settle_run(run.pk, now=NOW)
    assert Run.objects.get().status == "running"


@pytest.mark.django_db
def test_a_run_without_sessions_does_not_settle() -> None:
    assert not settle_run(make_run(now=NOW).pk, now=NOW)
