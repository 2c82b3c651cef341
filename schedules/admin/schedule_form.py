"""The form of a schedule: what each field shows, and when it is wanted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminExpandableTextareaWidget,
)

from runners import load_runner
from schedules import placeholders
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
from schedules.rendering.display import pretty

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
                "append_system_prompt",
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
            "fields": ("repositories", "filter_query", "max_items", "environment", "secrets", "setting_sources"),
        },
    ),
    (
        "When",
        {
            "classes": ["tab"],
            "fields": (
                "cron",
                "time_zone",
                "preview",
                "starts_at",
                "ends_at",
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
                "permission_mode",
                "allowed_tools",
                "disallowed_tools",
                "sandbox",
                "network",
                "allowed_hosts",
                "max_sessions",
                "priority",
            ),
        },
    ),
    (
        "Output",
        {
            "classes": ["tab"],
            "fields": ("persistence", "allow_empty_result", "tolerate_denied", "rehearsal_script"),
        },
    ),
)

# What only some schedules have, as `data-rota-when` for the page's script: every condition has to hold.
_WANTED = {
    **dict.fromkeys(
        (
            *("command", "prompt", "variables", "model", "fallback_model", "append_system_prompt", "setting_sources"),
            *("max_turns", "max_budget_usd", "permission_mode", "allowed_tools", "disallowed_tools"),
            *("persistence", "allow_empty_result", "tolerate_denied", "rehearsal_script"),
        ),
        "kind=agent",
    ),
    **dict.fromkeys(("argv", "working_directory"), "kind=script"),
    **dict.fromkeys(("function", "arguments"), "kind=function"),
    **dict.fromkeys(("filter_query", "max_items"), "target=issues,prs"),
    "network": "sandbox=bubblewrap",
    "allowed_hosts": "sandbox=bubblewrap network=allow_list",
}
WHEN_FIELDS = frozenset({"cron", "time_zone", "starts_at", "ends_at", "jitter"})

_MODELS = ("haiku", "sonnet", "opus")
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
    variables = PairsField(help_text="<code>NAME=value</code>, one in a line: what {{ var.NAME }} stands for.")
    model = forms.CharField(
        required=False,
        widget=SuggestingInput(lambda: _MODELS),
        help_text="haiku, sonnet, opus or a full model name.",
    )
    fallback_model = forms.CharField(
        required=False, widget=SuggestingInput(lambda: _MODELS), help_text="When the model is overloaded."
    )
    append_system_prompt = forms.CharField(
        label="Extra system prompt",
        required=False,
        strip=False,
        widget=UnfoldAdminExpandableTextareaWidget({"rows": 2, "class": "rota-mono"}),
        help_text="Added to the agent's own.",
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
    time_zone = forms.CharField(widget=SuggestingInput(time_zones), help_text="Type to search, such as Europe/Paris.")
    jitter = HumanDurationField(
        required=False,
        empty=timedelta(),
        help_text="Spread over this time after the nominal one, the same each time. Such as <code>5m</code>.",
    )
    catch_up = HumanDurationField(
        label="Catch-up window", help_text="How late a missed time may still run. <code>0</code>: not at all."
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
        self._offer_names()
        for name, condition in _WANTED.items():
            if name in self.fields:
                self.fields[name].widget.attrs["data-rota-when"] = condition

    def _offer_names(self) -> None:
        if isinstance(runner := self.fields.get("runner"), NamedChoiceField):
            names = runner.offer(settings.ROTA_RUNNERS, current=self.instance.runner)
            kinds = {name: runner_kind(name) for name in names}
            runner.widget.attrs["data-rota-kinds"] = pretty(kinds)
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
        for name, told in (("starts_at", "Nothing is due before this"), ("ends_at", "Nothing is due after this")):
            if name in self.fields:
                self.fields[name].help_text = f"{told}. In {settings.TIME_ZONE}."
        if "status" in self.fields:
            self.fields["status"].help_text = "A paused schedule is run by hand only."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        starts, ends = cleaned.get("starts_at"), cleaned.get("ends_at")
        if starts and ends and ends <= starts:
            self.add_error("ends_at", "The end must be after the start.")
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's own hook, that the stubs leave out
        if "repositories" not in self.cleaned_data:
            return
        try:
            self.instance.check_repositories(list(self.cleaned_data["repositories"]))
        except ValidationError as error:
            self.add_error(None, error)
