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
from schedules.models import snapshot
from schedules.models.allowance import Allowance
from schedules.models.command import Command, Target
from schedules.models.repository import Repository
from schedules.models.timing import Timing
from schedules.models.validation import schedule_problems
from schedules.prepared import Select

name_is_plain = RegexValidator(
    r"\A[a-z0-9][a-z0-9-]{0,79}\Z",
    "Use lower-case letters, digits and dashes; begin with a letter or digit.",
)


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def due(self, now: datetime) -> ScheduleQuerySet:
        return self.filter(status=Schedule.Status.ACTIVE, due_at__lte=now)

    def waiting(self) -> ScheduleQuerySet:
        """Those that will be due, the next one first."""
        return self.filter(status=Schedule.Status.ACTIVE, due_at__isnull=False).order_by("due_at")

    def hold(self) -> None:
        """Lock these until the transaction ends.

        Whoever changes more than one row in a transaction locks the schedule first: then nobody waits in a circle.
        """
        list(self.select_for_update(of=("self",)).values_list("pk"))


class Schedule(Timing, Allowance):
    """An agent, script or function on the rota.

        active ⇄ paused        by a person with a reason, or by Rota after failures
        active ⇄ disabled      by a person: it can't be run by hand either
        active → broken        by Rota: its times can't be read or trusted; mending or resuming it makes it active

    `next_run_at` is the nominal time that the cron line gives, or its one time; `due_at` is that plus jitter, and what
    beat reads. Both are empty while the schedule is not active, has no time left or is past its end; while it is not
    active, its due times up to `accounted_at` are on record, and those after it are recorded when it comes back.
    Whoever changes when it runs goes by `editing.save_edited`, so that an edit never reaches into the past.
    """

    class Status(models.TextChoices):
        ACTIVE = "active", "active"
        PAUSED = "paused", "paused"
        DISABLED = "disabled", "disabled"
        BROKEN = "broken", "broken"

    class Retry(models.TextChoices):
        NONE = "none", "never"
        INFRASTRUCTURE = "infrastructure", "after faults of the infrastructure"
        ALL = "all", "after every failure"

    class Persistence(models.TextChoices):
        FRESH = "fresh", "a fresh conversation"
        RESUME = "resume", "go on with the last successful conversation"

    class PermissionMode(models.TextChoices):
        DONT_ASK = "dontAsk", "deny what is not allowed (never waits)"
        ACCEPT_EDITS = "acceptEdits", "accept edits, deny the rest"
        PLAN = "plan", "plan only, change nothing"

    class Effort(models.TextChoices):
        LOW = "low", "low"
        MEDIUM = "medium", "medium"
        HIGH = "high", "high"
        XHIGH = "xhigh", "extra high"
        MAX = "max", "all it can"

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
        db_index=False,  # most have none: Meta has an index of those that do
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
    effort = models.CharField(
        max_length=20,
        choices=Effort,
        blank=True,
        help_text="How hard the model thinks, and so what it costs. Empty: as it does by itself.",
    )
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
    agents = models.JSONField(
        "subagents",
        default=dict,
        blank=True,
        help_text='Whom it may hand work to, such as {"reviewer": {"description": "Reviews code", "prompt": "…"}}.',
    )
    setting_sources = models.JSONField(
        default=list,
        blank=True,
        help_text='Which settings the agent loads: "user", "project", "local". '
        "A repository's own can run code: none is safest.",
    )
    plugins = models.JSONField(
        default=list,
        blank=True,
        help_text='Folders of plugins, such as ["tools/reviewer"]. Their hooks run unasked: one of the repository '
        'needs "project" among the setting sources, one by its absolute path ROTA_PLUGIN_FOLDERS.',
    )
    mcp_servers = models.JSONField(
        "MCP servers",
        default=dict,
        blank=True,
        help_text='Such as {"forge": {"command": "forge-mcp", "env": {"TOKEN": "${TOKEN}"}}}. '
        "${NAME} is a variable or secret of the session. Claude uses the tools that are allowed: mcp__forge__*.",
    )
    json_schema = models.JSONField(
        "result schema",
        default=dict,
        blank=True,
        help_text="A JSON schema (draft 7, of an object) that the result has to keep to. Empty: the result is text.",
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

    # Failures
    retry = models.CharField(
        max_length=20, choices=Retry, default=Retry.NONE, help_text="When a session is tried anew."
    )
    retry_attempts = models.PositiveSmallIntegerField(
        "further attempts", default=2, validators=[MinValueValidator(1), MaxValueValidator(10)]
    )
    retry_backoff = models.DurationField(
        "wait before the next attempt",
        default=timedelta(minutes=1),
        help_text="Doubled each time, an hour at most, and spread by up to a quarter.",
    )
    continue_interrupted = models.BooleanField(
        "go on after an interruption",
        default=False,
        help_text="When its worker or machine goes away, an agent's session is gone on with in a session of its own: "
        "with its conversation and its branch, as far as they were kept.",
    )
    pause_after = models.PositiveSmallIntegerField(
        "pause after failures",
        null=True,
        blank=True,
        default=3,
        validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text="Paused when so many due times in a row failed. Empty: never.",
    )
    environment = models.JSONField(
        default=dict,
        blank=True,
        help_text='Variables of the session, such as {"REPORT_DAYS": "7"}. No secrets here.',
    )
    secrets = models.JSONField(
        default=list, blank=True, help_text='Names of secrets it is given, such as ["NPM_TOKEN"].'
    )
    # Output
    persistence = models.CharField("conversation", max_length=20, choices=Persistence, default=Persistence.FRESH)
    allow_empty_result = models.BooleanField(default=False, help_text="An empty result is a success all the same.")
    checks = models.JSONField(
        default=list,
        blank=True,
        help_text='Shell commands that have to succeed in the checkout after the session, such as ["make test"].',
    )
    tolerate_denied = models.BooleanField(default=False, help_text="A denied tool does not fail the session.")

    # Status and bookkeeping
    status = models.CharField(max_length=20, choices=Status, default=Status.ACTIVE)
    status_reason = models.CharField(max_length=500, blank=True)
    status_by = models.CharField(max_length=150, blank=True)
    status_at = models.DateTimeField(null=True, blank=True)
    next_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    due_at = models.DateTimeField(null=True, blank=True, editable=False)
    accounted_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_status = models.CharField(max_length=20, blank=True, editable=False)
    run_count = models.PositiveIntegerField(default=0, editable=False)
    last_success_at = models.DateTimeField(null=True, blank=True, editable=False)
    overdue_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                name="schedule_status_is_known",
                condition=Q(status__in=("active", "paused", "disabled", "broken")),
            ),
            # Only what is active and has a nominal time can be due.
            models.CheckConstraint(
                name="schedule_due_only_when_active",
                condition=Q(due_at=None) | (Q(status="active") & Q(next_run_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="schedule_has_one_time",
                condition=Q(at=None) | Q(cron=""),
                violation_error_message="Give a cron line or one time, not both.",
            ),
            models.CheckConstraint(
                name="schedule_retry_is_known", condition=Q(retry__in=("none", "infrastructure", "all"))
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
            # Those of a command: its deletion is refused.
            models.Index(fields=("command",), condition=Q(command__isnull=False), name="schedule_of_command"),
            # The dead-man's switch looks every few seconds whether there is one.
            models.Index(fields=("id",), condition=Q(status="broken"), name="schedule_broken"),
            # The dead-man's switch: who should have succeeded by now.
            models.Index(
                fields=("overdue_at",),
                condition=Q(status="active", overdue_at__isnull=False),
                name="schedule_overdue",
            ),
            # The dead-man's switch: who has a cron line and nobody planned it, such as a row put in by SQL.
            models.Index(
                fields=("id",),
                condition=Q(status="active", due_at=None) & ~Q(cron=""),
                name="schedule_unplanned",
            ),
            # The same for those with a single time; those that are done stay in it, and it is read from a month ago on.
            models.Index(
                fields=("at",),
                condition=Q(status="active", due_at=None, at__isnull=False),
                name="schedule_once_unplanned",
            ),
        )

    def __str__(self) -> str:
        return self.name

    @staticmethod
    def next_due_at() -> datetime | None:
        """When the next schedule is due; one indexed read."""
        return next(iter(_NEXT_DUE.first() or ()), None)

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
        return snapshot.options(self)

    def snapshot(self) -> dict[str, Any]:
        """The configuration as it is now, JSON-able: what a run goes by, whatever is edited later."""
        return snapshot.snapshot(self)

    def plan(self, now: datetime) -> None:
        """Set the next nominal time after `now` and when it is due. Does not save: PLAN_FIELDS names the fields.

        Raises TimetableError for a cron line or zone that can't be read.
        """
        active = self.status == self.Status.ACTIVE
        self.accounted_at = None if active else now
        self.go_on_at(self.next_after(now) if active else None)

    PLAN_FIELDS = ("next_run_at", "due_at", "accounted_at")

    def go_on_at(self, nominal: datetime | None) -> None:
        self.next_run_at = nominal
        self.due_at = None if nominal is None else self.due_for(nominal)

    def move_on(self, following: datetime | None, *, queued: bool) -> None:
        """A due time is on record; `following` is the next one. `queued`: it runs, in one place at least.

        Sets the dead-man's switch, by when something should have succeeded, unless it is set already. Does not save.
        """
        self.fired_count += queued
        self.go_on_at(None if self.runs_left == 0 else following)
        if self.overdue_at is None:
            self.overdue_at = self.answers_by()

    def answers_by(self) -> datetime | None:
        """When something should have succeeded at the latest, if nothing did before its next time."""
        return None if self.next_run_at is None else self.next_run_at + self.timeout + self.catch_up

    def due_for(self, nominal: datetime) -> datetime:
        """`nominal` plus this schedule's share of its jitter, before the next nominal time and not after its end."""
        if not self.jitter:
            return nominal
        room = self.jitter
        if self.cron:
            following = timetable.next_after(self.cron, self.time_zone, nominal)
            room = min(room, following - nominal - timedelta(seconds=1))
        if self.ends_at:
            room = min(room, self.ends_at - nominal)
        digest = hashlib.sha256(self.name.encode()).digest()
        return nominal + max(room, timedelta()) * (int.from_bytes(digest[:4]) / 2**32)

    @property
    def is_agent(self) -> bool:
        dotted_path = settings.ROTA_RUNNERS.get(self.runner)
        return bool(dotted_path) and load_runner(dotted_path).is_agent


_NEXT_DUE = Select(lambda: Schedule.objects.waiting().values_list("due_at")[:1])


def enabled(repositories: Iterable[Repository]) -> list[Repository]:
    return [repository for repository in repositories if repository.enabled]
