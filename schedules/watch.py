"""The dead-man's switch: looks for what should have happened and did not, and says so in incidents.

Whoever lives watches the others: beat the workers, each worker beat. A few cheap reads every fifteen seconds, through
the database alone; each cause is one incident, counted once a minute while it lasts, and recovered when it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db.models import F, Q

from schedules import budgets
from schedules.models import Incident, Schedule, Session, WorkerHeartbeat
from schedules.models.session import SessionQuerySet
from schedules.timetable import TimetableError
from schedules.waiting import waiting

logger = logging.getLogger(__name__)

LOOK_EVERY = 15.0
"""Seconds between two looks of a process."""
BEAT_SILENT_AFTER = timedelta(seconds=60)
NOT_FIRED_AFTER = timedelta(seconds=60)
NO_WORKER_AFTER = timedelta(seconds=60)
_AGAIN_AFTER = timedelta(minutes=1)
_SETTLED_IN = 60.0  # seconds: who has just started, or slept, knows nothing yet of the others
_EXAMPLES = 5
_MOST_OF_ONE_KIND = 20  # that many schedules at once have one cause, and not each its own
_PLANNED_AT_ONCE = 500

_Kind = Incident.Kind


class Watch:
    """The looks of one process."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = 0.0

    def look(self, *, now: datetime, at: float) -> None:
        """Raise and recover alarms. `at`: seconds of the monotonic clock."""
        if self._since is None or at - self._last > _SETTLED_IN:
            self._since = at
        self._last = at
        if at - self._since >= _SETTLED_IN:
            look(now=now)


def look(*, now: datetime) -> None:
    """Every check once. One that fails does not keep the others; a database that is away does."""
    beat_is_silent = _beat(now)
    _not_fired(now, beat_is_silent=beat_is_silent)
    _unplanned(now)
    _no_success(now)
    _queue(now)
    _paused(now)
    _disks(now)
    budgets.recover(now=now)


def open_incidents(*, limit: int = 100) -> list[Incident]:
    """What a person should look at, those that nobody acknowledged first, the newest first."""
    rows = Incident.objects.open().select_related("schedule")
    return list(rows.order_by(F("acknowledged_at").asc(nulls_first=True), "-last_at")[:limit])


# --- Beat -------------------------------------------------------------------------------------------------------------


def _beat(now: datetime) -> bool:
    beats = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.BEAT)
    if beats.alive(now=now, silent_after=BEAT_SILENT_AFTER).exists():
        Incident.objects.recover(_Kind.BEAT_SILENT, now=now)
        return False
    seen_at = beats.order_by("-last_seen_at").values_list("last_seen_at", flat=True).first()
    heard = f"was last heard of {_told(seen_at)}" if seen_at else "was never heard of"
    message = f"Beat {heard}: no schedule fires. {_late(now)}Start it: celery -A config beat"
    _alarm(_Kind.BEAT_SILENT, message=message, now=now)
    return True


def _not_fired(now: datetime, *, beat_is_silent: bool) -> None:
    """With a beat that is silent, that is the cause; one that has just come back is given its time."""
    beats = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.BEAT, started_at__lt=now - NOT_FIRED_AFTER)
    is_at_work = not beat_is_silent and beats.alive(now=now, silent_after=BEAT_SILENT_AFTER).exists()
    late = _late(now) if is_at_work else ""
    if late:
        _alarm(_Kind.NOT_FIRED, message=f"{late}Beat is alive and has not fired: its log may say why.", now=now)
    else:
        Incident.objects.recover(_Kind.NOT_FIRED, now=now)


def _late(now: datetime) -> str:
    """A sentence about the schedules that are due and have no row, or ""."""
    late = Schedule.objects.due(now - NOT_FIRED_AFTER).order_by("due_at")
    names = list(late.values_list("name", flat=True)[: _MOST_OF_ONE_KIND + 1])
    if not names:
        return ""
    return f"{_listed(names)} should have fired and did not. "


def _unplanned(now: datetime) -> None:
    """Active, with a cron line and without a time, as a row that was put in by SQL: from now on it has one."""
    rows = Schedule.objects.filter(Q(ends_at=None) | Q(ends_at__gt=now), status=Schedule.Status.ACTIVE, due_at=None)
    rows = rows.exclude(cron="").exclude(max_runs__lte=F("fired_count"))
    for schedule in rows.order_by("pk")[:_PLANNED_AT_ONCE]:
        try:
            schedule.plan(now)
        except TimetableError as error:
            # Due at once: beat then takes it off the rota, with an alarm, as every other one that can't be read.
            schedule.next_run_at = schedule.due_at = now
            logger.warning("%s has no time and can't be planned: %s", schedule, error)
        if schedule.due_at is None:
            continue
        planned = {name: getattr(schedule, name) for name in Schedule.PLAN_FIELDS}
        if rows.filter(pk=schedule.pk, cron=schedule.cron).update(**planned):
            logger.warning("%s had no time: planned anew", schedule, extra={"action": "planned_anew"})


