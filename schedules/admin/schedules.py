"""Schedules: the list with what comes next and what came last, and the form in tabs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.decorators import display

from schedules import halts
from schedules.admin import runner_fields
from schedules.admin.deletion import ForgettingAdmin
from schedules.admin.ids import row_id
from schedules.admin.newest_first import ChippedList
from schedules.admin.outcomes import latest_runs
from schedules.admin.schedule_actions import ScheduleActions
from schedules.admin.schedule_form import FIELDSETS, ScheduleForm, runner_kind
from schedules.admin.unfolded import ChangeList
from schedules.agents import rehearsed
from schedules.editing import save_edited
from schedules.models import Run, Schedule
from schedules.rendering.display import (
    NOTHING,
    held_back,
    instant,
    no_further,
    pill,
    reason_words,
    utc,
    when,
    zoned,
)
from schedules.rendering.strip import run_url, strip
from schedules.timetable import TimetableError

_PROMPT = timedelta(seconds=30)
"""Within this of its due time, a schedule is not late."""


class ScheduleList(ChippedList):
    """The page of schedules, each with its newest runs as `latest`, and why it is `halted`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        runs = latest_runs([schedule.pk for schedule in self.result_list])
        now = timezone.now()
        in_force = halts.Halts.read(since=now, now=now)
        for schedule in self.result_list:
            schedule.latest, schedule.seen_at = runs[schedule.pk], now
            schedule.halted = in_force.refusal(schedule.pk, now)


class RunnerFilter(admin.SimpleListFilter):
    """By the runners of the settings: no query for the choices."""

    title = "runner"
    parameter_name = "runner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        return [(name, name) for name in settings.ROTA_RUNNERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> QuerySet[Schedule]:
        return queryset.filter(runner=self.value()) if self.value() else queryset


