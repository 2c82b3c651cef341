"""Who may start: the database is the queue, and a session is handed to the broker only when there is a place for it.

Limits on sessions at once: of all (the workers' slots and ROTA_MAX_SESSIONS), of a schedule, of a repository, and of
each pool that it is in. Limits on money: of its run, and the budgets of its schedule, of its repository and of all. And
its provider has to let it in. A session that waits holds nothing, and blocks nobody behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

from django.db import connection, transaction
from django.db.models import DateTimeField, Exists, Field, OuterRef, Q

from schedules import budgets
from schedules.bulk import Among, together
from schedules.ending import settle
from schedules.models import Reason, Run, Schedule, Session
from schedules.models.run import RunQuerySet
from schedules.models.session import SessionQuerySet
from schedules.places import FIELDS, Candidate, Places, candidates
from schedules.prepared import Select, given

_ADMISSION_LOCK = 0x526F7461  # one admission at a time; the number is "Rota"
# Waiting sessions in one page: as many as there are places free. No other sizes, for each is a statement of its own.
_FEW, *_SIZES = (16, 256, 1024, 4096, 10_000)
_KNOWN = 1000  # values of a column that are remembered


def admit(*, now: datetime, about_to: Callable[[list[int]], object] = lambda _: None) -> list[int]:
    """Mark the sessions that may start now as admitted, by priority and age. The caller publishes their ids.

    `about_to` is told of them before they are marked, and returns soon: a lock is held.
    """
    if not _WAITING.all():
        return []
    with transaction.atomic():
        _one_at_a_time()
        places = Places.read(now=now)
        chosen = _choose(places)
        if chosen:
            about_to(chosen)
            Session.objects.admit(chosen, now=now)
    # Not inside: whoever changes a run locks its schedule first, and would wait for us as we for them.
    for run_id in places.short_runs:
        _end_unaffordable(run_id, now=now)
    budgets.alarm(places.spent, now=now)
    return chosen


def _choose(places: Places) -> list[int]:
    """In their order, page by page. What is full is left out of the next page itself."""
    chosen: list[int] = []
    last: Candidate | None = None
    while places.free > 0:
        size = _FEW if last is None and places.free < _FEW else _size(places.free)
        page = _page(places, last, size)
        places.know(page)
        chosen += [one.pk for one in page if places.take(one)]
        if len(page) < size:
            break
        last = page[-1]
    return chosen


def _size(wanted: int) -> int:
    return next((size for size in _SIZES if size >= wanted), _SIZES[-1])


def _page(places: Places, last: Candidate | None, size: int) -> list[Candidate]:
    full = {"schedules": places.full_schedules(), "repositories": places.full_repositories()}
    shut = places.shut()
    if not shut and not last:
        rows = _first_page(size).all(now=places.now, **{name: together(ids) for name, ids in full.items()})
        return list(map(Candidate._make, rows))
    found = _open_to(places.now, **full)
    if shut:
        found = found.exclude(shut)
    if last:
        found = found.filter(Q(priority__lt=last.priority) | Q(priority=last.priority, pk__gt=last.pk))
    return candidates(found[:size])


_WAITING = Select(lambda: Session.objects.waiting().values_list("pk")[:1])


class _Page(Select):
    """Thousands of rows have the same amounts, and each is made a Decimal once."""

    def _make(self) -> Any:
        made = super()._make()
        once = [(at, tuple(map(_once, converters)), column) for at, converters, column in made.converters]
        return made._replace(converters=tuple(once))


def _once(convert: Callable[..., Any]) -> Callable[..., Any]:
    known: dict[Any, Any] = {}

    def converted(value: Any, expression: Any, connection: Any) -> Any:
        made = known.get(value)
        if made is None:
            if len(known) >= _KNOWN:  # another thread may clear it just now, too
                known.clear()
            made = known[value] = convert(value, expression, connection)
        return made

    return converted


@cache
def _first_page(size: int) -> Select:
    full = {name: given(name, Field()) for name in ("schedules", "repositories")}
    return _Page(lambda: _open_to(given("now", DateTimeField()), **full)[:size].values_list(*FIELDS))


def _open_to(now: datetime, *, schedules: Any, repositories: Any) -> SessionQuerySet:
    """Startable, and neither of these schedules nor in these repositories: each of them ids, or their place."""
    elsewhere = Q(repository=None) | ~Q(Among("repository", repositories))
    return startable(now=now).filter(~Q(Among("schedule", schedules)), elsewhere)


def startable(*, now: datetime) -> SessionQuerySet:
    """Waiting sessions that neither another run nor their schedule's status nor the time holds back."""
    older = Run.objects.open().filter(schedule=OuterRef("schedule"), pk__lt=OuterRef("run"))
    older = older.exclude(overlap=Schedule.Overlap.ALLOW)
    backfill = Q(run__trigger=Run.Trigger.BACKFILL)
    side_by_side = Q(run__overlap=Schedule.Overlap.ALLOW) & ~backfill
    free = side_by_side | ~backfill & _no_run_of(older) | backfill & _no_run_of(_before_backfill())
    return Session.objects.waiting().ready(now).filter(free).on_the_rota().not_halted(now)


def _before_backfill() -> RunQuerySet:
    """The runs that one of a backfill lets go first: its schedule's others, and those of a backfill before it."""
    open_runs = Run.objects.open().filter(schedule=OuterRef("schedule"))
    return open_runs.filter(~Q(trigger=Run.Trigger.BACKFILL) | Q(pk__lt=OuterRef("run")))


def _no_run_of(runs: RunQuerySet) -> Q:
    """None of these is in the session's repository; or nowhere, like it."""
    here, nowhere = runs.filter(repository=OuterRef("repository")), runs.filter(repository=None)
    return Q(repository__isnull=False) & ~Exists(here) | Q(repository=None) & ~Exists(nowhere)


def _end_unaffordable(run_id: int, *, now: datetime) -> None:
    """The run's own money limit holds none of its remaining sessions, and no other one is open that could change it."""
    limit = Run.objects.values_list("schedule__max_run_usd", flat=True).get(pk=run_id)
    if limit is None:  # somebody has just taken it away
        return
    told = f"The money limit of its run, {limit:.2f} USD, does not hold another session."
    waiting = Session.objects.waiting().filter(run=run_id, reserved_usd__gt=0)
    for pk, reserves in list(waiting.values_list("pk", "reserved_usd")):
        # Still waiting, that is: another admission may have been told of a higher limit.
        waiting.order_by().finish(
            pk,
            status=Session.Status.CANCELLED,
            reason=Reason.BUDGET,
            now=now,
            message=f"{told} It would reserve {reserves:.2f}.",
        )
    settle(run_id, now=now)


def _one_at_a_time() -> None:
    """Admissions take turns, or two of them would fill the same place. SQLite's write transactions do anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADMISSION_LOCK])
