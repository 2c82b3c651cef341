"""Due schedules become runs, once; and a run by hand.

A due time is recorded in one transaction: its runs, their sessions and the schedule's next time. What takes long, to
reckon which times those are, comes before it; the transaction holds the rows, looks whether that is still so, and
writes. Two processes that fire at once take turns by row locks, and the table's unique constraints hold against
everything else.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, InterfaceError, OperationalError, transaction

from schedules import budgets, halts, punctual
from schedules.accounting import Span, covers, missed_run, places_of, recorded, rest_of, unrun
from schedules.agents import rehearsed
from schedules.models import Incident, Reason, Repository, Run, Schedule, Session
from schedules.models.incident import Cause
from schedules.models.schedule import ScheduleQuerySet
from schedules.models.validation import schedule_problems
from schedules.models.write_back import write_back
from schedules.new_runs import Place, new_run, new_session, open_runs, refusal
from schedules.occasions import Missed, Occasions, occasions
from schedules.steering import cancel_run
from schedules.timetable import TimetableError
from schedules.unfired import (
    BROKEN_FIELDS,
    break_unread,
    cause_of_breakage,
    cause_of_jump,
    cause_of_missed,
    mark_broken,
)

logger = logging.getLogger(__name__)

_ATTEMPTS = 3
_REST_AT_ONCE = 1000  # schedules in one transaction, each by itself
_HALTED = frozenset({Reason.STOPPED, Reason.FROZEN})
_HELD_AT_ONCE = 250  # schedules in one transaction: others get to write in between
# What a plan is made from. A schedule that differs in one of these when its row is held waits for the next look.
_PLANNED_FROM = (
    *("name", "status", "cron", "at", "time_zone", "starts_at", "ends_at", "max_runs", "fired_count", "jitter"),
    *("catch_up", "next_run_at", "due_at"),
)


class Refused(Exception):
    """A run by hand that policy does not allow. `reason` is a reason code; the message is for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """What one call recorded. `more`: it took as many as it may at once, and there may be others."""

    schedules: int
    runs: int
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """Which due times of a schedule are to be recorded, and from what that follows. Or why nobody can say."""

    basis: tuple[Any, ...]
    occasions: Occasions | None = None
    problem: str = ""


@dataclass(slots=True)
class _Writing:
    """What one transaction writes, collected before it is written."""

    runs: list[Run] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)  # runs that give way
    moved: list[Schedule] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)

    def add(self, other: _Writing) -> None:
        self.runs += other.runs
        self.sessions += other.sessions
        self.cancelled += other.cancelled
        self.moved += other.moved
        self.causes += other.causes


def fire_due(*, now: datetime, limit: int = 10_000) -> Fired:
    """Record the runs of up to `limit` schedules that are due, and move these on.

    One whose times can't be read or trusted is broken, with an alarm, and the others go on.
    """
    try:
        plain = punctual.record(Schedule.objects.due(now), now=now, limit=limit)
    except Exception:  # whatever it is, one by one it is met again: somebody was faster, or the database is away
        logger.warning("What is due can't be fired in bulk", exc_info=True, extra={"action": "fire_again"})
        return _fire_rest(Schedule.objects.due(now), now=now, limit=min(limit, _REST_AT_ONCE))
    if not plain.left:
        return Fired(schedules=plain.schedules, runs=plain.runs, more=plain.more)
    rest = Schedule.objects.due(now).filter(pk__in=plain.left)
    fired = _fire_rest(rest, now=now, limit=min(len(plain.left), _REST_AT_ONCE))
    return Fired(
        schedules=plain.schedules + fired.schedules,
        runs=plain.runs + fired.runs,
        more=plain.more or len(plain.left) > _REST_AT_ONCE,
    )


