"""Backfill a schedule from its page: a range, the list of what it comes to, then the runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from schedules import backfilling
from schedules.admin.asking import DIALOG, ConfirmForm, ask, not_now
from schedules.admin.ids import row_id
from schedules.admin.unfolded import ModelAdmin, action
from schedules.firing import Refused
from schedules.models import Repository, Run, Schedule
from schedules.rendering.display import counted, zoned
from schedules.tasks import dispatch
from schedules.timetable import TimetableError


class RangeForm(forms.Form):
    """From … to …, as the clock on the wall of the schedule's zone shows it."""

    since = forms.CharField(label="From", widget=UnfoldAdminTextInputWidget({"autofocus": True}))
    until = forms.CharField(label="To", widget=UnfoldAdminTextInputWidget)
    repository = forms.ModelChoiceField(Repository.objects.none(), required=False, widget=UnfoldAdminSelectWidget)

    def __init__(self, *args: Any, schedule: Schedule, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.zone = ZoneInfo(schedule.time_zone)
        for name in ("since", "until"):
            self.fields[name].help_text = f"Such as <code>2027-01-31 09:00</code>, in {schedule.time_zone}."
        places = schedule.repositories.filter(enabled=True)
        if places.count() < 2:
            del self.fields["repository"]
        elif isinstance(field := self.fields["repository"], forms.ModelChoiceField):
            field.queryset, field.empty_label = places, "All of them"

    def clean_since(self) -> datetime:
        return self._instant("since")

    def clean_until(self) -> datetime:
        return self._instant("until")

    def _instant(self, name: str) -> datetime:
        try:
            found = datetime.fromisoformat(self.cleaned_data[name].strip())
        except ValueError:
            raise forms.ValidationError("Write a day, or a day and a time, such as 2027-01-31 09:00.") from None
        return found if found.tzinfo else found.replace(tzinfo=self.zone)

    @property
    def span(self) -> dict[str, Any]:
        """What `backfilling` asks for."""
        place = self.cleaned_data.get("repository")
        return {
            "since": self.cleaned_data["since"],
            "until": self.cleaned_data["until"],
            "repositories": [place] if place else None,
        }


class BackfillActions(ModelAdmin[Schedule]):
    """Backfill and Cancel backfill, for the page of a schedule."""

    @action(description="Backfill", url_path="backfill", icon="history", permissions=["change"], attrs=DIALOG)
    def backfill(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = get_object_or_404(Schedule, pk=row_id(object_id))
        back = reverse("admin:schedules_schedule_change", args=(schedule.pk,))
        if halted := not_now(request, self, schedule, title=f"Backfill {schedule}", back=back):
            return halted
        try:
            form = RangeForm(request.POST if request.method == "POST" else None, schedule=schedule)
        except (KeyError, ValueError):
            self.message_user(request, f"There is no time zone {schedule.time_zone}: mend the schedule first.")
            return redirect(back)
        if form.is_valid():
            answer = self._filled(request, schedule, form)
            if answer:
                return answer
        return ask(
            request,
            self,
            form=form,
            title=f"Backfill {schedule}",
            text="Runs for due times that have passed and did not succeed, as the schedule is now: one after another, "
            "behind its other runs. You see the list first.",
            submit="Show the list",
            back=back,
        )

    def _filled(self, request: HttpRequest, schedule: Schedule, form: RangeForm) -> HttpResponse | None:
        """The list to confirm, or the runs that were made of it; None where it is refused, and the form says why."""
        now = timezone.now()
        try:
            if "confirmed" not in request.POST:
                plan = backfilling.preview(schedule, **form.span, now=now)
                return self._listed(request, schedule, form, plan)
            runs, left = backfilling.backfill(schedule, **form.span, by=request.user.get_username(), now=now)
        except (Refused, TimetableError) as refused:
            form.add_error(None, str(refused))
            return None
        transaction.on_commit(dispatch)
        more = f" {left} are left: backfill the same range again when these are done." if left else ""
        self.message_user(request, f"{counted(len(runs), 'run')} queued.{more}")
        return redirect(
            f"{reverse('admin:schedules_run_changelist')}?schedule__id__exact={schedule.pk}"
            f"&trigger__exact={Run.Trigger.BACKFILL}"
        )

    def _listed(
        self, request: HttpRequest, schedule: Schedule, form: RangeForm, plan: backfilling.Backfill
    ) -> HttpResponse:
        done = f" {plan.done} succeeded or are open already." if plan.done else ""
        if not plan.runs:
            form.add_error(None, f"There is nothing to fill in between these.{done}")
            return ask(
                request,
                self,
                form=form,
                title=f"Backfill {schedule}",
                submit="Show the list",
                back=reverse("admin:schedules_schedule_change", args=(schedule.pk,)),
            )
        left = f" {plan.left} more are left for the next time." if plan.left else ""
        return ask(
            request,
            self,
            form=ConfirmForm(),
            title=f"Backfill {schedule}: {counted(len(plan.runs), 'run')}",
            text=f"These are queued, one after another.{left}{done}",
            listed=[f"{zoned(time, schedule.time_zone)}{f' · {place}' if place else ''}" for time, place in plan.runs],
            submit=f"Queue {counted(len(plan.runs), 'run')}",
            back=reverse("admin:schedules_schedule_change", args=(schedule.pk,)),
            hidden={
                **{name: request.POST.get(name, "") for name in ("since", "until", "repository")},
                "confirmed": "1",
            },
        )

    @action(
        description="Cancel backfill", url_path="cancel-backfill", icon="cancel", permissions=["change"], attrs=DIALOG
    )
    def cancel_backfill(self, request: HttpRequest, object_id: str) -> HttpResponse:
        schedule = get_object_or_404(Schedule, pk=row_id(object_id))
        back = reverse("admin:schedules_schedule_change", args=(schedule.pk,))
        form = ConfirmForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            by = request.user.get_username()
            cancelled = backfilling.cancel_backfill(schedule, by=by, now=timezone.now())
            transaction.on_commit(dispatch)
            self.message_user(request, f"{counted(cancelled, 'run')} cancelled.")
            return redirect(back)
        count = backfilling.backfill_runs(schedule).count()
        return ask(
            request,
            self,
            form=form,
            title=f"Cancel the backfill of {schedule}",
            text=f"{count} of its runs are open: what waits ends at once, what runs a little later.",
            submit=f"Cancel {counted(count, 'run')}",
            dangerous=True,
            back=back,
        )
