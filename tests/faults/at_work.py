"""Sessions at work, at random: workers come and go, and start, lose and end what they took from the queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from schedules import ending, execution, quota, upkeep
from schedules.dispatching import Slot
from schedules.models import Session, WorkerHeartbeat
from schedules.presence import Presence
from schedules.returning import GIVEN_BACK
from tests.faults.chances import COSTS, CREDENTIALS, ENDS, HOLDS, MINUTE, SPANS, Act, End, acts, nth, some
from tests.faults.entries import LEASE, UNCLAIMED, Row
from tests.faults.queue_of_sessions import Queue


class AtWork(Queue):
    """A house whose workers do what they took."""

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
        )
        | HOLDS
    )
    def something_happens(self, act: Act) -> None:
        self.act(act)

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
