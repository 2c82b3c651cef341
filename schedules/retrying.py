"""Whether a session that ended badly is tried anew, when, and the row that does it.

The policy is the one that the run goes by, its snapshot. A session that started is never started again: each attempt is
a row of its own, of the same number and item, linked with the one before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from runners import load_runner
from schedules.models import FINAL, INFRASTRUCTURE, INTERRUPTED, Run, Schedule, Session
from schedules.quota import LONGEST_QUOTA

LONGEST_WAIT = timedelta(hours=1)
_SPREAD = 0.25  # of the wait, at most


def may_retry(session: Session, *, status: str, reason: str) -> bool:
    """Whether the policy of its run wants another attempt after such an end. Touches nothing but `session.run`."""
    policy = session.run.snapshot
    if status == Session.Status.SUCCEEDED or reason in FINAL:
        return False
    if session.attempt > policy.get("retry_attempts", 0):
        return False
    if goes_on(policy, reason):
        return True
    match policy.get("retry", Schedule.Retry.NONE):
        case Schedule.Retry.ALL:
            return True
        case Schedule.Retry.INFRASTRUCTURE:
            return reason in INFRASTRUCTURE
    return False


def goes_on(policy: Mapping[str, Any], reason: str) -> bool:
    """Whether the next attempt goes on where this one was interrupted. `policy`: the snapshot of its run."""
    return bool(policy.get("continue_interrupted")) and reason in INTERRUPTED and _is_agent(policy["runner"])


def _is_agent(runner: str) -> bool:
    dotted_path = settings.ROTA_RUNNERS.get(runner)
    return dotted_path is not None and load_runner(dotted_path).is_agent


def queue_retry(session: Session, *, reason: str, resets_at: datetime | None, now: datetime) -> Session | None:
    """The next attempt, waiting. None where a person has ended it meanwhile: the run, or the schedule.

    In the transaction that ends `session`, with its schedule locked: else a cancel could come between the two.
    """
    if not is_wanted(session):
        return None
    policy = session.run.snapshot
    wait = timedelta() if goes_on(policy, reason) else backoff(session)
    return Session.objects.create(
        run_id=session.run_id,
        schedule_id=session.schedule_id,
        repository_id=session.repository_id,
        number=session.number,
        attempt=session.attempt + 1,
        retry_of=session,
        item_key=session.item_key,
        item=session.item,
        priority=session.priority,
        credential=session.credential,
        reserved_usd=session.reserved_usd,
        is_rehearsal=session.is_rehearsal,
        model_asked=session.model_asked,
        queued_at=now,
        not_before=max(now + wait, min(resets_at or now, now + LONGEST_QUOTA)),
    )


def backoff(session: Session) -> timedelta:
    """How long the attempt after this one waits: doubled each time, and spread by a share that is always the same."""
    first = float(session.run.snapshot.get("retry_backoff", 0.0))
    wait = min(timedelta(seconds=first) * (1 << (session.attempt - 1)), LONGEST_WAIT)
    digest = hashlib.sha256(f"{session.run_id}/{session.number}/{session.attempt}".encode()).digest()
    return wait * (1 + _SPREAD * int.from_bytes(digest[:4]) / 2**32)


def is_wanted(session: Session) -> bool:
    """Nobody asked for the end of the session or its run, and its schedule may still run it."""
    asked = Session.objects.filter(pk=session.pk, cancel_requested_at__isnull=False)
    run = Run.objects.open().filter(pk=session.run_id, cancel_requested_at=None)
    off = [Schedule.Status.DISABLED]
    if session.run.trigger == Run.Trigger.SCHEDULE:
        off.append(Schedule.Status.PAUSED)
    return run.exclude(schedule__status__in=off).exists() and not asked.exists()