def _fire_rest(due: ScheduleQuerySet, *, now: datetime, limit: int) -> Fired:
    """What meets something, or is late: each for itself."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _fire(due, now=now, limit=limit)
        except (OperationalError, InterfaceError):
            raise  # the database, and no schedule
        except IntegrityError as error:  # somebody else was faster
            logger.warning("Fired at the same time as another: %s (%d)", error, attempt, extra={"action": "fire_again"})
        except Exception:
            logger.exception("Not all that is due can be fired at once: one by one", extra={"action": "fire_failed"})
            break
    return _fire_each(due, now=now, limit=limit)


def fire_one(pk: int, *, now: datetime) -> None:
    """Record what is due of this schedule, also what its jitter alone holds back: it is about to be changed."""
    _fire(Schedule.objects.filter(pk=pk, status=Schedule.Status.ACTIVE, next_run_at__lte=now), now=now, early=True)


def _fire(due: ScheduleQuerySet, *, now: datetime, limit: int = 1, early: bool = False) -> Fired:
    rows = due.only(*_PLANNED_FROM).order_by("due_at")[:limit]
    plans = {schedule.pk: _planned(schedule, now, early=early) for schedule in rows}
    pks = list(plans)
    written = [
        _written(due.filter(pk__in=pks[begin : begin + _HELD_AT_ONCE]), plans, now)
        for begin in range(0, len(pks), _HELD_AT_ONCE)
    ]
    return Fired(
        schedules=sum(len(writing.moved) for writing in written),
        runs=sum(len(writing.runs) for writing in written),
        more=len(plans) == limit,
    )


def _written(due: ScheduleQuerySet, plans: Mapping[int, _Plan], now: datetime) -> _Writing:
    """One transaction. Those of `due` that are not any more, or changed since they were planned, are left out."""
    with transaction.atomic():
        # In one order, whoever fires: else two would wait for each other.
        held = due.select_related("command").order_by("pk").select_for_update(of=("self",))
        planned = [(row, plan) for row in held if (plan := plans[row.pk]).basis == _basis(row)]
        writing = _collected(planned, now)
        _write(writing, now)
    return writing


def _fire_each(among: ScheduleQuerySet, *, now: datetime, limit: int) -> Fired:
    """The same in a transaction each, for there is one among them that fails: it is broken."""
    due = list(among.order_by("due_at").values_list("pk", flat=True)[:limit])
    schedules = runs = 0
    for pk in due:
        try:
            fired = _fire(Schedule.objects.due(now).filter(pk=pk), now=now)
        except (OperationalError, InterfaceError):
            raise
        except IntegrityError:
            logger.exception("Schedule %d can't be fired now: it waits", pk, extra={"action": "fire_again"})
            continue
        except Exception as error:
            logger.exception("Schedule %d can't be fired: broken", pk, extra={"action": "schedule_broken"})
            schedules += break_unread(pk, f"It can't be fired: {type(error).__name__}: {error}", now=now)
            continue
        schedules, runs = schedules + fired.schedules, runs + fired.runs
    return Fired(schedules=schedules, runs=runs, more=len(due) == limit and schedules > 0)


def _basis(schedule: Schedule) -> tuple[Any, ...]:
    return tuple(getattr(schedule, name) for name in _PLANNED_FROM)


def _planned(schedule: Schedule, now: datetime, *, early: bool) -> _Plan:
    basis = _basis(schedule)
    try:
        return _Plan(basis=basis, occasions=occasions(schedule, now, early=early))
    except TimetableError as error:
        return _Plan(basis=basis, problem=f"Its time can't be read: {error}")
    except Exception as error:
        logger.exception("%s can't be planned", schedule, extra={"action": "schedule_broken"})
        return _Plan(basis=basis, problem=f"Its time can't be reckoned: {type(error).__name__}: {error}")


# --- What is written --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """What a schedule's due time meets: read once for all that are due."""

    places: Mapping[int, Sequence[Repository | None]]
    open_runs: Mapping[Place, Sequence[Run]]
    recorded: Mapping[Place, Sequence[Span]]
    halts: halts.Halts
    money: budgets.Refusals


def _collected(planned: Sequence[tuple[Schedule, _Plan]], now: datetime) -> _Writing:
    schedules = [schedule for schedule, _ in planned]
    spans = [_span(schedule, plan, now) for schedule, plan in planned]
    around = _Around(
        places=places_of(schedules),
        open_runs=open_runs(schedules),
        recorded=recorded(spans),
        halts=halts.Halts.read(since=min((first for _, first, _ in spans), default=now), now=now),
        money=budgets.refusals(now=now),
    )
    writing = _Writing()
    for schedule, plan in planned:
        try:
            writing.add(_fired(schedule, plan, around, now))
        except Exception as error:
            logger.exception("%s can't be fired: broken", schedule, extra={"action": "schedule_broken"})
            problem = f"It can't be fired: {type(error).__name__}: {error}"
            writing.add(_broken(schedule, problem, around, now))
    return writing


