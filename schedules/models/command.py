"""Named prompt templates."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from schedules import placeholders

command_id_is_plain = RegexValidator(
    r"\A[a-z0-9][a-z0-9-]*(/[a-z0-9][a-z0-9-]*){0,3}\Z",
    "Use words of lower-case letters, digits and dashes, parted by slashes, such as issue/root-cause.",
)


class Target(models.TextChoices):
    """What a run's items are."""

    ISSUES = "issues", "issues"
    PRS = "prs", "pull requests"
    CODEBASE = "codebase", "the codebase"
    CUSTOM = "custom", "the schedule's own prompt"


class Command(models.Model):
    """A prompt template that schedules share, known by an id such as `issue/root-cause`."""

    id = models.CharField(
        primary_key=True,
        max_length=100,
        validators=[command_id_is_plain],
        help_text="Such as <code>issue/root-cause</code>. Schedules refer to it by this.",
    )
    name = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    prompt = models.TextField(help_text="The template. Placeholders: {{ repository }}, {{ title }}, {{ body }}, …")
    target = models.CharField(max_length=20, choices=Target, default=Target.CODEBASE)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return self.id

    def clean(self) -> None:
        """Its variables are the schedules' business, and these may change together with it."""
        problems = placeholders.problems(self.prompt, variables=placeholders.variables(self.prompt))
        if problems:
            raise ValidationError({"prompt": problems})
