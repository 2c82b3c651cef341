"""An edit is never retroactive, and nothing is lost around one."""

from datetime import UTC, datetime, timedelta

import pytest

from schedules import steering
from schedules.editing import save_edited
from schedules.firing import fire_due
from schedules.models import Incident, Run, Schedule
from schedules.timetable import TimetableError
from tests.schedules.factories import make_repository, make_schedule

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def edit(schedule: Schedule, *, now: datetime, **fields: object) -> Schedule:
    for name, value in fields.items():
        setattr(schedule, name, value)
    save_edited(schedule, fields, by="ada", now=now)
    return Schedule.objects.get(pk=schedule.pk)


def test_an_earlier_time_begins_tomorrow_and_the_later_one_of_today_is_gone() -> None:
    schedule = make_schedule(now=NINE - HOUR)

    edited = edit(schedule, cron="0 8 * * *", now=NINE - 30 * MINUTE)

    assert edited.next_run_at == NINE - HOUR + DAY
    fire_due(now=NINE)
    assert not Run.objects.exists()
    fire_due(now=NINE - HOUR + DAY)
    assert Run.objects.get().scheduled_for == NINE - HOUR + DAY


def test_what_is_due_and_not_fired_runs_by_the_old_settings() -> None:
    schedule = make_schedule(now=NINE - HOUR)

    edited = edit(schedule, cron="0 8 * * *", argv=["echo", "new"], now=NINE + timedelta(seconds=1))

    run = Run.objects.get()
    assert (run.scheduled_for, run.status) == (NINE, "queued")
    assert run.snapshot["options"]["argv"] == ["echo", "hello"]
    assert (edited.next_run_at, edited.argv) == (NINE - HOUR + DAY, ["echo", "new"])
    fire_due(now=NINE + MINUTE)
    assert Run.objects.count() == 1


def test_what_only_its_jitter_holds_back_is_not_lost() -> None:
    schedule = make_schedule("spread", now=NINE - HOUR, jitter=HOUR)
    assert schedule.due_at is not None
    assert schedule.due_at > NINE + MINUTE

    edit(schedule, jitter=timedelta(), now=NINE + MINUTE)

    assert Run.objects.get().scheduled_for == NINE
    assert fire_due(now=NINE + 2 * HOUR).runs == 0


def test_to_and_fro_records_no_time_twice() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    fire_due(now=NINE)
    schedule.refresh_from_db()
    schedule = edit(schedule, cron="30 9 * * *", now=NINE + MINUTE)
    schedule = edit(schedule, cron="0 9 * * *", now=NINE + 2 * MINUTE)
    assert schedule.next_run_at == NINE + DAY
    assert Run.objects.count() == 1


def test_an_edit_that_is_not_of_time_leaves_what_is_due_to_beat() -> None:
    schedule = make_schedule(now=NINE - HOUR)

    edited = edit(schedule, description="New.", now=NINE + MINUTE)

    assert edited.due_at == NINE
    assert not Run.objects.exists()


def test_what_rota_wrote_meanwhile_is_not_written_over() -> None:
    schedule = make_schedule(now=NINE - HOUR, max_runs=2)
    opened = Schedule.objects.get(pk=schedule.pk)
    fire_due(now=NINE)
    steering.pause([schedule], by="bob", reason="noisy", now=NINE + MINUTE)

    edited = edit(opened, cron="0 8 * * *", now=NINE + 2 * MINUTE)

    assert (edited.status, edited.status_by, edited.fired_count, edited.due_at) == ("paused", "bob", 1, None)


def test_while_it_is_paused_what_passed_is_recorded_by_the_old_settings() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="0 * * * *", repositories=[make_repository(), make_repository()])
    steering.pause([schedule], by="bob", reason="noisy", now=NINE - HOUR)
    schedule.refresh_from_db()

    edit(schedule, cron="30 * * * *", now=NINE + HOUR)
    steering.resume([schedule], by="bob", now=NINE + 3 * HOUR)

    counted = Run.objects.order_by("scheduled_for", "pk").values_list("missed_count", "scheduled_for", "missed_until")
    half = NINE + HOUR + 30 * MINUTE
    assert list(counted) == [(2, NINE, NINE + HOUR)] * 2 + [(2, half, half + HOUR)] * 2


def test_saving_a_mended_one_makes_it_active_and_ends_its_alarm() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    Schedule.objects.filter(pk=schedule.pk).update(cron="61 * * * *")
    fire_due(now=NINE)
    assert Incident.objects.open().get().kind == "schedule_broken"
    schedule.refresh_from_db()

    edited = edit(schedule, cron="0 10 * * *", now=NINE + MINUTE)

    assert (edited.status, edited.status_reason, edited.next_run_at) == ("active", "", NINE + HOUR)
    assert not Incident.objects.open().exists()


def test_one_that_turns_out_to_be_broken_is_mended_by_the_same_edit() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    Schedule.objects.filter(pk=schedule.pk).update(time_zone="Mars/Olympus")

    edited = edit(schedule, time_zone="UTC", cron="0 10 * * *", now=NINE + MINUTE)

    assert (edited.status, edited.next_run_at) == ("active", NINE + HOUR)
    assert Run.objects.get().reason == "broken"


def test_an_edit_that_can_not_be_planned_changes_nothing() -> None:
    schedule = make_schedule(now=NINE - HOUR)
    with pytest.raises(TimetableError):
        edit(schedule, cron="61 * * * *", now=NINE + MINUTE)
    assert not Run.objects.exists()
    assert Schedule.objects.get().cron == "0 9 * * *"


def test_by_when_it_should_succeed_follows_from_the_new_times() -> None:
    schedule = make_schedule(now=NINE - HOUR, cron="0 9 1 * *", next_run_at=NINE, due_at=NINE)
    fire_due(now=NINE)
    schedule.refresh_from_db()
    assert schedule.overdue_at
    assert schedule.overdue_at > NINE + 20 * DAY

    edited = edit(schedule, cron="0 * * * *", now=NINE + MINUTE)

    assert edited.overdue_at == NINE + HOUR + schedule.timeout + schedule.catch_up
    assert edit(edited, cron="", now=NINE + MINUTE).overdue_at is None


def test_a_new_name_has_another_share_of_the_jitter_and_no_time_is_missed_for_it() -> None:
    def due(name: str) -> datetime:
        return Schedule(name=name, cron="0 9 * * *", jitter=12 * HOUR).due_for(NINE)

    names = sorted((f"report-{number}" for number in range(50)), key=due)
    schedule = make_schedule(names[-1], now=NINE - HOUR, jitter=12 * HOUR)

    edited = edit(schedule, name=names[0], now=NINE - MINUTE)

    assert edited.due_at == due(names[0])
    fire_due(now=due(names[0]))
    assert Run.objects.get().status == "queued"
