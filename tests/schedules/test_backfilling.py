"""Times that have passed, by hand."""

from datetime import UTC, datetime, timedelta

import pytest

from schedules import backfilling
from schedules.backfilling import MOST_AT_ONCE, backfill, cancel_backfill, preview
from schedules.firing import Refused, fire_due
from schedules.limits import admit
from schedules.models import Run, Session
from schedules.stopping import stop
from tests.schedules.factories import make_repository, make_run, make_schedule, make_worker

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 14, 9, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def test_the_list_comes_first_and_makes_nothing() -> None:
    schedule = make_schedule(now=NINE)

    plan = preview(schedule, since=NINE - 3 * DAY, until=NINE + 10 * DAY, now=NINE)

    assert plan.runs == [(NINE - day * DAY, None) for day in (3, 2, 1, 0)]
    assert (plan.left, plan.done) == (0, 0)
    assert not Run.objects.exists()


def test_each_run_says_who_and_for_which_time() -> None:
    shop = make_repository("shop")
    schedule = make_schedule(now=NINE, repositories=[shop, make_repository("off", enabled=False)], priority=5)

    runs, left = backfill(schedule, since=NINE - DAY, until=NINE, by="ada", now=NINE + HOUR)

    assert left == 0
    assert [run.scheduled_for for run in runs] == [NINE - DAY, NINE]
    assert {(run.trigger, run.triggered_by, run.repository, run.overlap) for run in runs} == {
        ("backfill", "ada", shop, "allow")
    }
    assert set(Session.objects.values_list("priority", flat=True)) == {-995}


def test_what_succeeded_or_is_open_is_left_out_and_what_failed_is_not() -> None:
    schedule = make_schedule(now=NINE)
    for day, status in enumerate(("succeeded", "queued", "failed", "missed", "skipped")):
        make_run(schedule, now=NINE - day * DAY, status=status, trigger="schedule", overlap="allow")

    plan = preview(schedule, since=NINE - 4 * DAY, until=NINE, now=NINE)

    assert [time for time, _ in plan.runs] == [NINE - day * DAY for day in (4, 3, 2)]
    assert plan.done == 2


def test_it_is_bounded_and_goes_on_where_it_was() -> None:
    schedule = make_schedule(now=NINE, cron="0 * * * *")
    (first, left), (second, none_left), (third, _) = (
        backfill(schedule, since=NINE - 149 * HOUR, until=NINE, now=NINE) for _ in range(3)
    )

    assert (len(first), left) == (MOST_AT_ONCE, 50)
    assert (len(second), none_left, third) == (50, 0, [])
    assert second[0].scheduled_for == first[-1].scheduled_for + HOUR


def test_one_after_another_and_behind_what_the_schedule_fires() -> None:
    make_worker(now=NINE, concurrency=10)
    schedule = make_schedule(now=NINE - HOUR, max_sessions=10)
    backfill(schedule, since=NINE - 3 * DAY, until=NINE - DAY, now=NINE - MINUTE)
    first, second, third = Session.objects.order_by("pk")

    fire_due(now=NINE)  # a due time is not skipped for them

    fired = Session.objects.get(run__trigger="schedule")
    assert admit(now=NINE) == [fired.pk]
    end(fired)
    assert admit(now=NINE) == [first.pk]
    assert admit(now=NINE) == []
    end(first)
    assert admit(now=NINE) == [second.pk]
    assert third.pk > second.pk


def end(session: Session) -> None:
    Session.objects.finish(session.pk, status="succeeded", reason="ok", now=NINE)
    Run.objects.finish(session.run_id, status="succeeded", reason="ok", now=NINE)


def test_all_of_it_is_cancelled_in_one_go_and_nothing_else() -> None:
    schedule = make_schedule(now=NINE)
    backfill(schedule, since=NINE - 3 * DAY, until=NINE, now=NINE)
    by_hand = make_run(schedule, now=NINE)

    assert cancel_backfill(schedule, by="ada", now=NINE) == 4
    assert cancel_backfill(schedule, by="ada", now=NINE) == 0

    assert set(Run.objects.exclude(pk=by_hand.pk).values_list("status", flat=True)) == {"cancelled"}
    assert Run.objects.open().get() == by_hand


@pytest.mark.parametrize(
    ("fields", "since", "until", "words"),
    [
        ({}, NINE, NINE - DAY, "ends before it begins"),
        ({}, NINE + DAY, NINE + 2 * DAY, "has not begun"),
        ({"cron": ""}, NINE - DAY, NINE, "no cron line"),
        ({"cron": "* * * * *"}, NINE - 30 * DAY, NINE, f"more than {backfilling.MOST_TIMES}"),
        ({"status": "disabled"}, NINE - DAY, NINE, "is disabled"),
    ],
)
def test_what_can_not_be_filled_in_is_refused(
    fields: dict[str, object], since: datetime, until: datetime, words: str
) -> None:
    schedule = make_schedule(now=NINE, **fields)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=words):
        backfill(schedule, since=since, until=until, now=NINE)
    assert not Run.objects.exists()


def test_while_all_is_stopped_it_is_refused() -> None:
    schedule = make_schedule(now=NINE)
    stop(by="ada", reason="x", now=NINE)
    with pytest.raises(Refused, match="stopped by ada"):
        backfill(schedule, since=NINE - DAY, until=NINE, now=NINE)


def test_a_time_of_its_own_that_was_missed_can_be_made_up_for() -> None:
    schedule = make_schedule(now=NINE - DAY, cron="", at=NINE)
    assert [time for time, _ in preview(schedule, since=NINE - DAY, until=NINE, now=NINE).runs] == [NINE]
    assert preview(schedule, since=NINE - DAY, until=NINE - HOUR, now=NINE).runs == []


def test_before_its_start_and_after_its_end_a_schedule_has_no_due_times() -> None:
    schedule = make_schedule(now=NINE, starts_at=NINE - 5 * DAY, ends_at=NINE - 3 * DAY)
    plan = preview(schedule, since=NINE - 9 * DAY, until=NINE, now=NINE)
    assert [time for time, _ in plan.runs] == [NINE - day * DAY for day in (5, 4, 3)]
    assert preview(schedule, since=NINE - 2 * DAY, until=NINE, now=NINE).runs == []


def test_where_every_repository_is_off_there_is_nothing_to_fill() -> None:
    schedule = make_schedule(now=NINE, repositories=[make_repository(enabled=False)])
    with pytest.raises(Refused, match="are off"):
        preview(schedule, since=NINE - DAY, until=NINE, now=NINE)
