"""What to run, where, and when."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from runners import load_runner
from schedules import timetable
from schedules.models.command import Command, Target
from schedules.models.repository import Repository
from schedules.models.validation import schedule_problems

name_is_plain = RegexValidator(
    r"\A[a-z0-9][a-z0-9-]{0,79}\Z",
    "Use lower-case letters, digits and dashes; begin with a letter or digit.",
)

# What a runner may know of its schedule: the options of its snapshot.
OPTION_FIELDS = (
    "model",
    "fallback_model",
    "permission_mode",
    "allowed_tools",
    "disallowed_tools",
    "max_turns",
    "max_budget_usd",
    "append_system_prompt",
    "setting_sources",
    "allow_empty_result",
    "tolerate_denied",
    "rehearsal_script",
    "argv",
    "working_directory",
    "function",
    "arguments",
)


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def due(self, now: datetime) -> ScheduleQuerySet:
        return self.filter(status=Schedule.Status.ACTIVE, due_at__lte=now)

    def next_due_at(self) -> datetime | None:
        """When the next schedule is due; one indexed read."""
        waiting = self.filter(status=Schedule.Status.ACTIVE, due_at__isnull=False)
        return waiting.order_by("due_at").values_list("due_at", flat=True).first()

    def hold(self) -> None:
        """Lock these until the transaction ends.

        Whoever changes more than one row in a transaction locks the schedule first: then nobody waits in a circle.
        """
        list(self.select_for_update(of=("self",)).values_list("pk"))


class Schedule(models.Model):
    """An agent, script or function on the rota.

        active ⇄ paused        by a person with a reason, or by Rota after failures
        active ⇄ disabled      by a person: it can't be run by hand either

    `next_run_at` is the nominal time that the cron line gives; `due_at` is that plus jitter, and what beat reads. Both
    are empty while the schedule is not active, has no cron line or is past its end. Whoever changes when it runs calls
    `plan(now)`, so that an edit never reaches into the past.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", "active"
        PAUSED = "paused", "paused"
        DISABLED = "disabled", "disabled"

    class Overlap(models.TextChoices):
        SKIP = "skip", "skip the new run"
        QUEUE_ONE = "queue_one", "queue one, skip further ones"
        CANCEL_OTHER = "cancel_other", "cancel the run before"
        ALLOW = "allow", "run side by side"

    class Persistence(models.TextChoices):
        FRESH = "fresh", "a fresh conversation"
        RESUME = "resume", "go on with the last successful conversation"

    class PermissionMode(models.TextChoices):
        DONT_ASK = "dontAsk", "deny what is not allowed (never waits)"
        ACCEPT_EDITS = "acceptEdits", "accept edits, deny the rest"
        PLAN = "plan", "plan only, change nothing"

    class Sandbox(models.TextChoices):
        NONE = "none", "none: it sees what the worker's user sees"
        BUBBLEWRAP = "bubblewrap", "bubblewrap: its checkout, and nothing else of the machine"

    class Network(models.TextChoices):
        HOST = "host", "the worker's"
        NONE = "none", "none"
        ALLOW_LIST = "allow_list", "the allowed hosts only"

    # What
    name = models.CharField(
        max_length=80,
        unique=True,
        validators=[name_is_plain],
        help_text="Short name, such as <code>daily-briefing</code>.",
    )
    description = models.TextField(blank=True)
    runner = models.CharField(max_length=40, default="claude", help_text="What executes its sessions.")
    target = models.CharField(
        max_length=20, choices=Target, default=Target.CUSTOM, help_text="What one session works on."
    )
    command = models.ForeignKey(
        Command,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        help_text="A shared prompt, instead of one of its own.",
    )
    prompt = models.TextField(
        blank=True, help_text="Its own prompt. Placeholders such as {{ repository }} are filled in."
    )
    variables = models.JSONField(
        default=dict,
        blank=True,
        help_text='Values for {{ var.NAME }} in the prompt, such as {"tone": "brief"}.',
    )
    model = models.CharField(max_length=100, blank=True, help_text="Such as haiku, sonnet, opus or a full model name.")
    fallback_model = models.CharField(max_length=100, blank=True, help_text="When the model is overloaded.")
    permission_mode = models.CharField(
        max_length=20, choices=PermissionMode, default=PermissionMode.DONT_ASK, blank=True
    )
    allowed_tools = models.JSONField(
        default=list,
        blank=True,
        help_text='Tools that run without asking, such as ["Read", "Bash(git log *)"].',
    )
    disallowed_tools = models.JSONField(default=list, blank=True, help_text="Tools that never run.")
    append_system_prompt = models.TextField("extra system prompt", blank=True)
    setting_sources = models.JSONField(
        default=list,
        blank=True,
        help_text='Which settings the agent loads: "user", "project", "local". '
        "A repository's own can run code: none is safest.",
    )
    argv = models.JSONField(
        "command line",
        default=list,
        blank=True,
        help_text='Program and arguments, such as ["python3", "tools/report.py"].',
    )
    working_directory = models.CharField(max_length=300, blank=True, help_text="Inside the checkout. Empty: its top.")
    function = models.CharField(max_length=100, blank=True, help_text="Name of an allowed function.")
    arguments = models.JSONField(default=dict, blank=True, help_text='For the function, such as {"limit": 50}.')
    rehearsal_script = models.JSONField(
        default=list,
        blank=True,
        help_text="What the scripted model says when the schedule is rehearsed. Empty: the usual.",
    )

    # Where
    repositories = models.ManyToManyField(Repository, blank=True, related_name="schedules")
    filter_query = models.CharField(
        max_length=500,
        blank=True,
        help_text="Which issues or pull requests, such as <code>is:open label:bug</code>.",
    )
    max_items = models.PositiveSmallIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="At most this many sessions a run.",
    )

    # When
    cron = models.CharField(
        max_length=200,
        blank=True,
        help_text="Minute, hour, day of month, month, day of week; or @daily and its like. Empty: only by hand.",
    )
    time_zone = models.CharField(max_length=64, default="UTC")
    starts_at = models.DateTimeField(null=True, blank=True, help_text="Nothing is due before this.")
    ends_at = models.DateTimeField(null=True, blank=True, help_text="Nothing is due after this.")
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

    # Limits
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
    max_sessions = models.PositiveSmallIntegerField(
        "sessions at once", default=1, validators=[MinValueValidator(1), MaxValueValidator(1000)]
    )
    priority = models.SmallIntegerField(default=0, help_text="Higher goes first.")
    environment = models.JSONField(
        default=dict,
        blank=True,
        help_text='Variables of the session, such as {"REPORT_DAYS": "7"}. No secrets here.',
    )
    secrets = models.JSONField(
        default=list, blank=True, help_text='Names of secrets it is given, such as ["NPM_TOKEN"].'
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

    # Output
    persistence = models.CharField("conversation", max_length=20, choices=Persistence, default=Persistence.FRESH)
    allow_empty_result = models.BooleanField(default=False, help_text="An empty result is a success all the same.")
    tolerate_denied = models.BooleanField(default=False, help_text="A denied tool does not fail the session.")

    # Status and bookkeeping
    status = models.CharField(max_length=20, choices=Status, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=500, blank=True)
    status_by = models.CharField(max_length=150, blank=True)
    status_at = models.DateTimeField(null=True, blank=True)
    next_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    due_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_status = models.CharField(max_length=20, blank=True, editable=False)
    run_count = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                name="schedule_status_is_known",
                condition=Q(status__in=("active", "paused", "disabled")),
            ),
            # Only what is active and has a nominal time can be due.
            models.CheckConstraint(
                name="schedule_due_only_when_active",
                condition=Q(due_at=None) | (Q(status="active") & Q(next_run_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="schedule_max_items_1_to_100",
                condition=Q(max_items__gte=1) & Q(max_items__lte=100),
            ),
            models.CheckConstraint(
                name="schedule_ends_after_it_starts",
                condition=Q(starts_at=None) | Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
                violation_error_message="The end must be after the start.",
            ),
            # One prompt: a command's or its own.
            models.CheckConstraint(
                name="schedule_has_one_prompt",
                condition=Q(command=None) | Q(prompt=""),
                violation_error_message="Choose a command or write a prompt, not both.",
            ),
        )
        indexes = (
            # Beat's one read, once a second: what is due, and when the next is.
            models.Index(
                fields=("due_at",),
                condition=Q(status="active", due_at__isnull=False),
                name="schedule_due",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        problems = schedule_problems(self)
        if problems:
            raise ValidationError(problems)

    def check_repositories(self, repositories: Collection[Repository]) -> None:
        """What `clean` can't see, for they are linked after saving. Raises ValidationError at `repositories`."""
        if self.target != Target.CUSTOM and not repositories:
            raise ValidationError({"repositories": f"Choose a repository: the target is {self.get_target_display()}."})
        if self.target in (Target.ISSUES, Target.PRS):
            without = [repository.slug for repository in repositories if repository.forge == Repository.Forge.NONE]
            if without:
                raise ValidationError(
                    {"repositories": f"{', '.join(without)}: has no forge to list {self.get_target_display()} from."}
                )

    @property
    def template(self) -> str:
        """The prompt template in force."""
        return self.command.prompt if self.command else self.prompt

    def options(self) -> dict[str, Any]:
        """What its runner may know, JSON-able."""
        options = {name: getattr(self, name) for name in OPTION_FIELDS}
        options["max_budget_usd"] = None if self.max_budget_usd is None else str(self.max_budget_usd)
        options["function_path"] = settings.ROTA_FUNCTIONS.get(self.function, "")
        return options

    def snapshot(self) -> dict[str, Any]:
        """The configuration as it is now, JSON-able: what a run goes by, whatever is edited later."""
        return {
            "schedule": self.name,
            "runner": self.runner,
            "target": self.target,
            "command": self.command_id,
            "template": self.template,
            "variables": self.variables,
            "options": self.options(),
            "filter_query": self.filter_query,
            "max_items": self.max_items,
            "cron": self.cron,
            "time_zone": self.time_zone,
            "timeout": self.timeout.total_seconds(),
            "silence": None if self.silence is None else self.silence.total_seconds(),
            "overlap": self.overlap,
            "catch_up": self.catch_up.total_seconds(),
            "max_sessions": self.max_sessions,
            "priority": self.priority,
            "environment": self.environment,
            "secrets": self.secrets,
            "sandbox": self.sandbox,
            "network": self.network,
            "allowed_hosts": self.allowed_hosts,
            "persistence": self.persistence,
        }

    def plan(self, now: datetime) -> None:
        """Set the next nominal time after `now` and when it is due. Does not save: PLAN_FIELDS names the fields."""
        self.next_run_at = self.next_after(now) if self.status == self.Status.ACTIVE else None
        self.due_at = None if self.next_run_at is None else self.due_for(self.next_run_at)

    PLAN_FIELDS = ("next_run_at", "due_at")

    def next_after(self, instant: datetime) -> datetime | None:
        """The first nominal time after `instant` within start and end; None where there is none."""
        if not self.cron:
            return None
        if self.starts_at and instant < self.starts_at:
            instant = self.starts_at - timedelta(microseconds=1)
        nominal = timetable.next_after(self.cron, self.time_zone, instant)
        return None if self.ends_at and nominal > self.ends_at else nominal

    def due_for(self, nominal: datetime) -> datetime:
        """`nominal` plus this schedule's share of its jitter, before the next nominal time."""
        if not self.jitter:
            return nominal
        following = timetable.next_after(self.cron, self.time_zone, nominal)
        room = min(self.jitter, following - nominal - timedelta(seconds=1))
        digest = hashlib.sha256(self.name.encode()).digest()
        return nominal + max(room, timedelta()) * (int.from_bytes(digest[:4]) / 2**32)

    def upcoming(self, now: datetime, count: int = 10) -> list[datetime]:
        """The next nominal times within start and end, as they will fire."""
        times: list[datetime] = []
        following = self.next_after(now)
        while following is not None and len(times) < count:
            times.append(following)
            following = self.next_after(following)
        return times

    @property
    def is_agent(self) -> bool:
        dotted_path = settings.ROTA_RUNNERS.get(self.runner)
        return bool(dotted_path) and load_runner(dotted_path).is_agent


def enabled(repositories: Iterable[Repository]) -> list[Repository]:
    return [repository for repository in repositories if repository.enabled]
