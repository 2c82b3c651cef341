"""How a session's row ends, and what follows: money, quota, the next attempt, its run, a pause."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import Sum
from pytest_django import DjangoAssertNumQueries

from schedules.ending import end, failures_in_a_row, settle, take_off
from schedules.models import Hold, Incident, Run, Schedule, Session, Spending
from schedules.steering import cancel_run, cancel_session, resume
from tests.schedules.factories import make_repository, make_run, make_schedule, make_session

pytestmark = pytest.mark.django_db

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def running(now: datetime = NOW, *, trigger: str = "schedule", **policy: Any) -> Session:
    schedule = make_schedule(now=now - DAY, **policy)
    run = make_run(schedule, now=now, status="running", trigger=trigger)
    return make_session(run, now=now, status="running", item_key="issue/12", item={"title": "Broken"})


def fail(session: Session, *, reason: str = "exit_code", status: str = "failed", now: datetime = NOW) -> None:
    assert end(session, status=status, reason=reason, now=now)
    settle(session.run_id, now=now)
    session.run.refresh_from_db()


def attempts(session: Session) -> list[Session]:
    return list(Session.objects.filter(run=session.run_id).order_by("attempt"))


# --- the end ---


def test_a_success_that_cost_nothing_is_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    session = running()
    with django_assert_num_queries(1):
        assert end(session, status="succeeded", reason="ok", now=NOW)
    with django_assert_num_queries(1):
        assert not end(session, status="failed", reason="exit_code", now=NOW)
    session.refresh_from_db()
    assert (session.status, session.finished_at) == ("succeeded", NOW)


def test_what_it_cost_is_settled_once_with_its_end() -> None:
    session = running()
    assert end(session, status="succeeded", reason="ok", now=NOW, cost_usd=0.25)
    assert not end(session, status="succeeded", reason="ok", now=NOW, cost_usd=0.25)
    mine = Spending.objects.filter(schedule=session.schedule)
    assert mine.aggregate(all=Sum("cost_usd"))["all"] == Decimal("0.25")


def test_what_a_lost_session_had_spent_is_settled_too() -> None:
    session = running()
    session.cost_usd = Decimal("0.5")
    assert end(session, status="lost", reason="worker_died", now=NOW)
    assert Spending.objects.filter(schedule=session.schedule).aggregate(all=Sum("cost_usd"))["all"] == Decimal("0.5")


def test_a_quota_that_is_used_up_holds_its_credential() -> None:
    session = running()
    session.credential = "anthropic"
    assert end(session, status="failed", reason="rate_limited", now=NOW, resets_at=NOW + 30 * MINUTE)
    assert Hold.objects.filter(credential="anthropic", until__gte=NOW + 30 * MINUTE).exists()


# --- the next attempt ---


def test_without_a_policy_there_is_one_attempt() -> None:
    session = running()
    fail(session, reason="fetch_failed")
    assert len(attempts(session)) == 1
    assert session.run.status == "failed"


@pytest.mark.parametrize(
    ("policy", "status", "reason", "again"),
    [
        ("infrastructure", "failed", "fetch_failed", True),
        ("infrastructure", "failed", "overloaded", True),
        ("infrastructure", "failed", "unequipped", True),
        ("infrastructure", "lost", "worker_died", True),
        ("infrastructure", "failed", "exit_code", False),
        ("infrastructure", "timed_out", "stalled", False),
        ("all", "failed", "exit_code", True),
        ("all", "timed_out", "timed_out", True),
        ("all", "cancelled", "shutdown", True),
        ("all", "cancelled", "cancelled", False),
        ("all", "failed", "invalid_options", False),
        ("all", "failed", "secret_leaked", False),
        ("none", "lost", "worker_died", False),
    ],
)
def test_the_policy_says_what_is_tried_anew(policy: str, status: str, reason: str, again: bool) -> None:
    session = running(retry=policy)
    fail(session, status=status, reason=reason)
    assert (len(attempts(session)) == 2) is again
    assert session.run.is_open is again


def test_an_attempt_is_a_row_of_its_own_of_the_same_item() -> None:
    session = running(retry="all", retry_backoff=MINUTE, priority=3)
    fail(session)

    first, second = attempts(session)
    assert (first.status, first.reason) == ("failed", "exit_code")
    assert (second.status, second.attempt, second.number, second.retry_of) == ("queued", 2, first.number, first)
    assert (second.item_key, second.item) == ("issue/12", {"title": "Broken"})
    assert second.not_before is not None
    assert NOW + MINUTE <= second.not_before <= NOW + 1.25 * MINUTE


def test_waits_double_up_to_an_hour_and_attempts_end() -> None:
    session = running(retry="all", retry_backoff=20 * MINUTE, retry_attempts=3)
    waits = []
    for attempt in (1, 2, 3, 4):
        current = Session.objects.select_related("run").get(run=session.run_id, attempt=attempt)
        fail(current)
        waits += [
            one.not_before - NOW
            for one in Session.objects.filter(run=session.run_id, attempt=attempt + 1)
            if one.not_before
        ]
    assert len(waits) == 3
    for wait, least in zip(waits, (20 * MINUTE, 40 * MINUTE, 60 * MINUTE), strict=True):
        assert least <= wait <= 1.25 * least
    session.run.refresh_from_db()
    assert session.run.status == "failed"


def test_a_rate_limit_is_not_tried_before_it_is_lifted() -> None:
    session = running(retry="infrastructure")
    assert end(session, status="failed", reason="rate_limited", now=NOW, resets_at=NOW + 3 * 60 * MINUTE)
    assert attempts(session)[1].not_before == NOW + 3 * 60 * MINUTE


def test_a_run_is_judged_by_its_last_attempts_and_pays_for_all() -> None:
    session = running(retry="all")
    end(session, status="failed", reason="exit_code", now=NOW, turns=3, message="No.")
    assert not settle(session.run_id, now=NOW)
    second = Session.objects.select_related("run").get(run=session.run_id, attempt=2)
    end(second, status="succeeded", reason="ok", now=NOW + MINUTE, turns=4, summary="Done.")
    assert settle(session.run_id, now=NOW + MINUTE)

    run = Run.objects.get(pk=session.run_id)
    assert (run.status, run.reason, run.turns, run.summary) == ("succeeded", "ok", 7, "Done.")
    assert (run.items_processed, run.items_failed) == (1, 0)


def test_the_policy_is_that_of_the_run_whatever_is_edited_later() -> None:
    session = running(retry="all")
    Schedule.objects.update(retry="none")
    fail(session)
    assert len(attempts(session)) == 2


def cancelled_run(session: Session) -> None:
    cancel_run(session.run_id, by="ada", now=NOW)


def cancelled_session(session: Session) -> None:
    cancel_session(session.pk, by="ada", now=NOW)


def disabled(session: Session) -> None:
    take_off(session.schedule, Schedule.Status.DISABLED, by="ada", reason="", now=NOW)


def paused(session: Session) -> None:
    take_off(session.schedule, Schedule.Status.PAUSED, by="ada", reason="", now=NOW)


@pytest.mark.parametrize("wish", [cancelled_run, cancelled_session, disabled, paused])
def test_what_a_person_wanted_to_end_is_not_tried_anew(wish: Callable[[Session], None]) -> None:
    session = running(retry="all")
    wish(session)
    fail(session)
    assert len(attempts(session)) == 1


@pytest.mark.parametrize("wish", [cancelled_run, disabled, paused])
def test_a_waiting_attempt_ends_with_its_run(wish: Callable[[Session], None]) -> None:
    session = running(retry="all")
    fail(session)
    wish(session)
    session.run.refresh_from_db()
    assert attempts(session)[1].status == "cancelled"
    assert session.run.status == "cancelled"


def test_what_was_cancelled_while_it_ran_says_who_asked_for_it() -> None:
    session = running()
    cancel_session(session.pk, by="ada", now=NOW)
    end(session, status="cancelled", reason="cancelled", now=NOW, message="It was cancelled.")
    settle(session.run_id, now=NOW)
    assert Run.objects.get().message == "It was cancelled. Asked for by ada."


def test_a_pause_leaves_what_was_run_by_hand_its_attempts() -> None:
    session = running(trigger="manual", retry="all")
    paused(session)
    fail(session)
    assert len(attempts(session)) == 2


# --- the pause ---


def due(schedule: Schedule, day: int, *statuses: str, **fields: Any) -> Run:
    """A due time that ended so, in as many repositories; settled as the last one is."""
    run = None
    for number, status in enumerate(statuses):
        fields = {"repository": make_repository() if number else None, **fields}
        at = NOW + day * DAY
        run = make_run(schedule, now=at, status="running", trigger="schedule", scheduled_for=at, **fields)
        session = make_session(run, now=at, status="running")
        reason = {"succeeded": "ok", "cancelled": "cancelled"}.get(status, "exit_code")
        end(session, status=status, reason=reason, now=at + MINUTE, message="It broke.")
        settle(run.pk, now=at + MINUTE)
        fields.pop("repository")
    assert run
    schedule.refresh_from_db()
    return run


def test_three_due_times_in_a_row_that_failed_pause_a_schedule() -> None:
    schedule = make_schedule(now=NOW)
    due(schedule, 1, "failed")
    due(schedule, 2, "failed")
    assert schedule.status == "active"
    due(schedule, 3, "failed")

    assert (schedule.status, schedule.status_by, schedule.due_at) == ("paused", "rota", None)
    assert schedule.status_reason == "3 due times in a row failed: non-zero exit code. It broke."
    incident = Incident.objects.get()
    assert (incident.kind, incident.subject, incident.schedule) == ("paused_by_rota", schedule.name, schedule)
    assert incident.message == f"{schedule} is paused. {schedule.status_reason}"


def test_any_success_of_a_due_time_begins_the_count_anew() -> None:
    schedule = make_schedule(now=NOW)
    due(schedule, 1, "failed")
    due(schedule, 2, "failed")
    due(schedule, 3, "succeeded", "failed")
    due(schedule, 4, "failed")
    due(schedule, 5, "failed", "failed")
    assert schedule.status == "active"
    due(schedule, 6, "failed")
    assert schedule.status == "paused"


def test_what_was_cancelled_or_not_run_does_not_count() -> None:
    schedule = make_schedule(now=NOW)
    due(schedule, 1, "failed")
    due(schedule, 2, "cancelled")
    make_run(schedule, now=NOW + 3 * DAY, status="skipped", trigger="schedule")
    due(schedule, 4, "failed")
    assert schedule.status == "active"
    due(schedule, 5, "failed")
    assert schedule.status == "paused"


@pytest.mark.parametrize("fields", [{"is_rehearsal": True}, {"trigger": "manual"}])
def test_rehearsals_and_runs_by_hand_do_not_count(fields: dict[str, Any]) -> None:
    schedule = make_schedule(now=NOW)
    for day in range(5):
        run = make_run(schedule, now=NOW + day * DAY, status="running", **{"trigger": "schedule", **fields})
        session = make_session(run, now=NOW + day * DAY, status="running")
        end(session, status="failed", reason="exit_code", now=NOW + day * DAY)
        settle(run.pk, now=NOW + day * DAY)
    schedule.refresh_from_db()
    assert schedule.status == "active"
    assert failures_in_a_row(schedule, most=3) == 0


def test_after_a_resume_the_count_begins_anew() -> None:
    schedule = make_schedule(now=NOW, pause_after=2)
    due(schedule, 1, "failed")
    due(schedule, 2, "failed")
    assert schedule.status == "paused"
    resume([schedule], by="ada", now=NOW + 2.5 * DAY)
    due(schedule, 3, "failed")
    assert schedule.status == "active"
    due(schedule, 4, "failed")
    assert schedule.status == "paused"


def test_a_schedule_can_be_told_never_to_pause() -> None:
    schedule = make_schedule(now=NOW, pause_after=None)
    for day in range(1, 6):
        due(schedule, day, "failed")
    assert schedule.status == "active"


# --- the dead-man's switch ---


def test_a_success_answers_the_dead_mans_switch_and_a_failure_does_not() -> None:
    schedule = make_schedule(now=NOW)
    Schedule.objects.update(overdue_at=NOW + DAY)
    due(schedule, 1, "failed")
    assert (schedule.overdue_at, schedule.last_success_at, schedule.last_status) == (NOW + DAY, None, "failed")
    due(schedule, 2, "succeeded")
    assert (schedule.overdue_at, schedule.last_success_at) == (None, NOW + 2 * DAY + MINUTE)
    assert schedule.last_status == "succeeded"


def test_a_rehearsal_by_hand_does_not_answer_it() -> None:
    schedule = make_schedule(now=NOW)
    Schedule.objects.update(overdue_at=NOW + DAY)
    run = make_run(schedule, now=NOW, status="running", is_rehearsal=True)
    end(make_session(run, now=NOW, status="running"), status="succeeded", reason="ok", now=NOW)
    settle(run.pk, now=NOW)
    schedule.refresh_from_db()
    assert (schedule.overdue_at, schedule.last_success_at, schedule.last_status) == (NOW + DAY, None, "succeeded")


def test_a_quota_that_is_said_to_last_for_years_holds_no_run_open_that_long() -> None:
    session = running(retry="all")
    assert end(session, status="failed", reason="rate_limited", resets_at=NOW + 3650 * DAY, now=NOW)
    assert attempts(session)[1].not_before == NOW + 8 * DAY
