"""One occurrence of a schedule in one repository."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import Any

from django.db import models
from django.db.models import Q

from schedules.models.costs import CostSource
from schedules.models.reasons import Reason
from schedules.models.repository import Repository
from schedules.models.schedule import Schedule
from schedules.prepared import Update, given


class RunQuerySet(models.QuerySet["Run"]):
    def open(self) -> RunQuerySet:
        return self.filter(status__in=Run.OPEN)

    def finished(self) -> RunQuerySet:
        return self.exclude(status__in=Run.OPEN)

    def start(self, pk: int, *, now: datetime) -> bool:
        """queued → running. True for the one caller that did it."""
        return _STARTING.carry_out({"started_at": now}, pk=pk) == 1

    def pin_commit(self, pk: int, commit: str, *, stale: str = "") -> tuple[str, str]:
        """The commit that all sessions of the run work on: the first one that is given. Returns the pinned one.

        With it goes what all of them have to say of it: that it is not the newest.
        """
        self.filter(pk=pk, commit="").update(commit=commit, stale=stale)
        return self.values_list("commit", "stale").get(pk=pk)

    def finish(self, pk: int, *, status: str, reason: str, now: datetime, **fields: Any) -> bool:
        """Open → a final status. True for the one caller that did it; a finished run is never changed."""
        fields = {"status": status, "reason": reason, "finished_at": now, **fields}
        return _finishing(tuple(fields)).carry_out(fields, pk=pk) == 1


class Run(models.Model):
    """One occurrence of a schedule in one repository, with its outcome. Every due time has one.

        queued → running → succeeded | partial | failed | cancelled
        queued → cancelled
        at once: skipped | missed

    `scheduled_for` is the nominal time: what the cron line gives for a fired run, the moment it was asked for
    otherwise. `snapshot` is the schedule's configuration at that moment; `commit` what its sessions start from. A
    `missed` or `skipped` row may stand for several due times: `missed_count` of them, up to `missed_until`.
    """

    class Status(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        SUCCEEDED = "succeeded", "succeeded"
        PARTIAL = "partial", "partial"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"
        SKIPPED = "skipped", "skipped"
        MISSED = "missed", "missed"

    OPEN = (Status.QUEUED, Status.RUNNING)

    class Trigger(models.TextChoices):
        SCHEDULE = "schedule", "schedule"
        MANUAL = "manual", "by hand"
        API = "api", "API"
        WEBHOOK = "webhook", "webhook"
        RETRY = "retry", "retry"
        BACKFILL = "backfill", "backfill"
        CHAIN = "chain", "chain"

    # Foreign keys have no index of their own: Meta.indexes says which one serves each of them.
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="runs", db_index=False)
    repository = models.ForeignKey(
        Repository, null=True, blank=True, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    trigger = models.CharField(max_length=20, choices=Trigger, default=Trigger.SCHEDULE)
    triggered_by = models.CharField(max_length=150, blank=True)
    retry_of = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="retries", db_index=False
    )
    scheduled_for = models.DateTimeField()
    missed_until = models.DateTimeField(null=True, blank=True)
    missed_count = models.PositiveIntegerField(default=0)

    status = models.CharField(max_length=20, choices=Status, default=Status.QUEUED)
    reason = models.CharField(max_length=40, choices=Reason, blank=True)
    message = models.TextField(blank=True)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    is_rehearsal = models.BooleanField("rehearsed", default=False)
    overlap = models.CharField(
        max_length=20, choices=Schedule.Overlap, default=Schedule.Overlap.ALLOW, help_text="The policy it goes by."
    )

    snapshot = models.JSONField(default=dict)
    variables = models.JSONField(default=dict, blank=True)
    commit = models.CharField(max_length=64, blank=True)
    stale = models.TextField(blank=True, help_text="Where the commit is not the newest: since when, and why.")

    items_found = models.PositiveIntegerField(default=0)
    items_processed = models.PositiveIntegerField(default=0)
    items_skipped = models.PositiveIntegerField(default=0)
    items_failed = models.PositiveIntegerField(default=0)
    turns = models.PositiveIntegerField(default=0)
    input_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    cost_usd = models.DecimalField("cost (USD)", max_digits=12, decimal_places=6, default=0)
    cost_source = models.CharField(
        max_length=20, choices=CostSource, blank=True, help_text="The worst of its sessions."
    )
    summary = models.CharField(max_length=300, blank=True)

    queued_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints = (
            # A nominal time is recorded once for a schedule in a repository, whoever fires it.
            models.UniqueConstraint(
                fields=("schedule", "repository", "scheduled_for"),
                condition=Q(trigger="schedule", repository__isnull=False),
                name="run_fires_once",
            ),
            # Its twin where there is no repository, for NULLs do not collide.
            models.UniqueConstraint(
                fields=("schedule", "scheduled_for"),
                condition=Q(trigger="schedule", repository__isnull=True),
                name="run_fires_once_nowhere",
            ),
            # Overlap: with `skip` one is open at a time, with `queue_one` one waits. And their twins nowhere.
            models.UniqueConstraint(
                fields=("schedule", "repository"),
                condition=Q(overlap="skip", status__in=("queued", "running"), repository__isnull=False),
                name="run_skips_overlap",
            ),
            models.UniqueConstraint(
                fields=("schedule",),
                condition=Q(overlap="skip", status__in=("queued", "running"), repository=None),
                name="run_skips_overlap_nowhere",
            ),
            models.UniqueConstraint(
                fields=("schedule", "repository"),
                condition=Q(overlap="queue_one", status="queued", repository__isnull=False),
                name="run_queues_one",
            ),
            models.UniqueConstraint(
                fields=("schedule",),
                condition=Q(overlap="queue_one", status="queued", repository=None),
                name="run_queues_one_nowhere",
            ),
            models.CheckConstraint(
                name="run_status_is_known",
                condition=Q(
                    status__in=(
                        "queued",
                        "running",
                        "succeeded",
                        "partial",
                        "failed",
                        "cancelled",
                        "skipped",
                        "missed",
                    )
                ),
            ),
            models.CheckConstraint(
                name="run_cost_source_is_known",
                condition=Q(cost_source__in=("", "reported", "reckoned", "unknown")),
            ),
            # A row is finished if, and only if, it says when and why.
            models.CheckConstraint(
                name="run_finished_has_time_and_reason",
                condition=Q(status__in=("queued", "running"), finished_at=None, reason="")
                | (~Q(status__in=("queued", "running")) & Q(finished_at__isnull=False) & ~Q(reason="")),
            ),
        )
        indexes = (
            # Overlap at firing, settling, upkeep: the few open runs of a schedule.
            models.Index(
                fields=("schedule", "repository"),
                condition=Q(status__in=("queued", "running")),
                name="run_open",
            ),
            # The strip of last outcomes, and a schedule's own page; and what goes with a schedule that is deleted.
            models.Index(fields=("schedule", "-id"), name="run_of_schedule"),
            # A repository that is deleted has none. Not of those nowhere, which many are.
            models.Index(fields=("repository",), condition=Q(repository__isnull=False), name="run_of_repository"),
            # A run's page, and its deletion: those that retry it. Few do.
            models.Index(fields=("retry_of",), condition=Q(retry_of__isnull=False), name="run_retry"),
            # Retention.
            models.Index(fields=("finished_at",), condition=Q(finished_at__isnull=False), name="run_ended"),
            # The list's filter by status.
            models.Index(fields=("status", "-id"), name="run_by_status"),
        )

    def __str__(self) -> str:
        return f"run {self.pk}"

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN

    @property
    def duration(self) -> timedelta | None:
        """From its start to its end; None while there is none of the two."""
        return self.finished_at - self.started_at if self.finished_at and self.started_at else None


_STARTING = Update(
    lambda: Run.objects.filter(pk=given("pk", Run), status=Run.Status.QUEUED),
    Run,
    "started_at",
    status=Run.Status.RUNNING,
)


@cache
def _finishing(names: tuple[str, ...]) -> Update:
    return Update(lambda: Run.objects.filter(pk=given("pk", Run), status__in=Run.OPEN), Run, *names)
