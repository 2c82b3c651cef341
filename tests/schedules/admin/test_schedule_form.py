"""Once, so many times, and what an edit of its times does, in the form of a schedule."""

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from schedules import steering
from schedules.firing import fire_due
from schedules.models import Incident, Run, Schedule
from tests.schedules.admin.forms import errors_of, submit
from tests.schedules.factories import make_schedule

pytestmark = pytest.mark.django_db

ADD, LIST = reverse("admin:schedules_schedule_add"), reverse("admin:schedules_schedule_changelist")
PREVIEW = reverse("admin:schedules_schedule_preview")
NEW = {"name": "new", "runner": "claude", "prompt": "Hello", "model": "haiku"}


def page_of(schedule: Schedule) -> str:
    return reverse("admin:schedules_schedule_change", args=(schedule.pk,))


def test_a_time_of_its_own_is_given_shown_and_previewed(console: Client) -> None:
    submit(console, ADD, **NEW, at_0="2999-01-04", at_1="09:00")

    schedule = Schedule.objects.get()
    assert schedule.at is not None
    assert schedule.due_at == schedule.at
    listed = console.get(LIST).content.decode()
    assert "Once" in listed
    assert "4 Jan 2999" in listed
    told = console.get(PREVIEW, {"time_zone": "UTC", "at_0": "2999-01-04", "at_1": "09:00"}).json()
    assert (told["words"], len(told["times"]), told["problem"]) == ("Once", 1, None)


def test_a_time_that_is_past_is_refused_for_a_new_one_and_not_for_one_that_had_it(
    console: Client, now: datetime
) -> None:
    refused = errors_of(submit(console, ADD, **NEW, at_0="2020-01-04", at_1="09:00"))
    assert "This time is past" in refused["at"][0]

    over = make_schedule(now=now, cron="", at=now - timedelta(days=1))
    assert submit(console, page_of(over), description="Over.").status_code == 302
    assert Schedule.objects.get(pk=over.pk).description == "Over."


def test_a_cron_line_and_a_time_are_one_too_many(console: Client) -> None:
    refused = errors_of(submit(console, ADD, **NEW, cron="0 9 * * *", at_0="2999-01-04", at_1="09:00"))
    assert refused["at"] == ["Give a cron line or one time, not both."]
    told = console.get(PREVIEW, {"cron": "0 9 * * *", "time_zone": "UTC", "at_0": "2999-01-04"}).json()
    assert told["problem"]["field"] == "at"


def test_a_time_outside_start_and_end_would_never_run(console: Client) -> None:
    refused = errors_of(
        submit(console, ADD, **NEW, at_0="2999-01-04", at_1="09:00", ends_at_0="2998-01-01", ends_at_1="00:00")
    )
    assert "would never run" in refused["at"][0]


def test_so_many_times_are_previewed_and_no_more(console: Client) -> None:
    told = console.get(PREVIEW, {"cron": "0 9 * * *", "time_zone": "UTC", "max_runs": "3"}).json()
    assert len(told["times"]) == 3
    assert told["words"].endswith("3 times")
    assert len(console.get(PREVIEW, {"cron": "0 9 * * *", "time_zone": "UTC", "max_runs": "x"}).json()["times"]) == 10


def test_an_edit_tells_which_time_it_takes_away(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, cron="0 9 * * *")
    submit(console, page_of(schedule), cron="0 8 * * *")
    told = console.get(page_of(schedule)).content.decode()
    assert "and no longer" in told
    assert "09:00 +00:00" in told


def test_what_is_due_when_it_is_edited_is_on_record(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now - timedelta(days=1), cron="* * * * *")
    submit(console, page_of(schedule), cron="0 8 * * *")
    assert Run.objects.filter(schedule=schedule).exists()
    schedule.refresh_from_db()
    assert schedule.due_at is not None
    assert schedule.due_at > now


def test_a_broken_one_is_seen_found_and_mended(console: Client, now: datetime) -> None:
    schedule = make_schedule("nightly", now=now - timedelta(hours=1), cron="* * * * *")
    make_schedule("daily", now=now)
    Schedule.objects.filter(pk=schedule.pk).update(cron="61 * * * *")
    fire_due(now=now)

    listed = console.get(LIST, {"status__exact": "broken"}).content.decode()
    assert "nightly" in listed
    assert "daily" not in listed
    assert "rota-is-broken" in listed
    assert "can&#x27;t be read" in listed
    page = console.get(page_of(schedule)).content.decode()
    assert "Can&#x27;t be read" in page
    assert reverse("admin:schedules_schedule_resume", args=(schedule.pk,)) in page

    submit(console, page_of(schedule), cron="0 8 * * *")

    schedule.refresh_from_db()
    assert (schedule.status, schedule.status_by) == ("active", "olive")
    assert not Incident.objects.open().exists()


def test_broken_ones_are_resumed_together(console: Client, now: datetime) -> None:
    schedules = [make_schedule(now=now, cron="* * * * *") for _ in range(3)]
    fire_due(now=now + timedelta(days=3650))
    assert set(Schedule.objects.values_list("status", flat=True)) == {"broken"}

    console.post(LIST, {"action": "resume_selected", "_selected_action": [one.pk for one in schedules]})

    assert set(Schedule.objects.values_list("status", flat=True)) == {"active"}
    assert not Incident.objects.open().exists()


def test_a_copy_has_all_its_runs_before_it(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, max_runs=2, fired_count=2)
    console.post(reverse("admin:schedules_schedule_duplicate", args=(schedule.pk,)), {"name": "copy"})
    copy = Schedule.objects.get(name="copy")
    assert (copy.fired_count, copy.runs_left, copy.due_at) == (0, 2, None)
    steering.resume([copy], by="olive", now=now)
    copy.refresh_from_db()
    assert copy.due_at is not None
