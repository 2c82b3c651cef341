"""A clock that is not to be trusted: back by little and by much, forward by hours and by years."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from config.celery import app
from schedules import steering
from schedules.beat import Scheduler
from schedules.editing import save_edited
from schedules.firing import fire_due
from schedules.models import Hold, Incident, Run, Schedule, WorkerHeartbeat
from schedules.replanning import replan_ahead
from schedules.unfired import recover_missed
from tests.schedules.factories import make_schedule, make_session, make_worker

pytestmark = pytest.mark.django_db(transaction=True)

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY, YEAR = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=365)


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler(app=app, lazy=True)
    yield made
    connection.close()


def test_back_by_five_minutes_nothing_is_fired_twice(scheduler: Scheduler, no_broker: None) -> None:
    make_schedule(now=NINE - HOUR, cron="* * * * *", overlap="allow")
    make_schedule(now=NINE - HOUR, overlap="cancel_other")

    at = NINE - 2 * MINUTE
    while at <= NINE + 3 * MINUTE:
        scheduler.look(at)
        at += timedelta(seconds=30)
    at -= 5 * MINUTE
    while at <= NINE + 10 * MINUTE:
        scheduler.look(at)
        at += timedelta(seconds=30)

    runs = list(Run.objects.filter(status="queued").values_list("schedule", "scheduled_for"))
    assert len(runs) == len(set(runs)) == 13 + 1
    assert not Run.objects.filter(status="cancelled").exists()


@pytest.mark.parametrize("restarted", [False, True])
def test_back_by_years_the_next_time_is_the_next_time_again(
    scheduler: Scheduler, no_broker: None, restarted: bool
) -> None:
    schedule = make_schedule(now=NINE + 10 * YEAR)
    off = make_schedule(now=NINE + 10 * YEAR, status="paused")
    silent = make_worker(now=NINE + 10 * YEAR)
    scheduler.look(NINE + 10 * YEAR)
    if restarted:
        scheduler = Scheduler(app=app, lazy=True)

    scheduler.look(NINE - HOUR)

    schedule.refresh_from_db()
    off.refresh_from_db()
    silent.refresh_from_db()
    assert schedule.next_run_at == schedule.due_at == NINE
    assert off.due_at is None
    assert silent.last_seen_at == NINE - HOUR
    scheduler.look(NINE)
    assert Run.objects.get().scheduled_for == NINE


def test_after_a_clock_that_went_back_nothing_waits_for_the_time_that_never_was() -> None:
    then = NINE + 10 * YEAR
    weekly = make_schedule("weekly", now=NINE - HOUR, cron="0 9 * * 1")
    resumed = make_schedule(now=NINE - HOUR, status_at=then)
    fire_due(now=then)
    retry = make_session(now=then, not_before=then + HOUR)
    handed_out = make_session(now=then, admitted_at=then)
    held = Hold.objects.create(credential="anthropic", until=then + HOUR)
    soon = Hold.objects.create(credential="openai", until=NINE + HOUR)

    replan_ahead(now=NINE - HOUR)

    for row in (weekly, resumed, retry, handed_out, held, soon):
        row.refresh_from_db()
    assert weekly.overdue_at == weekly.answers_by()
    assert resumed.status_at == NINE - HOUR  # failures since then count
    assert (retry.not_before, handed_out.admitted_at) == (NINE - HOUR, NINE - HOUR)
    assert (held.until, soon.until) == (NINE - HOUR, NINE + HOUR)
    fire_due(now=NINE)
    Run.objects.filter(schedule=weekly).update(started_at=NINE)
    recover_missed(now=NINE)
    assert not Incident.objects.open().filter(kind="missed", subject="weekly").exists()


def test_what_waits_for_its_next_time_is_left_alone() -> None:
    make_schedule(now=NINE)
    broken = make_schedule(now=NINE)
    Schedule.objects.filter(pk=broken.pk).update(cron="61 * * * *")
    assert replan_ahead(now=NINE) == 0


def test_forward_by_two_hours_is_an_outage() -> None:
    make_schedule(now=NINE - HOUR, cron="0 * * * *")

    fire_due(now=NINE + HOUR + MINUTE)

    late, missed = Run.objects.order_by("-scheduled_for")
    assert (late.status, late.scheduled_for) == ("queued", NINE + HOUR)
    assert (missed.status, missed.scheduled_for) == ("missed", NINE)


def test_forward_by_ten_years_nothing_runs_and_there_is_one_alarm() -> None:
    daily, minutely = make_schedule(now=NINE - HOUR), make_schedule(now=NINE - HOUR, cron="* * * * *")
    yearly = make_schedule(now=NINE - HOUR, cron="0 9 4 1 *")

    fire_due(now=NINE + 10 * YEAR)

    assert not Run.objects.open().exists()
    for schedule in (daily, minutely):
        schedule.refresh_from_db()
        assert (schedule.status, schedule.due_at) == ("broken", None)
        run = Run.objects.get(schedule=schedule)
        assert (run.status, run.reason, run.missed_count) == ("missed", "clock_jumped", 1000)
        assert "More than 1000 due times" in run.message
    yearly.refresh_from_db()
    assert yearly.status == "active"
    alarm = Incident.objects.get(kind="clock_jumped")
    assert (alarm.count, alarm.recovered_at) == (2, None)


def test_when_the_clock_is_right_again_a_resume_heals_as_if_it_had_not_been() -> None:
    schedules = [make_schedule(now=NINE - HOUR), make_schedule(now=NINE - HOUR, cron="* * * * *")]
    fire_due(now=NINE - HOUR + 10 * YEAR)

    assert steering.resume(schedules[:1], by="ada", now=NINE - 30 * MINUTE) == 1
    assert Incident.objects.open().filter(kind="clock_jumped").exists()
    assert steering.resume(schedules[1:], by="ada", now=NINE - 30 * MINUTE) == 1
    assert not Incident.objects.open().filter(kind="clock_jumped").exists()

    passed = Run.objects.get()  # the minutes that it was broken
    assert (passed.schedule, passed.status, passed.reason) == (schedules[1], "skipped", "broken")
    assert (passed.missed_count, passed.scheduled_for) == (30, NINE - HOUR + MINUTE)
    fire_due(now=NINE)
    assert Run.objects.filter(schedule=schedules[0]).get().scheduled_for == NINE


def test_a_machine_whose_first_beat_is_this_one_has_no_clock_to_heed(scheduler: Scheduler) -> None:
    scheduler.look(NINE)
    assert WorkerHeartbeat.objects.get().last_seen_at == NINE


def test_what_a_wrong_clock_missed_and_is_still_to_come_runs() -> None:
    make_schedule(now=NINE - HOUR, cron="30 9 * * *")
    fire_due(now=NINE + 2 * HOUR)
    assert Run.objects.get().status == "missed"

    assert replan_ahead(now=NINE) == 1

    assert not Run.objects.exists()
    fire_due(now=NINE + 30 * MINUTE)
    assert Run.objects.get().status == "queued"


def test_after_a_clock_that_went_back_an_outage_counts_what_is_not_on_record() -> None:
    make_schedule(now=NINE - MINUTE, cron="* * * * *")
    for minutes in range(6):
        fire_due(now=NINE + minutes * MINUTE)
    replan_ahead(now=NINE)

    fire_due(now=NINE + 12 * MINUTE)

    missed = Run.objects.get(status="missed")
    assert (missed.scheduled_for, missed.missed_until) == (NINE + 6 * MINUTE, NINE + 11 * MINUTE)
    assert missed.missed_count == 6


def test_the_same_where_it_is_paused_before_beat_is_back() -> None:
    schedule = make_schedule(now=NINE - MINUTE, cron="* * * * *")
    for minutes in range(6):
        fire_due(now=NINE + minutes * MINUTE)
    replan_ahead(now=NINE)

    steering.pause([schedule], by="ada", reason="", now=NINE + 12 * MINUTE)

    missed = Run.objects.get(status="missed")
    assert (missed.scheduled_for, missed.missed_count) == (NINE + 6 * MINUTE, 6)


def test_where_all_of_an_outage_is_on_record_nothing_is_added() -> None:
    make_schedule(now=NINE - MINUTE, cron="* * * * *")
    for minutes in range(6):
        fire_due(now=NINE + minutes * MINUTE)
    replan_ahead(now=NINE)
    fire_due(now=NINE + 5 * MINUTE)
    assert Run.objects.count() == 6


def test_of_an_outage_what_is_still_to_come_when_the_clock_goes_back_runs_and_is_not_missed_as_well() -> None:
    make_schedule(now=NINE - HOUR, cron="* * * * *", overlap="allow")
    fire_due(now=NINE)
    replan_ahead(now=NINE - 5 * MINUTE)
    for minutes in range(-4, 1):
        fire_due(now=NINE + minutes * MINUTE)

    *ran, passed_over, outside = Run.objects.order_by("-scheduled_for")
    assert [run.scheduled_for for run in ran] == [NINE - minutes * MINUTE for minutes in range(5)]
    assert (outside.scheduled_for, outside.missed_until, outside.missed_count) == (
        NINE - 59 * MINUTE,
        NINE - 16 * MINUTE,
        44,
    )
    assert (passed_over.missed_until, passed_over.missed_count) == (NINE - 5 * MINUTE, 11)
    assert passed_over.message == "11 due times missed: a later one was due by the time Rota came to it."


def test_what_ran_in_the_midst_of_an_outage_by_another_clock_is_not_counted_again() -> None:
    make_schedule(now=NINE - MINUTE, cron="* * * * *", overlap="allow")
    for minutes in range(6):
        fire_due(now=NINE + minutes * MINUTE)
    replan_ahead(now=NINE - 5 * MINUTE)

    fire_due(now=NINE + 10 * MINUTE)

    missed = Run.objects.filter(status="missed").order_by("scheduled_for")
    assert [(run.scheduled_for, run.missed_until, run.missed_count) for run in missed] == [
        (NINE - 4 * MINUTE, NINE - MINUTE, 4),
        (NINE + 6 * MINUTE, NINE + 9 * MINUTE, 4),
    ]


def test_of_what_passed_while_it_was_paused_what_comes_again_runs_and_is_not_skipped_as_well() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="*/10 * * * *", overlap="allow")
    steering.pause([schedule], by="ada", reason="", now=NINE - HOUR)
    steering.resume([schedule], by="ada", now=NINE)

    replan_ahead(now=NINE - 15 * MINUTE)
    for minutes in (10, 0):
        fire_due(now=NINE - minutes * MINUTE)

    *ran, skipped = Run.objects.order_by("-scheduled_for")
    assert [run.scheduled_for for run in ran] == [NINE, NINE - 10 * MINUTE]
    assert (skipped.missed_until, skipped.missed_count) == (NINE - 20 * MINUTE, 4)
    assert skipped.message == "4 due times skipped: the schedule was paused by ada."


def test_while_it_is_paused_the_times_that_come_again_are_counted_once() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="*/10 * * * *")
    steering.pause([schedule], by="ada", reason="", now=NINE - HOUR)
    steering.disable([schedule], by="ada", reason="", now=NINE)

    replan_ahead(now=NINE - 15 * MINUTE)
    steering.resume([schedule], by="ada", now=NINE)

    disabled, paused = Run.objects.order_by("-scheduled_for")
    assert (paused.missed_until, paused.missed_count) == (NINE - 20 * MINUTE, 4)
    assert (disabled.scheduled_for, disabled.missed_until, disabled.missed_count) == (NINE - 10 * MINUTE, NINE, 2)


def test_a_clock_that_is_corrected_by_seconds_makes_no_time_that_is_on_record_come_again() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="*/10 * * * *")
    steering.pause([schedule], by="ada", reason="", now=NINE - HOUR)
    steering.resume([schedule], by="ada", now=NINE + timedelta(seconds=5))
    steering.pause([schedule], by="ada", reason="", now=NINE - timedelta(seconds=5))
    steering.resume([schedule], by="ada", now=NINE - timedelta(seconds=4))

    fire_due(now=NINE)

    schedule.refresh_from_db()
    assert schedule.next_run_at == NINE + 10 * MINUTE
    assert Run.objects.get().missed_count == 6


@pytest.mark.parametrize("cron", ["30 * * * *", "5-55/10 * * * *", "61 * * * *"])
def test_a_row_of_times_that_nobody_can_tell_any_more_tells_of_nothing_that_is_to_come(cron: str) -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="*/10 * * * *")
    steering.pause([schedule], by="ada", reason="", now=NINE - HOUR)
    steering.resume([schedule], by="ada", now=NINE)
    Schedule.objects.filter(pk=schedule.pk).update(cron=cron)

    for _ in range(2):
        replan_ahead(now=NINE - 15 * MINUTE)

    skipped = Run.objects.get()
    assert (skipped.scheduled_for, skipped.missed_until) == (NINE - 50 * MINUTE, NINE - 15 * MINUTE)
    assert skipped.missed_count == 6
    assert skipped.message == "Up to 6 due times skipped: the schedule was paused by ada."


def test_what_comes_after_an_edit_is_not_passed_over_for_what_was_on_record_before_the_clock_went_back() -> None:
    schedule = make_schedule(now=NINE - 4 * HOUR, cron="7 * * * *")
    steering.pause([schedule], by="ada", reason="", now=NINE - 4 * HOUR)
    steering.resume([schedule], by="ada", now=NINE)
    schedule.refresh_from_db()
    schedule.cron = "*/30 * * * *"
    save_edited(schedule, {"cron": schedule.cron}, by="ada", now=NINE)
    replan_ahead(now=NINE - 2 * HOUR)

    steering.pause([schedule], by="ada", reason="", now=NINE - 2 * HOUR)
    steering.resume([schedule], by="ada", now=NINE - 2 * HOUR)

    schedule.refresh_from_db()
    assert schedule.next_run_at == NINE - 90 * MINUTE


def test_nor_while_it_is_paused_again() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="*/10 * * * *")
    steering.pause([schedule], by="ada", reason="", now=NINE - HOUR)
    steering.resume([schedule], by="ada", now=NINE + timedelta(seconds=5))
    steering.pause([schedule], by="ada", reason="", now=NINE - timedelta(seconds=30))

    steering.resume([schedule], by="ada", now=NINE + timedelta(seconds=5))

    assert Run.objects.get().missed_count == 6


def test_times_that_a_jump_of_the_clock_passed_over_are_counted_once_when_they_have_come_after_all() -> None:
    schedule = make_schedule(now=NINE - 2 * DAY, cron="* * * * *")
    fire_due(now=NINE)
    replan_ahead(now=NINE - 5 * MINUTE)

    steering.resume([schedule], by="ada", now=NINE + 10 * MINUTE)

    skipped, jumped = Run.objects.order_by("-scheduled_for")
    assert (jumped.reason, jumped.missed_until) == ("clock_jumped", NINE)
    assert (skipped.scheduled_for, skipped.missed_until, skipped.missed_count) == (
        NINE + MINUTE,
        NINE + 10 * MINUTE,
        10,
    )


@pytest.mark.parametrize("resumed_at", [NINE - 5 * MINUTE, NINE + 2 * DAY])
def test_what_was_to_come_before_a_jump_of_the_clock_is_counted_as_well(resumed_at: datetime) -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="* * * * *")
    steering.pause([schedule], by="ada", reason="", now=NINE - HOUR)
    steering.resume([schedule], by="ada", now=NINE - 10 * MINUTE)
    fire_due(now=NINE + DAY)
    replan_ahead(now=NINE - 30 * MINUTE)

    steering.resume([schedule], by="ada", now=resumed_at)

    until = NINE - HOUR
    for run in Run.objects.order_by("scheduled_for"):
        assert run.scheduled_for == until + MINUTE
        assert run.missed_until is not None
        if run.reason != "clock_jumped":  # which counts to a thousand
            assert run.missed_count == (run.missed_until - until) / MINUTE
        until = run.missed_until
    assert until == resumed_at


def test_of_two_jumps_of_the_clock_the_one_that_has_come_is_counted_once_where_the_other_has_not() -> None:
    schedule = make_schedule(now=NINE - DAY, cron="* * * * *")
    fire_due(now=NINE)
    steering.resume([schedule], by="ada", now=NINE)
    fire_due(now=NINE + DAY)
    replan_ahead(now=NINE - HOUR)

    steering.resume([schedule], by="ada", now=NINE + 10 * MINUTE)

    skipped, jumped = Run.objects.order_by("-scheduled_for")
    assert (jumped.reason, jumped.missed_until) == ("clock_jumped", NINE)
    assert (skipped.scheduled_for, skipped.missed_until) == (NINE + MINUTE, NINE + 10 * MINUTE)
