"""Who is alive."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import models
from django.db.models import Sum


class WorkerQuerySet(models.QuerySet["WorkerHeartbeat"]):
    def alive(self, *, now: datetime, silent_after: timedelta) -> WorkerQuerySet:
        """Those that renewed within `silent_after` and have not said that they stop."""
        return self.heard_of_since(now - silent_after)

    def heard_of_since(self, at: datetime) -> WorkerQuerySet:
        return self.filter(stopped_at=None, last_seen_at__gt=at)

    def takers(self) -> WorkerQuerySet:
        """Those that take sessions, and do not hold back."""
        return self.filter(kind=WorkerHeartbeat.Kind.SESSIONS, holds_back="")

    def slots(self) -> int:
        """How many sessions these can run at once. One that holds back counts for none."""
        total = self.takers().aggregate(n=Sum("concurrency"))["n"]
        return int(total or 0)

    def last_seen_at(self, kind: str) -> datetime | None:
        """When one of this kind was last heard of."""
        return self.filter(kind=kind).order_by("-last_seen_at").values_list("last_seen_at", flat=True).first()

    def renew(self, pk: int, *, now: datetime) -> bool:
        """One UPDATE serves all sessions of a worker. False: the row is gone, register again."""
        return self.filter(pk=pk).update(last_seen_at=now, stopped_at=None) == 1


class WorkerHeartbeat(models.Model):
    """One process of beat or a worker, renewed every few seconds. Its sessions' lease is this row.

    A row belongs to one life of a process: a restarted worker gets a new one, so that sessions of the old life can be
    told from its own.
    """

    class Kind(models.TextChoices):
        BEAT = "beat", "beat"
        CONTROL = "control", "control"
        SESSIONS = "sessions", "sessions"

    name = models.CharField(max_length=200, help_text="Such as sessions@host.")
    kind = models.CharField(max_length=20, choices=Kind)
    hostname = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    start_ticks = models.BigIntegerField(default=0)
    boot_id = models.CharField(max_length=40, blank=True)
    concurrency = models.PositiveIntegerField(default=0, help_text="Sessions at once.")
    version = models.CharField(max_length=100, blank=True)
    programs = models.JSONField(
        default=dict, blank=True, help_text="Runner → the agent program that it starts: version, path, remark, missing."
    )
    started_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True, blank=True)
    holds_back = models.CharField(max_length=300, blank=True, help_text="Why it takes no session for now.")

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ("-last_seen_at",)
        verbose_name = "worker"
        constraints = (
            # A process has one row, however often it registers.
            models.UniqueConstraint(
                fields=("hostname", "boot_id", "pid", "start_ticks"),
                name="worker_process_is_unique",
            ),
        )
        indexes = (
            # Read at every admission and by /readyz.
            models.Index(fields=("kind", "last_seen_at"), name="worker_kind_seen"),
        )

    def __str__(self) -> str:
        return self.name
