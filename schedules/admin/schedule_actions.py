"""What one can do to a schedule from its page or from the list. Each is a form that is posted; see `asking`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from unfold.enums import ActionVariant

from schedules import backfilling, firing, steering
from schedules.admin.asking import (
    DIALOG,
    ConfirmForm,
    DuplicateForm,
    ReasonForm,
    RunNowForm,
    ask,
    back_to,
    not_now,
)
from schedules.admin.backfills import BackfillActions
from schedules.admin.ids import row_id
from schedules.admin.unfolded import action
from schedules.agents import rehearsed
from schedules.models import Repository, Run, Schedule
from schedules.rendering.display import counted, no_further, utc, when, zoned
from schedules.rendering.strip import run_url
from schedules.tasks import dispatch
from schedules.timetable import TimetableError

_PREVIEWED = 10
# Buttons that have nothing to do in a status.
_IDLE: dict[str, set[str]] = {
    Schedule.Status.ACTIVE: {"resume"},
    Schedule.Status.PAUSED: {"pause"},
    Schedule.Status.DISABLED: {"run_now", "pause", "disable", "backfill"},
}


def schedule_url(pk: int) -> str:
    return reverse("admin:schedules_schedule_change", args=(pk,))


class ScheduleActions(BackfillActions):
    """Run now, Pause, Resume, Disable, Duplicate and Backfill, for a row, a page or a selection."""

    actions = ("pause_selected", "resume_selected")
    actions_row = ("run_now", "pause", "duplicate")
    actions_detail = (
        "run_now",
        "resume",
        "pause",
        {
            "title": "More",
            "icon": "more_horiz",
            "items": ["backfill", "cancel_backfill", "duplicate", "disable"],
        },
    )

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (
            ("preview/", "schedules_schedule_preview", preview),
            ("<int:pk>/toggle/", "schedules_schedule_toggle", toggle),
        )

    def has_duplicate_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Who may add one. By this name, for Unfold looks a dotted one up in a database that may not be there yet."""
        return self.has_add_permission(request)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """What fits its status."""
        offered = super().get_actions_detail(request, object_id)
        status = Schedule.objects.filter(pk=row_id(object_id)).values_list("status", flat=True).first()
        idle = set(_IDLE.get(status or "", set()))
        if not backfilling.backfill_runs(Schedule(pk=row_id(object_id))).exists():
            idle.add("cancel_backfill")
        return [one for one in offered if one.action_name.removeprefix("schedules_schedule_") not in idle]

    @action(
        description="Run now",
        url_path="run",
        icon="play_arrow",
        permissions=["change"],
        attrs=DIALOG,
        variant=ActionVariant.PRIMARY,
    )
    def run_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = _schedule(object_id)
        title, back = f"Run {schedule} now", schedule_url(schedule.pk)
        if halted := not_now(request, self, schedule, title=title, back=back):
            return halted
        rehearsing = rehearsed(schedule.runner)
        form = RunNowForm(_posted(request), schedule=schedule, rehearsing=rehearsing is not None)
        if form.is_valid():
            runs = _triggered(request, schedule, form)
            if runs:
                return redirect(run_url(runs[0].pk) if len(runs) == 1 else _runs_url(schedule))
        text = "A run by hand, beside those of its timetable."
        if rehearsing:
            text += f" {rehearsing.why}: it is rehearsed."
        return ask(request, self, form=form, title=title, text=text, submit="Run now", back=back)

    @action(description="Pause", url_path="pause", icon="pause", permissions=["change"], attrs=DIALOG)
    def pause(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._take_off(
            request,
            _schedule(object_id),
            steering.pause,
            title="Pause {}",
            text="It is not due until somebody resumes it. What was fired and has not begun is not run.",
            submit="Pause",
            done="{} is paused.",
        )

    @action(description="Disable", url_path="disable", icon="block", permissions=["change"], attrs=DIALOG)
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._take_off(
            request,
            _schedule(object_id),
            steering.disable,
            title="Disable {}",
            text="Like pausing, and nobody can run it by hand either, until it is resumed.",
            submit="Disable",
            done="{} is disabled.",
        )

    def _take_off(
        self, request: HttpRequest, schedule: Schedule, how: Any, *, title: str, text: str, submit: str, done: str
    ) -> HttpResponse:
        form = ReasonForm(_posted(request))
        if not form.is_valid():
            return ask(
                request,
                self,
                form=form,
                title=title.format(schedule),
                text=text,
                submit=submit,
                back=schedule_url(schedule.pk),
            )
        reason = form.cleaned_data["reason"]
        changed = how([schedule], by=_who(request), reason=reason, now=timezone.now())
        transaction.on_commit(dispatch)
        self.message_user(request, done.format(schedule) if changed else f"{schedule} was so already.")
        return redirect(schedule_url(schedule.pk))

    @action(description="Resume", url_path="resume", icon="play_circle", permissions=["change"], attrs=DIALOG)
    def resume(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = _schedule(object_id)
        form = ConfirmForm(_posted(request))
        if form.is_valid():
            _resume(request, [schedule])
            return redirect(schedule_url(schedule.pk))
        return ask(
            request,
            self,
            form=form,
            title=f"Resume {schedule}",
            text=f"{when(schedule)}, from now on. Times that have passed are recorded, and not run.",
            submit="Resume",
            back=schedule_url(schedule.pk),
        )

    @action(
        description="Duplicate",
        url_path="duplicate",
        icon="content_copy",
        permissions=["duplicate"],
        attrs=DIALOG,
    )
    def duplicate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = _schedule(object_id)
        form = DuplicateForm(_posted(request), initial={"name": f"{schedule.name[:74]}-copy"})
        if form.is_valid():
            copy = _copy(schedule, name=form.cleaned_data["name"], by=_who(request), now=timezone.now())
            self.log_addition(request, copy, f"A copy of {schedule}.")
            self.message_user(request, f"{copy} is a copy of {schedule}, and paused until you resume it.")
            return redirect(schedule_url(copy.pk))
        return ask(
            request,
            self,
            form=form,
            title=f"Duplicate {schedule}",
            text="The copy is paused, so that you can change it first.",
            submit="Duplicate",
            back=schedule_url(schedule.pk),
        )

    @admin.action(description="Pause …", permissions=["change"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> HttpResponse | None:
        confirmed = "confirmed" in request.POST
        form = ReasonForm(request.POST if confirmed else None)
        if form.is_valid():
            paused = steering.pause(queryset, by=_who(request), reason=form.cleaned_data["reason"], now=timezone.now())
            transaction.on_commit(dispatch)
            self.message_user(request, f"{paused} paused.")
            return None
        across = request.POST.get("select_across") == "1"
        return ask(
            request,
            self,
            form=form,
            title="Pause all that the list shows" if across else f"Pause {counted(queryset.count(), 'schedule')}",
            text="They are not due until somebody resumes them.",
            submit="Pause",
            back=request.get_full_path(),
            hidden={
                "action": "pause_selected",
                "confirmed": "1",
                "select_across": "1" if across else "0",
                ACTION_CHECKBOX_NAME: request.POST.getlist(ACTION_CHECKBOX_NAME)[:1000],
            },
        )

    @admin.action(description="Resume", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        _resume(request, queryset)


def toggle(request: HttpRequest, pk: int, model_admin: admin.ModelAdmin[Schedule]) -> HttpResponse:
    """Active ⇄ paused, in the list."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if not model_admin.has_change_permission(request):
        raise PermissionDenied
    schedule = get_object_or_404(Schedule, pk=pk)
    if schedule.status == Schedule.Status.ACTIVE:
        steering.pause([schedule], by=_who(request), reason="Paused in the list.", now=timezone.now())
        transaction.on_commit(dispatch)
        messages.success(request, f"{schedule} is paused.")
    else:
        _resume(request, [schedule])
    return back_to(request, reverse("admin:schedules_schedule_changelist"))


def preview(request: HttpRequest, model_admin: admin.ModelAdmin[Schedule]) -> JsonResponse:
    """The next times of a cron line and a zone that somebody is typing, as JSON.

    `times`: `at` (UTC), `zoned` (in the schedule's zone, with its offset). `problem`: field and sentence, or null.
    `schedule` in the query: whose, for what it ran already counts.
    """
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    fired = Schedule.objects.filter(pk=_number(request, "schedule") or 0).values_list("fired_count", flat=True).first()
    schedule = Schedule(
        fired_count=fired or 0,
        cron=request.GET.get("cron", "").strip(),
        time_zone=request.GET.get("time_zone", "").strip(),
        at=_instant(request, "at"),
        max_runs=_number(request, "max_runs"),
        starts_at=_instant(request, "starts_at"),
        ends_at=_instant(request, "ends_at"),
    )
    if schedule.at and schedule.cron:
        problem = {"field": "at", "message": "Give a cron line or one time, not both."}
        return JsonResponse({"words": "", "times": [], "problem": problem})
    try:
        words = schedule.in_words()
        times = schedule.upcoming(timezone.now(), _PREVIEWED)
    except TimetableError as error:
        problem = {"field": error.field, "message": str(error)}
        return JsonResponse({"words": "", "times": [], "problem": problem})
    if not times and (why := no_further(schedule)):
        words = f"{words}: {why}"
    listed = [{"at": at.isoformat(), "utc": utc(at), "zoned": zoned(at, schedule.time_zone)} for at in times]
    return JsonResponse({"words": words, "times": listed, "problem": None})


def _instant(request: HttpRequest, name: str) -> datetime | None:
    day, time = request.GET.get(f"{name}_0", ""), request.GET.get(f"{name}_1", "")
    try:
        return forms.SplitDateTimeField(required=False).clean([day, time or "00:00"]) if day else None
    except forms.ValidationError:
        return None


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _schedule(object_id: str) -> Schedule:
    return get_object_or_404(Schedule.objects.select_related("command"), pk=row_id(object_id))


def _posted(request: HttpRequest) -> Any:
    return request.POST if request.method == "POST" else None


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _runs_url(schedule: Schedule) -> str:
    return f"{reverse('admin:schedules_run_changelist')}?schedule__id__exact={schedule.pk}"


def _triggered(request: HttpRequest, schedule: Schedule, form: RunNowForm) -> Sequence[Run]:
    """The runs; none where policy refuses, and the form says why."""
    chosen: Repository | None = form.cleaned_data.get("repository")
    enabled = list(schedule.repositories.filter(enabled=True))
    try:
        runs = firing.trigger(
            schedule,
            # Where none is on, all of them: it is refused with the names.
            repositories=[chosen] if chosen else enabled or None,
            by=_who(request),
            variables=form.cleaned_data.get("variables"),
            rehearse=form.cleaned_data.get("rehearse", False),
            now=timezone.now(),
        )
    except firing.Refused as refusal:
        form.add_error(None, str(refusal))
        return []
    transaction.on_commit(dispatch)
    return runs


def _resume(request: HttpRequest, schedules: QuerySet[Schedule] | list[Schedule]) -> None:
    """Each by itself: one that can't be read does not keep the others."""
    resumed = 0
    for schedule in schedules:
        try:
            resumed += steering.resume([schedule], by=_who(request), now=timezone.now())
        except TimetableError as error:
            messages.error(request, f"{schedule} can't be resumed: {error}")
    transaction.on_commit(dispatch)
    if resumed:
        messages.success(request, f"{resumed} resumed.")


def _copy(schedule: Schedule, *, name: str, by: str, now: datetime) -> Schedule:
    """A paused schedule like this one, without its history."""
    copy = Schedule.objects.get(pk=schedule.pk)
    copy.pk, copy._state.adding, copy.name = None, True, name
    copy.status, copy.status_reason = Schedule.Status.PAUSED, f"A copy of {schedule}, not started yet."
    copy.status_by, copy.status_at = by, now
    copy.plan(now)
    copy.last_run_at = copy.last_success_at = copy.overdue_at = None
    copy.last_status, copy.run_count, copy.fired_count = "", 0, 0
    with transaction.atomic():
        copy.save(force_insert=True)
        copy.repositories.set(schedule.repositories.all())
        copy.pools.set(schedule.pools.all())
    return copy
