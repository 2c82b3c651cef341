"""What sessions cost, added up by day."""

import threading
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import connection, connections, transaction
from pytest_django import DjangoAssertNumQueries, Settings

from schedules.models import Repository, Session, Spending
from schedules.spending import day_of, settle
from tests.schedules.factories import make_repository, make_run, make_schedule, make_session

NOW = datetime(2027, 1, 4, 9, tzinfo=UTC)


def finished(repository: Repository | None = None) -> Session:
    run = make_run(make_schedule(now=NOW), now=NOW, status="running", repository=repository)
    return make_session(run, now=NOW, status="succeeded")


def sums() -> dict[tuple[int | None, int | None], tuple[Decimal, int]]:
    rows = Spending.objects.values_list("schedule_id", "repository_id", "cost_usd", "sessions")
    return {(schedule, repository): (cost, count) for schedule, repository, cost, count in rows}


@pytest.mark.django_db
def test_a_cost_is_added_to_its_schedule_its_repository_and_the_day() -> None:
    session = finished(repository=make_repository())
    other = finished()

    settle(session, Decimal("0.25"), now=NOW)
    settle(session, 0.5, now=NOW)
    settle(other, Decimal("1.125001"), now=NOW)

    assert sums() == {
        (session.schedule_id, session.repository_id): (Decimal("0.75"), 2),
        (None, session.repository_id): (Decimal("0.75"), 2),
        (other.schedule_id, None): (Decimal("1.125001"), 1),
        (None, None): (Decimal("1.875001"), 3),
    }
    assert {row.day for row in Spending.objects.all()} == {date(2027, 1, 4)}


@pytest.mark.django_db
def test_a_session_that_cost_nothing_pays_no_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    session = finished()
    with django_assert_num_queries(0):
        settle(session, 0.0, now=NOW)


@pytest.mark.django_db
def test_what_a_deleted_schedule_cost_stays_in_the_sum_of_the_day() -> None:
    session = finished()
    settle(session, 2, now=NOW)
    session.schedule.delete()
    assert sums() == {(None, None): (Decimal(2), 1)}


@pytest.mark.parametrize(
    ("zone", "day"),
    [("UTC", date(2027, 1, 4)), ("Asia/Tokyo", date(2027, 1, 5)), ("America/New_York", date(2027, 1, 4))],
)
def test_a_day_is_one_of_the_time_zone_of_the_setting(zone: str, day: date, settings: Settings) -> None:
    settings.TIME_ZONE = zone
    assert day_of(datetime(2027, 1, 4, 23, 30, tzinfo=UTC)) == day


@pytest.mark.django_db(transaction=True)
def test_sessions_that_end_at_once_are_all_counted() -> None:
    session = finished(repository=make_repository())
    start = threading.Barrier(8, timeout=30)

    def end_one() -> None:
        try:
            start.wait()
            for _ in range(5):
                with transaction.atomic():
                    settle(session, Decimal("0.10"), now=NOW)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=end_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=45)

    assert set(sums().values()) == {(Decimal("4.00"), 40)}, connection.vendor
