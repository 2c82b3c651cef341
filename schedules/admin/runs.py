"""Runs: what happened, why, and the sessions it was made of. Read only, but for Cancel and Retry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.db.models.fields.json import KT
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.enums import ActionVariant

from schedules import firing, steering
from schedules.admin.asking import DIALOG, ConfirmForm, RehearsableForm, ask, not_now
from schedules.admin.ids import row_id
from schedules.admin.newest_first import RecordAdmin
from schedules.admin.unfolded import ChangeList
from schedules.admin.waits import RunList, told
from schedules.agents import rehearsed
from schedules.models import Run, Session
from schedules.rendering.display import NOTHING, cost, counted, instant, pill, reason_words, took
from schedules.rendering.strip import run_url
from schedules.rendering.visible import shorten, visible
from schedules.tasks import dispatch
from schedules.waiting import Waiting, waiting

STEER = "schedules.change_run"
"""The permission to cancel and retry."""
_MOST_SESSIONS = 200


@admin.register(Run)
class RunAdmin(RecordAdmin[Run]):
    list_display = (
        "title",
        "schedule_name",
        "repository_name",
        "state",
        "came_by",
        "nominal",
        "lasted",
        "model_asked",
        "turned",
        "cost",
    )
    list_display_links = ("title",)
    list_filter = ("trigger", ("schedule", AutocompleteSelectFilter))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return RunList

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (
            ("<int:pk>/cancel/", "schedules_run_cancel", cancel),
            ("<int:pk>/retry/", "schedules_run_retry", retry),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        return (
            super()
            .get_queryset(request)
            .select_related("schedule", "repository")
            .defer("snapshot", "variables", "schedule__prompt", "schedule__description")
            .annotate(asked=KT("snapshot__options__model"))
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The run's own page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = Run.objects.select_related("schedule", "repository", "retry_of")
        run = get_object_or_404(rows, pk=row_id(object_id))
        sessions = Session.objects.filter(run=run).order_by("number", "attempt").defer("prompt", "result", "patch")
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Run {run.pk}",
            "original": run,
            "run": run,
            "sessions": _with_waits(list(sessions[:_MOST_SESSIONS])),
            "is_agent": run.schedule.is_agent,
            "retries": run.retries.order_by("pk").only("pk", "status", "reason")[:20],
            "now": timezone.now(),
            "actions_detail": _buttons(request, run),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/schedules/run/page.html", context)

    # --- The list ---------------------------------------------------------------------------------

    @display(description="Run")
    def title(self, run: Run) -> str:
        return f"#{run.pk}"

    @display(description="Schedule")
    def schedule_name(self, run: Run) -> str:
        return run.schedule.name

    @display(description="Repository")
    def repository_name(self, run: Run) -> SafeString | str:
        if run.repository is None:
            return NOTHING
        return format_html('<span class="rota-clip" title="{0}">{0}</span>', run.repository.slug)

    @display(description="Status")
    def state(self, run: Run) -> SafeString:
        return outcome(run)

    @display(description="Trigger")
    def came_by(self, run: Run) -> SafeString:
        return format_html('{}<span class="rota-below">{}</span>', run.get_trigger_display(), run.triggered_by)

    @display(description="For")
    def nominal(self, run: Run) -> SafeString:
        """Of a row that stands for many the first one, and how many."""
        many = counted(run.missed_count, "due time") if run.missed_count > 1 else ""
        return format_html(
            '{}<span class="rota-below rota-nowrap">{}</span>', instant(run.scheduled_for, timezone.now()), many
        )

    @display(description="Took")
    def lasted(self, run: Run) -> str:
        return took(run.duration)

    @display(description="Model")
    def model_asked(self, run: Run) -> str:
        return getattr(run, "asked", "") or NOTHING

    @display(description="Turns")
    def turned(self, run: Run) -> str:
        return str(run.turns) if run.turns else NOTHING

    @display(description="Cost")
    def cost(self, run: Run) -> str:
        return cost(run.cost_usd, run.cost_source) if run.cost_usd or run.cost_source else NOTHING


def _with_waits(sessions: list[Session]) -> list[tuple[Session, Waiting | None]]:
    waits = waiting(sessions, now=timezone.now())
    return [(session, waits.get(session.pk)) for session in sessions]


def outcome(row: Run | Session) -> SafeString:
    """Its status, and below it why, or what it waits for."""
    waits = told(row)
    return format_html(
        '{} {}<span class="rota-below" title="{}">{}</span>',
        pill(row.status, title=visible(waits)),
        pill("rehearsed") if row.is_rehearsal else "",
        visible(waits or row.message[:300]),
        visible(shorten(waits, 60)) or reason_words(row.reason),
    )


def _buttons(request: HttpRequest, run: Run) -> list[dict[str, Any]]:
    if not request.user.has_perm(STEER):
        return []
    if run.is_open:
        return [
            button("Cancel", "stop_circle", reverse("admin:schedules_run_cancel", args=(run.pk,)), ActionVariant.DANGER)
        ]
    return [button("Retry", "replay", reverse("admin:schedules_run_retry", args=(run.pk,)), ActionVariant.PRIMARY)]


def button(title: str, icon: str, path: str, variant: ActionVariant) -> dict[str, Any]:
    """One of the buttons at the top of a page, as Unfold's template takes them."""
    return {"title": title, "icon": icon, "path": path, "variant": variant, "attrs": DIALOG}


