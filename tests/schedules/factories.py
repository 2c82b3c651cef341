"""Small makers of rows for every test: sensible and valid, `now` passed in, anything overridable by its field name.

They save what they make. A schedule is planned with the same `plan(now)` that the console uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from schedules.models import (
    Command,
    Pool,
    Reason,
    Repository,
    Run,
    Schedule,
    Session,
    SessionEvent,
    WorkerHeartbeat,
)

_numbers = count(1)

# What a finished row says where a test does not care.
_RUN_REASONS = {
    Run.Status.SUCCEEDED: Reason.OK,
    Run.Status.PARTIAL: Reason.SESSIONS_FAILED,
    Run.Status.FAILED: Reason.SESSIONS_FAILED,
    Run.Status.CANCELLED: Reason.CANCELLED,
    Run.Status.SKIPPED: Reason.OVERLAP,
    Run.Status.MISSED: Reason.OUTSIDE_WINDOW,
}
_SESSION_REASONS = {
    Session.Status.SUCCEEDED: Reason.OK,
    Session.Status.FAILED: Reason.EXIT_CODE,
    Session.Status.TIMED_OUT: Reason.TIMED_OUT,
    Session.Status.CANCELLED: Reason.CANCELLED,
    Session.Status.LOST: Reason.WORKER_DIED,
}
_NEVER_RAN = (Run.Status.SKIPPED, Run.Status.MISSED)


def make_repository(slug: str = "", *, url: str = "", **fields: Any) -> Repository:
    """An enabled repository; its URL is a local path unless one is given."""
    slug = slug or f"shop-{next(_numbers)}"
    return Repository.objects.create(slug=slug, url=url or f"/srv/git/{slug}", **fields)


def make_command(pk: str = "", *, prompt: str = "Look at {{ repository }}.", **fields: Any) -> Command:
    """A command for the codebase."""
    pk = pk or f"codebase/look-{next(_numbers)}"
    return Command.objects.create(id=pk, prompt=prompt, **{"name": pk, **fields})


def make_pool(name: str = "", *, places: int = 1, **fields: Any) -> Pool:
    return Pool.objects.create(name=name or f"pool-{next(_numbers)}", places=places, **fields)


def make_schedule(
    name: str = "",
    *,
    now: datetime,
    runner: str = "script",
    repositories: Iterable[Repository] = (),
    **fields: Any,
) -> Schedule:
    """An active schedule at 09:00 UTC, planned from `now`: a script that prints, or an agent with a prompt."""
    if runner == "script":
        fields = {"argv": ["echo", "hello"], **fields}
    elif runner == "function":
        fields = {"function": "todo-report", **fields}
    elif "command" not in fields:
        fields = {"prompt": "Say hello.", "model": "haiku", **fields}
    fields = {"cron": "0 9 * * *", "time_zone": "UTC", **fields}
    schedule = Schedule(name=name or f"schedule-{next(_numbers)}", runner=runner, **fields)
    if schedule.next_run_at is None and schedule.due_at is None:
        schedule.plan(now)
    schedule.save()
    schedule.repositories.set(repositories)
    return schedule


def make_run(
    schedule: Schedule | None = None,
    *,
    now: datetime,
    status: str = Run.Status.QUEUED,
    scheduled_for: datetime | None = None,
    **fields: Any,
) -> Run:
    """A run asked for by hand at `now`; started and finished as far as its status says."""
    schedule = schedule or make_schedule(now=now)
    fields = {"trigger": Run.Trigger.MANUAL, "queued_at": now, "snapshot": schedule.snapshot(), **fields}
    if status != Run.Status.QUEUED and status not in _NEVER_RAN:
        fields = {"started_at": now, **fields}
    if status not in Run.OPEN:
        reason = _RUN_REASONS[Run.Status(status)]
        fields = {"finished_at": now + timedelta(minutes=1), "reason": reason, **fields}
    return Run.objects.create(schedule=schedule, status=status, scheduled_for=scheduled_for or now, **fields)


def make_session(
    run: Run | None = None, *, now: datetime, status: str = Session.Status.QUEUED, **fields: Any
) -> Session:
    """A session of `run`, by default of a new one that fits; claimed and finished as far as its status says."""
    run = run or make_run(now=now, status=status if status in Run.OPEN else Run.Status.RUNNING)
    fields = {
        "repository": run.repository,
        "number": run.sessions.count() + 1,
        "is_rehearsal": run.is_rehearsal,
        "queued_at": now,
        **fields,
    }
    if status != Session.Status.QUEUED:
        fields = {"admitted_at": now, "claimed_at": now, "started_at": now, **fields}
    if status not in Session.OPEN:
        reason = _SESSION_REASONS[Session.Status(status)]
        fields = {"finished_at": now + timedelta(minutes=1), "reason": reason, **fields}
    return Session.objects.create(run=run, schedule=run.schedule, status=status, **fields)


def make_event(
    session: Session, *, now: datetime, seq: int | None = None, kind: str = "text", text: str = "", **fields: Any
) -> SessionEvent:
    """The next event of a session."""
    seq = session.events.count() + 1 if seq is None else seq
    return SessionEvent.objects.create(session=session, seq=seq, at=now, kind=kind, text=text, **fields)


def make_worker(name: str = "", *, now: datetime, kind: str = "sessions", **fields: Any) -> WorkerHeartbeat:
    """A worker that was just seen, with room for four sessions."""
    number = next(_numbers)
    fields = {
        "hostname": "host-1",
        "pid": 1000 + number,
        "start_ticks": number,
        "boot_id": "boot-1",
        "concurrency": 4 if kind == WorkerHeartbeat.Kind.SESSIONS else 1,
        "started_at": now,
        "last_seen_at": now,
        **fields,
    }
    return WorkerHeartbeat.objects.create(name=name or f"{kind}-{number}@host-1", kind=kind, **fields)
