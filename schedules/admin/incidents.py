"""Incidents: what a person should look at, the open ones first. Read only, but for Acknowledge."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.enums import ActionVariant

from schedules.admin.asking import ConfirmForm, ask, back_to
from schedules.admin.ids import row_id
from schedules.admin.read_only import ReadOnlyAdmin
from schedules.admin.runs import button
from schedules.models import Incident
from schedules.rendering.display import NOTHING, instant, pill, took
from schedules.rendering.visible import shorten, visible

ACKNOWLEDGE = "schedules.change_incident"
"""The permission to acknowledge."""
LIST = "admin:schedules_incident_changelist"


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> tuple[tuple[str, str], ...]:
        return (("open", "open"), ("recovered", "recovered"))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Incident]) -> QuerySet[Incident]:
        match self.value():
            case "open":
                return queryset.filter(recovered_at=None)
            case "recovered":
                return queryset.filter(recovered_at__isnull=False)
        return queryset


@admin.register(Incident)
class IncidentAdmin(ReadOnlyAdmin[Incident]):
    list_display = ("title", "state", "told", "counted", "since", "last")
    list_display_links = ("title",)
    list_filter = (StateFilter, "kind")
    list_per_page = 50
    list_fullwidth = True
    list_select_related = ("schedule",)
    show_full_result_count = False
    ordering = (F("recovered_at").desc(nulls_first=True), F("acknowledged_at").asc(nulls_first=True), "-last_at")

    def get_custom_urls(self) -> tuple[tuple[str, str, Any], ...]:
        return (("<int:pk>/acknowledge/", "schedules_incident_acknowledge", acknowledge),)

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        last = "to_acknowledge" if request.user.has_perm(ACKNOWLEDGE) else "acknowledged"
        return (*self.list_display, last)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """The incident's own page."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        incident = get_object_or_404(Incident.objects.select_related("schedule"), pk=row_id(object_id))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": incident.get_kind_display().capitalize(),
            "original": incident,
            "incident": incident,
            "state": state_of(incident),
            "now": timezone.now(),
            "actions_detail": _buttons(request, incident),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/schedules/incident/page.html", context)

    @display(description="Incident")
    def title(self, incident: Incident) -> SafeString:
        kind = incident.get_kind_display()
        return format_html(
            '{}<span class="rota-below">{}</span>', kind[:1].upper() + kind[1:], visible(incident.subject)
        )

    @display(description="State")
    def state(self, incident: Incident) -> SafeString:
        return pill(state_of(incident))

    @display(description="What")
    def told(self, incident: Incident) -> SafeString:
        message = visible(incident.message)
        return format_html('<span title="{}">{}</span>', message, shorten(message, 160))

    @display(description="Count")
    def counted(self, incident: Incident) -> int:
        return incident.count

    @display(description="Since")
    def since(self, incident: Incident) -> SafeString | str:
        return instant(incident.first_at, timezone.now())

    @display(description="Last")
    def last(self, incident: Incident) -> SafeString | str:
        if incident.recovered_at:
            return format_html('over <span class="rota-quiet">after {}</span>', took(incident.duration))
        return instant(incident.last_at, timezone.now())

    @display(description="Acknowledged")
    def acknowledged(self, incident: Incident) -> str:
        return visible(incident.acknowledged_by) or "yes" if incident.acknowledged_at else NOTHING

    @display(description="Acknowledged")
    def to_acknowledge(self, incident: Incident) -> SafeString | str:
        if state_of(incident) != "open":
            return self.acknowledged(incident)
        url = reverse("admin:schedules_incident_acknowledge", args=(incident.pk,))
        return format_html('<a class="rota-link" href="{}" data-rota-ask>Acknowledge</a>', url)


def state_of(incident: Incident) -> str:
    """`recovered`, `acknowledged` or `open`."""
    if incident.recovered_at:
        return "recovered"
    return "acknowledged" if incident.acknowledged_at else "open"


def open_count(request: HttpRequest) -> int:
    """How many nobody has acknowledged, for the sidebar."""
    if not request.user.has_perm("schedules.view_incident"):
        return 0
    return Incident.objects.open().filter(acknowledged_at=None).count()


def _buttons(request: HttpRequest, incident: Incident) -> list[dict[str, Any]]:
    if state_of(incident) != "open" or not request.user.has_perm(ACKNOWLEDGE):
        return []
    path = reverse("admin:schedules_incident_acknowledge", args=(incident.pk,))
    return [button("Acknowledge", "done", path, ActionVariant.PRIMARY)]


def acknowledge(request: HttpRequest, pk: int, model_admin: IncidentAdmin) -> HttpResponse:
    if not request.user.has_perm(ACKNOWLEDGE):
        raise PermissionDenied
    incident = get_object_or_404(Incident, pk=pk)
    form = ConfirmForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        by = request.user.get_username()
        if Incident.objects.acknowledge(pk, by=by, now=timezone.now()):
            model_admin.message_user(request, "Acknowledged.")
        else:
            model_admin.message_user(request, "Somebody was faster.")
        return back_to(request, reverse(LIST))
    return ask(
        request,
        model_admin,
        form=form,
        title=f"Acknowledge “{incident}”?",
        text="It says that you see to it. It stays open until its cause is gone.",
        submit="Acknowledge",
        back=reverse(LIST),
    )