def require_steering(request: HttpRequest) -> None:
    if not request.user.has_perm(STEER):
        raise PermissionDenied


def cancel(request: HttpRequest, pk: int, model_admin: RunAdmin) -> HttpResponse:
    require_steering(request)
    run = get_object_or_404(Run.objects.select_related("schedule"), pk=pk)
    form = ConfirmForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        asked = steering.cancel_run(pk, by=request.user.get_username(), now=timezone.now())
        transaction.on_commit(dispatch)
        model_admin.message_user(request, "It is being cancelled." if asked else "It was over already.")
        return redirect(run_url(pk))
    return ask(
        request,
        model_admin,
        form=form,
        title=f"Cancel run {pk} of {run.schedule}?",
        text="What is queued ends at once; what runs is stopped, and what it changed is kept as a patch.",
        submit="Cancel the run",
        dangerous=True,
        back=run_url(pk),
    )


def retry(request: HttpRequest, pk: int, model_admin: RunAdmin) -> HttpResponse:
    require_steering(request)
    run = get_object_or_404(Run.objects.select_related("schedule", "repository"), pk=pk)
    title, back = f"Retry run {pk}", run_url(pk)
    if halted := not_now(request, model_admin, run.schedule, title=title, back=back):
        return halted
    posted = request.POST if request.method == "POST" else None
    form = RehearsableForm(
        posted,
        schedule=run.schedule,
        rehearsing=rehearsed(run.schedule.runner) is not None,
        initial={"rehearse": run.is_rehearsal},
    )
    if form.is_valid():
        runs = retried(request, run, form)
        if runs:
            return redirect(run_url(runs[0].pk))
    place = f" in {run.repository}" if run.repository else ""
    return ask(
        request,
        model_admin,
        form=form,
        title=title,
        text=f"A new run of {run.schedule}{place}, with its configuration of today.",
        submit="Retry",
        back=back,
    )


def retried(request: HttpRequest, run: Run, form: RehearsableForm) -> list[Run]:
    """The new run; none where policy refuses, and the form says why."""
    known = run.schedule.variables
    try:
        runs = firing.trigger(
            run.schedule,
            repositories=[run.repository] if run.repository else [],
            trigger=Run.Trigger.RETRY,
            by=request.user.get_username(),
            variables={name: value for name, value in run.variables.items() if name in known},
            rehearse=form.cleaned_data.get("rehearse", False),
            retry_of=run,
            now=timezone.now(),
        )
    except firing.Refused as refusal:
        form.add_error(None, str(refusal))
        return []
    transaction.on_commit(dispatch)
    return runs
