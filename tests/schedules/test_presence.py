"""A process says that it is alive."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from schedules.models import WorkerHeartbeat
from schedules.presence import Presence, keep_connection

pytestmark = pytest.mark.django_db

NINE = datetime(2027, 1, 4, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("later", "seen_after"),
    [(timedelta(seconds=1), timedelta()), (timedelta(seconds=6), timedelta(seconds=6))],
)
def test_it_is_renewed_every_few_seconds(later: timedelta, seen_after: timedelta) -> None:
    presence = Presence.register(kind="beat", name="beat@here", concurrency=0, version="", now=NINE)
    assert presence.renew(NINE + later)
    assert WorkerHeartbeat.objects.get().last_seen_at == NINE + seen_after


def test_a_clock_that_is_set_back_does_not_stop_it() -> None:
    presence = Presence.register(kind="beat", name="beat@here", concurrency=0, version="", now=NINE)
    assert presence.renew(NINE - timedelta(hours=1))
    assert WorkerHeartbeat.objects.get().last_seen_at == NINE - timedelta(hours=1)


@pytest.mark.django_db(transaction=True)
def test_a_connection_is_kept_from_round_to_round() -> None:
    keep_connection()
    assert not WorkerHeartbeat.objects.exists()
    first = connection.connection
    for _ in range(3):
        keep_connection()
        assert not WorkerHeartbeat.objects.exists()
    assert connection.connection is first
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_broke_between_two_rounds_is_made_anew() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite's is a file.")
    keep_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (server,) = cursor.fetchone()
    with connection.copy().cursor() as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [server])
    keep_connection()
    assert not WorkerHeartbeat.objects.exists()
    connection.close()
