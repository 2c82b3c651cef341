"""Values that sessions may be given and nobody is shown."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

secret_name_is_plain = RegexValidator(
    r"\A[A-Za-z_][A-Za-z0-9_]{0,99}\Z",
    "A name has letters, digits and _ only, and no digit at its beginning: sessions find it in their environment.",
)


class Secret(models.Model):
    """A named value, encrypted: `schedules.vault` alone writes and reads it. What shows a row shows no value."""

    name = models.CharField(
        max_length=100,
        unique=True,
        validators=[secret_name_is_plain],
        help_text="The variable that sessions find it in, such as <code>DEPLOY_TOKEN</code>.",
    )
    description = models.CharField(max_length=500, blank=True, help_text="What it opens, and where to get a new one.")
    ciphertext = models.TextField(editable=False)
    set_by = models.CharField("set by", max_length=150, blank=True, editable=False)
    set_at = models.DateTimeField("set", editable=False, help_text="When its value was given.")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(name="secret_has_name_and_value", condition=~Q(name="") & ~Q(ciphertext="")),
        )

    def __str__(self) -> str:
        return self.name


def known_secrets() -> list[str]:
    """All names that a schedule may ask for: those of the table, and those of this process's environment."""
    return sorted({*Secret.objects.values_list("name", flat=True), *settings.ROTA_SECRETS})


def unknown_secrets(names: Iterable[str]) -> list[str]:
    """Those of `names` that nobody has set."""
    wanted = [name for name in names if name not in settings.ROTA_SECRETS]
    found = set(Secret.objects.filter(name__in=wanted).values_list("name", flat=True)) if wanted else set()
    return [name for name in wanted if name not in found]
