"""The list of schedules."""

import re
from datetime import datetime, timedelta
from typing import Any

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from schedules import steering
from schedules.admin.outcomes import latest_runs
from schedules.models import Freeze, Run, Schedule
from tests.schedules.admin.lists import costs_the_same
from tests.schedules.factories import make_repository, make_run, make_schedule

LIST = reverse("admin:schedules_schedule_changelist")
ADD = reverse("admin:schedules_schedule_add")


def page_of(schedule: Schedule) -> str:
    return reverse("admin:schedules_schedule_change", args=(schedule.pk,))


def with_runs(count: int, now: datetime) -> list[Schedule]:
    shop = make_repository()
    schedules = []
    for _ in range(count):
        schedule = make_schedule(now=now, runner="claude", repositories=[shop])
        for status in (Run.Status.SUCCEEDED, Run.Status.FAILED, Run.Status.SKIPPED):
            make_run(schedule, now=now, status=status, repository=shop)
        schedules.append(schedule)
    return schedules


def test_the_list_costs_the_same_queries_whatever_its_length(console: Client, now: datetime) -> None:
    response = costs_the_same(console, LIST, lambda count: with_runs(count, now))

    assert response.content.count(b"rota-strip") == 30


def test_a_row_tells_status_cadence_next_time_and_outcomes(console: Client, now: datetime, settings: Any) -> None:
    settings.ROTA_REHEARSE = None
    schedule = make_schedule(
        "daily-briefing", now=now, runner="claude", cron="30 7 * * *", time_zone="Europe/Paris", model="haiku"
    )
    steering.pause([schedule], by="marie", reason="Waits for the lock file", now=now)
    run = make_run(schedule, now=now, status=Run.Status.FAILED, message="It broke")
    other = make_schedule("active-one", now=now, cron="30 7 * * *", time_zone="Europe/Paris")

    page = console.get(LIST).content.decode()

    for part in (
        "Waits for the lock file",
        "At 07:30",
        "30 7 * * *",
        "Europe/Paris",
        "rehearsed",
        "haiku",
        "No API key",
    ):
        assert part in page
    assert reverse("admin:schedules_run_change", args=(run.pk,)) in page
    assert re.search(r"07:30 \+0[12]:00", page)
    assert other.next_run_at
    assert f"{other.next_run_at:%Y-%m-%d %H:%M:%S} UTC" in page


def test_without_rehearsal_no_page_speaks_of_it(console: Client, now: datetime, settings: Any) -> None:
    settings.ROTA_REHEARSE = False
    make_schedule(now=now, runner="claude")

    page = console.get(LIST).content.decode()

    assert "rehearsed" not in page


def test_a_schedule_that_nobody_fires_is_late(console: Client, now: datetime) -> None:
    make_schedule("forgotten", now=now - timedelta(days=3), cron="* * * * *")
    make_schedule("prompt", now=now, cron="0 0 1 1 *")

    page = console.get(LIST).content.decode()

    assert page.count("rota-is-late") == 1
    assert "Is beat running?" in page


def test_a_schedule_that_is_over_or_held_back_by_jitter_says_so_in_the_list_and_on_its_page(
    console: Client, now: datetime
) -> None:
    over = make_schedule(now=now, max_runs=1, fired_count=1)
    spread = make_schedule(now=now, jitter=timedelta(hours=1))

    rows = console.get(LIST).content.decode()

    for page in (rows, console.get(page_of(over)).content.decode()):
        assert "It ran 1 of 1 time" in page
    for page in (rows, console.get(page_of(spread)).content.decode()):
        assert " later, by its jitter" in page


def test_a_schedule_in_a_freeze_window_is_shown_as_frozen(console: Client, now: datetime) -> None:
    frozen, _free = make_schedule("frozen-one", now=now), make_schedule("free-one", now=now)
    began = timezone.now() - timedelta(hours=1)
    window = Freeze.objects.create(starts_at=began, ends_at=began + timedelta(days=1), reason="Release 4 goes out")
    window.schedules.add(frozen)

    page = console.get(LIST).content.decode()

    assert page.count("rota-is-frozen") == 1
    assert "Release 4 goes out" in page


def test_the_strip_has_the_last_20_runs_and_no_more(now: datetime, db: None) -> None:
    long, short = make_schedule(now=now), make_schedule(now=now)
    runs = [make_run(long, now=now, status=Run.Status.SUCCEEDED) for _ in range(25)]
    last = make_run(short, now=now)

    latest = latest_runs([long.pk, short.pk])

    assert [run.pk for run in latest[long.pk]] == [run.pk for run in reversed(runs)][:20]
    assert [run.pk for run in latest[short.pk]] == [last.pk]


def test_the_list_can_be_filtered_and_searched(console: Client, now: datetime) -> None:
    make_schedule("one", now=now)
    make_schedule("two", now=now, runner="claude")

    assert [row.name for row in console.get(LIST, {"runner": "claude"}).context["cl"].result_list] == ["two"]
    assert [row.name for row in console.get(LIST, {"q": "one"}).context["cl"].result_list] == ["one"]
    assert [row.name for row in console.get(LIST, {"status__exact": "paused"}).context["cl"].result_list] == []


def test_a_cron_line_that_can_not_be_read_does_not_break_a_page(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, status="paused")
    Schedule.objects.filter(pk=schedule.pk).update(cron="every full moon", time_zone="Mars/Olympus")

    assert "Can&#x27;t be read" in console.get(LIST).content.decode()
    assert console.get(page_of(schedule)).status_code == 200
