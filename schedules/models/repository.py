"""Where sessions work."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from runners import RepositoryInvalid, check_branch, check_url

slug_is_plain = RegexValidator(
    r"\A(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,79}\Z",  # it names a folder
    "Use lower-case letters, digits, dashes, underscores and single dots; begin with a letter or digit.",
)


class Repository(models.Model):
    """A git repository that sessions get isolated checkouts of."""

    class Forge(models.TextChoices):
        NONE = "none", "none"
        GITHUB = "github", "GitHub"

    class Workspaces(models.TextChoices):
        FRESH = "fresh", "fresh: a new checkout for each session"
        WARM = "warm", "warm: a checkout is kept, and reset for the next session"

    class FetchFailure(models.TextChoices):
        FAIL = "fail", "the session fails"
        LAST_KNOWN = "last_known", "work on the last known state, and say so"

    slug = models.CharField(
        max_length=80,
        unique=True,
        validators=[slug_is_plain],
        help_text="Short name, such as <code>web-shop</code>.",
    )
    url = models.CharField(
        "git URL or path",
        max_length=500,
        help_text="https://…, ssh://…, git@host:path, file://… or an absolute path on the workers' machine.",
    )
    default_branch = models.CharField(
        max_length=200,
        blank=True,
        help_text="Sessions start from its newest commit. Empty: the repository's own HEAD.",
    )
    enabled = models.BooleanField(default=True, help_text="A repository that is off gets no runs.")
    forge = models.CharField(max_length=20, choices=Forge, default=Forge.NONE)
    forge_settings = models.JSONField(default=dict, blank=True)
    workspaces = models.CharField(
        max_length=10,
        choices=Workspaces,
        default=Workspaces.FRESH,
        help_text="Warm is quicker from some thousand files on. Nothing of a session is left for the next one; but "
        "only a sandbox keeps an agent from what Rota compares with.",
    )
    max_sessions = models.PositiveSmallIntegerField(
        "sessions at once",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(1000)],
        help_text="Empty: as the setting ROTA_MAX_SESSIONS_PER_REPOSITORY says.",
    )
    on_fetch_failure = models.CharField(
        "when it can't be fetched",
        max_length=20,
        choices=FetchFailure,
        default=FetchFailure.FAIL,
        help_text="What becomes of sessions while the forge is away or does not answer in time.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("slug",)
        verbose_name_plural = "repositories"
        constraints = (
            models.CheckConstraint(
                name="repository_has_slug_and_url",
                condition=~Q(slug="") & ~Q(url=""),
                violation_error_message="A repository needs a short name and a URL.",
            ),
        )

    def __str__(self) -> str:
        return self.slug

    def clean(self) -> None:
        """Refuse, at its field, what git could take for an option or a program, or could never find."""
        problems = {}
        for field, check in (("url", check_url), ("default_branch", check_branch)):
            value = getattr(self, field)
            try:
                if value:
                    check(value)
            except RepositoryInvalid as error:
                problems[field] = str(error)
        if problems:
            raise ValidationError(problems)