def _span(schedule: Schedule, plan: _Plan, now: datetime) -> tuple[Schedule, datetime, datetime]:
    """From its first nominal time to the last one that rows may be made for."""
    first = schedule.next_run_at or now
    return schedule, first, plan.occasions.last if plan.occasions else first


def _fired(schedule: Schedule, plan: _Plan, around: _Around, now: datetime) -> _Writing:
    found = plan.occasions
    if found is None:
        return _broken(schedule, plan.problem, around, now)
    writing = _Writing(moved=[schedule])
    for repository in around.places.get(schedule.pk, [None]):
        known = around.recorded.get((schedule.pk, repository.pk if repository else None), ())
        for group in found.missed:
            for missed in rest_of(schedule, group, known):
                writing.runs.append(_not_run(schedule, repository, missed, around, now))
        if found.run_for and not covers(known, found.run_for):
            _add_due(writing, schedule, repository, found.run_for, around, now)
    if found.jumped:
        problem = "Too many due times at once: the clock can't be right."
        mark_broken(schedule, problem, accounted_at=found.last, now=now)
        writing.causes.append(cause_of_jump(schedule, found.missed[0]))
        return writing
    if any(run.reason in _HALTED for run in writing.runs):
        schedule.overdue_at = None  # nothing could succeed: the dead-man's switch begins anew
    schedule.move_on(found.following, queued=any(run.status == Run.Status.QUEUED for run in writing.runs))
    late = Counter[int | None]()
    for run in writing.runs:
        late[run.repository_id] += run.missed_count if run.reason == Reason.OUTSIDE_WINDOW else 0
    if most := max(late.values(), default=0):
        writing.causes.append(cause_of_missed(schedule, most))
    return writing


def _broken(schedule: Schedule, problem: str, around: _Around, now: datetime) -> _Writing:
    """Off the rota, with the one due time that is known on record. `problem`: a sentence for people."""
    writing = _Writing(moved=[schedule])
    first = schedule.next_run_at or now
    lost = Missed(first=first, last=first, count=1, reason=Reason.BROKEN)
    for repository in around.places.get(schedule.pk, [None]):
        known = around.recorded.get((schedule.pk, repository.pk if repository else None), ())
        if not covers(known, first):
            why = problem.rstrip(".")
            writing.runs.append(unrun(schedule, repository, lost, status=Run.Status.SKIPPED, why=why, now=now))
    mark_broken(schedule, problem, accounted_at=now, now=now)
    writing.causes.append(cause_of_breakage(schedule, problem))
    return writing


def _not_run(schedule: Schedule, repository: Repository | None, missed: Missed, around: _Around, now: datetime) -> Run:
    """Missed; or skipped, where they would not have run had Rota been there."""
    if halted := _halt_of(schedule, missed, around):
        reason, sentence = halted
        skipped = replace(missed, reason=reason)
        return unrun(schedule, repository, skipped, status=Run.Status.SKIPPED, why=sentence.rstrip("."), now=now)
    return missed_run(schedule, repository, missed, now)


def _halt_of(schedule: Schedule, missed: Missed, around: _Around) -> tuple[Reason, str] | None:
    if missed.reason == Reason.CLOCK_JUMPED or not around.halts.halts:
        return None
    return around.halts.covering(schedule.pk, schedule.due_for(missed.first), schedule.due_for(missed.last))


def _add_due(
    writing: _Writing,
    schedule: Schedule,
    repository: Repository | None,
    nominal: datetime,
    around: _Around,
    now: datetime,
) -> None:
    ahead = around.open_runs.get((schedule.pk, repository.pk if repository else None), [])
    run = new_run(schedule, repository, scheduled_for=nominal, now=now)
    writing.runs.append(run)
    halted = around.halts.refusal(schedule.pk, schedule.due_for(nominal), now)
    why_not = halted or refusal(schedule, repository, ahead)
    if not why_not and (spent := around.money.refusal(schedule, repository)):
        why_not = Reason.BUDGET, spent.message
        writing.causes.append(spent)
    if why_not:
        run.reason, run.message = why_not
        run.status, run.finished_at, run.items_found = Run.Status.SKIPPED, now, 0
        return
    writing.sessions.append(new_session(run))
    if schedule.overlap == Schedule.Overlap.CANCEL_OTHER:
        writing.cancelled += [other.pk for other in ahead if other.cancel_requested_at is None]


