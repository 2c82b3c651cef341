"""Alarms: what a person should look at, one row for each cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import models
from django.db.models import F, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Concat

from schedules.models.schedule import Schedule
from schedules.models.write_back import write_back


@dataclass(frozen=True, slots=True)
class Cause:
    """What gives an alarm: `count` times at once."""

    kind: str
    subject: str
    message: str
    schedule: Schedule | None = None
    count: int = 1


class IncidentQuerySet(models.QuerySet["Incident"]):
    def open(self) -> IncidentQuerySet:
        return self.filter(recovered_at=None)

    def alarm(
        self,
        kind: str,
        subject: str = "",
        *,
        message: str,
        schedule: Schedule | None = None,
        again_after: timedelta = timedelta(),
        now: datetime,
    ) -> bool:
        """Count one more of this cause; the first one opens an incident. True when it did.

        `again_after`: within this time of the last one it is the same one, for what is looked at again and again.
        """
        cause = self.open().filter(kind=kind, subject=subject)
        if again_after and cause.filter(last_at__gt=now - again_after).exists():
            return False
        if cause.update(count=F("count") + 1, last_at=now, message=message):
            return False
        _, created = self.get_or_create(
            kind=kind,
            subject=subject,
            recovered_at=None,
            defaults={"schedule": schedule, "message": message, "first_at": now, "last_at": now},
        )
        return created

    def alarm_all(self, causes: Collection[Cause], *, now: datetime) -> None:
        """Count all of these, in a few queries for however many there are."""
        if not causes:
            return
        counts: Counter[tuple[str, str]] = Counter()
        for cause in causes:
            counts[cause.kind, cause.subject] += cause.count
        last = {(cause.kind, cause.subject): cause for cause in causes}
        kinds, subjects = {cause.kind for cause in causes}, {cause.subject for cause in causes}
        rows = self.open().filter(kind__in=kinds, subject__in=subjects).order_by("pk").select_for_update(of=("self",))
        known = {(row.kind, row.subject): row for row in rows if (row.kind, row.subject) in last}
        for key, row in known.items():
            row.count, row.last_at, row.message = row.count + counts[key], now, last[key].message
        write_back(list(known.values()), ("count", "last_at", "message"))
        opened = [
            Incident(
                kind=cause.kind,
                subject=cause.subject,
                schedule=cause.schedule,
                message=cause.message,
                count=counts[key],
                first_at=now,
                last_at=now,
            )
            for key, cause in last.items()
            if key not in known
        ]
        self.bulk_create(opened, ignore_conflicts=True)  # somebody else opened it a moment ago: one is enough

    def recover(self, kind: str, subject: str = "", *, now: datetime) -> bool:
        """The cause is gone. False: there was no such incident."""
        return self.open().filter(kind=kind, subject=subject).update(recovered_at=now) > 0

    def close(self, why: str | Combinable, *, now: datetime) -> int:
        """They are over, though what they tell of was not mended: their message goes on with `why`. How many."""
        message = Concat(F("message"), Value(" Over: "), why if isinstance(why, Combinable) else Value(why), Value("."))
        return self.open().update(recovered_at=now, message=message)

    def recover_others(self, kind: str, subjects: Collection[str], *, now: datetime) -> int:
        """The causes of this kind but `subjects` are gone. Returns how many there were."""
        return self.open().filter(kind=kind).exclude(subject__in=subjects).update(recovered_at=now)

    def acknowledge(self, pk: int, *, by: str, now: datetime) -> bool:
        """A person has seen it, and sees to it. False: somebody did before."""
        return self.filter(pk=pk, acknowledged_at=None).update(acknowledged_at=now, acknowledged_by=by) == 1


class Incident(models.Model):
    """Something that a person should know: open until its cause is gone. One row for each cause, counted."""

    class Kind(models.TextChoices):
        NOT_FIRED = "not_fired", "a due time has no run"
        BEAT_SILENT = "beat_silent", "beat is silent"
        NO_WORKER = "no_worker", "sessions wait, and no worker takes them"
        QUEUE_STUCK = "queue_stuck", "a session has waited for too long"
        NO_SUCCESS = "no_success", "nothing succeeded when it should have"
        MISSED = "missed", "due times were missed"
        PAUSED_BY_ROTA = "paused_by_rota", "paused after failures"
        SCHEDULE_BROKEN = "schedule_broken", "a schedule can't be read"
        CLOCK_JUMPED = "clock_jumped", "too many times were due at once"
        DISK_FULL = "disk_full", "a worker's disk is full"
        PROVIDER_HELD = "provider_held", "a provider lets nobody in"
        BUDGET_SPENT = "budget_spent", "a budget is spent"

    kind = models.CharField(max_length=30, choices=Kind)
    subject = models.CharField(max_length=200, blank=True, help_text="What tells causes of one kind apart.")
    schedule = models.ForeignKey(Schedule, null=True, blank=True, on_delete=models.CASCADE, related_name="incidents")
    message = models.TextField()
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    recovered_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True)

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints = (
            # One per cause while it lasts, whoever notices it.
            models.UniqueConstraint(
                fields=("kind", "subject"), condition=Q(recovered_at=None), name="incident_is_one_for_a_cause"
            ),
        )
        indexes = (models.Index(fields=("-last_at",), name="incident_latest"),)

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.subject}" if self.subject else self.get_kind_display()

    @property
    def duration(self) -> timedelta | None:
        return self.recovered_at - self.first_at if self.recovered_at else None
