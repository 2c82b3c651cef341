from datetime import datetime

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from schedules.models import Run, Schedule, Session, SessionEvent
from tests.schedules.factories import make_event, make_run, make_schedule, make_session

LIST = reverse("admin:schedules_schedule_changelist")


def with_history(runs: int, now: datetime) -> Schedule:
    schedule = make_schedule(now=now)
    Run.objects.bulk_create(
        Run(
            schedule=schedule,
            scheduled_for=now,
            queued_at=now,
            finished_at=now,
            trigger="manual",
            status="succeeded",
            reason="ok",
        )
        for _ in range(runs)
    )
    run = schedule.runs.first()
    assert run is not None
    first = make_session(run, now=now, status="succeeded")
    second = make_session(run, now=now, status="succeeded", resumed_from=first)
    make_event(second, now=now)
    make_run(schedule, now=now, status="succeeded", retry_of=run)
    return schedule


def confirmation(schedule: Schedule) -> str:
    return reverse("admin:schedules_schedule_delete", args=(schedule.pk,))


def test_the_page_counts_what_goes_in_bounded_queries(console: Client, now: datetime) -> None:
    short, long = with_history(3, now), with_history(600, now)
    console.get(confirmation(short))
    with CaptureQueriesContext(connection) as few:
        console.get(confirmation(short))
    with CaptureQueriesContext(connection) as many:
        page = console.get(confirmation(long)).content.decode()

    assert "<strong>601</strong> runs" in page
    assert len(many) == len(few)


def test_a_schedule_goes_with_all_that_ran_of_it_and_nothing_else(console: Client, now: datetime) -> None:
    schedule, other = with_history(450, now), with_history(1, now)

    response = console.post(confirmation(schedule), {"post": "yes"})

    assert response.status_code == 302
    assert list(Schedule.objects.all()) == [other]
    assert set(Run.objects.values_list("schedule", flat=True)) == {other.pk}
    assert set(Session.objects.values_list("schedule", flat=True)) == {other.pk}
    assert SessionEvent.objects.count() == 1


def test_what_still_runs_keeps_its_schedule(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    run = make_run(schedule, now=now, status=Run.Status.RUNNING)

    asked = console.get(confirmation(schedule)).content.decode()
    console.post(confirmation(schedule), {"post": "yes"})

    assert f"Run {run.pk} of {schedule}: it is still running. Cancel it first." in asked
    assert Schedule.objects.filter(pk=schedule.pk).exists()


def test_a_selection_is_deleted(console: Client, now: datetime) -> None:
    schedules = [with_history(2, now), with_history(2, now)]
    selected = {"action": "delete_selected", "_selected_action": [schedule.pk for schedule in schedules]}

    assert console.post(LIST, selected).status_code == 200
    console.post(LIST, selected | {"post": "yes"})

    assert not Schedule.objects.exists()


def test_who_may_not_delete_does_not(onlooker: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)

    assert onlooker.post(confirmation(schedule), {"post": "yes"}).status_code == 403
    assert Schedule.objects.exists()
