"""The sidebar, and what every page of the console knows. Named in the setting UNFOLD."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from schedules.admin.halts import halted
from schedules.admin.incidents import open_count
from schedules.agents import agents, rehearsed_agents
from schedules.models import Schedule

_GROUPS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "",
        (
            ("Schedules", "event_repeat", "schedules.schedule"),
            ("Runs", "play_circle", "schedules.run"),
            ("Sessions", "terminal", "schedules.session"),
            ("Incidents", "notification_important", "schedules.incident"),
            ("Repositories", "source", "schedules.repository"),
            ("Commands", "chat", "schedules.command"),
            ("Secrets", "key", "schedules.secret"),
            ("Workers", "memory", "schedules.workerheartbeat"),
        ),
    ),
    (
        "Limits",
        (
            ("Pools", "pool", "schedules.pool"),
            ("Budgets", "savings", "schedules.budget"),
            ("Spending", "payments", "schedules.spending"),
            ("Holds", "front_hand", "schedules.hold"),
            ("Freeze windows", "ac_unit", "schedules.freeze"),
            ("Stops", "pan_tool", "schedules.stop"),
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
        items = [_item(request, *entry) for entry in entries if _may_see(request, entry[2])]
        if not title:
            items.insert(0, dashboard)
        if items:
            groups.append({"title": title, "separator": bool(title), "collapsible": bool(title), "items": items})
    return groups


def _item(request: HttpRequest, title: str, icon: str, model: str) -> dict[str, Any]:
    link = reverse(f"admin:{model.replace('.', '_')}_changelist")
    item: dict[str, Any] = {"title": title, "icon": icon, "link": link}
    if model == "schedules.incident" and (count := open_count(request)):
        item |= {"badge": count, "badge_variant": "danger", "badge_style": "solid"}
    return item


def _may_see(request: HttpRequest, model: str) -> bool:
    app, name = model.split(".")
    return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))


def everywhere(request: HttpRequest) -> dict[str, Any]:
    """UNFOLD["GLOBAL_CALLBACK"]: for the banner that no page leaves out."""
    return {
        "rota_halted": halted(request),
        "rota_rehearses": _rehearses() if request.user.is_authenticated else None,
    }


def _rehearses() -> dict[str, Any] | None:
    """Whose sessions are rehearsed: all agents, or those without a key that schedules use."""
    found = rehearsed_agents()
    if not found:
        return None
    who = ""
    if len(found) < len(list(agents())):
        used = Schedule.objects.filter(runner__in=found).order_by("runner").values_list("runner", flat=True).distinct()
        found = {name: found[name] for name in used}
        if not found:
            return None
        who = " and ".join(found)
    reasons = list(found.values())
    return {"who": who, "why": reasons[0].why, "mends": sorted({reason.mend for reason in reasons})}
