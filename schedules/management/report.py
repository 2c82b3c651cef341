"""What became of runs: the exit code, the object for programs, the sentences for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from schedules.management.exits import Exit
from schedules.management.rehearsing import report_object
from schedules.management.streams import one_line
from schedules.models import CostSource, Reason, Run, Session
from schedules.readiness import report_of
from schedules.waiting import Waiting

# Of several runs the worst decides.
_WORST_FIRST = (Exit.FAILED, Exit.TIMED_OUT, Exit.REFUSED, Exit.SUCCEEDED)


def exit_code(runs: Collection[Run], sessions: Collection[Session]) -> Exit:
    """The exit code of finished runs; runs that were deleted meanwhile can't be called a success."""
    codes = {_run_exit_code(run, [s for s in sessions if s.run_id == run.pk]) for run in runs}
    return next((code for code in _WORST_FIRST if code in codes), Exit.FAILED)


def _run_exit_code(run: Run, sessions: Sequence[Session]) -> Exit:
    if run.status == Run.Status.SUCCEEDED or run.reason == Reason.NO_ITEMS:
        return Exit.SUCCEEDED
    if run.status in (Run.Status.SKIPPED, Run.Status.MISSED):
        return Exit.REFUSED
    troubled = {session.status for session in sessions} - {Session.Status.SUCCEEDED}
    return Exit.TIMED_OUT if troubled == {Session.Status.TIMED_OUT} else Exit.FAILED


def as_object(
    schedule: str,
    runs: Collection[Run],
    sessions: Collection[Session],
    *,
    code: Exit,
    message: str = "",
    waits: Mapping[int, Waiting] | None = None,
) -> dict[str, Any]:
    """All that is known of the runs, JSON-able. Instants are ISO 8601 in UTC, durations seconds.

    `waits`: what the sessions that are queued still wait for, by their ids.
    """
    waits = waits or {}
    return {
        "exit_code": int(code),
        "message": message,
        "schedule": schedule,
        "rehearsed": any(run.is_rehearsal for run in runs),
        "runs": [_run_object(run, [s for s in sessions if s.run_id == run.pk], waits) for run in runs],
    }


def _run_object(run: Run, sessions: Sequence[Session], waits: Mapping[int, Waiting]) -> dict[str, Any]:
    return {
        "id": run.pk,
        "repository": run.repository.slug if run.repository else None,
        "trigger": run.trigger,
        "rehearsed": run.is_rehearsal,
        **_outcome(run),
        "commit": run.commit,
        "sessions": [_session_object(session, waits.get(session.pk)) for session in sessions],
    }


def _session_object(session: Session, waits: Waiting | None) -> dict[str, Any]:
    return {
        "id": session.pk,
        "item": session.item_key,
        **_outcome(session),
        **({"waiting": _waiting_object(waits)} if waits else {}),
        "exit_code": session.exit_code,
        "model": session.model,
        "program_version": session.program_version,
        "resumed_from": session.resumed_from_id,
        "agent_session_id": str(session.agent_session_id),
        "denied": session.denied,
        "result": session.result,
        "structured": session.structured,
        "branch": session.branch,
        "commits": session.commits,
        "files_changed": session.files_changed,
        "insertions": session.insertions,
        "deletions": session.deletions,
        **({"rehearsal": report_object(report)} if (report := report_of(session)) else {}),
    }


def _waiting_object(waits: Waiting) -> dict[str, Any]:
    """`place` and `of` are null where it has none: it is stopped, say, or nobody counts that far."""
    return {"why": waits.why, "until": _iso(waits.until), "place": waits.place or None, "of": waits.of or None}


def _outcome(row: Run | Session) -> dict[str, Any]:
    """What runs and sessions have in common."""
    return {
        "status": row.status,
        "reason": row.reason,
        "message": row.message,
        "summary": row.summary,
        "queued_at": _iso(row.queued_at),
        "started_at": _iso(row.started_at),
        "finished_at": _iso(row.finished_at),
        "duration": row.duration.total_seconds() if row.duration else None,
        "turns": row.turns,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        "cached_tokens": row.cached_tokens,
        "cost_usd": float(row.cost_usd) if row.cost_usd or row.cost_source != CostSource.UNKNOWN else None,
        "cost_source": row.cost_source or None,
    }


def _iso(instant: datetime | None) -> str | None:
    return instant.isoformat() if instant else None


def run_line(run: Run) -> str:
    """The outcome of a finished run in a line: `Run 7 in web-shop failed (max_turns): … 12 turns, 0.0400 USD, 34 s.`"""
    place = f" in {run.repository}" if run.repository else ""
    reason = f" ({run.reason})" if run.reason and run.reason != Reason.OK else ""
    message = f": {one_line(run.message)}" if run.message else ""
    facts = ", ".join(filter(None, (effort(run), elapsed(run.duration) if run.duration else "")))
    return f"Run {run.pk}{place} {run.status}{reason}{message}{'' if message.endswith('.') else '.'} {facts}".rstrip()


def branch_line(session: Session) -> str:
    """What a session left behind, or "" where it changed nothing."""
    if not session.branch:
        return ""
    files = f"{session.files_changed} file{'' if session.files_changed == 1 else 's'}"
    change = f"{files}, +{session.insertions} −{session.deletions}"
    return f"Session {session.pk} left the branch {one_line(session.branch)} ({change})."


def effort(row: Run | Session) -> str:
    """Turns and cost, where there are any."""
    turns = f"{row.turns} turn{'' if row.turns == 1 else 's'}" if row.turns else ""
    cost = f"{row.cost_usd:.4f} USD" if row.cost_usd else ""
    if row.cost_source == CostSource.RECKONED:
        cost = f"{cost or '0 USD'} reckoned"
    elif row.cost_source == CostSource.UNKNOWN:
        cost = f"more than {cost}" if cost else "cost not known"
    return ", ".join(filter(None, (turns, cost)))


def elapsed(span: timedelta) -> str:
    """`34 s`, `2:05 min`, `1:02:03 h`."""
    seconds = max(0, round(span.total_seconds()))
    minutes, hours = seconds // 60, seconds // 3600
    if hours:
        return f"{hours}:{minutes % 60:02}:{seconds % 60:02} h"
    return f"{minutes}:{seconds % 60:02} min" if minutes else f"{seconds} s"
