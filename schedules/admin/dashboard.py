"""The first page: what is next, what runs, what went wrong, and whether everything is there. Bounded queries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from schedules import health
from schedules.admin.halts import STOP
from schedules.admin.incidents import state_of
from schedules.admin.workers import life
from schedules.models import Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.watch import open_incidents

_NEXT = 8
_RUNNING = 8
_FAILED = 8
_INCIDENTS = 8
_COUNTED = 1000
_WORKERS = 20
_FAILURES = (Run.Status.FAILED, Run.Status.PARTIAL, Run.Status.MISSED)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """UNFOLD["DASHBOARD_CALLBACK"]."""
    now = timezone.now()
    may = {name: request.user.has_perm(f"schedules.view_{name}") for name in ("schedule", "run", "session")}
    context |= {"now": now, "readyz_url": reverse(health.readyz), "is_empty": False}
    context["may_stop"] = request.user.has_perm(STOP)
    if request.user.has_perm("schedules.view_incident"):
        context["incidents"] = [(incident, state_of(incident)) for incident in open_incidents(limit=_INCIDENTS)]
    if may["schedule"]:
        context |= {"next_due": list(_next_due()), "is_empty": not Schedule.objects.exists()}
        context["has_repository"] = Repository.objects.exists()
    if may["session"]:
        waiting = Session.objects.filter(status=Session.Status.QUEUED)[:_COUNTED].count()
        context |= {"running": list(_running()), "waiting": waiting, "waiting_more": waiting == _COUNTED}
    if may["run"]:
        context["failures"] = _failures()
    if may["session"]:
        context |= _processes(now)
    return context


def _next_due() -> QuerySet[Schedule]:
    due = Schedule.objects.filter(status=Schedule.Status.ACTIVE, due_at__isnull=False).order_by("due_at")
    return due.only("name", "next_run_at", "due_at", "time_zone", "cron", "at", "max_runs", "runner")[:_NEXT]


def _running() -> QuerySet[Session]:
    rows = Session.objects.filter(status=Session.Status.RUNNING).select_related("schedule").order_by("-pk")
    return rows.only(
        *("schedule__name", "status", "started_at", "activity", "item_key", "turns", "cost_usd", "is_rehearsal")
    )[:_RUNNING]


def _failures() -> list[Run]:
    """The newest of each status, by the index that the list's filter has; then the newest of all."""
    found: list[Run] = []
    for status in _FAILURES:
        rows = Run.objects.filter(status=status).select_related("schedule", "repository").order_by("-pk")
        found += rows.only(
            *("schedule__name", "repository__slug", "status", "reason", "message", "finished_at", "is_rehearsal")
        )[:_FAILED]
    return sorted(found, key=lambda run: -run.pk)[:_FAILED]


def _processes(now: datetime) -> dict[str, Any]:
    rows = WorkerHeartbeat.objects.filter(stopped_at=None).order_by("kind", "name")
    recent = rows.filter(last_seen_at__gt=now - 20 * settings.ROTA_LEASE)[:_WORKERS]
    processes = [(process, life(process, now)) for process in recent]
    alive = {process.kind for process, state in processes if state == "alive"}
    kinds = WorkerHeartbeat.Kind
    return {
        "processes": processes,
        "absent": [kind.label for kind in (kinds.BEAT, kinds.CONTROL, kinds.SESSIONS) if kind not in alive],
    }
