"""Named limits on how many sessions run at once, and credentials that are held for a while."""

from __future__ import annotations

from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from schedules import agents

_MOST_NAMED = 5

pool_name_is_plain = RegexValidator(
    r"\A[a-z0-9][a-z0-9-]{0,79}\Z",
    "Use lower-case letters, digits and dashes; begin with a letter or digit.",
)


class Pool(models.Model):
    """A named limit on how many sessions run at once.

    A session belongs to the pools that its schedule names, and to those of its provider and of its model. It takes
    `Schedule.weight` places of each.
    """

    name = models.CharField(max_length=80, unique=True, validators=[pool_name_is_plain])
    description = models.TextField(blank=True)
    places = models.PositiveIntegerField(
        default=1,
        validators=[MaxValueValidator(100_000)],
        help_text="Sessions of weight 1 at once. 0: none of them starts.",
    )
    provider = models.CharField(
        max_length=40, blank=True, help_text="Every session of this provider belongs to it, such as anthropic, openai."
    )
    model = models.CharField(
        max_length=100,
        blank=True,
        help_text="Every session that asks for this model belongs to it; * stands for any text, as in claude-opus-*.",
    )

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                name="pool_is_of_provider_or_model",
                condition=Q(provider="") | Q(model=""),
                violation_error_message="Choose a provider or a model, not both.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a provider that nobody has, and places that some session of it would never get."""
        known = agents.providers()
        if self.provider and self.provider not in known:
            raise ValidationError({"provider": f"No agent is of “{self.provider}”. There are: {', '.join(known)}."})
        if self.pk and self.places:
            wide = self.schedules.filter(weight__gt=self.places).order_by("name")[:_MOST_NAMED]
            if names := ", ".join(schedule.name for schedule in wide):
                raise ValidationError({"places": f"A session of {names} takes more places than that."})


class HoldQuerySet(models.QuerySet["Hold"]):
    def in_force(self, now: datetime) -> HoldQuerySet:
        return self.filter(until__gt=now)


class Hold(models.Model):
    """What is known of a credential's service: when it lets sessions in again.

        closed    `until` is empty: sessions start
        open      `until` is ahead: none starts
        half open `until` is past and `failures` is not 0: one starts, and its outcome decides

    A quota that says when it is given anew holds until then; a circuit opens after overload failures in a row.
    """

    credential = models.CharField(
        max_length=100,
        unique=True,
        help_text="The provider, such as anthropic; with a secret of its own, anthropic/SECRET_NAME; "
        "with a quota of one model alone, anthropic:opus.",
    )
    until = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    failures = models.PositiveIntegerField(default=0, validators=[MinValueValidator(0)], help_text="In a row.")
    since = models.DateTimeField(null=True, blank=True)

    objects = HoldQuerySet.as_manager()

    class Meta:
        ordering = ("credential",)

    def __str__(self) -> str:
        return self.credential
