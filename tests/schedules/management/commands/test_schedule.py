"""`schedule`: look at schedules, pause and resume them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError

from schedules import steering
from schedules.models import Run, Schedule
from tests.schedules.factories import make_command, make_repository, make_run, make_schedule
from tests.schedules.management.running import Ended, run

pytestmark = pytest.mark.django_db

NOW = datetime.now(UTC)


@pytest.fixture
def briefing() -> Schedule:
    command = make_command("codebase/briefing", prompt="Write.")
    return make_schedule(
        "briefing",
        now=NOW,
        runner="claude",
        command=command,
        target="codebase",
        model="haiku",
        description="What changed.",
        allowed_tools=["Read", "Bash(git log *)"],
        variables={"tone": "brief"},
        max_turns=30,
        max_budget_usd="0.50",
        cron="0 7 * * 1-5",
        time_zone="Asia/Tokyo",
        repositories=[make_repository("shop")],
    )


def schedule(*arguments: str) -> Ended:
    return run("schedule", *arguments)


def row_of(name: str, ended: Ended) -> str:
    (row,) = (line for line in ended.out.splitlines() if line.startswith(f"{name} "))
    return row


def test_the_list_shows_cadence_next_run_and_last_outcome(briefing: Schedule) -> None:
    Schedule.objects.filter(pk=briefing.pk).update(last_status="failed")
    make_schedule("by-hand", now=NOW, cron="")

    ended = schedule("list")

    assert ended.code == 0
    assert [line.split()[0] for line in ended.out.splitlines()] == ["name", "briefing", "by-hand"]
    row = row_of("briefing", ended)
    assert "active" in row
    assert "At 07:00" in row
    assert " 07:00 JST (in " in row
    assert row.rstrip().endswith("failed")
    assert "only by hand" in row_of("by-hand", ended)
    assert "never" in row_of("by-hand", ended)
    assert row_of("by-hand", ended).rstrip().endswith("none yet")


def test_the_list_as_json(briefing: Schedule) -> None:
    (told,) = json.loads(schedule("list", "--json").out)

    assert told["name"] == "briefing"
    assert (told["cron"], told["time_zone"], told["status"]) == ("0 7 * * 1-5", "Asia/Tokyo", "active")
    assert datetime.fromisoformat(told["next_run_at"]) == briefing.next_run_at
    assert told["last_run_at"] is None


def test_an_empty_list_says_how_to_fill_it() -> None:
    ended = schedule("list")

    assert (ended.out, ended.err) == ("", "There is no schedule yet: bin/manage loadexamples makes some.\n")


def test_a_schedule_that_was_broken_from_outside_is_listed_all_the_same(briefing: Schedule) -> None:
    Schedule.objects.filter(pk=briefing.pk).update(cron="often\x1b", time_zone="Mars/Base")

    row = row_of("briefing", schedule("list"))

    assert "often" in row
    assert "\x1b" not in row
    assert "UTC" in row


def test_a_schedule_is_shown_with_its_settings(briefing: Schedule) -> None:
    steering.pause(Schedule.objects.filter(pk=briefing.pk), by="bob", reason="holidays", now=NOW)
    make_run(briefing, now=NOW, status="succeeded")

    shown = schedule("show", "briefing").out

    for text in (
        "paused (holidays)",
        "What changed.",
        "haiku",
        "codebase/briefing",
        "Read, Bash(git log *)",
        "tone=brief",
        "shop",
        "(Asia/Tokyo)",
        "30m per session, 30 turns, 0.50 USD",
        "skip the new run",
        "next run         never",
    ):
        assert text in shown


def test_next_shows_the_times_in_the_schedules_zone(briefing: Schedule) -> None:
    ended = schedule("next", "briefing", "--count", "6")

    lines = ended.out.splitlines()
    assert len(lines) == 6
    assert all(" 07:00 JST  in " in line for line in lines)
    assert not any(line.startswith(("Sat", "Sun")) for line in lines)


def test_next_of_a_paused_schedule_says_that_none_will_run(briefing: Schedule) -> None:
    steering.pause(Schedule.objects.filter(pk=briefing.pk), by="bob", reason="holidays", now=NOW)

    ended = schedule("next", "briefing")

    assert len(ended.out.splitlines()) == 10
    assert ended.err == "briefing is paused: none of these will run.\n"


def test_next_of_a_schedule_without_a_time_says_so() -> None:
    make_schedule("by-hand", now=NOW, cron="")
    make_schedule("ended", now=NOW, ends_at=NOW - timedelta(days=1))

    assert schedule("next", "by-hand").err == "by-hand has no further time: only by hand.\n"
    assert schedule("next", "ended").err.startswith("ended has no further time: At 09:00")
    assert "no time is left before its end" in schedule("next", "ended").err
    assert "never: no time is left before its end" in schedule("show", "ended").out


def test_what_jitter_adds_is_shown() -> None:
    make_schedule("spread", now=NOW, jitter=timedelta(hours=1))
    assert " later, by its jitter" in schedule("show", "spread").out


def test_pause_and_resume(briefing: Schedule) -> None:
    paused = schedule("pause", "briefing", "--reason", "too dear")
    briefing.refresh_from_db()
    assert paused.err == "briefing is paused.\n"
    assert (briefing.status, briefing.status_reason, briefing.due_at) == ("paused", "too dear", None)
    assert briefing.status_by.endswith("(command line)")

    assert schedule("pause", "briefing", "--reason", "again").err == "briefing is paused already.\n"

    resumed = schedule("resume", "briefing")
    briefing.refresh_from_db()
    assert resumed.err.startswith("briefing is active. Next run: ")
    assert (briefing.status, briefing.status_reason) == ("active", "")
    assert briefing.due_at is not None

    assert schedule("resume", "briefing").err.startswith("briefing is active already. Next run: ")


def test_a_disabled_schedule_is_not_made_weaker_by_a_pause(briefing: Schedule) -> None:
    Schedule.objects.filter(pk=briefing.pk).update(status="disabled", next_run_at=None, due_at=None)

    ended = schedule("pause", "briefing", "--reason", "x")

    assert ended.code == 4
    assert "Resume it first." in ended.err
    assert Schedule.objects.get().status == "disabled"


@pytest.mark.parametrize("verb", [["show"], ["next"], ["resume"], ["pause", "--reason", "x"]])
@pytest.mark.usefixtures("briefing")
def test_a_name_that_nobody_has_is_told_with_those_near(verb: list[str]) -> None:
    ended = schedule(*verb, "brifing")

    assert (ended.code, ended.err) == (3, "There is no schedule “brifing”. Did you mean briefing?\n")


@pytest.mark.parametrize(
    "arguments",
    [[], ["lst"], ["pause", "briefing"], ["next", "briefing", "--count", "0"], ["next", "x", "--count", "x"]],
)
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        schedule(*arguments)


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (timedelta(minutes=5), "in 5 min"),
        (timedelta(hours=3, minutes=2), "in 3 h 2 min"),
        (timedelta(days=2, hours=5), "in 2 d 5 h"),
    ],
)
def test_how_far_ahead_is_told_in_two_units(ahead: timedelta, words: str) -> None:
    made = make_schedule("soon", now=NOW)
    moment = datetime.now(UTC) + ahead + timedelta(seconds=10)
    Schedule.objects.filter(pk=made.pk).update(next_run_at=moment, due_at=moment)

    assert f"({words})" in row_of("soon", schedule("list"))


def test_a_time_that_passed_is_overdue() -> None:
    made = make_schedule("late", now=NOW)
    moment = NOW - timedelta(hours=1)
    Schedule.objects.filter(pk=made.pk).update(next_run_at=moment, due_at=moment)

    assert "(overdue)" in row_of("late", schedule("list"))


def test_a_time_of_its_own_and_a_number_of_runs_are_told() -> None:
    at = datetime(2999, 1, 4, 9, tzinfo=UTC)
    make_schedule("once", now=NOW, cron="", at=at)
    make_schedule("thrice", now=NOW, max_runs=3, fired_count=1)

    assert "once, Fri 2999-01-04 09:00 UTC" in schedule("show", "once").out
    assert len(schedule("next", "once").out.splitlines()) == 1
    shown = schedule("show", "thrice").out
    assert "1 of 3" in shown
    assert "3 times" in shown
    assert len(schedule("next", "thrice").out.splitlines()) == 2
    told = {row["name"]: row for row in json.loads(schedule("list", "--json").out)}
    assert (told["once"]["at"], told["thrice"]["max_runs"]) == (at.isoformat(), 3)


def test_one_that_can_not_be_read_can_not_be_resumed_and_says_why(briefing: Schedule) -> None:
    Schedule.objects.filter(pk=briefing.pk).update(status="broken", cron="61 * * * *", next_run_at=None, due_at=None)
    ended = schedule("resume", "briefing")
    assert ended.code == 4
    assert "briefing can't be resumed" in ended.err
    assert "broken" in row_of("briefing", schedule("list"))


def test_a_backfill_is_listed_first_and_done_with_yes() -> None:
    make_schedule("daily", now=NOW, repositories=[make_repository("shop")])
    span = ("--from", f"{NOW - timedelta(days=3):%Y-%m-%d %H:%M}", "--to", f"{NOW:%Y-%m-%d %H:%M}")

    listed = schedule("backfill", "daily", *span)

    assert listed.code == 0
    assert [line.split()[2:] for line in listed.out.splitlines()] == [["09:00", "UTC", "shop"]] * 3
    assert "Nothing was done: add --yes." in listed.err
    assert not Run.objects.exists()
    done = schedule("backfill", "daily", *span, "--yes", "--repository", "shop")
    assert done.out == listed.out
    assert "3 runs queued" in done.err
    assert Run.objects.filter(trigger="backfill").count() == 3
    assert "3 succeeded or are open already" in schedule("backfill", "daily", *span).err
    assert schedule("cancel-backfill", "daily").err == "3 runs cancelled.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--from", "then"), 2, "is not a time"),
        (("--from", "2999-01-01"), 4, "has not begun"),
        (("--from", "2026-01-01", "--repository", "shpo"), 2, "It has: shop"),
    ],
)
def test_what_can_not_be_filled_in_is_refused(arguments: tuple[str, ...], code: int, words: str) -> None:
    make_schedule("daily", now=NOW, repositories=[make_repository("shop")])
    ended = schedule("backfill", "daily", *arguments)
    assert (ended.code, words in ended.err) == (code, True), ended


def test_where_the_zone_is_gone_it_is_told_and_no_time_is_blamed() -> None:
    daily = make_schedule("daily", now=NOW)
    Schedule.objects.filter(pk=daily.pk).update(time_zone="Mars/Phobos")
    ended = schedule("backfill", "daily", "--from", "2026-01-01")
    assert (ended.code, ended.err) == (4, "There is no time zone Mars/Phobos: mend the schedule first.\n")
