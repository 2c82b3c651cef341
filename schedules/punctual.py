"""The most of what is due is on time and meets nothing: it is recorded by the database itself, in a few statements.

Which due times those are is said by the same functions as for all others, asked once for all schedules that are alike.
What is late, halted, short of money, not allowed where it is, or has a run that is still open, is left to `firing`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Case, F, TextField, Value, When
from django.db.models.functions import Cast, JSONArray

from schedules import budgets, bulk, halts
from schedules.models import Repository, Run, Schedule
from schedules.models.schedule import ScheduleQuerySet
from schedules.models.snapshot import snapshot_expression
from schedules.new_runs import new_run, new_session, refusal
from schedules.occasions import occasions
from schedules.side_by_side import in_halves

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """`left`: those that are due and whose due time is not recorded here. `more`: there may be others."""

    schedules: int = 0
    runs: int = 0
    left: Sequence[int] = ()
    more: bool = False


def record(due: ScheduleQuerySet, *, now: datetime, limit: int) -> Recorded:
    """Record what is plain among the first `limit` of those that are due, and move these on."""
    first = dict(due.order_by("due_at").annotate(timing=_timing()).values_list("pk", "timing")[:limit])
    if not first:
        return Recorded()
    with in_halves(len(first)) as halves:
        moves = _Moves.reckoned(first, now)  # which may take long: before the rows are held
        recorded = halves.of(list(first), lambda pks: _recorded(due, pks, moves, now))
    return Recorded(
        schedules=sum(half.schedules for half in recorded),
        runs=sum(half.runs for half in recorded),
        left=[pk for half in recorded for pk in half.left],
        more=len(first) == limit,
    )


def _recorded(due: ScheduleQuerySet, pks: Collection[int], moves: _Moves, now: datetime) -> Recorded:
    """One transaction."""
    with bulk.room(len(pks)), transaction.atomic():
        # In one order, whoever fires: else two would wait for each other.
        held = _read(due.filter(bulk.Among("pk", pks)).order_by("pk").select_for_update())
        plain = _unhindered([row for row in held if row.timing in moves.known], moves, now)
        runs = sum(_write(alike, now) for alike in plain)
        going = [row for alike in plain for row in alike.rows]
        moved: dict[str, list[int]] = {}
        for row in going:
            moved.setdefault(row.timing, []).append(row.pk)
        alike = [(moves.known[timing].values, pks) for timing, pks in moved.items()]
        bulk.update_alike(Schedule, _MOVED, alike, counted="fired_count")
    recorded = {row.pk for row in going}
    left = [row.pk for row in held if row.pk not in recorded]
    return Recorded(schedules=len(going), runs=runs, left=left)


# --- What is read of each ---------------------------------------------------------------------------------------------

# Those that are equal in it move on alike.
_TIMING = (
    *("cron", "at", "time_zone", "starts_at", "ends_at", "max_runs", "jitter", "catch_up", "timeout"),
    *("next_run_at", "due_at", "overdue_at"),
)
_RECKONED_FROM = {  # in the order of the model
    field.attname: field
    for field in Schedule._meta.concrete_fields
    if field.primary_key or field.name in {"name", "fired_count", *_TIMING}
}
# What a run and its session have of their schedule, beside what the database copies.
_KIND = ("runner", "target", "max_budget_usd", "max_run_usd", "secrets")


class _Row(NamedTuple):
    """What is read of each schedule, and no more. `kind` and `timing`: texts, equal for those that are alike in it."""

    pk: int
    overlap: str
    kind: str
    timing: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """Schedules that differ in nothing but what the database copies, and one of them for all."""

    one: Schedule
    rows: list[_Row]
    is_placed: bool  # one of them has a repository

    def asking(self, row: _Row) -> Schedule:
        """One of its schedules, as far as a budget asks for it."""
        asking = copy(self.one)
        asking.pk = row.pk
        return asking


def _read(schedules: ScheduleQuerySet) -> list[_Row]:
    rows = schedules.annotate(kind=_text_of(_KIND), timing=_timing())
    return list(map(_Row._make, rows.values_list(*_Row._fields)))


def _timing() -> Cast:
    # How often it ran counts where there is a limit to that, and its name where it decides about its jitter.
    counts = Case(When(max_runs__isnull=False, then="fired_count"))
    named = Case(When(jitter__gt=timedelta(), then="name"), default=Value(""))
    return _text_of((*_TIMING, counts, named))


def _text_of(columns: Sequence[Any]) -> Cast:
    return Cast(JSONArray(*columns), TextField())


# --- What is plain ----------------------------------------------------------------------------------------------------


def _unhindered(rows: Sequence[_Row], moves: _Moves, now: datetime) -> list[_Kind]:
    """Those that nothing around them keeps from running now."""
    pks = [row.pk for row in rows]
    open_runs = Run.objects.open().filter(bulk.Among("schedule", pks)).exclude(trigger=Run.Trigger.BACKFILL)
    busy = set(open_runs.values_list("schedule_id", flat=True))
    places = _Places.read(pks)
    halted = halts.Halts.read(since=moves.earliest or now, now=now)
    money = budgets.refusals(now=now)
    has_budgets = any(True for _ in money.ledger.accounts())
    kinds = _by_kind(rows, places)
    for kind in kinds:
        kind.rows[:] = [
            row
            for row in kind.rows
            if not (row.pk in busy and row.overlap != Schedule.Overlap.ALLOW)
            and not halted.refusal(row.pk, moves.known[row.timing].due_at, now)
            and not places.refuse(row.pk, kind.one)
            and not (has_budgets and any(money.refusal(kind.asking(row), place) for place in places.of(row.pk)))
        ]
    return [kind for kind in kinds if kind.rows]


def _by_kind(rows: Sequence[_Row], places: _Places) -> list[_Kind]:
    kinds: dict[str, list[_Row]] = {}
    for row in rows:
        kinds.setdefault(row.kind, []).append(row)
    ones = Schedule.objects.select_related("command").in_bulk([alike[0].pk for alike in kinds.values()])
    return [
        _Kind(ones[alike[0].pk], alike, is_placed=any(row.pk in places.links for row in alike))
        for alike in kinds.values()
    ]


@dataclass(slots=True)
class _Places:
    """The repositories of the schedules that have some, and what is known of who may not run where."""

    links: dict[int, list[int]] = field(default_factory=dict)
    repositories: dict[int, Repository] = field(default_factory=dict)
    refused: dict[tuple[str, int | None], bool] = field(default_factory=dict)

    @classmethod
    def read(cls, schedules: Collection[int]) -> _Places:
        places = cls()
        links = Schedule.repositories.through.objects.filter(bulk.Among("schedule", schedules))
        for schedule, repository in links.values_list("schedule_id", "repository_id"):
            places.links.setdefault(schedule, []).append(repository)
        places.repositories = Repository.objects.in_bulk({pk for pks in places.links.values() for pk in pks})
        return places

    def of(self, schedule: int) -> list[Repository | None]:
        return [self.repositories[pk] for pk in self.links.get(schedule, ())] or [None]

    def refuse(self, schedule: int, alike: Schedule) -> bool:
        return any(self._refuses(alike.target, place) for place in self.links.get(schedule, (None,)))

    def _refuses(self, target: str, place: int | None) -> bool:
        if (target, place) not in self.refused:
            repository = None if place is None else self.repositories[place]
            self.refused[target, place] = refusal(Schedule(target=target), repository, ()) is not None
        return self.refused[target, place]


_MOVED = ("next_run_at", "due_at", "overdue_at")


class _Move(NamedTuple):
    """When a due time was due, and the values of _MOVED after it, as the database takes them."""

    due_at: datetime
    values: tuple[Any, ...]


@dataclass(slots=True)
class _Moves:
    """Where schedules move on to, by their timing. One that is not `known` has not one nominal time that runs now."""

    known: dict[str, _Move] = field(default_factory=dict)
    earliest: datetime | None = None  # of the nominal times

    @classmethod
    def reckoned(cls, timings: Mapping[int, str], now: datetime) -> _Moves:
        """Each timing once, however many schedules have it. `timings`: of each schedule, by its id."""
        moves = cls()
        # The row of any of them will do: what they do not share does not decide. It is asked for its timing again, for
        # it may have been edited meanwhile.
        ones = {timing: pk for pk, timing in timings.items()}.values()
        found = Schedule.objects.filter(bulk.Among("pk", ones)).order_by().annotate(timing=_timing())
        for timing, *values in found.values_list("timing", *_RECKONED_FROM):
            schedule = Schedule.from_db(DEFAULT_DB_ALIAS, _RECKONED_FROM, values)
            nominal = schedule.next_run_at
            if nominal and (move := _move(schedule, now)):
                moves.known[timing] = move
                moves.earliest = min(moves.earliest or nominal, nominal)
        return moves


def _move(schedule: Schedule, now: datetime) -> _Move | None:
    nominal = schedule.next_run_at
    try:
        found = occasions(schedule, now)
        if found.missed or nominal is None or found.run_for != nominal:
            return None
        due_at = schedule.due_for(nominal)
        schedule.move_on(found.following, queued=True)
    except Exception as error:  # noqa: BLE001 - whatever it is: who takes what is left tells of it
        logger.debug("%s is left: %s", schedule.name, error)
        return None
    return _Move(due_at, bulk.prepared(Schedule, _MOVED, [getattr(schedule, name) for name in _MOVED]))


# --- What is written --------------------------------------------------------------------------------------------------


def _write(kind: _Kind, now: datetime) -> int:
    """The runs and sessions of schedules that are of one kind; what else differs, the database reads of their rows."""
    one, schedules = kind.one, [row.pk for row in kind.rows]
    run = new_run(one, None, scheduled_for=now, now=now)
    session = new_session(run)
    source = Schedule.objects.filter(bulk.Among("pk", schedules)).order_by("pk")
    runs = bulk.insert_selected(
        run,
        source.order_by("pk", "repositories__slug") if kind.is_placed else source,
        {
            "schedule_id": F("pk"),
            **({"repository_id": F("repositories")} if kind.is_placed else {}),
            "scheduled_for": F("next_run_at"),
            "snapshot": snapshot_expression(one if len(schedules) >= bulk.MANY else None),
            "variables": F("variables"),
            "overlap": F("overlap"),
        },
    )
    bulk.insert_selected(
        session,
        Run.objects.filter(bulk.Among("pk", runs)).order_by("pk"),
        {
            "run_id": F("pk"),
            "schedule_id": F("schedule_id"),
            "repository_id": F("repository_id"),
            "priority": F("schedule__priority"),
            "model_asked": F("schedule__model"),
            "agent_session_id": bulk.RandomUUID(),
        },
        returning=False,
    )
    return len(runs)
