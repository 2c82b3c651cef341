"""Backfill a schedule from its page."""

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from schedules.backfilling import backfill
from schedules.models import Run, Schedule
from tests.schedules.factories import make_repository, make_schedule

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def to(schedule: Schedule, verb: str) -> str:
    return reverse(f"admin:schedules_schedule_{verb}", args=(schedule.pk,))


def span(now: datetime, days: int = 3) -> dict[str, str]:
    return {"since": f"{now - days * DAY:%Y-%m-%d %H:%M}", "until": f"{now:%Y-%m-%d %H:%M}"}


def test_the_list_is_shown_first_and_confirmed_then(console: Client, now: datetime) -> None:
    schedule = make_schedule("nightly", now=now, repositories=[make_repository("shop"), make_repository("blog")])
    assert "Show the list" in console.get(to(schedule, "backfill")).content.decode()

    listed = console.post(to(schedule, "backfill"), span(now)).content.decode()

    assert not Run.objects.exists()
    assert "6 runs" in listed
    assert "09:00 +00:00 · shop" in listed
    done = console.post(to(schedule, "backfill"), span(now) | {"confirmed": "1"})
    assert Run.objects.filter(trigger="backfill", triggered_by="olive").count() == 6
    assert done.headers["Location"].endswith(f"?schedule__id__exact={schedule.pk}&trigger__exact=backfill")
    assert "nothing to fill in" in console.post(to(schedule, "backfill"), span(now)).content.decode()


def test_one_repository_alone(console: Client, now: datetime) -> None:
    shop = make_repository("shop")
    schedule = make_schedule(now=now, repositories=[shop, make_repository("blog")])
    console.post(to(schedule, "backfill"), span(now) | {"confirmed": "1", "repository": str(shop.pk)})
    assert set(Run.objects.values_list("repository", flat=True)) == {shop.pk}


@pytest.mark.parametrize(
    ("posted", "words"),
    [
        ({"since": "yesterday", "until": "2027-01-01"}, "Write a day"),
        ({"since": "2026-01-02", "until": "2026-01-01"}, "ends before it begins"),
        ({"since": "", "until": "2026-01-01"}, "required"),
    ],
)
def test_a_range_that_is_none_is_refused_at_its_place(
    console: Client, now: datetime, posted: dict[str, str], words: str
) -> None:
    refused = console.post(to(make_schedule(now=now), "backfill"), posted)
    assert refused.status_code == 400
    assert words in refused.content.decode()


def test_a_schedule_whose_zone_is_gone_is_to_be_mended_first(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    Schedule.objects.update(time_zone="Mars/Olympus")
    answer = console.get(to(schedule, "backfill"), follow=True).content.decode()
    assert "There is no time zone Mars/Olympus" in answer


def test_all_of_it_is_cancelled_from_the_page(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    page = reverse("admin:schedules_schedule_change", args=(schedule.pk,))
    assert "Cancel backfill" not in console.get(page).content.decode()
    backfill(schedule, since=now - 3 * DAY, until=now, now=now)
    assert "Cancel backfill" in console.get(page).content.decode()
    assert "3 of its runs are open" in console.get(to(schedule, "cancel_backfill")).content.decode()

    console.post(to(schedule, "cancel_backfill"))

    assert set(Run.objects.values_list("status", flat=True)) == {"cancelled"}


@pytest.mark.parametrize("verb", ["backfill", "cancel_backfill"])
def test_who_may_only_look_may_do_neither(onlooker: Client, now: datetime, verb: str) -> None:
    schedule = make_schedule(now=now)
    assert onlooker.post(to(schedule, verb), span(now) | {"confirmed": "1"}).status_code == 403
    assert not Run.objects.exists()
