"""Who may start: the database is the queue, and a session is handed to the broker only when there is a place for it.

Three limits on sessions at once: of all (the workers' slots and ROTA_MAX_SESSIONS), of a schedule (its own number) and
of a repository (ROTA_MAX_SESSIONS_PER_REPOSITORY). A session that waits holds nothing, and blocks nobody behind it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from schedules.models import Run, Schedule, Session, WorkerHeartbeat
from schedules.models.session import SessionQuerySet

_ADMISSION_LOCK = 0x526F7461  # one admission at a time; the number is "Rota"
_READ_AT_ONCE = 200


def admit(*, now: datetime) -> list[int]:
    """Mark the sessions that may start now as admitted, by priority and age. The caller publishes their ids."""
    if not Session.objects.waiting().exists():
        return []
    with transaction.atomic():
        _one_at_a_time()
        places = _Places.read(now)
        chosen: list[int] = []
        while places.free > 0:
            found = _choose(places, chosen)
            if not found:
                break
            chosen += found
        Session.objects.admit(chosen, now=now)
    return chosen


@dataclass(slots=True)
class _Places:
    """What is left of each limit while an admission goes on."""

    free: int
    schedules: Counter[int] = field(default_factory=Counter)
    repositories: Counter[int] = field(default_factory=Counter)
    most: dict[int, int] = field(default_factory=dict)  # schedule → its own limit

    @classmethod
    def read(cls, now: datetime) -> _Places:
        held = Session.objects.in_flight().values_list("schedule_id", "repository_id", "schedule__max_sessions")
        workers = WorkerHeartbeat.objects.alive(now=now, silent_after=settings.ROTA_WORKER_SILENT_AFTER)
        places = cls(free=min(workers.slots(), settings.ROTA_MAX_SESSIONS))
        for schedule, repository, most in held:
            places._hold(schedule, repository, most)
        return places

    def take(self, schedule: int, repository: int | None, most: int) -> bool:
        if self.free <= 0 or self.schedules[schedule] >= most:
            return False
        if repository and self.repositories[repository] >= settings.ROTA_MAX_SESSIONS_PER_REPOSITORY:
            return False
        self._hold(schedule, repository, most)
        return True

    def full_schedules(self) -> list[int]:
        return [schedule for schedule, held in self.schedules.items() if held >= self.most[schedule]]

    def full_repositories(self) -> list[int]:
        most = settings.ROTA_MAX_SESSIONS_PER_REPOSITORY
        return [repository for repository, held in self.repositories.items() if held >= most]

    def _hold(self, schedule: int, repository: int | None, most: int) -> None:
        self.free -= 1
        self.schedules[schedule] += 1
        self.most[schedule] = most
        if repository:
            self.repositories[repository] += 1


def _choose(places: _Places, chosen: list[int]) -> list[int]:
    """The next sessions out of one read. Those of a full schedule or repository are left out of the read itself."""
    candidates = (
        startable()
        .exclude(pk__in=chosen)
        .exclude(repository__in=places.full_repositories())
        .exclude(schedule__in=places.full_schedules())
    )
    rows = candidates.values_list("pk", "schedule_id", "repository_id", "schedule__max_sessions")[:_READ_AT_ONCE]
    return [pk for pk, schedule, repository, most in rows if places.take(schedule, repository, most)]


def startable() -> SessionQuerySet:
    """Waiting sessions that neither another run nor their schedule's status holds back."""
    older = Run.objects.open().filter(schedule=OuterRef("schedule"), pk__lt=OuterRef("run"))
    here = older.filter(repository=OuterRef("repository"))
    nowhere = older.filter(repository=None)
    side_by_side = Q(schedule__overlap=Schedule.Overlap.ALLOW)
    first = Q(repository__isnull=False) & ~Exists(here) | Q(repository=None) & ~Exists(nowhere)
    return Session.objects.waiting().filter(side_by_side | first).on_the_rota()


def _one_at_a_time() -> None:
    """Admissions take turns, or two of them would fill the same place. SQLite's write transactions do anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADMISSION_LOCK])
