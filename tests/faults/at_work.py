"""Sessions at work, at random: their runs come about, they wait, are admitted, claimed, lost and ended by workers.

Each step does what a process of Rota does, by the same functions. After it the rows are compared with a book that was
kept of all that was done (`book`, `audit`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any, TypeVar

from django.core.management.color import no_style
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from schedules import backfilling, ending, execution, firing, quota, upkeep
from schedules.dispatching import Dispatcher, Slot
from schedules.limits import admit
from schedules.models import Budget, Freeze, Pool, Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.new_runs import new_session
from schedules.presence import Presence
from schedules.returning import GIVEN_BACK
from tests.faults.audit import Doing, compare
from tests.faults.book import LEASE, UNCLAIMED, Book, Hand, Row, Terms
from tests.schedules.factories import make_repository, make_schedule, make_worker

NOW = datetime(2027, 1, 30, 23, 40, tzinfo=UTC)  # a day and a month end soon
MINUTE = timedelta(minutes=1)
MOST, MOST_IN_REPOSITORY = 5, 2
CROWD = 24  # open sessions: then nobody asks for more
CREDENTIALS = {"claude": "anthropic", "codex": "openai", "script": ""}

Thing = TypeVar("Thing")
Act = tuple[str, dict[str, Any]]
End = tuple[str, str, int]  # status, reason, turns

ENDS: tuple[End, ...] = (
    ("succeeded", "ok", 3),
    ("failed", "exit_code", 0),
    ("failed", "agent_error", 2),
    ("timed_out", "timed_out", 2),
    ("failed", "overloaded", 0),
    ("failed", "rate_limited", 0),
    ("failed", "api_error", 1),
    ("failed", "fetch_failed", 0),
    ("cancelled", "shutdown", 0),
    ("failed", "budget", 5),
)
SPANS = tuple(timedelta(seconds=one) for one in (1, 6, 21, 25, 61, 65, 200, 1900, 5 * 3600, 26 * 3600))
COSTS = tuple(map(Decimal, ("0", "0.25", "0.50", "1.00", "1.75")))

nth = st.integers(0, 11)


def some(things: Sequence[Thing], n: int) -> Thing:
    return things[n % len(things)]


def acts(**arguments: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Act]:
    """One of these methods, with what it is called with. What is a rule of its own comes about more often."""
    return st.one_of(*(st.tuples(st.just(name), st.fixed_dictionaries(given)) for name, given in arguments.items()))


def kinds() -> st.SearchStrategy[dict[str, Any]]:
    """What a schedule is made of."""
    limited = st.sampled_from((None, None, Decimal("1.00"), Decimal("1.50")))
    agents = st.fixed_dictionaries(
        {
            "runner": st.just("claude"),
            "model": st.sampled_from(("haiku", "opus", "claude-opus-4-5")),
            "max_budget_usd": st.sampled_from((None, Decimal("0.50"), Decimal("1.00"))),
            "max_run_usd": limited,
        }
    )
    others = st.sampled_from(({"runner": "script"}, {"runner": "codex", "model": "gpt-5"}))
    common = st.fixed_dictionaries(
        {
            "overlap": st.sampled_from(("allow", "skip", "queue_one", "cancel_other")),
            "max_sessions": st.sampled_from((3, 1, 2)),
            "weight": st.sampled_from((1, 2)),
            "priority": st.sampled_from((0, 5)),
            "retry": st.sampled_from(("none", "infrastructure", "all")),
            "retry_attempts": st.sampled_from((1, 2)),
            "retry_backoff": st.sampled_from((timedelta(), 3 * MINUTE)),
            "pause_after": st.sampled_from((None, 1, 2)),
            "cron": st.sampled_from(("*/10 * * * *", "0 3 * * *")),
        }
    )
    return st.builds(lambda one, other: one | other, common, agents | others)


class AtWork(RuleBasedStateMachine):
    """One house: its schedules, its workers and its queue."""

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

    @rule(
        most=st.integers(1, 5),
        starts=st.booleans(),
        ends=st.lists(st.tuples(st.sampled_from(ENDS), st.sampled_from(COSTS)), max_size=3),
    )
    def work(self, most: int, starts: bool, ends: list[tuple[End, Decimal]]) -> None:
        """What all do when nothing is in their way."""
        self.dispatcher.dispatch()
        for _ in range(most):
            if self.messages and (takers := self.takers()):
                self.hand_over(self.messages.pop(0), takers[0])
        self.compare()
        while starts and self.running(begun=False):
            self.start(0, True)
        for how, cost in ends:
            if running := self.running():
                self.compare()
                self.finish(*running[0], how, cost)

    @rule(
        act=acts(
            flush_broker={},
            broker={"is_away": st.sampled_from((False, True, False))},
            silence={"n": nth, "is_silent": st.booleans()},
            hold_back={"n": nth, "holds_back": st.sampled_from((False, True, False))},
            leave={"n": nth, "politely": st.booleans()},
            join={"slots": st.integers(1, 3), "host": st.sampled_from(("host-1", "host-2"))},
            take_over={"n": nth},
            service_is_overloaded={"n": nth, "times": st.sampled_from((3, 1, 4))},
            quota_is_used_up={"n": nth, "minutes": st.sampled_from((5, 30, -1)), "of_model": st.booleans()},
        )
    )
    def something_happens(self, act: Act) -> None:
        self.act(act)

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

    # --- what runs

    def running(self, *, begun: bool | None = None) -> list[tuple[int, Session]]:
        """In the hands of a worker, whatever their rows say."""
        return [
            (worker, session)
            for worker, sessions in self.in_hand.items()
            for session in sessions.values()
            if begun is None or begun == (session.pid is not None)
        ]

    def _is_its_own(self, worker: int, session: Session) -> bool:
        row = self.book.sessions[session.pk]
        return row.status == "running" and row.worker == worker

    @precondition(lambda self: self.running(begun=False))
    @rule(n=nth, wholly=st.booleans())
    def start(self, n: int, wholly: bool) -> None:
        """A worker writes the folder, and then the process: it may die in between."""
        worker, session = some(self.running(begun=False), n)
        facts: dict[str, Any] = {"folder": str(session.pk)}
        if wholly:
            facts["pid"] = session.pid = 4_000_000 + session.pk
        is_told = Session.objects.progress(session.pk, worker=self.workers[worker], **facts)
        assert is_told == self._is_its_own(worker, session)

    @precondition(lambda self: self.running())
    @rule(n=nth, cost=st.sampled_from(COSTS))
    def spend(self, n: int, cost: Decimal) -> None:
        """It tells what it has cost so far, and that a model answers it."""
        worker, session = some(self.running(), n)
        if not session.credential:
            return
        cost = max(cost, self.book.sessions[session.pk].cost)
        is_told = Session.objects.progress(session.pk, worker=self.workers[worker], cost_usd=cost)
        assert is_told == self._is_its_own(worker, session)
        if is_told:
            quota.answered(session.credential, now=self.now)
            self.book.answers(session.credential)
            self.book.sessions[session.pk] = self.book.sessions[session.pk]._replace(cost=cost)

    def service_is_overloaded(self, n: int, times: int) -> None:
        """So many sessions tell so that are not of this house."""
        credential = CREDENTIALS[some(self.schedules, n).runner]
        for _ in range(times):
            quota.report(credential, reason="overloaded", answered=False, now=self.now)
            self.book.ended(credential, "overloaded", is_answered=False, resets_at=None)

    def quota_is_used_up(self, n: int, minutes: int, of_model: bool) -> None:
        if not self.running():
            return
        worker, session = some(self.running(), n)
        if not session.credential or not self._is_its_own(worker, session):
            return
        model = "opus" if of_model and session.credential == "anthropic" else ""
        until = self.now + minutes * MINUTE
        quota.hold_until(session.credential, until, model=model, now=self.now)
        self.book.hold_until(f"{session.credential}:{model}" if model else session.credential, until)

    @precondition(lambda self: self.running())
    @rule(
        n=nth,
        how=st.sampled_from(ENDS),
        cost=st.sampled_from(COSTS),
        resets_in=st.sampled_from((None, -5, 10, 9 * 24 * 60)),
        settles=st.sampled_from((True, True, True, False)),
        goes_on=st.booleans(),
    )
    def end(self, n: int, how: End, cost: Decimal, resets_in: int | None, settles: bool, goes_on: bool) -> None:
        """`settles`: else its worker dies just then. `goes_on`: its slot takes the next one."""
        worker, session = some(self.running(), n)
        if self.book.sessions[session.pk].cancel_requested_at and n % 2:
            how = ("cancelled", "cancelled", how[2])
        resets_at = None if resets_in is None or how[1] != "rate_limited" else self.now + resets_in * MINUTE
        self.finish(worker, session, how, cost, resets_at=resets_at, settles=settles, goes_on=goes_on)

    def finish(
        self,
        worker: int,
        session: Session,
        how: End,
        cost: Decimal = Decimal(0),
        *,
        resets_at: datetime | None = None,
        settles: bool = True,
        goes_on: bool = False,
    ) -> None:
        """As `execution` puts an outcome on record, with the session as it was read when it was claimed."""
        status, reason, turns = how
        before = self.book.sessions[session.pk]
        cost = max(cost, before.cost) if session.credential else Decimal(0)
        slot, goes_on = Slot(self.dispatcher), goes_on and not self.book.hands[worker].is_silent
        if goes_on:
            slot.expect()
        ended = ending.end(
            session, status=status, reason=reason, now=self.now, resets_at=resets_at, cost_usd=cost, turns=turns
        )
        assert ended == before.is_open
        del self.in_hand[worker][session.pk]
        if ended:
            self.doing.ended[session.pk] = (status, reason, cost)
            is_answered = status == "succeeded" or turns > 0
            self.book.ended(session.credential, reason, is_answered=is_answered, resets_at=resets_at)
        else:
            Session.objects.report_late(session.pk, {"outcome": status})
            self.doing.late.add(session.pk)
        if settles:
            ending.settle(session.run_id, now=self.now)
        else:
            self.book.unsettled.add(session.run_id)
        if goes_on:
            following = slot.take()
            if following is not None:
                self.hand_over(following, worker)

    # --- time and workers

    @rule(span=st.sampled_from(SPANS))
    def pass_time(self, span: timedelta) -> None:
        self.book.now += span
        for pk, hand in self.book.hands.items():
            if not hand.is_gone and not hand.is_dead and not hand.is_silent:
                assert WorkerHeartbeat.objects.renew(pk, now=self.now)
                hand.seen_at = self.now

    def join(self, slots: int, host: str) -> None:
        worker = make_worker(f"w{next(self.names)}", now=self.now, hostname=host, concurrency=slots)
        self.workers[worker.pk], self.in_hand[worker.pk] = worker, {}
        self.book.hands[worker.pk] = Hand(slots=slots, host=host, seen_at=self.now)

    def _at_work(self) -> list[int]:
        return [pk for pk, hand in self.book.hands.items() if not hand.is_gone and not hand.is_dead]

    def silence(self, n: int, is_silent: bool) -> None:
        if not self._at_work():
            return
        self.book.hands[some(self._at_work(), n)].is_silent = is_silent

    def hold_back(self, n: int, holds_back: bool) -> None:
        """Its disk is full, or it is told to see through what it has."""
        if not self._at_work():
            return
        pk = some(self._at_work(), n)
        WorkerHeartbeat.objects.filter(pk=pk).update(holds_back="It was told to end." if holds_back else "")
        self.book.hands[pk].holds_back = holds_back

    def leave(self, n: int, politely: bool) -> None:
        """It is killed. Politely: it ends, when its sessions have all begun, and leaves them to their shims."""
        if not self._at_work():
            return
        pk = some(self._at_work(), n)
        if politely:
            for session in self.in_hand[pk].values():
                if session.pid is None:
                    Session.objects.progress(session.pk, worker=self.workers[pk], folder=str(session.pk), pid=4_000_000)
            Presence(row=self.workers[pk], renewed_at=self.now).leave(self.now)
            self.book.hands[pk].is_gone, self.book.hands[pk].seen_at = True, self.now
        self.book.hands[pk].is_dead = True
        self.in_hand[pk] = {}

    def take_over(self, n: int) -> None:
        """A worker goes on with what others of its machine left."""
        if not self.takers():
            return
        self.compare()
        pk = some(self.takers(), n)
        hands = self.book.hands
        for row in list(self.book.sessions.values()):
            of = row.worker
            if row.status != "running" or of is None or not hands[of].is_dead or hands[of].host != hands[pk].host:
                continue
            session = Session.objects.get(pk=row.pk)
            if session.pid is None:
                self._settle_death(session, row, of, pk)
            else:
                assert Session.objects.adopt(row.pk, of=of, worker=self.workers[pk])
                self.in_hand[pk][row.pk] = Session.objects.whole(row.pk)

    @rule(n=nth, politely=st.booleans())
    def restart(self, n: int, politely: bool) -> None:
        """As at a deploy."""
        if not self._at_work():
            return
        of = self.book.hands[some(self._at_work(), n)]
        self.leave(n, politely)
        self.join(of.slots, of.host)
        self.take_over(self.takers().index(max(self.takers())))

    @rule(n=nth)
    def be_forgotten(self, n: int) -> None:
        """It can't renew its lease, and goes on."""
        if not self._at_work():
            return
        self.silence(n, True)
        self.pass_time(timedelta(seconds=65))
        self.keep_up()

    def _settle_death(self, session: Session, row: Row, of: int, worker: int) -> None:
        run = self.book.runs[row.run]
        is_wanted = not (row.cancel_requested_at or run.cancel_requested_at) and self.book.is_on_the_rota(row)
        is_first = not session.folder and row.message != GIVEN_BACK
        expected = ("given back" if is_wanted else "cancelled") if is_first else "lost"
        told = execution.adopt(row.pk, of=of, worker=self.workers[worker], wish=lambda: "", clock=lambda: self.now)
        assert told == expected
        if told == "given back":
            self.doing.given_back.add(row.pk)
        else:
            reason = "cancelled" if told == "cancelled" else "worker_died"
            self.doing.ended[row.pk] = (told, reason, None)

    @rule()
    def keep_up(self) -> None:
        self.compare()
        rows = self.book.sessions.values()
        released = [row for row in rows if row.status == "queued" and self._waits_for_nobody(row)]
        heard = {pk for pk, hand in self.book.hands.items() if hand.seen_at > self.now - LEASE}
        lost = [row for row in rows if row.status == "running" and row.worker not in heard]
        done = upkeep.keep_up(now=self.now)
        assert (done["released"], done["lost"]) == (len(released), len(lost))
        self.doing.released |= {row.pk for row in released}
        self.doing.ended |= {row.pk: ("lost", "worker_died", None) for row in lost}
        self.book.unsettled.clear()
        self.dispatcher.dispatch()

    def _waits_for_nobody(self, row: Row) -> bool:
        return row.admitted_at is not None and row.admitted_at < self.now - UNCLAIMED


def _begin_ids_anew() -> None:
    """The same step is to give the same ids each time: waits of retries are spread by them."""
    models = [Schedule, Repository, Run, Session, WorkerHeartbeat, Pool, Budget, Freeze]
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)