def _write(writing: _Writing, now: datetime) -> None:
    """In the caller's transaction, in which it holds the schedules."""
    Run.objects.bulk_create(writing.runs)
    Session.objects.bulk_create(writing.sessions)
    broken = [schedule for schedule in writing.moved if schedule.status == Schedule.Status.BROKEN]
    fit = [schedule for schedule in writing.moved if schedule.status != Schedule.Status.BROKEN]
    write_back(fit, (*Schedule.PLAN_FIELDS, "fired_count", "overdue_at"))
    write_back(broken, (*Schedule.PLAN_FIELDS, *BROKEN_FIELDS))
    Incident.objects.alarm_all(writing.causes, now=now)
    for run_id in writing.cancelled:  # last: one may have been a failure too many, which pauses its schedule
        cancel_run(run_id, by="the overlap policy, for a newer run", now=now)


# --- By hand ----------------------------------------------------------------------------------------------------------


def trigger(
    schedule: Schedule,
    *,
    repositories: Sequence[Repository] | None = None,
    trigger: str = Run.Trigger.MANUAL,
    by: str = "",
    variables: Mapping[str, str] | None = None,
    rehearse: bool = False,
    retry_of: Run | None = None,
    now: datetime,
) -> list[Run]:
    """One run in each repository (by default, all of the schedule's), for another reason than the clock.

    A paused or broken schedule can be run by hand, a disabled one can't; and none while all is stopped or it is frozen.
    Raises Refused, and then nothing is recorded.
    """
    with transaction.atomic():
        schedule = Schedule.objects.select_related("command").select_for_update(of=("self",)).get(pk=schedule.pk)
        require_runnable(schedule, variables or {}, now=now, rehearse=rehearse)
        places: Sequence[Repository | None] = (
            list(schedule.repositories.all()) if repositories is None else list(dict.fromkeys(repositories))
        ) or [None]
        before = open_runs([schedule])
        writing = _Writing()
        for repository in places:
            ahead = before.get((schedule.pk, repository.pk if repository else None), [])
            if why_not := refusal(schedule, repository, ahead):
                raise Refused(*why_not)
            if schedule.overlap == Schedule.Overlap.CANCEL_OTHER:
                writing.cancelled += [run.pk for run in ahead if run.cancel_requested_at is None]
            run = new_run(schedule, repository, scheduled_for=now, now=now)
            run.trigger, run.triggered_by, run.retry_of = trigger, by, retry_of
            run.variables = {**schedule.variables, **(variables or {})}
            run.is_rehearsal = run.is_rehearsal or (rehearse and schedule.is_agent)
            writing.runs.append(run)
            writing.sessions.append(new_session(run))
        _write(writing, now)
    return writing.runs


def require_runnable(
    schedule: Schedule, variables: Mapping[str, Any], *, now: datetime, rehearse: bool = False
) -> None:
    """Raises Refused where it can't be run by hand: disabled, stopped, frozen, or not as it is."""
    if schedule.status == Schedule.Status.DISABLED:
        why = f": {schedule.status_reason}" if schedule.status_reason else ""
        raise Refused(Reason.DISABLED, f"{schedule} is disabled{why}. Enable it to run it.")
    if halted := halts.refusal(schedule, now=now):
        raise Refused(*halted)
    unknown = sorted(set(variables) - set(schedule.variables))
    if unknown:
        known = ", ".join(schedule.variables) or "none"
        raise Refused(
            Reason.INVALID_OPTIONS,
            f"{schedule} has no variable {', '.join(unknown)}. There are: {known}.",
        )
    if problems := schedule_problems(schedule, rehearsed=rehearse or rehearsed(schedule.runner) is not None):
        told = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in problems.items())
        raise Refused(Reason.INVALID_OPTIONS, f"{schedule} can't be run as it is. {told}")
