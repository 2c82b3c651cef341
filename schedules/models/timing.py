"""When a schedule runs: its nominal times, and its policy for those that come late or too early."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

from schedules import timetable


class Timing(models.Model):
    """The part of a schedule that says when. Nominal times only: what is next and due is the schedule's to keep."""

    class Overlap(models.TextChoices):
        SKIP = "skip", "skip the new run"
        QUEUE_ONE = "queue_one", "queue one, skip further ones"
        CANCEL_OTHER = "cancel_other", "cancel the run before"
        ALLOW = "allow", "run side by side"

    # What decides when it runs: whoever changes one of these plans anew.
    TIMING_FIELDS = frozenset({"cron", "at", "time_zone", "starts_at", "ends_at", "max_runs", "jitter"})

    cron = models.CharField(
        max_length=200,
        blank=True,
        help_text="Minute, hour, day of month, month, day of week; or @daily and its like. Empty: only by hand.",
    )
    at = models.DateTimeField(null=True, blank=True, help_text="Once, at this time, instead of a cron line.")
    time_zone = models.CharField(max_length=64, default="UTC")
    starts_at = models.DateTimeField(null=True, blank=True, help_text="Nothing is due before this.")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Nothing is due after this.")
    max_runs = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Due times that run, in all. Empty: no limit.",
    )
    jitter = models.DurationField(
        default=timedelta,
        blank=True,
        help_text="Spread over this time after the nominal one, the same each time.",
    )
    catch_up = models.DurationField(
        "catch-up window",
        default=timedelta(minutes=15),
        help_text="How late a missed time may still run.",
    )
    overlap = models.CharField(
        "overlap policy",
        max_length=20,
        choices=Overlap,
        default=Overlap.SKIP,
        help_text="When the run before is still open.",
    )
    fired_count = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        abstract = True

    def next_after(self, instant: datetime) -> datetime | None:
        """The first nominal time after `instant` within start, end and number of runs; None where there is none."""
        if self.runs_left == 0:
            return None
        if self.starts_at and instant < self.starts_at:
            instant = self.starts_at - timedelta(microseconds=1)
        if self.at:
            nominal = self.at
            if nominal <= instant:
                return None
        elif self.cron:
            nominal = timetable.next_after(self.cron, self.time_zone, instant)
        else:
            return None
        return None if self.ends_at and nominal > self.ends_at else nominal

    @property
    def runs_left(self) -> int | None:
        """How many due times may still run; None: as many as come."""
        return None if self.max_runs is None else max(0, self.max_runs - self.fired_count)

    def upcoming(self, now: datetime, count: int = 10) -> list[datetime]:
        """The next nominal times within start, end and number of runs, as they will fire."""
        times: list[datetime] = []
        following = self.next_after(now)
        while following is not None and len(times) < min(count, self.runs_left or count):
            times.append(following)
            following = self.next_after(following)
        return times

    def in_words(self) -> str:
        """When it runs: `At 09:00, every day`, `Once`, `Only by hand`. Raises TimetableError."""
        if self.at:
            return "Once"
        if not self.cron:
            return "Only by hand"
        words = timetable.describe(self.cron)
        return words if self.max_runs is None else f"{words}, {self.max_runs} times"

    def check_at(self, now: datetime) -> None:
        """What `clean` can't see, for it knows no time. Raises ValidationError at `at` for one that is past."""
        if self.at and self.at <= now:
            raise ValidationError({"at": "This time is past: it would never run. Give one that is still to come."})
