"""The stop of everything: a person sets it, with a reason, and lifts it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import IntegrityError, transaction

from schedules.halts import stop_told
from schedules.models import Freeze, Schedule, Session, Stop
from schedules.steering import cancel_session


class StoppedAlready(Exception):
    """Somebody was faster. The message says who, and why."""


def stop(*, by: str, reason: str, cancel_running: bool = False, now: datetime) -> int:
    """From now on nothing is fired, triggered, admitted or claimed. What waits goes on waiting, what runs goes on.

    `cancel_running`: what runs is asked to end. Returns how many sessions were. Raises StoppedAlready.
    """
    try:
        with transaction.atomic():
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
