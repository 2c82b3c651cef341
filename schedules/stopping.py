"""The stop of everything: a person sets it, with a reason, and lifts it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import datetime

from django.db import IntegrityError, OperationalError, connection, transaction

from schedules.halts import stop_told
from schedules.models import Freeze, Schedule, Session, Stop
from schedules.steering import cancel_session

logger = logging.getLogger(__name__)

_HOLD_SECONDS = 3  # at most, for each of two tables; others wait meanwhile
_HOLD_ATTEMPTS = 2


class StoppedAlready(Exception):
    """Somebody was faster. The message says who, and why."""


def stop(*, by: str, reason: str, cancel_running: bool = False, now: datetime) -> int:
    """From now on nothing is fired, triggered, admitted or claimed. What waits goes on waiting, what runs goes on.

    `cancel_running`: what runs is asked to end. Returns how many sessions were. Raises StoppedAlready.
    """
    try:
        with transaction.atomic():
            hold_starts()
            Stop.objects.create(reason=reason[:300], set_by=by[:150], set_at=now)
    except IntegrityError as error:
        in_force = Stop.objects.in_force().first()
        if in_force is None:
            raise
        raise StoppedAlready(stop_told(in_force)) from error
    if not cancel_running:
        return 0
    running = Session.objects.filter(status=Session.Status.RUNNING, cancel_requested_at=None)
    return sum(cancel_session(pk, by=by, now=now) for pk in list(running.values_list("pk", flat=True)))


def lift(*, by: str, reason: str = "", now: datetime) -> bool:
    """Let everything start again; the caller dispatches what waited. False: nothing was stopped."""
    in_force = Stop.objects.in_force()
    return in_force.update(lifted_by=by[:150], lifted_at=now, lift_reason=reason[:300]) > 0


def freeze(
    *, starts_at: datetime, ends_at: datetime, reason: str, schedules: Collection[Schedule] = (), by: str
) -> Freeze:
    """No starts from … until …, of these schedules or of all. Raises ValidationError."""
    window = Freeze(starts_at=starts_at, ends_at=ends_at, reason=reason, created_by=by[:150])
    window.full_clean()
    with transaction.atomic():
        hold_starts()
        window.save()
        window.schedules.set(schedules)
    return window


def thaw(pk: int, *, now: datetime) -> bool:
    """End a freeze window now; one that has not begun goes altogether. False: it is over, or there is none."""
    with transaction.atomic():
        window = Freeze.objects.select_for_update().filter(pk=pk, ends_at__gt=now).first()
        if window is None:
            return False
        if window.starts_at >= now:
            window.delete()
        else:
            window.ends_at = now
            window.save(update_fields=["ends_at"])
    return True


def hold_starts(*, seconds: float = _HOLD_SECONDS) -> None:
    """Let what is just being fired, triggered or claimed be on record, and the next of these wait for this transaction.

    Whoever sets a stop or a window calls it first: after its commit nothing starts that did not see it. SQLite has one
    writer at a time anyway; on PostgreSQL a statement that began before would not see what was committed since. Should
    somebody hold the tables for long, a stop is worth more than to be exact by one session.
    """
    if connection.vendor != "postgresql":
        return
    for _ in range(_HOLD_ATTEMPTS):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{seconds * 1000:.0f}ms'")
                # Schedules first, as everybody does: who fires or triggers locks some before looking for stops.
                cursor.execute(f"LOCK TABLE {Schedule._meta.db_table} IN EXCLUSIVE MODE")
                cursor.execute(f"LOCK TABLE {Session._meta.db_table} IN SHARE MODE")
        except OperationalError as error:
            logger.warning("What starts just now can't be held: %s", error, extra={"action": "hold_starts"})
        else:
            return
