"""A process says that it is alive."""

from datetime import UTC, datetime, timedelta

import pytest

from schedules.models import WorkerHeartbeat
from schedules.presence import Presence

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
