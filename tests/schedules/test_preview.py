"""What the screen shows is what fires: random lines, many zones, a clock that is played."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from schedules.firing import fire_due
from schedules.models import Run, Schedule
from schedules.occasions import occasions
from schedules.timetable import TimetableError
from tests.faults.house import bounded_part

ZONES = (
    *("UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Antarctica/Troll"),
    *("Africa/Cairo", "America/Havana", "America/Santiago", "Africa/Casablanca", "Pacific/Auckland", "Asia/Tokyo"),
)
_LINES, _SHOWN = 200, 10


def _field(dice: random.Random, low: int, high: int, *, wild: float) -> str:
    if dice.random() < wild:
        return "*"
    numbers = sorted(dice.sample(range(low, high + 1), dice.choice((1, 1, 2))))
    return dice.choice((f"*/{dice.randint(2, 20)}", ",".join(map(str, numbers)), f"{numbers[0]}-{high}"))


def _line(dice: random.Random) -> str:
    return " ".join(
        (
            _field(dice, 0, 59, wild=0.2),
            _field(dice, 0, 23, wild=0.3),
            _field(dice, 1, 31, wild=0.7),
            _field(dice, 1, 12, wild=0.8),
            _field(dice, 0, 6, wild=0.7),
        )
    )


def _schedules(lines: int) -> list[Schedule]:
    """Each line in each zone, planned a few days before a night on which some zone changes its clock; not saved."""
    dice = random.Random(20270104)
    changes = [datetime(2027, *day, tzinfo=UTC) for day in ((3, 14), (3, 28), (4, 4), (10, 3), (10, 31), (11, 7))]
    made: list[Schedule] = []
    while len(made) < lines * len(ZONES):
        line, planned_at = _line(dice), dice.choice(changes) - timedelta(minutes=dice.randint(1, 4320))
        try:
            made += [_planned(line, zone, planned_at, name=f"line-{len(made)}-{zone}") for zone in ZONES]
        except TimetableError:
            continue  # a line that never fires
    return made


def _planned(line: str, zone: str, planned_at: datetime, *, name: str) -> Schedule:
    schedule = Schedule(name=name, runner="script", argv=["true"], cron=line, time_zone=zone)
    schedule.plan(planned_at)
    return schedule


def _shown(schedule: Schedule) -> list[datetime]:
    assert schedule.next_run_at is not None
    return schedule.upcoming(schedule.next_run_at - timedelta(microseconds=1), _SHOWN)


def test_the_ten_times_that_are_shown_are_the_ten_that_are_due() -> None:
    schedules = _schedules(_LINES)
    assert len({(schedule.cron, schedule.time_zone) for schedule in schedules}) > 190 * len(ZONES)
    for schedule in schedules:
        shown, due = _shown(schedule), []
        for _ in range(_SHOWN):
            assert schedule.due_at is not None
            found = occasions(schedule, schedule.due_at + timedelta(seconds=1))
            assert not found.missed
            due.append(found.run_for)
            schedule.go_on_at(found.following)
        assert due == shown, f"{schedule.cron} in {schedule.time_zone}"


@pytest.mark.django_db
@pytest.mark.no_cover
@pytest.mark.timeout(900)
def test_and_so_they_are_recorded() -> None:
    step = bounded_part(len(ZONES) + 1, 17 * len(ZONES) + 1)  # so that each line is in another zone than the one before
    for schedule in _schedules(_LINES)[::step]:
        schedule.save()
        shown = _shown(schedule)

        for _ in range(_SHOWN):
            due_at = Schedule.next_due_at()
            assert due_at is not None
            fire_due(now=due_at)

        fired = Run.objects.filter(schedule=schedule).order_by("scheduled_for").values_list("scheduled_for", flat=True)
        assert list(fired) == shown, f"{schedule.cron} in {schedule.time_zone}"
        Schedule.objects.filter(pk=schedule.pk).update(status="paused", due_at=None)
