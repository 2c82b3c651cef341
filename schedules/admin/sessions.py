"""Sessions: the transcript as it happens, what came of it, and what it changed. Read only, but for Cancel."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_celery_results.models import TaskResult
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import display
from unfold.enums import ActionVariant

from schedules import steering
from schedules.admin import live, transcript
from schedules.admin.asking import ConfirmForm, ask
from schedules.admin.ids import row_id
from schedules.admin.newest_first import RecordAdmin
from schedules.admin.runs import STEER, button, outcome, require_steering
from schedules.admin.unfolded import ChangeList
from schedules.admin.waits import SessionList
from schedules.models import Session, SessionEvent
from schedules.readiness import report_of
from schedules.rendering import diff
from schedules.rendering.display import NOTHING, cost, instant, took
from schedules.rendering.visible import visible
from schedules.tasks import dispatch
from schedules.waiting import waiting

_SHOWN = 300
_MOST_SHOWN = 6000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The end of a transcript. `earlier`: there is more before it; `last`: where the live stream goes on."""

    entries: list[transcript.Entry]
    earlier: bool
    last: int


@admin.register(Session)
class SessionAdmin(RecordAdmin[Session]):
    list_display = (
        "title",
        "schedule_name",
        "worked_on",
        "state",
        "queued",
        "lasted",
        "ran_with",
        "turned",
        "cost",
        "changed",
    )
    list_display_links = ("title",)
    list_filter = (("schedule", AutocompleteSelectFilter),)

    def get_urls(self) -> list[URLPattern]:
        watch = path("<int:pk>/events/", live.view(self.admin_site), name="schedules_session_events")
        return [watch, *super().get_urls()]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return SessionList

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (("<int:pk>/cancel/", "schedules_session_cancel", cancel),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Session]:
        rows = super().get_queryset(request)
        heavy = ("prompt", "result", "structured", "patch", "item", "denied")
        return rows.select_related("schedule").defer(*heavy, "schedule__prompt", "schedule__description")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The session's own page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        rows = Session.objects.select_related("run", "schedule", "repository", "worker", "resumed_from")
        session = get_object_or_404(rows, pk=row_id(object_id))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Session {session.pk}",
            "original": session,
            "session": session,
            "facts": live.facts(session),
            "waits": waiting([session], now=timezone.now()).get(session.pk),
            "is_agent": session.schedule.is_agent,
            "report": report_of(session),
            "attempts": _attempts(session),
            "late_at": datetime.fromisoformat(session.late_report["at"]) if session.late_report else None,
            "says_data_alone": _says_data_alone(session),
            "shown": _shown(session, everything="all" in request.GET),
            "diff": diff.parse(session.patch) if session.patch else None,
            "task_url": _task_url(session),
            "events_url": reverse("admin:schedules_session_events", args=(session.pk,)),
            "now": timezone.now(),
            "actions_detail": _buttons(request, session),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/schedules/session/page.html", context)

    # --- The list ---------------------------------------------------------------------------------

    @display(description="Session")
    def title(self, session: Session) -> str:
        return f"#{session.pk}"

    @display(description="Schedule")
    def schedule_name(self, session: Session) -> str:
        return session.schedule.name

    @display(description="Item")
    def worked_on(self, session: Session) -> str:
        return visible(session.item_key)

    @display(description="Status")
    def state(self, session: Session) -> SafeString:
        return outcome(session)

    @display(description="Queued")
    def queued(self, session: Session) -> SafeString | str:
        return instant(session.queued_at, timezone.now())

    @display(description="Took")
    def lasted(self, session: Session) -> str:
        return took(session.duration)

    @display(description="Model")
    def ran_with(self, session: Session) -> str:
        return visible(session.model or session.model_asked) or NOTHING

    @display(description="Turns")
    def turned(self, session: Session) -> str:
        return str(session.turns) if session.turns else NOTHING

    @display(description="Cost")
    def cost(self, session: Session) -> str:
        return cost(session.cost_usd, session.cost_source) if session.cost_usd or session.cost_source else NOTHING

    @display(description="Changed")
    def changed(self, session: Session) -> SafeString | str:
        if not session.files_changed:
            return NOTHING
        return format_html(
            '<span class="rota-nowrap"><span class="rota-plus">+{}</span> <span class="rota-minus">−{}</span></span>',
            session.insertions,
            session.deletions,
        )


def _says_data_alone(session: Session) -> bool:
    """Its text is the same JSON as its structured result: that is shown once."""
    if session.structured is None:
        return False
    try:
        return bool(json.loads(session.result) == session.structured)
    except (ValueError, RecursionError):
        return False


def _shown(session: Session, *, everything: bool) -> Shown:
    most = _MOST_SHOWN if everything else _SHOWN
    newest = list(SessionEvent.objects.filter(session=session.pk).order_by("-seq")[: most + 1])
    earlier, newest = len(newest) > most, newest[:most]
    return Shown(
        entries=transcript.entries(reversed(newest)),
        earlier=earlier,
        last=newest[0].seq if newest else 0,
    )


def _attempts(session: Session) -> list[Session]:
    """All of its number in its run, where there is more than one."""
    rows = Session.objects.filter(run=session.run_id, number=session.number).order_by("attempt")
    found = list(rows.only("pk", "attempt", "status"))
    return found if len(found) > 1 else []


def _task_url(session: Session) -> str:
    """The page of the Celery task that ran it, where its result is still kept."""
    pk = (
        TaskResult.objects.filter(task_id=session.task_id).values_list("pk", flat=True).first()
        if session.task_id
        else None
    )
    return reverse("admin:django_celery_results_taskresult_change", args=(pk,)) if pk else ""


def _buttons(request: HttpRequest, session: Session) -> list[dict[str, Any]]:
    if not request.user.has_perm(STEER):
        return []
    if session.is_open:
        return [
            button(
                "Cancel",
                "stop_circle",
                reverse("admin:schedules_session_cancel", args=(session.pk,)),
                ActionVariant.DANGER,
            )
        ]
    return [
        button("Retry", "replay", reverse("admin:schedules_run_retry", args=(session.run_id,)), ActionVariant.PRIMARY)
    ]


def cancel(request: HttpRequest, pk: int, model_admin: SessionAdmin) -> HttpResponse:
    require_steering(request)
    session = get_object_or_404(Session.objects.select_related("schedule").defer("patch", "result"), pk=pk)
    here = reverse("admin:schedules_session_change", args=(pk,))
    form = ConfirmForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        asked = steering.cancel_session(pk, by=request.user.get_username(), now=timezone.now())
        transaction.on_commit(dispatch)
        model_admin.message_user(request, "It is being cancelled." if asked else "It was over already.")
        return redirect(here)
    return ask(
        request,
        model_admin,
        form=form,
        title=f"Cancel session {pk} of {session.schedule}?",
        text="Its processes are stopped, and what it changed is kept as a patch.",
        submit="Cancel the session",
        dangerous=True,
        back=here,
    )
