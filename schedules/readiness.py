"""What a rehearsal of a schedule showed: its report, out of its row and its events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings

from runners import Event, Rehearsed, Report, Runner, missing_programs, report_on, unreachable_model
from schedules.agents import keys_of
from schedules.models import Schedule, Session, SessionEvent, unknown_secrets
from schedules.rendering import durations

_KINDS = ("note", "init", "tool_use", "tool_result", "error", "result")
_MOST_EVENTS = 1000


def report_of(session: Session) -> Report | None:
    """The report on a rehearsal that is over; None for any other session. Its run is loaded."""
    if not session.is_rehearsal or session.is_open:
        return None
    snapshot = session.run.snapshot
    started = session.started_at
    return report_on(
        Rehearsed(
            options=snapshot.get("options", {}),
            events=_events(session),
            outcome=session.status,
            reason=session.reason,
            message=session.message,
            prompt=session.prompt,
            model=session.model,
            limits=_limits(snapshot),
            started_at_ms=int(started.timestamp() * 1000) if started else None,
        )
    )


def facts_for_report(session: Session, runner: Runner, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What the worker that prepared a session knows and others may not: it goes into the data of an event.

    `seconds`: what the parts of the preparation took. See `runners.rehearsal_report`.
    """
    facts: dict[str, Any] = {"prepared": {part: round(took, 2) for part, took in seconds.items()}}
    if not session.is_rehearsal:
        return facts
    snapshot = session.run.snapshot
    keys = keys_of(runner)
    named = {*snapshot["environment"], *snapshot["secrets"]}
    if not any(settings.ROTA_CREDENTIALS.get(name) or name in named for name in keys):
        facts["credentials"] = keys
    if unset := unknown_secrets(snapshot["secrets"]):
        facts["secrets"] = unset
    rules = snapshot["options"].get("allowed_tools") or ()
    if missing := missing_programs(rules, path=settings.ROTA_SESSION_PATH):
        facts["programs"] = missing
    if unreachable := _unreachable(snapshot, runner):
        facts["unreachable"] = unreachable
    return facts


def _unreachable(snapshot: Mapping[str, Any], runner: Runner) -> str:
    """What to do so that a real session reaches its model from its sandbox. Empty: it does, as far as is known."""
    if snapshot.get("sandbox", Schedule.Sandbox.NONE) == Schedule.Sandbox.NONE:
        return ""
    credentials = [name for name in runner.credentials if name not in snapshot["secrets"]]
    known = {name: text for name, text in settings.ROTA_CREDENTIALS.items() if text}
    reach = {"network": snapshot["network"], "allowed_hosts": snapshot["allowed_hosts"]}
    return unreachable_model(credentials, {**snapshot["environment"], **known}, **reach)[1]


def _events(session: Session) -> list[Event]:
    rows = SessionEvent.objects.filter(session=session.pk, kind__in=_KINDS).order_by("seq")[:_MOST_EVENTS]
    return [
        Event(
            kind=row.kind,  # type: ignore[arg-type]
            at_ms=int(row.at.timestamp() * 1000),
            text=row.text,
            data=row.data if isinstance(row.data, dict) else {},
        )
        for row in rows
    ]


def _lasting(seconds: float) -> str:
    return durations.write(timedelta(seconds=seconds))


def _limits(snapshot: Mapping[str, Any]) -> dict[str, str]:
    """Name → value, for people."""
    options = snapshot.get("options", {})
    silence, turns, money = snapshot.get("silence"), options.get("max_turns"), options.get("max_budget_usd")
    return {
        "time": _lasting(snapshot["timeout"]) if "timeout" in snapshot else "none",
        "silence": _lasting(silence) if silence else "none",
        "turns": str(turns) if turns else "none",
        "money": f"${money}" if money else "none",
        "memory": f"{settings.ROTA_SESSION_MEMORY_MB} MB" if settings.ROTA_SESSION_MEMORY_MB else "none",
        "processes": str(settings.ROTA_SESSION_PROCESSES or "none"),
    }
