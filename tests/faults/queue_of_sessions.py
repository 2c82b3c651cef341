"""Runs come about, and their sessions wait, are admitted, handed over and claimed.

Each step does what a process of Rota does, by the same functions. After it the rows are compared with a book that was
kept of all that was done (`book`, `audit`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from typing import Any

from django.core.management.color import no_style
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from schedules import backfilling, execution, firing
from schedules.dispatching import Dispatcher
from schedules.limits import admit
from schedules.models import Budget, Freeze, Pool, Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.new_runs import new_session
from tests.faults.audit import Doing, compare
from tests.faults.book import Book
from tests.faults.chances import CREDENTIALS, CROWD, MINUTE, MOST, MOST_IN_REPOSITORY, NOW, Act, kinds, nth, some
from tests.faults.entries import Hand, Terms
from tests.schedules.factories import make_repository, make_schedule, make_worker


class Queue(RuleBasedStateMachine):
    """One house: its schedules, its workers and what waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        _begin_ids_anew()
        self.book = Book(now=NOW, most=MOST, most_in_repository=MOST_IN_REPOSITORY)
        self.doing = Doing()
        self.steps = 0
        self.names = count(1)
        self.schedules: list[Schedule] = []
        self.repositories: list[Repository] = []
        self.workers: dict[int, WorkerHeartbeat] = {}
        self.in_hand: dict[int, dict[int, Session]] = {}  # worker → its sessions
        self.messages: list[int] = []
        self.is_broker_away = False
        self.dispatcher = Dispatcher(self._admit, self._publish)

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None and self.schedules:
                self.see_all_through()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

    def see_all_through(self) -> None:
        """At the end, where nothing failed."""

    @property
    def now(self) -> datetime:
        return self.book.now

    @initialize(made=st.lists(st.tuples(kinds(), st.integers(0, 2)), min_size=2, max_size=4), items=st.integers(1, 4))
    def begin(self, made: list[tuple[dict[str, Any], int]], items: int) -> None:
        self.repositories = [make_repository(slug) for slug in ("shop", "docs")]
        self.book.repositories = {one.pk: one.slug for one in self.repositories}
        for number, (fields, places) in enumerate(made):
            here = self.repositories[:places]
            schedule = make_schedule(f"s{number}", now=NOW, repositories=here, timeout=MINUTE, **fields)
            self.schedules.append(schedule)
            self.book.terms[schedule.pk] = Terms(
                pk=schedule.pk,
                name=schedule.name,
                credential=CREDENTIALS[schedule.runner],
                weight=schedule.weight,
                most=schedule.max_sessions,
                own=schedule.max_budget_usd,
                of_run=schedule.max_run_usd,
                retry=schedule.retry,
                attempts=schedule.retry_attempts,
            )
        self.join(slots=3, host="host-1")
        for number in range(2):
            self.trigger(number, items, False)

    def join(self, slots: int, host: str) -> None:
        worker = make_worker(f"w{next(self.names)}", now=self.now, hostname=host, concurrency=slots)
        self.workers[worker.pk], self.in_hand[worker.pk] = worker, {}
        self.book.hands[worker.pk] = Hand(slots=slots, host=host, seen_at=self.now)

    def act(self, act: Act) -> None:
        name, arguments = act
        getattr(self, name)(**arguments)

    def compare(self) -> None:
        compare(self.book, self.doing)
        self.doing = Doing()

    # --- runs come about

    @rule(items=st.integers(1, 3))
    def fire(self, items: int) -> None:
        self.doing.makes_runs = True
        self.doing.cancels.add("cancelled")
        firing.fire_due(now=self.now)
        self._expand(Run.objects.open().exclude(pk__in=self.book.runs), items)

    def _expand(self, runs: Iterable[Run], items: int) -> None:
        """As a target that finds several items makes their sessions."""
        for run in runs:
            for number in range(2, items + 1):
                one = new_session(run)
                one.number = number
                one.save()

    def _is_calm(self) -> bool:
        return sum(row.is_open for row in self.book.sessions.values()) < CROWD

    @precondition(_is_calm)
    @rule(n=nth, items=st.integers(1, 5), rehearse=st.booleans())
    def trigger(self, n: int, items: int, rehearse: bool) -> None:
        schedule = some(self.schedules, n)
        self.doing.makes_runs = True
        self.doing.cancels.add("cancelled")
        here = list(schedule.repositories.all())[: 1 + n % 2]
        try:
            runs = firing.trigger(schedule, repositories=here, rehearse=rehearse, now=self.now)
        except firing.Refused as refused:
            self._look_at_refusal(schedule, refused)
            return
        assert not self._is_halted(schedule)
        self._expand(runs, items)

    def _is_halted(self, schedule: Schedule) -> bool:
        frozen = any(one.covers(schedule.pk, self.now) for one in self.book.windows.values())
        return self.book.is_stopped or frozen or self.book.terms[schedule.pk].status == "disabled"

    def _look_at_refusal(self, schedule: Schedule, refused: firing.Refused) -> None:
        """Overlap and what is off depend on the place: the first is the database's to hold, too."""
        is_off = refused.reason == "disabled" and bool(self.book.off)
        assert self._is_halted(schedule) or refused.reason == "overlap" or is_off, str(refused)

    @precondition(_is_calm)
    @rule(n=nth, minutes=st.sampled_from((10, 20, 40)))
    def backfill(self, n: int, minutes: int) -> None:
        schedule = some(self.schedules, n)
        self.doing.makes_runs = True
        since = self.now - minutes * MINUTE
        try:
            backfilling.backfill(schedule, since=since, until=self.now, by="ada", now=self.now)
        except firing.Refused as refused:
            self._look_at_refusal(schedule, refused)

    # --- admission, messages, claims

    def _admit(self) -> list[int]:
        self.compare()
        expected = self.book.admissible()
        found = admit(now=self.now)
        assert found == expected, f"admitted {found}, there is room for {expected}"
        self.doing.admitted |= set(found)
        self.doing.cancels.add("budget")
        return found

    def _publish(self, ids: list[int]) -> int:
        if self.is_broker_away:
            Session.objects.release(ids)
            self.doing.released |= set(ids)
            return 0
        self.messages += ids
        return len(ids)

    @rule()
    def dispatch(self) -> None:
        self.dispatcher.dispatch()

    @precondition(lambda self: self.messages and self.takers())
    @rule(n=nth, at=nth, stays=st.booleans())
    def deliver(self, n: int, at: int, stays: bool) -> None:
        """`stays`: it comes a second time."""
        at %= len(self.messages)
        session = self.messages[at] if stays else self.messages.pop(at)
        self.hand_over(session, some(self.takers(), n))

    def flush_broker(self) -> None:
        if not self.messages:
            return
        self.messages.clear()

    def broker(self, is_away: bool) -> None:
        self.is_broker_away = is_away

    def takers(self) -> list[int]:
        """Workers whose process takes messages."""
        hands = self.book.hands
        return [
            pk
            for pk, hand in hands.items()
            if not hand.is_gone and not hand.is_dead and not hand.is_silent and len(self.in_hand[pk]) < hand.slots
        ]

    def hand_over(self, session_id: int, worker: int) -> None:
        """As `Worker.execute`."""
        self.compare()
        if self.book.hands[worker].holds_back:
            Session.objects.release([session_id])
            self.doing.released.add(session_id)
            return
        expected = self.book.is_claimable(self.book.sessions[session_id])
        claimed = Session.objects.claim(session_id, worker=self.workers[worker], task_id="t", now=self.now)
        assert claimed == expected, f"session {session_id} was {'' if claimed else 'not '}claimed"
        if claimed:
            held = self.book.shut_by(self.book.sessions[session_id], ())
            assert not held, f"session {session_id} was claimed: {held}"
            self.doing.claimed.add(session_id)
            self.in_hand[worker][session_id] = execution._begun(session_id, self.now)


def _begin_ids_anew() -> None:
    """The same step is to give the same ids each time: waits of retries are spread by them."""
    models = [Schedule, Repository, Run, Session, WorkerHeartbeat, Pool, Budget, Freeze]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)
