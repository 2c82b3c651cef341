"""What keeps everything, or some schedules, from starting: the stop that a person set, and freeze windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from schedules.models import Freeze, Reason, Schedule, Stop
from schedules.rendering.display import utc


@dataclass(frozen=True, slots=True, kw_only=True)
class _Halt:
    begins_at: datetime
    ends_at: datetime | None  # None: until somebody lifts it
    reason: Reason
    sentence: str
    schedules: frozenset[int] | None = None  # None: all of them

    def covers(self, schedule_id: int, at: datetime) -> bool:
        named = self.schedules is None or schedule_id in self.schedules
        return named and self.begins_at <= at and (self.ends_at is None or at < self.ends_at)


@dataclass(frozen=True, slots=True)
class Halts:
    """The stop and the freeze windows of a span of time, the stop first."""

    halts: Sequence[_Halt]

    @classmethod
    def read(cls, *, since: datetime, now: datetime) -> Halts:
        """Those that were in force between `since` and `now`: two queries, however many schedules there are."""
        stops = Stop.objects.filter(Q(lifted_at=None) | Q(lifted_at__gt=since, set_at__lte=now))
        freezes = Freeze.objects.filter(starts_at__lte=now, ends_at__gt=since).prefetch_related("schedules")
        return cls([*(_of_stop(stop, now) for stop in stops), *map(_of_freeze, freezes)])

    def refusal(self, schedule_id: int, *instants: datetime) -> tuple[Reason, str] | None:
        """Why this schedule does not start at any of these instants, in a sentence; or None."""
        for halt in self.halts:
            if any(halt.covers(schedule_id, at) for at in instants):
                return halt.reason, halt.sentence
        return None

    def covering(self, schedule_id: int, first: datetime, last: datetime) -> tuple[Reason, str] | None:
        """The one that was in force all the time between these two, or None."""
        for halt in self.halts:
            if halt.covers(schedule_id, first) and halt.covers(schedule_id, last):
                return halt.reason, halt.sentence
        return None


def refusal(schedule: Schedule, *, now: datetime) -> tuple[Reason, str] | None:
    """Why nothing of this schedule starts now, or None."""
    return Halts.read(since=now, now=now).refusal(schedule.pk, now)


def _of_stop(stop: Stop, now: datetime) -> _Halt:
    # One in force is, also where the clock was turned back since it was set.
    begins_at = stop.set_at if stop.lifted_at else min(stop.set_at, now)
    return _Halt(begins_at=begins_at, ends_at=stop.lifted_at, reason=Reason.STOPPED, sentence=stop_told(stop))


def stop_told(stop: Stop) -> str:
    until = f"until {stop.lifted_by} lifted it {utc(stop.lifted_at)}" if stop.lifted_at else "until somebody lifts it"
    return f"Everything was stopped by {stop.set_by} {utc(stop.set_at)}, {until}: {stop.reason}"


def _of_freeze(freeze: Freeze) -> _Halt:
    named = frozenset(schedule.pk for schedule in freeze.schedules.all())
    return _Halt(
        begins_at=freeze.starts_at,
        ends_at=freeze.ends_at,
        reason=Reason.FROZEN,
        sentence=freeze_told(freeze),
        schedules=named or None,
    )


def freeze_told(freeze: Freeze) -> str:
    by = f" by {freeze.created_by}" if freeze.created_by else ""
    return f"Frozen{by} from {utc(freeze.starts_at)} until {utc(freeze.ends_at)}: {freeze.reason}"
