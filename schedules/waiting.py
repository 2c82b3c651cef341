"""What a queued session waits for, and its place among those that wait: never a guess, but what admission goes by."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from schedules.limits import startable
from schedules.models import Freeze, Run, Schedule, Session, Stop
from schedules.places import Candidate, Places, candidates

_MOST_COUNTED = 10_000
_DECISIVE = frozenset({"hold", "budget", "run_budget"})  # a worker more would not help


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """`place` of `of`: by priority and age, from 1; 0 where it is behind more than are counted, or not in the order.

    `why`: for people, a clause without a full stop. `until`: when that is over, as far as it is known.
    """

    why: str
    place: int = 0
    of: int = 0
    until: datetime | None = None
    is_at_once: bool = False  # it has its place already: a worker is about to take it

    @property
    def told(self) -> str:
        """The sentence: why, until when, and its place."""
        until = f" until {self.until:%Y-%m-%d %H:%M:%S %Z}" if self.until else ""
        place = f" It is {self.place} of {self.of} that wait." if self.place and self.of > 1 else ""
        return f"Waits{until}: {self.why}.{place}"


def waiting(sessions: Collection[Session], *, now: datetime) -> dict[int, Waiting]:
    """Of those among `sessions` that are queued, by their ids. About fifteen queries, however many are asked for."""
    asked = [session.pk for session in sessions if session.status == Session.Status.QUEUED]
    if not asked:
        return {}
    rows = Session.objects.filter(pk__in=asked, status=Session.Status.QUEUED).order_by()
    heads = {
        head.pk: head
        for head in rows.select_related("schedule", "run", "repository").only(
            *("admitted_at", "cancel_requested_at", "not_before", "status"),
            *(
                "repository__slug",
                "repository__enabled",
                "run__overlap",
                "run__trigger",
                "schedule__name",
                "schedule__status",
                "schedule__status_reason",
            ),
        )
    }
    found = [one for one in candidates(rows) if one.pk in heads]
    return _Look(now, found, [heads[one.pk] for one in found]).all()


class _Look:
    """All that is to be read for one answer."""

    def __init__(self, now: datetime, found: Sequence[Candidate], heads: Sequence[Session]) -> None:
        self.now = now
        self.found = found
        self.heads = heads
        self.stop = Stop.objects.in_force().first()
        self.freezes = _freezes({one.schedule for one in found}, now)
        self.startable = set(startable(now=now).filter(pk__in=[one.pk for one in found]).values_list("pk", flat=True))
        self.open_runs = _open_runs({one.schedule for one in found if one.pk not in self.startable})
        self.order = {pk: place for place, pk in enumerate(_order(now), 1)}
        self.places = Places.read(now=now, when_full=True)
        self.places.know(found)

    def all(self) -> dict[int, Waiting]:
        return {one.pk: self._waiting(one, head) for one, head in zip(self.found, self.heads, strict=True)}

    def _waiting(self, one: Candidate, head: Session) -> Waiting:
        if head.cancel_requested_at:
            return Waiting(why="it is being cancelled")
        halted = self._halted(one, head)
        if head.admitted_at and not halted:
            return Waiting(why="it was handed to the workers, and one takes it at once", is_at_once=True)
        why, until = halted or self._behind(one, head) or self._limited(one)
        place = self.order.get(one.pk, 0)
        return Waiting(why=why, until=until, place=place, of=len(self.order) if place else 0)

    def _halted(self, one: Candidate, head: Session) -> tuple[str, datetime | None] | None:
        """What keeps it from being started by anybody."""
        if self.stop:
            return f"everything was stopped by {self.stop.set_by}: {self.stop.reason}", None
        for freeze, named in self.freezes:
            if named is None or one.schedule in named:
                return f"a freeze window: {freeze.reason}", freeze.ends_at
        status, fired = head.schedule.status, head.run.trigger == Run.Trigger.SCHEDULE
        if status == Schedule.Status.DISABLED or (status == Schedule.Status.PAUSED and fired):
            reason = f": {head.schedule.status_reason}" if head.schedule.status_reason else ""
            return f"{head.schedule.name} is {status}{reason}", None
        if head.repository and not head.repository.enabled:
            return f"the repository {head.repository} is off", None
        if head.not_before and head.not_before > self.now:
            return "it is a retry, not tried before its time", head.not_before
        return None

    def _behind(self, one: Candidate, head: Session) -> tuple[str, datetime | None] | None:
        """Nothing else is left that could hold it back whatever is free."""
        if one.pk in self.startable:
            return None
        others = self.open_runs.get((one.schedule, one.repository), [])
        before = next((run.pk for run in others if _goes_before(run, head.run)), None)
        return f"run {before} of the same schedule is still open" if before else "another run of its schedule", None

    def _limited(self, one: Candidate) -> tuple[str, datetime | None]:
        obstacle = self.places.obstacle(one)
        if obstacle and obstacle.kind in _DECISIVE:
            return obstacle.text, obstacle.until
        if not self.places.slots:
            return "no worker takes sessions", None
        if obstacle:
            return obstacle.text, obstacle.until
        return "for its turn", None


def _freezes(schedules: Collection[int], now: datetime) -> list[tuple[Freeze, set[int] | None]]:
    """Those in force, with the ones of these schedules that they name; None: all. The one that ends last first."""
    names = Freeze.schedules.through.objects
    found = list(Freeze.objects.in_force(now).order_by("-ends_at"))
    if not found:
        return []
    naming = set(names.filter(freeze__in=found).order_by().values_list("freeze_id", flat=True).distinct())
    links: dict[int, set[int]] = {}
    for freeze, schedule in names.filter(freeze__in=found, schedule__in=schedules).values_list(
        "freeze_id", "schedule_id"
    ):
        links.setdefault(freeze, set()).add(schedule)
    return [(freeze, links.get(freeze.pk, set()) if freeze.pk in naming else None) for freeze in found]


def _open_runs(schedules: Collection[int]) -> dict[tuple[int, int | None], list[Run]]:
    """The open runs of each of these schedules in each repository, the oldest first."""
    found: dict[tuple[int, int | None], list[Run]] = {}
    if schedules:
        runs = Run.objects.open().filter(schedule__in=schedules).order_by("pk")
        for run in runs.only("schedule_id", "repository_id", "trigger", "overlap"):
            found.setdefault((run.schedule_id, run.repository_id), []).append(run)
    return found


def _goes_before(other: Run, run: Run) -> bool:
    """Whether this one of the same schedule and place lets the other one go first: as in `startable`."""
    is_older = other.pk < run.pk
    if run.trigger == Run.Trigger.BACKFILL:
        return other.pk != run.pk and (is_older or other.trigger != Run.Trigger.BACKFILL)
    return is_older and other.overlap != Schedule.Overlap.ALLOW


def _order(now: datetime) -> list[int]:
    """Those that wait for a place, in their order, as far as they are counted."""
    due = Q(not_before=None) | Q(not_before__lte=now)
    return list(Session.objects.waiting().filter(due).values_list("pk", flat=True)[:_MOST_COUNTED])
