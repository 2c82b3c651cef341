"""The next times of a schedule that somebody is typing."""

import re
from datetime import UTC, datetime

import pytest
from django.test import Client
from django.urls import reverse

from tests.schedules.factories import make_schedule

PREVIEW = reverse("admin:schedules_schedule_preview")


def test_the_preview_tells_words_and_times(console: Client) -> None:
    told = console.get(PREVIEW, {"cron": "0 9 * * 1-5", "time_zone": "Europe/Paris"}).json()

    assert told["words"] == "At 09:00, from Monday to Friday"
    assert len(told["times"]) == 10
    assert re.search(r"09:00 \+0[12]:00", told["times"][0]["zoned"])
    assert datetime.fromisoformat(told["times"][0]["at"]).tzinfo == UTC
    assert told["problem"] is None


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"cron": "every morning", "time_zone": "UTC"}, "cron"),
        ({"cron": "0 9 * * *", "time_zone": "Mars/Olympus"}, "time_zone"),
        ({"cron": "0 0 31 2 *", "time_zone": "UTC"}, "cron"),
        ({"cron": "0 9 * * *"}, "time_zone"),
        ({"cron": "9" * 5000, "time_zone": "UTC"}, "cron"),
    ],
)
def test_the_preview_tells_what_is_wrong_and_where(console: Client, query: dict[str, str], field: str) -> None:
    told = console.get(PREVIEW, query).json()

    assert told["problem"]["field"] == field
    assert told["problem"]["message"]
    assert told["times"] == []


def test_the_preview_keeps_within_start_and_end(console: Client) -> None:
    query = {
        "cron": "0 9 * * *",
        "time_zone": "UTC",
        "starts_at_0": "2040-01-01",
        "starts_at_1": "08:00",
        "ends_at_0": "2040-01-03",
        "ends_at_1": "10:00:00",
    }

    told = console.get(PREVIEW, query).json()

    assert [time["utc"] for time in told["times"]] == [f"2040-01-0{day} 09:00:00 UTC" for day in (1, 2, 3)]
    assert len(console.get(PREVIEW, query | {"ends_at_0": "yesterday"}).json()["times"]) == 10


def test_the_preview_counts_what_ran_already_and_says_why_nothing_is_left(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now, max_runs=3, fired_count=2)
    query = {"cron": "0 9 * * *", "time_zone": "UTC", "max_runs": "3", "schedule": str(schedule.pk)}

    assert len(console.get(PREVIEW, query).json()["times"]) == 1
    assert len(console.get(PREVIEW, query | {"max_runs": "5"}).json()["times"]) == 3
    assert len(console.get(PREVIEW, query | {"schedule": "nonsense"}).json()["times"]) == 3
    none_left = console.get(PREVIEW, query | {"max_runs": "2"}).json()
    assert (none_left["times"], none_left["words"]) == ([], "At 09:00, every day, 2 times: it ran 2 of 2 times")


def test_the_page_of_a_schedule_asks_for_its_own_preview(console: Client, now: datetime) -> None:
    schedule = make_schedule(now=now)
    page = console.get(reverse("admin:schedules_schedule_change", args=(schedule.pk,))).content.decode()
    assert f'data-rota-preview="{PREVIEW}?schedule={schedule.pk}&amp;"' in page


def test_the_preview_of_nothing_is_by_hand(console: Client) -> None:
    assert console.get(PREVIEW, {"cron": " ", "time_zone": "UTC"}).json()["words"] == "Only by hand"
