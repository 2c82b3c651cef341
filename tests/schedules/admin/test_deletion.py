import threading
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.db.models.signals import pre_delete
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from schedules import stopping
from schedules.admin.deletion import NotDeleted, forget
from schedules.models import Freeze, Run, Schedule, Session, SessionEvent
from tests.schedules.factories import make_event, make_run, make_schedule, make_session
from tests.schedules.locks import somebody_holding, waits_no_longer

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
    assert LogEntry.objects.values_list("object_repr", flat=True).get() == schedule.name


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


def test_what_began_after_the_page_was_asked_for_keeps_its_schedule_and_its_rows(now: datetime, db: None) -> None:
    schedule = make_schedule(now=now)
    session = make_session(make_run(schedule, now=now, status=Run.Status.RUNNING), now=now, status="running")

    with pytest.raises(NotDeleted, match=rf"{schedule} is still there, and disabled: run {session.run_id} of it began"):
        forget(schedule, by="ada", now=now)

    assert Session.objects.filter(pk=session.pk, status="running").exists()
    assert Schedule.objects.get().status == "disabled"


@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_busy_is_told_and_not_an_error(console: Client, now: datetime) -> None:
    schedule = make_schedule("the-one", now=now)
    selected = {"action": "delete_selected", "_selected_action": [schedule.pk], "post": "yes"}

    with somebody_holding(schedule), waits_no_longer():
        page = console.post(confirmation(schedule), {"post": "yes"})
        rows = console.post(LIST, selected)
    for response in (page, rows):
        assert response.status_code == 302
    told = console.get(confirmation(schedule)).content.decode()

    assert told.count("the-one is still there: the database was busy with something else.") == 2
    assert "Successfully deleted" not in told
    assert Schedule.objects.filter(pk=schedule.pk).exists()
    assert not LogEntry.objects.filter(object_repr="the-one").exists()

    console.post(confirmation(schedule), {"post": "yes"})
    assert not Schedule.objects.filter(pk=schedule.pk).exists()


@pytest.mark.django_db(transaction=True)
def test_who_edits_its_freeze_window_and_who_deletes_it_do_not_wait_for_each_other(now: datetime) -> None:
    schedule = make_schedule(now=now)
    stopping.freeze(starts_at=now, ends_at=now + timedelta(days=1), reason="Alone", by="ada", schedules=[schedule])
    window_is_gone, edited = threading.Event(), threading.Event()

    def tell(**_: Any) -> None:
        window_is_gone.set()
        time.sleep(0.3)  # in which the other one takes what it can get

    def edit() -> None:
        window_is_gone.wait(timeout=30)
        with transaction.atomic():
            stopping.hold_starts()
            Freeze.objects.update(reason="Still")
        edited.set()
        connection.close()

    thread = threading.Thread(target=edit)
    thread.start()
    pre_delete.connect(tell, sender=Schedule)
    try:
        forget(schedule, by="ada", now=now)
    finally:
        pre_delete.disconnect(tell, sender=Schedule)
        thread.join(timeout=30)

    assert edited.is_set()
    assert not Schedule.objects.exists()
    assert not Freeze.objects.exists()
