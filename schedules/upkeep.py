"""What keeps the house: messages that were lost, sessions that were lost, runs nobody settled, rows nobody needs."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from schedules.models import Reason, Run, Session, SessionEvent, WorkerHeartbeat
from schedules.settling import settle_run

logger = logging.getLogger(__name__)

# A free slot takes a message within milliseconds; after this it is gone, and another one does no harm.
CLAIMED_WITHIN = timedelta(seconds=20)
_EVENTS_KEPT = timedelta(days=14)
_WORKERS_KEPT = timedelta(days=7)
_BATCH = 500
_MOST_BATCHES = 200


def keep_up(*, now: datetime) -> dict[str, int]:
    """Returns how many sessions were released and declared lost, and how many runs were settled late."""
    return {
        "released": release_unclaimed(now=now),
        "lost": declare_lost(now=now),
        "settled": settle_forgotten(now=now),
    }


def release_unclaimed(*, now: datetime) -> int:
    """Admitted long ago and claimed by nobody: its message was lost. It waits again, and is published again."""
    unclaimed = Session.objects.filter(status=Session.Status.QUEUED, admitted_at__lt=now - CLAIMED_WITHIN)
    released = Session.objects.release(list(unclaimed.values_list("pk", flat=True)))
    if released:
        logger.warning("%d sessions were not claimed: sent again", released, extra={"action": "released"})
    return released


def declare_lost(*, now: datetime) -> int:
    """Running, and its worker is silent: `lost`. It is never started again."""
    silent_after = settings.ROTA_WORKER_SILENT_AFTER
    silent = Session.objects.lost(now=now, silent_after=silent_after)
    lost = 0
    for session in silent.only("pk", "run_id", "worker_name"):
        where = session.worker_name or "its worker"
        message = f"Nothing was heard of {where} for {silent_after.total_seconds():.0f} s while it ran."
        # Still silent, that is: another worker may have adopted it since it was found.
        if silent.finish(
            session.pk,
            status=Session.Status.LOST,
            reason=Reason.WORKER_DIED,
            now=now,
            message=message,
        ):
            logger.warning("Session %d is lost: %s", session.pk, message, extra={"action": "lost"})
            settle_run(session.run_id, now=now)
            lost += 1
    return lost


def declare_forgotten(session_id: int, *, worker: WorkerHeartbeat, now: datetime) -> bool:
    """Running, says its row, and the worker of that row has it not in hand: `lost`, by a fault or a long outage."""
    theirs = Session.objects.filter(worker=worker)
    message = f"{worker.name} lost hold of it: its log says why."
    lost = theirs.finish(session_id, status=Session.Status.LOST, reason=Reason.INTERNAL, now=now, message=message)
    if lost:
        logger.error("Session %d is lost: %s", session_id, message, extra={"action": "lost"})
        settle_run(Session.objects.values_list("run_id", flat=True).get(pk=session_id), now=now)
    return lost


def settle_forgotten(*, now: datetime) -> int:
    """Open runs without an open session: whoever ended the last one did not get to it."""
    open_sessions = Session.objects.open().filter(run=OuterRef("pk"))
    any_session = Session.objects.filter(run=OuterRef("pk"))
    forgotten = Run.objects.open().filter(~Exists(open_sessions), Exists(any_session))
    return sum(settle_run(pk, now=now) for pk in list(forgotten.values_list("pk", flat=True)))


def prune(*, now: datetime) -> dict[str, int]:
    """Delete what is past its time. Returns how many rows of each table went; the rest waits for the next time."""
    runs_kept = timedelta(days=settings.ROTA_RETENTION_DAYS)
    # Events first, however short runs are kept: with their runs they would go in one long transaction.
    events_past = now - min(_EVENTS_KEPT, runs_kept)
    return {
        "events": _delete(SessionEvent.objects.filter(at__lt=events_past, session__finished_at__isnull=False)),
        "runs": _delete(Run.objects.finished().filter(finished_at__lt=now - runs_kept)),
        "workers": _delete(WorkerHeartbeat.objects.filter(last_seen_at__lt=now - _WORKERS_KEPT)),
    }


def _delete(rows: QuerySet[Any]) -> int:
    """In small batches, so that no transaction holds the table for long."""
    deleted = 0
    for _ in range(_MOST_BATCHES):
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:_BATCH])
        if not ids:
            break
        rows.model._default_manager.filter(pk__in=ids).delete()
        deleted += len(ids)
    return deleted