# --- Outcomes ---------------------------------------------------------------------------------------------------------


def _no_success(now: datetime) -> None:
    overdue = Schedule.objects.filter(status=Schedule.Status.ACTIVE, overdue_at__lte=now).order_by("overdue_at")
    found = list(overdue.only("name", "last_success_at")[: _MOST_OF_ONE_KIND + 1])
    if len(found) > _MOST_OF_ONE_KIND:
        names = _listed([schedule.name for schedule in found])
        _alarm(_Kind.NO_SUCCESS, message=f"{names} should have succeeded by now and did not.", now=now)
        Incident.objects.recover_others(_Kind.NO_SUCCESS, [""], now=now)
        return
    for schedule in found:
        last = f"succeeded last {_told(schedule.last_success_at)}" if schedule.last_success_at else "never succeeded"
        message = f"{schedule} {last}: it should have by now."
        _alarm(_Kind.NO_SUCCESS, schedule.name, message=message, schedule=schedule, now=now)
    Incident.objects.recover_others(_Kind.NO_SUCCESS, [schedule.name for schedule in found], now=now)


def _paused(now: datetime) -> None:
    """Whoever resumed, disabled or edited it has seen to it."""
    paused = Incident.objects.open().filter(kind=_Kind.PAUSED_BY_ROTA)
    paused.exclude(schedule__status=Schedule.Status.PAUSED, schedule__status_by="rota").update(recovered_at=now)


# --- Workers ----------------------------------------------------------------------------------------------------------


def _queue(now: datetime) -> None:
    """The oldest session that nobody holds back by intent, and whether anybody could take it."""
    queued = Session.objects.filter(status=Session.Status.QUEUED).ready(now).on_the_rota().not_halted(now)
    oldest = queued.order_by("queued_at").first()
    waits = _wait(oldest, now) if oldest else timedelta()
    _no_worker(waits, queued, now)
    if oldest is None or waits <= settings.ROTA_QUEUE_ALARM:
        Incident.objects.recover(_Kind.QUEUE_STUCK, now=now)
        return
    found = waiting([oldest], now=now).get(oldest.pk)
    why = f" {found.told}" if found else ""
    message = f"Session {oldest.pk} of {oldest.schedule} has waited for {_minutes(waits)}.{why}"
    _alarm(_Kind.QUEUE_STUCK, message=message, schedule=oldest.schedule, now=now)


def _wait(session: Session, now: datetime) -> timedelta:
    return now - max(session.queued_at, session.not_before or session.queued_at)


def _no_worker(waits: timedelta, queued: SessionQuerySet, now: datetime) -> None:
    alive = WorkerHeartbeat.objects.alive(now=now, silent_after=settings.ROTA_LEASE)
    sessions_workers = alive.filter(kind=WorkerHeartbeat.Kind.SESSIONS)
    if waits <= NO_WORKER_AFTER or sessions_workers.filter(holds_back="").exists():
        Incident.objects.recover(_Kind.NO_WORKER, now=now)
        return
    held = sessions_workers.values_list("holds_back", flat=True).first()
    why = f"every worker holds back. {held}" if held else "no worker that runs sessions is alive. Start one."
    _alarm(_Kind.NO_WORKER, message=f"{queued.count()} sessions wait: {why}", now=now)


def _disks(now: datetime) -> None:
    """A worker ends its own alarm when there is room again; this one has gone meanwhile."""
    alive = WorkerHeartbeat.objects.alive(now=now, silent_after=settings.ROTA_LEASE)
    full = alive.exclude(holds_back="").values_list("hostname", flat=True)
    Incident.objects.recover_others(_Kind.DISK_FULL, list(full), now=now)


# --- Words ------------------------------------------------------------------------------------------------------------


def _alarm(kind: str, subject: str = "", *, message: str, schedule: Schedule | None = None, now: datetime) -> None:
    opened = Incident.objects.alarm(
        kind, subject, message=message, schedule=schedule, again_after=_AGAIN_AFTER, now=now
    )
    if opened:
        logger.error("%s", message, extra={"action": kind})


def _listed(names: Collection[str]) -> str:
    """`a, b`; of many some: `a, b, c, d, e and more than 15 others`."""
    shown: Iterable[str] = list(names)[:_EXAMPLES]
    more = len(names) - _EXAMPLES
    if more <= 0:
        return ", ".join(shown)
    others = f"at least {more} others" if len(names) > _MOST_OF_ONE_KIND else f"{more} other{'s'[: more != 1]}"
    return f"{', '.join(shown)} and {others}"


def _told(instant: datetime) -> str:
    return f"at {instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _minutes(span: timedelta) -> str:
    minutes = int(span.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes // 60} hours"
