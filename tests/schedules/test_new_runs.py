"""Several at once, each with a connection of its own: the overlap policy and the constraints hold."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from django.db import connection, connections

from schedules import steering
from schedules.backfilling import backfill
from schedules.firing import Refused, fire_due, trigger
from schedules.models import Run, Schedule
from tests.schedules.factories import make_repository, make_schedule

pytestmark = pytest.mark.django_db(transaction=True)

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def at_once(*acts: Callable[[], object]) -> list[object]:
    """What each returned, or Refused."""
    barrier = Barrier(len(acts))

    def play(act: Callable[[], object]) -> object:
        try:
            barrier.wait(timeout=15)
            return act()
        except Refused as refused:
            return refused
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(play, acts))


@pytest.mark.parametrize(("overlap", "most"), [("skip", 1), ("queue_one", 1), ("allow", 5)])
@pytest.mark.no_cover
def test_firing_and_people_at_once_keep_to_the_policy(overlap: str, most: int) -> None:
    shop = make_repository()
    for _ in range(5):
        schedule = make_schedule(now=NINE - HOUR, overlap=overlap, repositories=[shop])

        def by_hand(schedule: Schedule = schedule) -> object:
            return trigger(schedule, now=NINE)

        at_once(*[lambda: fire_due(now=NINE)] * 2, *[by_hand] * 4)

        assert Run.objects.filter(schedule=schedule, trigger="schedule").count() == 1
        assert 1 <= Run.objects.open().filter(schedule=schedule).count() <= most
        assert Schedule.objects.get(pk=schedule.pk).status == "active"


def test_two_that_fire_share_the_work_and_neither_fails() -> None:
    for _ in range(40):
        make_schedule(now=NINE - HOUR)

    fired = at_once(*[lambda: fire_due(now=NINE)] * 4)

    assert sum(one.runs for one in fired) == Run.objects.count() == 40  # type: ignore[attr-defined]
    assert set(Run.objects.values_list("sessions__status", flat=True)) == {"queued"}


def _fire_in_a_process_of_its_own(gate: Any, overlap: str) -> None:
    gate.wait(timeout=15)
    fire_due(now=NINE)
    for schedule in Schedule.objects.filter(overlap=overlap):
        with suppress(Refused):
            trigger(schedule, now=NINE)
    connections.close_all()


@pytest.mark.parametrize("overlap", ["skip", "queue_one"])
def test_processes_that_fire_and_trigger_at_once_leave_one_open_run_each(overlap: str) -> None:
    for _ in range(10):
        make_schedule(now=NINE - HOUR, overlap=overlap)
    connections.close_all()  # no process shares one with another
    forking = multiprocessing.get_context("fork")
    gate = forking.Barrier(3)
    processes = [forking.Process(target=_fire_in_a_process_of_its_own, args=(gate, overlap)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=30)

    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert Run.objects.filter(trigger="schedule").count() == 10
    assert Run.objects.open().count() == 10
    assert set(Schedule.objects.values_list("status", flat=True)) == {"active"}


def test_a_pause_at_the_due_time_is_not_undone_and_the_time_is_on_record() -> None:
    for _ in range(15):
        schedule = make_schedule(now=NINE - HOUR)

        def off(schedule: Schedule = schedule) -> object:
            return steering.pause([schedule], by="ada", reason="", now=NINE)

        at_once(lambda: fire_due(now=NINE), off)

        schedule.refresh_from_db()
        assert (schedule.status, schedule.due_at) == ("paused", None)
        run = Run.objects.get(schedule=schedule)
        assert (run.status, run.reason) in (("cancelled", "paused"), ("skipped", "paused"))


def test_two_backfills_at_once_fill_a_time_once() -> None:
    schedule = make_schedule(now=NINE)

    def fill() -> object:
        return backfill(schedule, since=NINE - 9 * DAY, until=NINE, now=NINE)

    at_once(fill, fill)

    assert Run.objects.count() == 10
