"""The form of a schedule: what each field shows, and when it is wanted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminExpandableTextareaWidget,
)

from runners import load_runner
from schedules import placeholders
from schedules.admin import runner_fields
from schedules.admin.fields import (
    HumanDurationField,
    LinesField,
    NamedChoiceField,
    PairsField,
    StructureField,
    SuggestingInput,
    time_zones,
)
from schedules.admin.unfolded import ModelForm
from schedules.models import Schedule, known_secrets
from schedules.models.command import Target
from schedules.pools import of_schedule

_EQUIPMENT = ("setting_sources", "plugins", "mcp_servers")

FIELDSETS: tuple[tuple[str, Any], ...] = (
    (
        "What",
        {
            "classes": ["tab"],
            "fields": (
                "name",
                "description",
                "status",
                "runner",
                "target",
                "command",
                "prompt",
                "variables",
                "model",
                "fallback_model",
                "effort",
                "append_system_prompt",
                "agents",
                "argv",
                "working_directory",
                "function",
                "arguments",
            ),
        },
    ),
    (
        "Where",
        {
            "classes": ["tab"],
            "fields": ("repositories", "filter_query", "max_items", "environment", "secrets", *_EQUIPMENT),
        },
    ),
    (
        "When",
        {
            "classes": ["tab"],
            "fields": (
                "cron",
                "at",
                "time_zone",
                "preview",
                "starts_at",
                "ends_at",
                "max_runs",
                "jitter",
                "catch_up",
                "overlap",
            ),
        },
    ),
    (
        "Limits",
        {
            "classes": ["tab"],
            "fields": (
                "timeout",
                "silence",
                "max_turns",
                "max_budget_usd",
                "max_run_usd",
                "permission_mode",
                "allowed_tools",
                "disallowed_tools",
                "sandbox",
                "network",
                "allowed_hosts",
                "max_sessions",
                "pools",
                "weight",
                "priority",
            ),
        },
    ),
    (
        "Failures",
        {
            "classes": ["tab"],
            "fields": ("retry", "retry_attempts", "retry_backoff", "continue_interrupted", "pause_after"),
        },
    ),
    (
        "Output",
        {
            "classes": ["tab"],
            "fields": (
                "persistence",
                "json_schema",
                "allow_empty_result",
                "tolerate_denied",
                "checks",
                "rehearsal_script",
            ),
        },
    ),
)

# What only some schedules have, as `data-rota-when` for the page's script: every condition has to hold. What only some
# runners take, these say themselves: see `runner_fields`.
_WANTED = {
    **dict.fromkeys(("filter_query", "max_items"), "target=issues,prs"),
    "network": "sandbox=bubblewrap",
    "allowed_hosts": "sandbox=bubblewrap network=allow_list",
}

_SOURCES = (("user", "user"), ("project", "project (the repository's own: it can run code)"), ("local", "local"))
PLACEHOLDERS_HELP = "Placeholders: " + ", ".join(
    f"<code>{{{{&nbsp;{name}&nbsp;}}}}</code>" for name in (*placeholders.PLACEHOLDERS, "var.NAME")
)


def runner_kind(runner: str) -> str:
    """`agent`, or the runner's own name: which fields it reads. Empty for a runner that is not there."""
    dotted_path = settings.ROTA_RUNNERS.get(runner)
    if dotted_path is None:
        return ""
    return "agent" if load_runner(dotted_path).is_agent else runner


