"""Money: how much may be spent, and how much was."""

from __future__ import annotations

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from schedules.models.repository import Repository
from schedules.models.schedule import Schedule


class Budget(models.Model):
    """A limit on what sessions may cost in a day or a month: of a schedule, in a repository, or over all.

    Days and months are those of the setting TIME_ZONE. A session reserves its own money limit before it starts, and
    what it truly cost is settled at its end. The limit for one session, and the one for a run, are the schedule's.
    """

    class Period(models.TextChoices):
        DAY = "day", "a day"
        MONTH = "month", "a month"

    schedule = models.ForeignKey(Schedule, null=True, blank=True, on_delete=models.CASCADE, related_name="budgets")
    repository = models.ForeignKey(Repository, null=True, blank=True, on_delete=models.CASCADE, related_name="budgets")
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    limit_usd = models.DecimalField(
        "limit (USD)",
        max_digits=10,
        decimal_places=2,
        validators=[MinValueValidator(0)],
        help_text="0: nothing that costs money starts.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("id",)
        constraints = (
            models.CheckConstraint(
                name="budget_is_of_schedule_or_repository",
                condition=Q(schedule=None) | Q(repository=None),
                violation_error_message="Choose a schedule, a repository, or neither for all; not both.",
            ),
            models.CheckConstraint(name="budget_period_is_known", condition=Q(period__in=("day", "month"))),
            models.CheckConstraint(
                name="budget_is_not_negative",
                condition=Q(limit_usd__gte=0),
                violation_error_message="A budget can't be negative.",
            ),
            models.UniqueConstraint(
                fields=("schedule", "period"),
                condition=Q(schedule__isnull=False),
                name="budget_of_schedule_is_one",
                violation_error_message="This schedule has a budget for that period already.",
            ),
            models.UniqueConstraint(
                fields=("repository", "period"),
                condition=Q(repository__isnull=False),
                name="budget_of_repository_is_one",
                violation_error_message="This repository has a budget for that period already.",
            ),
            models.UniqueConstraint(
                fields=("period",),
                condition=Q(schedule=None, repository=None),
                name="budget_over_all_is_one",
                violation_error_message="There is a budget over all for that period already.",
            ),
        )

    def __str__(self) -> str:
        whose = self.schedule or self.repository or "all"
        return f"{whose}, {self.get_period_display()}"


class Spending(models.Model):
    """What sessions cost on a day, added up as they end. Outlives their rows.

    Three rows tell of a session: that of its schedule in its repository; that of the repository (no schedule); and that
    of the day (neither). A budget is then the sum of a month's few rows, however many schedules there are.
    """

    day = models.DateField(help_text="In the setting TIME_ZONE.")
    schedule = models.ForeignKey(Schedule, null=True, blank=True, on_delete=models.CASCADE, related_name="spending")
    repository = models.ForeignKey(Repository, null=True, blank=True, on_delete=models.PROTECT, related_name="spending")
    cost_usd = models.DecimalField("cost (USD)", max_digits=14, decimal_places=6, default=0)
    sessions = models.PositiveIntegerField(default=0, help_text="Those that cost something.")

    class Meta:
        ordering = ("-day", "schedule")
        verbose_name_plural = "spending"
        constraints = (
            models.UniqueConstraint(
                fields=("day", "schedule", "repository"),
                condition=Q(schedule__isnull=False, repository__isnull=False),
                name="spending_is_one_row_a_day",
            ),
            models.UniqueConstraint(
                fields=("day", "schedule"),
                condition=Q(schedule__isnull=False, repository=None),
                name="spending_nowhere_is_one_row_a_day",
            ),
            # The sums. Their order is that in which budgets read them.
            models.UniqueConstraint(
                fields=("repository", "day"),
                condition=Q(schedule=None, repository__isnull=False),
                name="spending_of_repository_is_one_row_a_day",
            ),
            models.UniqueConstraint(
                fields=("day",),
                condition=Q(schedule=None, repository=None),
                name="spending_in_all_is_one_row_a_day",
            ),
        )
        indexes = (
            # The budget of a schedule.
            models.Index(fields=("schedule", "day"), condition=Q(schedule__isnull=False), name="spending_of_schedule"),
        )

    def __str__(self) -> str:
        return f"{self.schedule or self.repository or 'all'}, {self.day}"