@admin.register(Schedule)
class ScheduleAdmin(ScheduleActions, ForgettingAdmin):
    form = ScheduleForm
    fieldsets = FIELDSETS
    readonly_fields = ("preview",)
    autocomplete_fields = ("repositories", "command", "pools")
    list_display = ("title", "state", "runs_with", "when", "next_run", "outcomes")
    list_display_links = ("title",)
    list_filter = (RunnerFilter,)
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_fullwidth = True
    list_before_template = "admin/schedules/schedule/before_list.html"
    change_form_outer_before_template = "admin/schedules/schedule/summary.html"
    delete_confirmation_template = "admin/schedules/schedule/delete_confirmation.html"
    search_fields = ("name", "description")
    ordering = ("name",)
    sortable_by = ("title", "next_run")
    warn_unsaved_form = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ScheduleList

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        return super().get_queryset(request).select_related("command")

    def get_fieldsets(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        """`status` is chosen when a schedule is made; after that it has buttons, which ask why."""
        if obj is None:
            return self.fieldsets
        return tuple(
            (name, {**part, "fields": tuple(field for field in part["fields"] if field != "status")})
            for name, part in FIELDSETS
        )

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Locked while it is edited: beat fires it before or after, and neither writes over the other."""
        found = super().get_object(request, object_id, from_field)
        if found is None or request.method != "POST" or not transaction.get_connection().in_atomic_block:
            return found
        return Schedule.objects.select_for_update(of=("self",)).filter(pk=found.pk).first()

    def save_model(self, request: HttpRequest, obj: Schedule, form: ScheduleForm, change: bool) -> None:
        """Only what the form changed, and when it is next due if that moved: the rest is beat's."""
        now = timezone.now()
        if not change:
            obj.status_by, obj.status_at = request.user.get_username(), now
            obj.plan(now)
            obj.save()
            self._tell_emptied(request, form)
            return
        self._tell_emptied(request, form)
        changed = {name for name in (*form.changed_data, *form.emptied) if name not in ("repositories", "pools")}
        if not changed:
            return
        before = Schedule.objects.values_list("next_run_at", flat=True).get(pk=obj.pk)
        save_edited(obj, changed, by=request.user.get_username(), now=now)
        if obj.next_run_at != before:
            self.message_user(request, _moved(obj, before, now))

    def _tell_emptied(self, request: HttpRequest, form: ScheduleForm) -> None:
        if form.emptied:
            told = f"Emptied, for the runner {form.instance.runner} takes none: "
            self.message_user(request, f"{told}{runner_fields.labels(form, form.emptied)}.", messages.WARNING)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        pk = row_id(object_id)
        now = timezone.now()
        context = {"now": now, "latest": latest_runs([pk])[pk], "halted": halts.refusal(Schedule(pk=pk), now=now)}
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    # --- The list ---------------------------------------------------------------------------------

    @display(description="Schedule", ordering="name")
    def title(self, schedule: Schedule) -> SafeString:
        return format_html(
            '<span class="rota-title">{}</span><span class="rota-below rota-clip">{}</span>',
            schedule.name,
            schedule.description.partition("\n")[0],
        )

    @display(description="Status")
    def state(self, schedule: Schedule) -> SafeString:
        return format_html(
            '<span class="rota-state">{}{}{}</span>{}',
            self._switch(schedule),
            pill(schedule.status, title=_status_told(schedule)),
            _halted(schedule),
            format_html(
                '<span class="rota-below rota-clip" title="{}">{}</span>',
                schedule.status_reason,
                schedule.status_reason,
            )
            if schedule.status_reason
            else "",
        )

    def _switch(self, schedule: Schedule) -> SafeString:
        """A button of the form that stands before the list: a form can't hold another one."""
        active = schedule.status == Schedule.Status.ACTIVE
        return format_html(
            '<button type="submit" form="rota-toggle" formaction="{}" class="rota-switch" role="switch"'
            ' aria-checked="{}" title="{}" aria-label="{}"></button>',
            reverse("admin:schedules_schedule_toggle", args=(schedule.pk,)),
            "true" if active else "false",
            "Pause" if active else "Resume",
            f"{schedule.name} is on the rota",
        )

    @display(description="Runner")
    def runs_with(self, schedule: Schedule) -> SafeString:
        agent = runner_kind(schedule.runner) == "agent"
        rehearsing = rehearsed(schedule.runner)
        detail = schedule.model if agent else schedule.function
        return format_html(
            '{}<span class="rota-below rota-nowrap">{}</span><span class="rota-below">{}</span>',
            schedule.runner,
            detail,
            pill("rehearsed", title=rehearsing.why) if rehearsing else "",
        )

    @display(description="When")
    def when(self, schedule: Schedule) -> SafeString:
        line = (
            format_html('<span class="rota-nowrap">{}</span> · {}', schedule.cron, schedule.time_zone)
            if schedule.cron
            else zoned(schedule.at, schedule.time_zone)
            if schedule.at
            else ""
        )
        return format_html(
            '<span class="rota-words">{}</span><span class="rota-below rota-mono">{}</span>',
            when(schedule),
            line,
        )

    @display(description="Next run", ordering="next_run_at")
    def next_run(self, schedule: Schedule) -> SafeString | str:
        if schedule.next_run_at is None:
            return format_html('{}<span class="rota-below">{}</span>', NOTHING, capfirst(no_further(schedule)))
        return format_html(
            '<span class="rota-nowrap">{} {}</span><span class="rota-below rota-nowrap" title="{}">{}</span>'
            '<span class="rota-below rota-nowrap">{}</span>',
            instant(schedule.next_run_at, _seen_at(schedule)),
            _late(schedule),
            utc(schedule.next_run_at),
            zoned(schedule.next_run_at, schedule.time_zone, year=False),
            held_back(schedule),
        )

    @display(description="Last 20 runs")
    def outcomes(self, schedule: Schedule) -> SafeString:
        return format_html("{}{}", strip(_latest(schedule)), self._last_outcome(schedule))

    def _last_outcome(self, schedule: Schedule) -> SafeString | str:
        run = next((run for run in _latest(schedule) if not run.is_open), None)
        if run is None:
            return ""
        return format_html(
            '<span class="rota-below rota-nowrap"><a href="{}">{}</a> {}</span>',
            run_url(run.pk),
            pill(run.status, title=reason_words(run.reason)),
            instant(run.finished_at, _seen_at(schedule)),
        )

    # --- The form ---------------------------------------------------------------------------------

    @display(description="Next times")
    def preview(self, schedule: Schedule) -> SafeString:
        times: list[datetime] = []
        if schedule.pk:
            with suppress(TimetableError):  # the form says so at the field, and the page's script beside it
                times = schedule.upcoming(timezone.now())
        context = {
            "words": when(schedule) if schedule.pk else "",
            "times": [(at, zoned(at, schedule.time_zone)) for at in times],
            "url": f"{reverse('admin:schedules_schedule_preview')}?schedule={schedule.pk or ''}&",
        }
        return render_to_string("admin/schedules/schedule/preview.html", context)


def _latest(schedule: Schedule) -> Sequence[Run]:
    latest: Sequence[Run] = getattr(schedule, "latest", ())
    return latest


def _seen_at(schedule: Schedule) -> datetime:
    """The moment that the whole list was read at."""
    seen_at: datetime = getattr(schedule, "seen_at", None) or timezone.now()
    return seen_at


def _halted(schedule: Schedule) -> SafeString | str:
    """On the rota, and nothing of it starts: a stop, or a freeze window."""
    halted: tuple[str, str] | None = getattr(schedule, "halted", None)
    if halted is None or schedule.status != Schedule.Status.ACTIVE:
        return ""
    reason, sentence = halted
    return pill(reason, title=sentence)


def _late(schedule: Schedule) -> SafeString | str:
    """Nobody fired it: the first thing that people want to be told."""
    late = schedule.due_at is not None and _seen_at(schedule) - schedule.due_at > _PROMPT
    return pill("late", title="Beat has not fired it. Is beat running?") if late else ""


def _moved(schedule: Schedule, before: datetime | None, now: datetime) -> str:
    """Nobody should have to wonder where a due time went that an edit took away."""
    now_at = f"next {zoned(schedule.next_run_at, schedule.time_zone)}" if schedule.next_run_at else "not again"
    then = zoned(before, schedule.time_zone) if before else ""
    due = before is not None and before <= now
    instead = f", and no longer {then}" if before and not due else ""
    on_record = f" {then} was due by the old times, and is on record." if due else ""
    why = no_further(schedule)
    return f"It runs {now_at}{instead}{why and f': {why}'}.{on_record}"


def _status_told(schedule: Schedule) -> str:
    if not schedule.status_at:
        return ""
    by = f" by {schedule.status_by}" if schedule.status_by else ""
    return f"{schedule.get_status_display()}{by}, {utc(schedule.status_at)}"
