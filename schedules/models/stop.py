"""When nothing runs: freeze windows, and the stop of all."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import F, Q
from django.db.models.signals import pre_delete
from django.dispatch import receiver

from schedules.models.schedule import Schedule


class FreezeQuerySet(models.QuerySet["Freeze"]):
    def in_force(self, now: datetime) -> FreezeQuerySet:
        return self.filter(starts_at__lte=now, ends_at__gt=now)


class Freeze(models.Model):
    """A window in which nothing starts: of the schedules it names, or of all.

    A due time in it is `skipped`; what was queued before waits for its end. What runs goes on.
    """

    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300)
    schedules = models.ManyToManyField(Schedule, blank=True, related_name="freezes", help_text="None: all of them.")
    created_by = models.CharField(max_length=150, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = FreezeQuerySet.as_manager()

    class Meta:
        ordering = ("-starts_at",)
        verbose_name = "freeze window"
        constraints = (
            models.CheckConstraint(
                name="freeze_ends_after_it_starts",
                condition=Q(ends_at__gt=F("starts_at")),
                violation_error_message="The end must be after the start.",
            ),
        )
        indexes = (models.Index(fields=("ends_at",), name="freeze_end"),)

    def __str__(self) -> str:
        return self.reason


@receiver(pre_delete, sender=Schedule)
def _end_freezes_of_it_alone(instance: Schedule, **_: Any) -> None:
    """A window that loses the last schedule that it names would be one of all of them: it goes instead."""
    for freeze in Freeze.objects.filter(schedules=instance):
        freeze.schedules.remove(instance)
        if not freeze.schedules.exists():
            freeze.delete()


class StopQuerySet(models.QuerySet["Stop"]):
    def in_force(self) -> StopQuerySet:
        return self.filter(lifted_at=None)


class Stop(models.Model):
    """A person stopped everything, and why: nothing is fired, triggered or started until somebody lifts it.

    A due time meanwhile is `skipped`; what was queued before waits. At most one is in force.
    """

    reason = models.CharField(max_length=300)
    set_by = models.CharField(max_length=150)
    set_at = models.DateTimeField()
    lifted_by = models.CharField(max_length=150, blank=True)
    lifted_at = models.DateTimeField(null=True, blank=True)
    lift_reason = models.CharField(max_length=300, blank=True)

    objects = StopQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        constraints = (
            # A constant where it is in force: a second one collides.
            models.UniqueConstraint(
                models.Value(1),
                condition=Q(lifted_at=None),
                name="stop_is_one",
                violation_error_message="Everything is stopped already.",
            ),
        )

    def __str__(self) -> str:
        return self.reason
