"""What keeps the house: messages that were lost, sessions that were lost, runs nobody settled, rows nobody needs."""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Exists, OuterRef, QuerySet

from schedules import quota
from schedules.ending import end, settle
from schedules.models import Incident, Reason, Run, Session, SessionEvent, WorkerHeartbeat
from schedules.models.session import SessionQuerySet
from schedules.unfired import recover_missed

logger = logging.getLogger(__name__)

# A free slot takes a message within milliseconds; after this it is gone, and another one does no harm.
CLAIMED_WITHIN = timedelta(seconds=20)
_STALL = 30.0  # seconds between two rounds, that come every ten
_JUMP = 5.0  # seconds by which the clock of the day may drift from the other one between two rounds
_EVENTS_KEPT = timedelta(days=14)
_WORKERS_KEPT = timedelta(days=7)
_BATCH = 500
_MOST_BATCHES = 200
_WINDOW = 2000  # ids of events
_MOST_WINDOWS = 2000  # 4,000,000 events at most, in a minute or two


class Upkeep:
    """The rounds of one process: one at a time, however they come about.

    After a stall nobody is declared lost for a while: this process, or its whole machine, slept, or the clock was set,
    or the database was away. The workers may have been silent for the same reason, and renew first.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._last: tuple[float, datetime] | None = None
        self._steady_since = 0.0

    def round(self, *, now: datetime, at: float) -> dict[str, int]:
        """`keep_up`, unless a round is going on. `at`: seconds of a clock that also counts while the machine sleeps."""
        if not self._turn.acquire(blocking=False):
            return {}
        try:
            is_steady = self._is_steady(now, at)
            done = keep_up(now=now, declare=is_steady)
            self._last = (at, now)  # not before it was done: a database that was away is a stall, too
            return done
        finally:
            self._turn.release()

    def _is_steady(self, now: datetime, at: float) -> bool:
        last, self._last = self._last, None
        if last is None:
            self._steady_since = at
        else:
            passed = at - last[0]
            jumped = abs((now - last[1]).total_seconds() - passed) > _JUMP
            if passed > _STALL or jumped:
                logger.warning("After a stall: nobody is declared lost for %d s", _STALL, extra={"action": "stalled"})
                self._steady_since = at
        return at - self._steady_since >= _STALL


def uptime() -> float:
    """Seconds since the machine started, its sleep counted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def keep_up(*, now: datetime, declare: bool = True) -> dict[str, int]:
    """Returns how many sessions were released and declared lost, and how many runs were settled late.

    And how many schedules run again whose due times were missed, and how many providers let sessions in again.
    """
    return {
        "released": release_unclaimed(now=now),
        "lost": declare_lost(now=now) if declare else 0,
        "settled": settle_forgotten(now=now),
        "caught_up": recover_missed(now=now),
        "let_in": quota.recover(now=now),
    }


def release_unclaimed(*, now: datetime) -> int:
    """Admitted long ago and claimed by nobody: its message was lost. It waits again, and is published again."""
    unclaimed = Session.objects.filter(status=Session.Status.QUEUED, admitted_at__lt=now - CLAIMED_WITHIN)
    released = Session.objects.release(list(unclaimed.values_list("pk", flat=True)))
    if released:
        logger.warning("%d sessions were not claimed: sent again", released, extra={"action": "released"})
    return released


def declare_lost(*, now: datetime) -> int:
    """Running, and its worker is silent: `lost`. It is never started again; policy may want another attempt."""
    silent = Session.objects.lost(now=now, silent_after=settings.ROTA_LEASE)
    lost = 0
    for session in list(silent.select_related("run").defer("prompt", "result", "patch")):
        where = session.worker_name or "its worker"
        message = f"Nothing was heard of {where} for {settings.ROTA_LEASE.total_seconds():.0f} s while it ran."
        # Still silent, that is: another worker may have adopted it since it was found.
        lost += _lose(session, among=silent, reason=Reason.WORKER_DIED, message=message, now=now)
    return lost


def declare_forgotten(session_id: int, *, worker: WorkerHeartbeat, now: datetime) -> bool:
    """Running, says its row, and the worker of that row has it not in hand: `lost`, by a fault or a long outage."""
    theirs = Session.objects.filter(worker=worker)
    session = theirs.select_related("run").defer("prompt", "result", "patch").filter(pk=session_id).first()
    message = f"{worker.name} lost hold of it: its log says why."
    return session is not None and _lose(session, among=theirs, reason=Reason.INTERNAL, message=message, now=now)


def _lose(session: Session, *, among: SessionQuerySet, reason: Reason, message: str, now: datetime) -> bool:
    if not end(session, status=Session.Status.LOST, reason=reason, now=now, among=among, message=message):
        return False
    logger.warning("Session %d is lost: %s", session.pk, message, extra={"action": "lost"})
    settle(session.run_id, now=now)
    return True


def settle_forgotten(*, now: datetime) -> int:
    """Open runs without an open session: whoever ended the last one did not get to it."""
    open_sessions = Session.objects.open().filter(run=OuterRef("pk"))
    any_session = Session.objects.filter(run=OuterRef("pk"))
    forgotten = Run.objects.open().filter(~Exists(open_sessions), Exists(any_session))
    return sum(settle(pk, now=now) for pk in list(forgotten.values_list("pk", flat=True)))


def prune(*, now: datetime) -> dict[str, int]:
    """Delete what is past its time. Returns how many rows of each table went; the rest waits for the next time."""
    runs_kept = timedelta(days=settings.ROTA_RETENTION_DAYS)
    return {
        # First, however short runs are kept: with their runs they would go in one long transaction.
        "events": _delete_events(before=now - min(_EVENTS_KEPT, runs_kept)),
        "runs": _delete(Run.objects.finished().filter(finished_at__lt=now - runs_kept)),
        "incidents": _delete(Incident.objects.filter(recovered_at__lt=now - runs_kept)),
        "workers": _delete(WorkerHeartbeat.objects.filter(last_seen_at__lt=now - _WORKERS_KEPT)),
    }


def _delete_events(*, before: datetime) -> int:
    """In the order in which they were written, a window at a time, up to the first window that is young.

    No window looks at more rows than it has, whatever the table holds: no index on the time is needed.
    """
    ends = SessionEvent.objects.order_by("pk").values_list("pk", flat=True)
    newest = ends.last()
    at = ends.first()
    deleted = 0
    for _ in range(_MOST_WINDOWS):
        if at is None or newest is None or at > newest:
            break
        window = SessionEvent.objects.filter(pk__gte=at, pk__lt=at + _WINDOW)
        gone, _ = window.filter(at__lt=before, session__finished_at__isnull=False).delete()
        deleted += gone
        if not gone and window.filter(at__gte=before).exists():
            break
        at = ends.filter(pk__gte=at + _WINDOW).first()
    return deleted


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
