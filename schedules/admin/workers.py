"""Workers: who is alive. Read only."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from schedules.admin.read_only import ReadOnlyAdmin
from schedules.models import Session, WorkerHeartbeat
from schedules.rendering.display import NOTHING, instant, pill
from schedules.rendering.visible import visible


def life(worker: WorkerHeartbeat, now: datetime) -> str:
    """`alive`, `silent` or `stopped`."""
    if worker.stopped_at:
        return "stopped"
    return "alive" if now - worker.last_seen_at < settings.ROTA_LEASE else "silent"


@admin.register(WorkerHeartbeat)
class WorkerAdmin(ReadOnlyAdmin[WorkerHeartbeat]):
    list_display = ("name", "state", "kind", "at_once", "busy", "seen", "since", "process", "version", "agents")
    list_filter = ("kind",)
    ordering = ("-last_seen_at",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerHeartbeat]:
        running = Count("sessions", filter=Q(sessions__status=Session.Status.RUNNING))
        return super().get_queryset(request).annotate(running=running)

    @display(description="Status")
    def state(self, worker: WorkerHeartbeat) -> SafeString:
        """And why it takes no session."""
        held = visible(worker.holds_back)
        return format_html('{}<span class="rota-below">{}</span>', pill(life(worker, timezone.now())), held)

    @display(description="Concurrency")
    def at_once(self, worker: WorkerHeartbeat) -> int | str:
        """How many sessions it takes at once; beat and a control worker take none."""
        return worker.concurrency or NOTHING

    @display(description="Sessions")
    def busy(self, worker: WorkerHeartbeat) -> int | str:
        return int(getattr(worker, "running", 0)) if worker.concurrency else NOTHING

    @display(description="Last heard of")
    def seen(self, worker: WorkerHeartbeat) -> SafeString | str:
        return instant(worker.last_seen_at, timezone.now())

    @display(description="Since")
    def since(self, worker: WorkerHeartbeat) -> SafeString | str:
        return instant(worker.started_at, timezone.now())

    @display(description="Agent programs")
    def agents(self, worker: WorkerHeartbeat) -> SafeString | str:
        """Each with its version; with the path, and what is to be known of it, when it is pointed at."""
        lines = [
            (facts.get("remark") or facts.get("missing") or facts["path"], name, facts.get("version", "missing"))
            for name, facts in sorted(worker.programs.items())
        ]
        return format_html_join("", '<span class="rota-below rota-nowrap" title="{}">{} {}</span>', lines) or NOTHING

    @display(description="Process")
    def process(self, worker: WorkerHeartbeat) -> str:
        return f"{worker.pid} on {worker.hostname}"
