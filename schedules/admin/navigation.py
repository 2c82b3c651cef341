"""The sidebar, and what every page of the console knows. Named in the setting UNFOLD."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "",
        (
            ("Schedules", "event_repeat", "schedules.schedule"),
            ("Runs", "play_circle", "schedules.run"),
            ("Sessions", "terminal", "schedules.session"),
            ("Repositories", "source", "schedules.repository"),
            ("Commands", "chat", "schedules.command"),
            ("Secrets", "key", "schedules.secret"),
            ("Workers", "memory", "schedules.workerheartbeat"),
        ),
    ),
    (
        "Machinery",
        (
            ("Periodic tasks", "update", "django_celery_beat.periodictask"),
            ("Intervals", "timer", "django_celery_beat.intervalschedule"),
            ("Crontabs", "calendar_month", "django_celery_beat.crontabschedule"),
            ("Task results", "fact_check", "django_celery_results.taskresult"),
            ("Users", "person", "auth.user"),
            ("Groups", "group", "auth.group"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """UNFOLD["SIDEBAR"]["navigation"]: what the user may see, and nothing else."""
    dashboard = {"title": "Dashboard", "icon": "space_dashboard", "link": reverse("admin:index")}
    groups = []
    for title, entries in _GROUPS:
        items = [_item(*entry) for entry in entries if _may_see(request, entry[2])]
        if not title:
            items.insert(0, dashboard)
        if items:
            groups.append({"title": title, "separator": bool(title), "collapsible": bool(title), "items": items})
    return groups


def _item(title: str, icon: str, model: str) -> dict[str, Any]:
    link = reverse(f"admin:{model.replace('.', '_')}_changelist")
    return {"title": title, "icon": icon, "link": link}


def _may_see(request: HttpRequest, model: str) -> bool:
    app, name = model.split(".")
    return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))


def everywhere(request: HttpRequest) -> dict[str, Any]:
    """UNFOLD["GLOBAL_CALLBACK"]: for the banner that no page leaves out."""
    return {"rota_rehearses": settings.ROTA_REHEARSE and request.user.is_authenticated}
