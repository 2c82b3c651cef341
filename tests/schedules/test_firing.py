"""Due schedules become runs, once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from schedules.firing import Fired, fire_due, trigger
from schedules.limits import admit
from schedules.models import Incident, Reason, Run, Schedule, Session
from schedules.stopping import stop
from tests.schedules.factories import make_repository, make_run, make_schedule, make_worker
from tests.schedules.faults import after, failing

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_a_due_schedule_gets_a_run_with_a_session_and_moves_on() -> None:
    schedule = make_schedule(now=NINE - HOUR)

    assert fire_due(now=NINE) == Fired(schedules=1, runs=1, more=False)

    run = Run.objects.get()
    session = run.sessions.get()
    assert (run.status, run.trigger, run.scheduled_for) == ("queued", "schedule", NINE)
    assert run.snapshot["options"]["argv"] == ["echo", "hello"]
    assert (session.status, session.item_key, session.queued_at) == ("queued", "prompt", NINE)
    schedule.refresh_from_db()
    assert schedule.next_run_at == schedule.due_at == NINE + DAY


def test_the_same_due_time_is_never_recorded_twice() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    fire_due(now=NINE)
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=NINE, due_at=NINE)  # the clock jumped back

    assert fire_due(now=NINE + MINUTE).runs == 0
    assert Run.objects.count() == 1


@pytest.mark.parametrize("somewhere", [True, False])
def test_the_database_refuses_a_nominal_time_twice(somewhere: bool) -> None:
    schedule = make_schedule(now=NINE)
    repository = make_repository() if somewhere else None
    make_run(schedule, now=NINE, trigger="schedule", repository=repository)

    with pytest.raises(IntegrityError), transaction.atomic():
        make_run(schedule, now=NINE + MINUTE, scheduled_for=NINE, trigger="schedule", repository=repository)


def test_each_repository_has_its_own_run_and_one_that_is_off_says_so() -> None:
    on, off = make_repository("on"), make_repository("off", enabled=False)
    make_schedule(now=NINE - HOUR, repositories=[on, off])

    fire_due(now=NINE)

    runs = {run.repository: run for run in Run.objects.select_related("repository")}
    assert runs[on].status == "queued"
    assert (runs[off].status, runs[off].reason) == ("skipped", "disabled")
    assert not Session.objects.filter(run=runs[off]).exists()


def test_what_is_not_due_not_active_or_has_no_time_is_left_alone() -> None:
    make_schedule(now=NINE)
    make_schedule(now=NINE - HOUR, status="paused")
    make_schedule(now=NINE - HOUR, cron="")

    assert fire_due(now=NINE) == Fired(schedules=0, runs=0, more=False)


def test_a_time_within_the_window_runs_late_with_its_nominal_time() -> None:
    make_schedule(now=NINE - HOUR, catch_up=30 * MINUTE)

    fire_due(now=NINE + 20 * MINUTE)

    run = Run.objects.get()
    assert (run.status, run.scheduled_for, run.queued_at) == ("queued", NINE, NINE + 20 * MINUTE)


def test_a_time_beyond_the_window_is_missed_and_the_next_one_is_exact() -> None:
    schedule = make_schedule(now=NINE - HOUR, catch_up=15 * MINUTE)

    fire_due(now=NINE + 5 * HOUR)

    run = Run.objects.get()
    assert (run.status, run.reason, run.missed_count) == ("missed", "outside_window", 1)
    assert "1 due time missed" in run.message
    assert "window of 15m allows" in run.message
    assert "window of 15m allows" in Incident.objects.get().message
    schedule.refresh_from_db()
    assert schedule.next_run_at == NINE + DAY


def test_late_times_that_are_on_record_raise_no_alarm_again() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="*/10 * * * *", repositories=[make_repository(), make_repository()])
    first = schedule.next_run_at
    fire_due(now=NINE)
    assert Incident.objects.get().message.startswith("4 due times of ")
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=first, due_at=first)

    fire_due(now=NINE)
    assert Incident.objects.get().count == 4

    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=first, due_at=first)
    fire_due(now=NINE + 40 * MINUTE)
    assert Incident.objects.get().count == 6


def test_of_what_an_outage_passed_over_it_is_not_said_that_a_later_time_ran_where_none_did() -> None:
    make_schedule(now=NINE, cron="* * * * *")
    stop(by="ada", reason="bad model", now=NINE + 5 * MINUTE)

    fire_due(now=NINE + 6 * MINUTE)

    skipped, passed_over = Run.objects.order_by("-scheduled_for")
    assert (skipped.status, skipped.reason) == ("skipped", "stopped")
    assert passed_over.message == "5 due times missed: a later one was due by the time Rota came to it."


def test_after_an_outage_one_run_catches_up_and_the_others_are_counted() -> None:
    make_schedule(now=NINE, cron="* * * * *", catch_up=15 * MINUTE)

    fire_due(now=NINE + 500 * MINUTE)

    late, *missed = Run.objects.order_by("-scheduled_for")
    assert (late.status, late.scheduled_for) == ("queued", NINE + 500 * MINUTE)
    assert sum(run.missed_count for run in missed) == 499
    assert {run.reason for run in missed} == {"superseded", "outside_window"}
    outside = next(run for run in missed if run.reason == "outside_window")
    assert (outside.scheduled_for, outside.missed_until) == (NINE + MINUTE, NINE + 484 * MINUTE)


def test_a_long_outage_is_recovered_from_in_one_go_with_jitter_as_well() -> None:
    schedule = make_schedule("spread", now=NINE, cron="* * * * *", jitter=MINUTE)
    assert schedule.due_at is not None
    assert schedule.next_run_at is not None
    spread = schedule.due_at - schedule.next_run_at
    assert spread > timedelta(seconds=2)

    fire_due(now=NINE + 16 * HOUR + timedelta(seconds=1))  # before the last one is due

    assert Run.objects.get(status="queued").scheduled_for == NINE + 16 * HOUR - MINUTE
    schedule.refresh_from_db()
    assert (schedule.next_run_at, schedule.due_at) == (NINE + 16 * HOUR, NINE + 16 * HOUR + spread)


def test_an_outage_beyond_the_end_counts_up_to_the_end() -> None:
    make_schedule(now=NINE - HOUR, cron="0 * * * *", ends_at=NINE + 3 * HOUR)

    fire_due(now=NINE + DAY)

    missed = Run.objects.get()
    assert (missed.scheduled_for, missed.missed_until, missed.missed_count) == (NINE, NINE + 3 * HOUR, 4)


def test_after_its_end_a_schedule_is_never_due() -> None:
    schedule = make_schedule(now=NINE - HOUR, ends_at=NINE + HOUR)

    fire_due(now=NINE)

    schedule.refresh_from_db()
    assert schedule.due_at is None
    assert Run.objects.get().status == "queued"


def test_jitter_moves_when_it_is_due_and_not_the_nominal_time() -> None:
    schedule = make_schedule(now=NINE - HOUR, jitter=HOUR)
    assert schedule.next_run_at == NINE
    assert schedule.due_at is not None
    assert NINE < schedule.due_at < NINE + HOUR

    assert fire_due(now=schedule.due_at - timedelta(seconds=1)).runs == 0
    assert fire_due(now=schedule.due_at).runs == 1
    assert Run.objects.get().scheduled_for == NINE


def test_jitter_never_reaches_the_next_nominal_time() -> None:
    schedule = make_schedule(now=NINE, cron="* * * * *", jitter=HOUR)
    assert schedule.next_run_at is not None
    assert schedule.due_at is not None
    assert schedule.due_at - schedule.next_run_at < MINUTE


@pytest.mark.parametrize(
    ("overlap", "open_status", "status"),
    [
        ("skip", "running", "skipped"),
        ("skip", "queued", "skipped"),
        ("queue_one", "running", "queued"),
        ("queue_one", "queued", "skipped"),
        ("allow", "running", "queued"),
        ("cancel_other", "running", "queued"),
    ],
)
def test_the_overlap_policy_decides_when_the_run_before_is_open(overlap: str, open_status: str, status: str) -> None:
    schedule = make_schedule(now=NINE - HOUR, overlap=overlap)
    before = make_run(schedule, now=NINE - DAY, status=open_status)

    fire_due(now=NINE)

    fired = Run.objects.exclude(pk=before.pk).get()
    assert fired.status == status
    if status == "skipped":
        assert fired.reason == Reason.OVERLAP
        assert f"Run {before.pk}" in fired.message
    before.refresh_from_db()
    assert (before.cancel_requested_at is not None) == (overlap == "cancel_other")


def test_a_run_that_still_waits_gives_way_at_once_to_one_that_cancels_it() -> None:
    schedule = make_schedule(now=NINE - DAY - HOUR, overlap="cancel_other")
    make_worker(now=NINE)
    fire_due(now=NINE - DAY)
    before = Run.objects.get()

    fire_due(now=NINE)

    before.refresh_from_db()
    assert (before.status, before.reason) == ("cancelled", "cancelled")
    assert before.message == "Cancelled by the overlap policy, for a newer run."
    assert admit(now=NINE) == [Session.objects.get(run__schedule=schedule, status="queued").pk]


def test_firing_takes_the_same_number_of_queries_for_one_and_for_many() -> None:
    counts = []
    for many in (1, 15):
        for _ in range(many):
            make_schedule(now=NINE - HOUR, repositories=[make_repository()])
        with CaptureQueriesContext(connection) as queries:
            assert fire_due(now=NINE).runs == many
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_somebody_who_was_faster_is_read_anew() -> None:
    schedule = make_schedule(now=NINE - HOUR)

    with failing('INSERT INTO "schedules_run"', times=1, error=IntegrityError("run_skips_overlap")) as failed:
        assert fire_due(now=NINE).runs == 1

    assert len(failed) == 1
    schedule.refresh_from_db()
    assert (schedule.status, schedule.next_run_at) == ("active", NINE + DAY)


def test_what_collides_again_and_again_waits_and_is_not_broken() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    with failing('INSERT INTO "schedules_run"', error=IntegrityError("run_skips_overlap")):
        assert fire_due(now=NINE) == Fired(schedules=0, runs=0, more=False)
    schedule.refresh_from_db()
    assert (schedule.status, schedule.due_at) == ("active", NINE)
    assert fire_due(now=NINE).runs == 1


def test_times_are_reckoned_before_the_rows_are_held() -> None:
    make_schedule(now=NINE, cron="* * * * *")
    with CaptureQueriesContext(connection) as queries:
        fire_due(now=NINE + 500 * MINUTE)
    said = [query["sql"] for query in queries.captured_queries]
    begins = next(at for at, sql in enumerate(said) if sql.startswith(("BEGIN", "SAVEPOINT")))
    assert begins > 0
    assert all(sql.startswith("SELECT") for sql in said[:begins])


def test_what_was_edited_since_it_was_read_goes_by_the_edit() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    edited = Schedule.objects.filter(pk=schedule.pk)
    with after("SELECT", lambda: edited.update(cron="0 10 * * *", next_run_at=NINE + HOUR, due_at=NINE + HOUR)):
        assert fire_due(now=NINE).schedules == 0
    assert not Run.objects.exists()
    fire_due(now=NINE + HOUR)
    assert Run.objects.get().scheduled_for == NINE + HOUR


def test_a_run_that_gives_way_and_was_one_failure_too_many_pauses_its_schedule() -> None:
    schedule = make_schedule(now=NINE - DAY - HOUR, overlap="cancel_other", pause_after=1)
    fire_due(now=NINE - DAY)
    before = Run.objects.get()
    Session.objects.finish(before.sessions.get().pk, status="failed", reason="exit_code", now=NINE)  # and not settled

    assert fire_due(now=NINE).runs == 1

    schedule.refresh_from_db()
    before.refresh_from_db()
    after = Run.objects.exclude(pk=before.pk).get()
    assert (before.status, schedule.status, schedule.due_at) == ("failed", "paused", None)
    assert (after.scheduled_for, after.status, after.reason) == (NINE, "cancelled", "paused")


@pytest.mark.parametrize("overlap", ["skip", "queue_one", "cancel_other", "allow"])
def test_every_run_says_by_which_policy_it_goes(overlap: str) -> None:
    schedule = make_schedule(now=NINE - HOUR, overlap=overlap)
    fire_due(now=NINE)
    assert Run.objects.get().overlap == overlap
    Run.objects.all().delete()
    assert trigger(schedule, now=NINE)[0].overlap == overlap


@pytest.mark.parametrize("somewhere", [True, False])
@pytest.mark.parametrize(("overlap", "allowed"), [("skip", 1), ("queue_one", 1), ("cancel_other", 2), ("allow", 2)])
def test_the_database_holds_the_overlap_policy(overlap: str, allowed: int, somewhere: bool) -> None:
    schedule = make_schedule(now=NINE)
    repository = make_repository() if somewhere else None
    made = 0
    for _ in range(2):
        try:
            with transaction.atomic():
                make_run(schedule, now=NINE, repository=repository, overlap=overlap)
            made += 1
        except IntegrityError:
            pass
    assert made == allowed


def test_one_that_has_no_time_yet_for_a_success_is_given_one() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    fire_due(now=NINE)
    schedule.refresh_from_db()
    assert schedule.overdue_at == NINE + DAY + schedule.timeout + schedule.catch_up
