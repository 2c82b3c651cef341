"""The dead-man's switch: looks for what should have happened and did not, and says so in incidents.

Whoever lives watches the others: beat the workers, each worker beat. A few cheap reads every fifteen seconds, through
the database alone; each cause is one incident, counted once a minute while it lasts, and recovered when it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Concat

from schedules import budgets, pools
from schedules.limits import startable
from schedules.models import Freeze, Incident, Pool, Run, Schedule, Session, Stop, WorkerHeartbeat
from schedules.models.incident import IncidentQuerySet
from schedules.models.session import SessionQuerySet
from schedules.models.validation import LONGEST_CATCH_UP
from schedules.places import Places, candidates
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
_TOLD_FOR = timedelta(days=1)  # what nothing to come can mend
_EXAMINED = 200  # sessions that wait for long

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
    _unplanned_once(now)
    _seen_to(now)
    _no_success(now)
    _queue(now)
    _disks(now)
    budgets.recover(now=now)


def open_incidents(*, limit: int = 100) -> list[Incident]:
    """What a person should look at, those that nobody acknowledged first, the newest first."""
    rows = Incident.objects.open().select_related("schedule")
    return list(rows.order_by(F("acknowledged_at").asc(nulls_first=True), "-last_at")[:limit])


# --- Beat -------------------------------------------------------------------------------------------------------------


def _beat(now: datetime) -> bool:
    beats = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.BEAT)
    # One that was told to end counts for as long: it is about to be started again.
    if beats.filter(last_seen_at__gt=now - BEAT_SILENT_AFTER).exists():
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


def _unplanned_once(now: datetime) -> None:
    """The same for one with a single time: due at it, also where that is past. Its catch-up window decides then.

    Not one whose time is on record, nor one that somebody brought back after it: a resume never runs the past.
    """
    kept = timedelta(days=settings.ROTA_RETENTION_DAYS)
    on_record = Run.objects.filter(schedule=OuterRef("pk"), trigger=Run.Trigger.SCHEDULE, scheduled_for=OuterRef("at"))
    rows = Schedule.objects.filter(
        Q(status_at=None) | Q(status_at__lt=F("at")),
        Q(starts_at=None) | Q(starts_at__lte=F("at")),
        Q(ends_at=None) | Q(ends_at__gte=F("at")),
        ~Exists(on_record),
        status=Schedule.Status.ACTIVE,
        due_at=None,
        at__gt=now - min(LONGEST_CATCH_UP, kept),
        fired_count=0,
    )
    for pk in list(rows.order_by("at").values_list("pk", flat=True)[:_PLANNED_AT_ONCE]):
        with transaction.atomic():
            schedule = rows.select_for_update(of=("self",)).filter(pk=pk).first()
            if schedule is None:
                continue
            schedule.go_on_at(schedule.at)
            # Its time, too: SQLite keeps it as a person spelt it, and then it equals none of ours.
            schedule.save(update_fields=("at", *Schedule.PLAN_FIELDS))
        logger.warning("%s was not planned: it is now", schedule, extra={"action": "planned_anew"})


# --- Outcomes ---------------------------------------------------------------------------------------------------------


def _no_success(now: datetime) -> None:
    overdue = Schedule.objects.filter(status=Schedule.Status.ACTIVE, overdue_at__lte=now).order_by("overdue_at")
    open_runs = Run.objects.open().filter(schedule=OuterRef("pk"))
    overdue = overdue.exclude(~Exists(open_runs), due_at=None, overdue_at__lte=now - _TOLD_FOR)
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


def _seen_to(now: datetime) -> None:
    """Whoever resumed, paused, disabled, edited or deleted it has seen to it."""
    status = Schedule.Status
    alarms = Incident.objects.open()
    paused = alarms.filter(kind=_Kind.PAUSED_BY_ROTA)
    paused.exclude(schedule__status=status.PAUSED, schedule__status_by="rota").close("somebody has seen to it", now=now)
    outcomes = alarms.filter(kind__in=(_Kind.MISSED, _Kind.NO_SUCCESS))
    of_it = Schedule.objects.filter(pk=OuterRef("schedule_id")).values("status")
    off = outcomes.filter(schedule__status__in=(status.PAUSED, status.DISABLED))
    off.close(Concat(Value("the schedule is "), Subquery(of_it[:1])), now=now)
    _nothing_to_come(outcomes, now)
    unreadable = alarms.filter(kind=_Kind.SCHEDULE_BROKEN)
    unreadable.exclude(schedule__status=status.BROKEN).update(recovered_at=now)
    jumped = alarms.filter(kind=_Kind.CLOCK_JUMPED)
    if jumped.exists():
        legible = ~Exists(unreadable.filter(schedule=OuterRef("pk")))
        if not Schedule.objects.filter(legible, status=status.BROKEN).exists():
            jumped.update(recovered_at=now)


def _nothing_to_come(outcomes: IncidentQuerySet, now: datetime) -> None:
    """Of a schedule without further times or an open run: it is told for a day, or until somebody acknowledged it."""
    then = now - _TOLD_FOR
    told = Q(acknowledged_at__isnull=False) | Q(last_at__lte=then) | Q(kind=_Kind.NO_SUCCESS, first_at__lte=then)
    open_runs = Run.objects.open().filter(schedule=OuterRef("schedule_id"))
    over = outcomes.filter(told, ~Exists(open_runs), schedule__status=Schedule.Status.ACTIVE, schedule__due_at=None)
    schedules = list(over.values_list("schedule_id", flat=True))
    if schedules:
        Schedule.objects.filter(pk__in=schedules, due_at=None).update(overdue_at=None)
        over.close("the schedule has no further times", now=now)


# --- Workers ----------------------------------------------------------------------------------------------------------


def _queue(now: datetime) -> None:
    """The oldest session that nothing holds back by intent, and whether anybody could take it."""
    queued = Session.objects.filter(status=Session.Status.QUEUED).ready(now).on_the_rota().not_halted(now)
    oldest = queued.order_by("queued_at").first()
    waits = _wait(oldest, now) if oldest else timedelta()
    if _no_worker(waits, queued, now) or not oldest or now - oldest.queued_at <= settings.ROTA_QUEUE_ALARM:
        stuck = None
    else:
        stuck = _stuck(queued, now)
    if stuck is None:
        Incident.objects.recover(_Kind.QUEUE_STUCK, now=now)
        return
    found = waiting([stuck], now=now).get(stuck.pk)
    why = f" {found.told}" if found else ""
    message = f"Session {stuck.pk} of {stuck.schedule} has waited for {_minutes(_wait(stuck, now))}.{why}"
    _alarm(_Kind.QUEUE_STUCK, message=message, schedule=stuck.schedule, now=now)


def _stuck(queued: SessionQuerySet, now: datetime) -> Session | None:
    """The oldest that has waited for a place for too long, and for nothing else.

    Not what is behind another run of its schedule, or was a moment ago; nor what a shut pool, a hold or a spent budget
    keeps, for these are wanted or have alarms of their own; and nobody just after what kept all of them has ended.
    """
    since = now - settings.ROTA_QUEUE_ALARM
    if _was_let_go(since, now):
        return None
    long = queued.filter(Q(not_before=None) | Q(not_before__lte=since), queued_at__lt=since).order_by("queued_at")
    alarms = Incident.objects.filter(Q(recovered_at=None) | Q(recovered_at__gt=since), kind=_Kind.PROVIDER_HELD)
    long = long.exclude(credential__in=alarms.values("subject"))
    for pool in Pool.objects.filter(places=0)[:_MOST_OF_ONE_KIND]:
        long = long.exclude(pools.members(pool))
    startable_now = Q(pk__in=startable(now=now).order_by().values("pk"))
    ended = Run.objects.filter(schedule=OuterRef("schedule"), finished_at__gt=since)
    ended = ended.exclude(status__in=(Run.Status.SKIPPED, Run.Status.MISSED))
    side_by_side = Q(run__overlap=Schedule.Overlap.ALLOW) & ~Q(run__trigger=Run.Trigger.BACKFILL)
    alone = startable_now & (side_by_side | ~Exists(ended))
    first = candidates(long.filter(Q(admitted_at__isnull=False) | alone)[:_EXAMINED])
    places = Places.read(now=now, when_full=True)
    places.know(first)
    for one in first:
        obstacle = None if one.admitted_at else places.obstacle(one)
        if obstacle is None or obstacle.until is None:
            return Session.objects.select_related("schedule").filter(pk=one.pk).first()
    return None


def _was_let_go(since: datetime, now: datetime) -> bool:
    """Whether something ended after `since` that kept all or many from starting."""
    budgets_spent = Incident.objects.filter(kind=_Kind.BUDGET_SPENT, recovered_at__gt=since)
    return (
        Stop.objects.filter(lifted_at__gt=since).exists()
        or Freeze.objects.filter(ends_at__gt=since, ends_at__lte=now).exists()
        or budgets_spent.exists()
    )


def _wait(session: Session, now: datetime) -> timedelta:
    return now - max(session.queued_at, session.not_before or session.queued_at)


def _no_worker(waits: timedelta, queued: SessionQuerySet, now: datetime) -> bool:
    """Whether there is nobody who could take what waits: that is the cause then, and has one alarm."""
    alive = WorkerHeartbeat.objects.alive(now=now, silent_after=settings.ROTA_LEASE)
    sessions_workers = alive.filter(kind=WorkerHeartbeat.Kind.SESSIONS)
    if waits <= NO_WORKER_AFTER or sessions_workers.filter(holds_back="").exists():
        Incident.objects.recover(_Kind.NO_WORKER, now=now)
        return False
    held = sessions_workers.values_list("holds_back", flat=True).first()
    why = f"every worker holds back. {held}" if held else "no worker that runs sessions is alive. Start one."
    count = queued.count()
    wait = "1 session waits" if count == 1 else f"{count} sessions wait"
    _alarm(_Kind.NO_WORKER, message=f"{wait}: {why}", now=now)
    return True


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
