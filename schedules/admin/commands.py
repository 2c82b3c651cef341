"""Commands: prompt templates that schedules share."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminExpandableTextareaWidget

from schedules import placeholders
from schedules.admin.schedule_form import PLACEHOLDERS_HELP
from schedules.admin.unfolded import ModelAdmin, ModelForm
from schedules.models import Command
from schedules.rendering.display import instant

_MOST_NAMED = 5


class CommandForm(ModelForm[Command]):
    """Refuses a prompt that a schedule of it could not be run with."""

    prompt = forms.CharField(
        strip=False,
        widget=UnfoldAdminExpandableTextareaWidget({"rows": 10, "class": "rota-mono rota-prompt"}),
        help_text=PLACEHOLDERS_HELP,
    )

    description = forms.CharField(required=False, widget=UnfoldAdminExpandableTextareaWidget({"rows": 2}))

    class Meta:
        model = Command
        fields = ("id", "name", "description", "target", "prompt")

    def clean_prompt(self) -> str:
        prompt = str(self.cleaned_data["prompt"])
        variables = [name.removeprefix("var.") for name in placeholders.names(prompt) if name.startswith("var.")]
        problems = placeholders.problems(prompt, variables)
        if problems:
            raise forms.ValidationError(problems)
        self._ask_schedules(prompt)
        return prompt

    def _ask_schedules(self, prompt: str) -> None:
        if self.instance._state.adding:
            return
        users = self.instance.schedule_set.order_by("name").only("name", "variables")
        broken = [
            f"{schedule}: {problem}"
            for schedule in users.iterator()
            for problem in placeholders.problems(prompt, schedule.variables)
        ]
        if broken:
            more = [f"… and {len(broken) - _MOST_NAMED} more."] if len(broken) > _MOST_NAMED else []
            raise forms.ValidationError(["Schedules use this command:", *broken[:_MOST_NAMED], *more])

    def clean_target(self) -> str:
        target = str(self.cleaned_data["target"])
        if not self.instance._state.adding and "target" in self.changed_data:
            names = list(self.instance.schedule_set.values_list("name", flat=True)[:_MOST_NAMED])
            if names:
                raise forms.ValidationError(f"{', '.join(names)}: use it with the target it has.")
        return target


@admin.register(Command)
class CommandAdmin(ModelAdmin[Command]):
    form = CommandForm
    fields = ("id", "name", "description", "target", "prompt")
    list_display = ("id", "name", "target", "used", "updated")
    list_filter = ("target",)
    search_fields = ("id", "name", "description")
    ordering = ("id",)
    warn_unsaved_form = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Command]:
        return super().get_queryset(request).annotate(schedule_count=Count("schedule"))

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Its id is what schedules and files know it by."""
        return ("id",) if obj else ()

    @display(description="Schedules")
    def used(self, command: Command) -> int:
        return int(getattr(command, "schedule_count", 0))

    @display(description="Changed", ordering="updated_at")
    def updated(self, command: Command) -> SafeString | str:
        return instant(command.updated_at, timezone.now())
