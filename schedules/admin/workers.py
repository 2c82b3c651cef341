"""Workers: who is alive. Read only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display

from schedules.admin.unfolded import ModelAdmin
from schedules.models import Session, WorkerHeartbeat
from schedules.rendering.display import instant, pill


def life(worker: WorkerHeartbeat, now: datetime) -> str:
    """`alive`, `silent` or `stopped`."""
    if worker.stopped_at:
        return "stopped"
    return "alive" if now - worker.last_seen_at < settings.ROTA_WORKER_SILENT_AFTER else "silent"


@admin.register(WorkerHeartbeat)
class WorkerAdmin(ModelAdmin[WorkerHeartbeat]):
    actions = None
    list_display = ("name", "state", "kind", "concurrency", "busy", "seen", "since", "process", "version")
    list_filter = ("kind",)
    ordering = ("-last_seen_at",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkerHeartbeat]:
        running = Count("sessions", filter=Q(sessions__status=Session.Status.RUNNING))
        return super().get_queryset(request).annotate(running=running)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @display(description="Status")
    def state(self, worker: WorkerHeartbeat) -> SafeString:
        return pill(life(worker, timezone.now()))

    @display(description="Sessions")
    def busy(self, worker: WorkerHeartbeat) -> int:
        return int(getattr(worker, "running", 0))

    @display(description="Last heard of")
    def seen(self, worker: WorkerHeartbeat) -> SafeString | str:
        return instant(worker.last_seen_at, timezone.now())

    @display(description="Since")
    def since(self, worker: WorkerHeartbeat) -> SafeString | str:
        return instant(worker.started_at, timezone.now())

    @display(description="Process")
    def process(self, worker: WorkerHeartbeat) -> str:
        return f"{worker.pid} on {worker.hostname}"
