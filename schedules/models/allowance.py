"""What the sessions of a schedule may take, of time, money and places, and what they may reach."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from schedules.models.pool import Pool


class Allowance(models.Model):
    """The part of a schedule that says how much, and how far."""

    class Sandbox(models.TextChoices):
        NONE = "none", "none: it sees what the worker's user sees"
        BUBBLEWRAP = "bubblewrap", "bubblewrap: its checkout, and nothing else of the machine"

    class Network(models.TextChoices):
        HOST = "host", "the worker's"
        NONE = "none", "none"
        ALLOW_LIST = "allow_list", "the allowed hosts only"

    timeout = models.DurationField(default=timedelta(minutes=30), help_text="A session is ended after this time.")
    silence = models.DurationField(
        "silence limit",
        null=True,
        blank=True,
        default=timedelta(minutes=10),
        help_text="A session is ended when it prints nothing for this time.",
    )
    max_turns = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    max_budget_usd = models.DecimalField(
        "money limit (USD)",
        max_digits=8,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="For one session.",
    )
    max_run_usd = models.DecimalField(
        "money limit of a run (USD)",
        max_digits=8,
        decimal_places=2,
        null=True,
        blank=True,
        help_text="For all sessions of one run.",
    )
    max_sessions = models.PositiveSmallIntegerField(
        "sessions at once", default=1, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    priority = models.SmallIntegerField(default=0, help_text="Higher goes first.")
    pools = models.ManyToManyField(
        Pool, blank=True, related_name="schedules", help_text="Named limits that its sessions share with others."
    )
    weight = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Places that one session takes in each of its pools.",
    )
    sandbox = models.CharField(
        max_length=20,
        choices=Sandbox,
        default=Sandbox.NONE,
        help_text="Where a worker can't make one, the session fails and says why.",
    )
    network = models.CharField(
        max_length=20, choices=Network, default=Network.HOST, help_text="What the sandbox lets it reach."
    )
    allowed_hosts = models.JSONField(
        default=list,
        blank=True,
        help_text='Such as ["api.anthropic.com", "*.example.com", "forge.example.com:8443"]. '
        "An agent needs the one of its model.",
    )

    class Meta:
        abstract = True

    def check_pools(self, pools: Collection[Pool]) -> None:
        """The same at `pools`: one that can never hold a session of this weight. One of 0 places is shut on purpose."""
        narrow = [f"{pool} ({pool.places})" for pool in pools if 0 < pool.places < self.weight]
        if narrow:
            raise ValidationError(
                {"pools": f"A session takes {self.weight} places, more than there are in all: {', '.join(narrow)}."}
            )
