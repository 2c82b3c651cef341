"""What keeps everything from starting: freeze windows, and the stop that a person sets and lifts."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from schedules import stopping
from schedules.admin.asking import DIALOG, ConfirmForm, ask
from schedules.admin.ids import row_id
from schedules.admin.read_only import ReadOnlyAdmin
from schedules.admin.unfolded import ModelAdmin, action
from schedules.halts import stop_told
from schedules.models import Freeze, Session, Stop
from schedules.rendering.display import instant, pill
from schedules.tasks import dispatch

STOP = "schedules.add_stop"
"""The permission to stop everything."""
LIFT = "schedules.change_stop"
"""The permission to let it start again."""


class StopForm(forms.Form):
    reason = forms.CharField(
        max_length=300,
        widget=UnfoldAdminTextInputWidget({"autofocus": True}),
        help_text="Everybody who wonders why nothing runs will read this, on every page.",
    )
    cancel_running = forms.BooleanField(label="Cancel what runs, too", required=False, widget=UnfoldBooleanWidget)


class LiftForm(forms.Form):
    reason = forms.CharField(
        label="What has changed",
        required=False,
        max_length=300,
        widget=UnfoldAdminTextInputWidget({"autofocus": True}),
    )


@admin.register(Stop)
class StopAdmin(ReadOnlyAdmin[Stop]):
    """Who stopped everything, when and why: the newest first. Read only, but for Stop everything and Lift."""

    actions_list = ("stop_everything", "lift")
    list_display = ("reason", "state", "since", "set_by", "until", "lifted_by", "lift_reason")
    list_display_links = None
    list_fullwidth = True
    list_per_page = 50
    ordering = ("-id",)

    def get_actions_list(self, request: HttpRequest) -> list[Any]:
        """The one of the two that there is something to do for."""
        wanted = "lift" if Stop.objects.in_force().exists() else "stop_everything"
        return [one for one in super().get_actions_list(request) if one.action_name.endswith(wanted)]

    def has_stop_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(STOP)

    def has_lift_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm(LIFT)

    @action(
        description="Stop everything",
        url_path="stop",
        icon="pan_tool",
        permissions=["stop"],
        attrs=DIALOG,
        variant=ActionVariant.DANGER,
    )
    def stop_everything(self, request: HttpRequest) -> HttpResponse:
        form = StopForm(request.POST if request.method == "POST" else None)
        if form.is_valid() and self._stopped(request, form):
            return redirect(_list())
        running = Session.objects.filter(status=Session.Status.RUNNING).count()
        goes_on = f"What runs goes on ({running} now), unless you cancel it." if running else "Nothing runs just now."
        return ask(
            request,
            self,
            form=form,
            title="Stop everything",
            text="Nothing is fired, run by hand or started until somebody lifts the stop: due times are skipped, and "
            f"what is queued waits. {goes_on}",
            submit="Stop everything",
            dangerous=True,
            back=_list(),
        )

    def _stopped(self, request: HttpRequest, form: StopForm) -> bool:
        try:
            cancelled = stopping.stop(
                by=request.user.get_username(),
                reason=form.cleaned_data["reason"],
                cancel_running=form.cleaned_data["cancel_running"],
                now=timezone.now(),
            )
        except stopping.StoppedAlready as already:
            form.add_error(None, str(already))
            return False
        asked = f" {cancelled} sessions were asked to end." if cancelled else ""
        self.message_user(request, f"Everything is stopped.{asked}", messages.WARNING)
        return True

    @action(description="Lift the stop", url_path="lift", icon="play_circle", permissions=["lift"], attrs=DIALOG)
    def lift(self, request: HttpRequest) -> HttpResponse:
        form = LiftForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            by, reason = request.user.get_username(), form.cleaned_data["reason"]
            lifted = stopping.lift(by=by, reason=reason, now=timezone.now())
            transaction.on_commit(dispatch)
            self.message_user(request, "Lifted: what waited starts now." if lifted else "Nothing was stopped.")
            return redirect(_list())
        in_force = Stop.objects.in_force().first()
        return ask(
            request,
            self,
            form=form,
            title="Lift the stop",
            text=f"{stop_told(in_force)}." if in_force else "Nothing is stopped.",
            submit="Lift the stop",
            back=_list(),
        )

    @display(description="State")
    def state(self, stop: Stop) -> SafeString:
        return pill("lifted") if stop.lifted_at else pill("failed", label="in force")

    @display(description="Since")
    def since(self, stop: Stop) -> SafeString | str:
        return instant(stop.set_at, timezone.now())

    @display(description="Lifted")
    def until(self, stop: Stop) -> SafeString | str:
        return instant(stop.lifted_at, timezone.now())


def _list() -> str:
    return reverse("admin:schedules_stop_changelist")


@admin.register(Freeze)
class FreezeAdmin(ModelAdmin[Freeze]):
    fields = ("reason", "starts_at", "ends_at", "schedules")
    autocomplete_fields = ("schedules",)
    actions = None
    actions_row = ("end_now",)
    list_display = ("title", "state", "begins", "ends", "whom", "created_by")
    list_display_links = ("title",)
    list_fullwidth = True
    list_per_page = 50
    search_fields = ("reason",)
    ordering = ("-starts_at",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("schedules")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        told = f"In {settings.TIME_ZONE}."
        return super().get_form(request, obj, change, help_texts={"starts_at": told, "ends_at": told}, **kwargs)

    def save_model(self, request: HttpRequest, obj: Freeze, form: Any, change: bool) -> None:
        stopping.hold_starts()
        if not change:
            obj.created_by = request.user.get_username()
        super().save_model(request, obj, form, change)
        transaction.on_commit(dispatch)  # it may end sooner than it did

    def delete_model(self, request: HttpRequest, obj: Freeze) -> None:
        super().delete_model(request, obj)
        transaction.on_commit(dispatch)

    @action(description="End now", url_path="end", icon="play_circle", permissions=["change"], attrs=DIALOG)
    def end_now(self, request: HttpRequest, object_id: str) -> HttpResponse:
        window = Freeze.objects.filter(pk=row_id(object_id)).first()
        if window is None or not self.has_change_permission(request):
            raise PermissionDenied
        back = reverse("admin:schedules_freeze_changelist")
        form = ConfirmForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            ended = stopping.thaw(window.pk, now=timezone.now())
            transaction.on_commit(dispatch)
            self.message_user(request, "Ended: what waited starts now." if ended else "It was over already.")
            return redirect(back)
        text = "What waited for its end starts at once. One that has not begun is deleted."
        return ask(request, self, form=form, title=f"End “{window}” now", text=text, submit="End it", back=back)

    @display(description="Why")
    def title(self, freeze: Freeze) -> SafeString:
        return format_html('<span class="rota-title">{}</span>', freeze.reason)

    @display(description="State")
    def state(self, freeze: Freeze) -> SafeString:
        now = timezone.now()
        if freeze.ends_at <= now:
            return pill("over")
        return pill("frozen") if freeze.starts_at <= now else pill("queued", label="to come")

    @display(description="From")
    def begins(self, freeze: Freeze) -> SafeString | str:
        return instant(freeze.starts_at, timezone.now())

    @display(description="Until")
    def ends(self, freeze: Freeze) -> SafeString | str:
        return instant(freeze.ends_at, timezone.now())

    @display(description="Schedules")
    def whom(self, freeze: Freeze) -> str:
        names = [schedule.name for schedule in freeze.schedules.all()]
        if len(names) > 3:
            names = [*names[:3], f"{len(names) - 3} more"]
        return ", ".join(names) or "all"


def halted(request: HttpRequest) -> dict[str, Any] | None:
    """For the banner that no page leaves out: the stop in force, or the freeze of all, with who may end it."""
    if not request.user.is_authenticated:
        return None
    if stop := Stop.objects.in_force().first():
        return {"stop": stop, "may_lift": request.user.has_perm(LIFT)}
    frozen = Freeze.objects.in_force(timezone.now()).filter(schedules=None).order_by("-ends_at").first()
    return {"freeze": frozen} if frozen else None
