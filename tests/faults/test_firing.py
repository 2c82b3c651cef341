"""Every due time is recorded once and its session started once, whoever fires and whatever dies meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from schedules.models import Run, Schedule, Session
from tests.faults.house import House, all_ended, bounded_part, every_session_once, house
from tests.processes import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(900)]

NOON = datetime(2027, 1, 12, 12, 0, tzinfo=UTC)


@pytest.fixture
def rota() -> Iterator[House]:
    with house() as made:
        yield made


def times_of(schedule: Schedule) -> list[datetime]:
    return list(schedule.runs.order_by("scheduled_for").values_list("scheduled_for", flat=True))


def test_four_who_fire_record_each_due_time_once_and_each_session_starts_once(rota: House) -> None:
    schedules, minutes = bounded_part(50, 8), bounded_part(10, 5)
    made = [
        rota.schedule(cron="* * * * *", now=NOON - timedelta(seconds=1), overlap=Schedule.Overlap.ALLOW)
        for _ in range(schedules)
    ]
    rota.worker("sessions", concurrency=8)
    rota.worker("control")

    (rota.var / "firing").mkdir()
    span, together = str((minutes - 1) * 60 + 30), (str(rota.var / "firing"), "4")
    firing = [
        rota.start("-m", "tests.faults.firing", NOON.isoformat(), span, "30", *together, log=f"firing{number}")
        for number in range(4)
    ]
    assert [process.wait(timeout=600) for process in firing] == [0, 0, 0, 0]

    expected = schedules * minutes
    until(lambda: all_ended(expected), within=bounded_part(600, 90), what="all have run")
    logs = [*(f"firing{number}" for number in range(4)), "sessions1", "control1"]
    assert [line for name in logs for line in rota.log(name).splitlines() if _tells_of_an_error(line)] == []
    for schedule in made:
        assert times_of(schedule) == [NOON + timedelta(minutes=minute) for minute in range(minutes)]
    assert rota.starts() == every_session_once()
    assert set(Session.objects.values_list("status", flat=True)) == {Session.Status.SUCCEEDED}


def _tells_of_an_error(line: str) -> bool:
    return any(word in line for word in ("ERROR", "CRITICAL", "Traceback"))


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0, 1])
def test_beat_killed_after_it_fired_fires_nothing_twice(rota: House, pause: int) -> None:
    rota.worker("sessions", concurrency=8)
    rota.worker("control")
    due_at = timezone.now() + timedelta(seconds=3)
    for _ in range(20):
        once(rota, due_at)
    beat = rota.beat()
    until(lambda: Run.objects.count() == 20, within=30, what="all are fired")
    kill_at = timezone.now() + timedelta(seconds=pause)
    until(lambda: timezone.now() >= kill_at, within=10, what="a moment passes")
    rota.kill(beat)
    rota.beat()
    until(lambda: all_ended(20), within=90, what="all have run")
    assert rota.starts() == every_session_once()


@pytest.mark.slow
def test_two_beats_start_each_due_time_once(rota: House) -> None:
    rota.worker("sessions", concurrency=8)
    rota.worker("control")
    seconds, first = bounded_part(600, 8), timezone.now() + timedelta(seconds=6)
    due = [first + timedelta(seconds=number) for number in range(seconds)]
    for at in due:
        once(rota, at)
    beats = [rota.beat(), rota.beat()]
    until(lambda: all_ended(seconds), within=seconds + 90, what="all have run")
    assert [beat.poll() for beat in beats] == [None, None]
    assert list(Run.objects.order_by("scheduled_for").values_list("scheduled_for", flat=True)) == due
    assert rota.starts() == every_session_once()


def once(rota: House, due_at: datetime) -> Schedule:
    """Due at that instant, and then not for years."""
    schedule = rota.schedule(cron="0 0 29 2 *")
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=due_at, due_at=due_at)
    return schedule