class ScheduleForm(ModelForm[Schedule]):
    """Lists are written one in a line, durations as people say them, and every refusal is at its field."""

    description = forms.CharField(required=False, widget=UnfoldAdminExpandableTextareaWidget({"rows": 2}))
    runner = NamedChoiceField(help_text="What executes its sessions.")
    prompt = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminExpandableTextareaWidget({"rows": 6, "class": "rota-mono rota-prompt"}),
        help_text=PLACEHOLDERS_HELP,
    )
    variables = PairsField(
        help_text="<code>NAME=value</code>, one in a line: what {{ var.NAME }} stands for; in a script ROTA_VAR_NAME."
    )
    model = forms.CharField(
        required=False, widget=SuggestingInput(), help_text="A name that the runner knows: type to see some."
    )
    fallback_model = forms.CharField(
        required=False, widget=SuggestingInput(), help_text="When the model is overloaded."
    )
    append_system_prompt = forms.CharField(
        label="Extra system prompt",
        required=False,
        strip=False,
        widget=UnfoldAdminExpandableTextareaWidget({"rows": 2, "class": "rota-mono"}),
        help_text="Added to the agent's own.",
    )
    agents = StructureField(
        label="Subagents",
        empty=dict,
        help_text="Whom it may hand work to, in JSON, such as <code>"
        '{"reviewer": {"description": "Reviews code", "prompt": "You review code.", "tools": ["Read"]}}</code>.',
    )
    argv = LinesField(
        label="Command line",
        help_text="The program, then one argument in a line. No shell reads it.",
    )
    function = NamedChoiceField(required=False, help_text="One of ROTA_FUNCTIONS.")
    arguments = StructureField(
        empty=dict,
        help_text='For the function, in JSON, such as <code>{"limit": 50}</code>.',
    )
    environment = PairsField(help_text="<code>NAME=value</code>, one in a line. No secrets here.")
    secrets = forms.MultipleChoiceField(required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget)
    setting_sources = forms.MultipleChoiceField(
        required=False,
        choices=_SOURCES,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Which of its settings the agent loads. None is safest.",
    )
    plugins = LinesField(
        help_text="Folders, one in a line. Their hooks run unasked: so one of the repository, such as "
        "<code>tools/reviewer</code>, needs <code>project</code> above, and one of the machine lies in "
        "ROTA_PLUGIN_FOLDERS.",
    )
    mcp_servers = StructureField(
        label="MCP servers",
        empty=dict,
        help_text="More tools, in JSON, such as <code>"
        '{"forge": {"command": "forge-mcp", "env": {"TOKEN": "${TOKEN}"}}}</code> or <code>'
        '{"docs": {"type": "http", "url": "https://…"}}</code>. <code>${NAME}</code> is a variable or secret of the '
        "session. Claude may use the tools that are allowed: <code>mcp__forge__*</code>.",
    )
    json_schema = StructureField(
        label="Result schema",
        empty=dict,
        help_text="A JSON schema (draft 7, of an object) that the result has to keep to, such as <code>"
        '{"type": "object", "properties": {"verdict": {"enum": ["fine", "broken"]}}, "required": ["verdict"]}</code>. '
        "Empty: the result is text.",
    )
    time_zone = forms.CharField(widget=SuggestingInput(time_zones), help_text="Type to search, such as Europe/Paris.")
    jitter = HumanDurationField(
        required=False,
        empty=timedelta(),
        help_text="Spread over this time after the nominal one, the same each time. Such as <code>5m</code>.",
    )
    catch_up = HumanDurationField(
        label="Catch-up window", help_text="How late a missed time may still run. <code>0</code>: not at all."
    )
    retry_backoff = HumanDurationField(
        label="Wait before the next attempt",
        help_text="Doubled each time, an hour at most, and spread by up to a quarter. Such as <code>1m</code>.",
    )
    timeout = HumanDurationField(help_text="A session is ended after this time. Such as <code>1h 30m</code>.")
    silence = HumanDurationField(
        label="Silence limit",
        required=False,
        help_text="A session is ended when it prints nothing for this time. Empty: no limit.",
    )
    allowed_tools = LinesField(
        help_text="Tools that run without asking, one in a line: <code>Read</code>, <code>Bash(git log *)</code> …"
    )
    disallowed_tools = LinesField(help_text="Tools that never run, one in a line.")
    allowed_hosts = LinesField(
        help_text="One in a line: <code>api.anthropic.com</code>, <code>*.example.com</code>, "
        "<code>forge.example.com:8443</code> … An agent needs the one of its model."
    )
    checks = LinesField(
        help_text="Shell commands, one in a line, that have to succeed in the checkout after the session, such as "
        "<code>make test</code>. Not in rehearsals."
    )
    rehearsal_script = StructureField(
        empty=list,
        help_text="What the scripted model says when the schedule is rehearsed, in JSON. Empty: the usual.",
    )

    class Meta:
        model = Schedule
        fields = tuple(name for _, part in FIELDSETS for name in part["fields"] if name != "preview")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self.declared_fields:
            # Django takes these from the model's fields, and would leave the ones written above empty.
            self.initial.setdefault(name, getattr(self.instance, name))
        self.emptied: list[str] = []
        self._offer_names()
        runner_fields.describe(self.fields, current=self.instance.runner)
        for name in ("model", "fallback_model"):
            if name in self.fields:
                self.fields[name].widget.suggestions = runner_fields.suggestions(name, runner=self.instance.runner)
        for name, condition in _WANTED.items():
            if name in self.fields:
                self.fields[name].widget.attrs["data-rota-when"] = condition

    def _offer_names(self) -> None:
        if isinstance(runner := self.fields.get("runner"), NamedChoiceField):
            runner.offer(settings.ROTA_RUNNERS, current=self.instance.runner)
        if isinstance(target := self.fields.get("target"), forms.ChoiceField):
            offered = {*settings.ROTA_TARGETS, self.instance.target}
            target.choices = [(value, label) for value, label in Target.choices if value in offered]
        if isinstance(function := self.fields.get("function"), NamedChoiceField):
            function.offer(settings.ROTA_FUNCTIONS, current=self.instance.function, empty="Choose a function")
        if isinstance(secrets := self.fields.get("secrets"), forms.MultipleChoiceField):
            known = dict.fromkeys([*known_secrets(), *self.instance.secrets])
            secrets.choices = [(name, name) for name in known]
            secrets.help_text = (
                "What the session finds in its environment besides."
                if known
                else "There are none yet: add them under Secrets."
            )
        for name, told in (
            ("at", "Once, at this time, instead of a cron line"),
            ("starts_at", "Nothing is due before this"),
            ("ends_at", "Nothing is due after this"),
        ):
            if name in self.fields:
                self.fields[name].help_text = f"{told}. In {settings.TIME_ZONE}."
        if "status" in self.fields:
            self.fields["status"].help_text = "A paused schedule is run by hand only."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.emptied = runner_fields.empty_others(self, cleaned)
        starts, ends = cleaned.get("starts_at"), cleaned.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", "The end must be after the start.")
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's own hook, that the stubs leave out
        if "at" in self.changed_data and "at" in self.cleaned_data:
            try:
                self.instance.check_at(timezone.now())
            except ValidationError as error:
                self.add_error(None, error)
        for name, check in (
            ("repositories", self.instance.check_repositories),
            ("pools", lambda named: self.instance.check_pools(of_schedule(self.instance, named=named))),
        ):
            if name not in self.cleaned_data:
                continue
            try:
                check(list(self.cleaned_data[name]))
            except ValidationError as error:
                self.add_error(None, error)
