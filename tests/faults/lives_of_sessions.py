"""Random lives of sessions: as they work (`at_work`), all that bears on them changes."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from schedules import quota, steering, stopping
from schedules.models import Budget, Pool, Repository, Schedule
from schedules.places import Places
from tests.faults.at_work import AtWork
from tests.faults.audit import look_at_spending, look_at_what_is_told
from tests.faults.chances import ENDS, HOLDS, MINUTE, MOST, Act, End, acts, nth, some
from tests.faults.entries import Limit, Purse, Row, Window
from tests.schedules.factories import make_pool

POOLS = ("", "provider=anthropic", "model=claude-opus-*", "model=haiku", "model=gpt-*")
LIMITS = (None, *map(Decimal, ("3.50", "2.00", "1.00", "0.75", "0")))
OF_RUN = (None, "2.00", "1.00")
OWN_MOST = st.sampled_from((None, 1, 3))
CHANGES = acts(
    cancel={"n": st.integers(0, 40), "whole_run": st.booleans()},
    steer={"n": nth, "status": st.sampled_from(("active", "paused", "active", "disabled"))},
    stop_all={"stops": st.sampled_from((False, True, False)), "cancel_running": st.booleans()},
    freeze={"n": nth, "begins_in": st.integers(0, 1), "minutes": st.integers(1, 9), "of_all": st.booleans()},
    thaw={"n": nth},
    add_pool={"n": nth, "places": st.sampled_from((2, 1, 3, 0)), "of": st.sampled_from(POOLS)},
    change_pool={"n": nth, "places": st.sampled_from((None, 2, 4, 1, 0))},
    change_budget={"n": nth, "period": st.sampled_from(("day", "month")), "limit": st.sampled_from(LIMITS)},
    change_repository={"n": nth, "is_on": st.sampled_from((True, False, True)), "most": OWN_MOST},
    edit={"n": nth, "most": st.integers(1, 3), "weight": st.integers(1, 2), "of_run": st.sampled_from(OF_RUN)},
    lift_hold={"n": nth},
)


class LivesOfSessions(AtWork):
    """From when the first worker comes to when all is done."""

    looks_every = 4  # steps: then what everybody is told is compared too

    @rule(act=CHANGES)
    def somebody_changes_something(self, act: Act) -> None:
        self.act(act)

    @rule(act=CHANGES | HOLDS | HOLDS)
    def something_changes_while_messages_travel(self, act: Act) -> None:
        self.dispatcher.dispatch()
        self.compare()
        self.act(act)
        while self.messages and (takers := self.takers()):
            self.hand_over(self.messages.pop(0), takers[0])

    @precondition(lambda self: self.running())
    @rule(n=nth, whole_run=st.booleans(), how=st.sampled_from(ENDS))
    def it_ends_before_it_hears_that_it_is_cancelled(self, n: int, whole_run: bool, how: End) -> None:
        worker, session = some(self.running(), n)
        self._cancel(self.book.sessions[session.pk], whole_run)
        self.compare()
        self.finish(worker, session, how)

    # --- people

    def cancel(self, n: int, whole_run: bool) -> None:
        if not self.book.sessions:
            return
        self._cancel(some(list(self.book.sessions.values())[::-1], n), whole_run)

    def _cancel(self, row: Row, whole_run: bool) -> None:
        self.doing.cancels.add("cancelled")
        if whole_run:
            is_open = self.book.runs[row.run].is_open
            assert steering.cancel_run(row.run, by="ada", now=self.now) == is_open
            self.book.unsettled.discard(row.run)
        else:
            assert steering.cancel_session(row.pk, by="ada", now=self.now) == row.is_open

    def steer(self, n: int, status: str) -> None:
        schedule = some(self.schedules, n)
        before = self.book.terms[schedule.pk].status
        self.doing.cancels.add(status)
        if status == "active":
            steering.resume([schedule], by="ada", now=self.now)
        elif status == "paused":
            steering.pause([schedule], by="ada", reason="Later.", now=self.now)
            status = before if before == "disabled" else status
        else:
            steering.disable([schedule], by="ada", reason="Never.", now=self.now)
        self.book.terms[schedule.pk].status = status

    def stop_all(self, stops: bool, cancel_running: bool) -> None:
        if stops and not self.book.is_stopped:
            stopping.stop(by="ada", reason="The forge moves.", cancel_running=cancel_running, now=self.now)
        elif not stops:
            assert stopping.lift(by="ada", now=self.now) == self.book.is_stopped
        self.book.is_stopped = stops

    def freeze(self, n: int, begins_in: int, minutes: int, of_all: bool) -> None:
        starts_at, reason = self.now + begins_in * MINUTE, f"Release {next(self.names)}"
        ends_at = starts_at + minutes * MINUTE
        named = [] if of_all else [some(self.schedules, n)]
        made = stopping.freeze(starts_at=starts_at, ends_at=ends_at, reason=reason, schedules=named, by="ada")
        self.book.windows[made.pk] = Window(starts_at, ends_at, reason, {one.pk for one in named})

    def thaw(self, n: int) -> None:
        if not self.book.windows:
            return
        pk = some(list(self.book.windows), n)
        window = self.book.windows.pop(pk)
        assert stopping.thaw(pk, now=self.now) == (window.ends_at > self.now)

    # --- limits

    def add_pool(self, n: int, places: int, of: str) -> None:
        if len(self.book.pools) > 3:
            return
        kind, _, value = of.partition("=")
        named = self.schedules[: n % (len(self.schedules) + 1)]
        pool = make_pool(f"pool-{next(self.names)}", places=places, **({kind: value} if kind else {}))
        pool.schedules.set(named)
        limit = Limit(pool.name, places, pool.provider, pool.model, {one.pk for one in named})
        self.book.pools[pool.pk] = limit

    def change_pool(self, n: int, places: int | None) -> None:
        """None: it goes."""
        if not self.book.pools:
            return
        pk = some(list(self.book.pools), n)
        if places is None:
            Pool.objects.get(pk=pk).delete()
            del self.book.pools[pk]
            return
        Pool.objects.filter(pk=pk).update(places=places)
        self.book.pools[pk].places = places

    def change_budget(self, n: int, period: str, limit: Decimal | None) -> None:
        """Of a schedule, a repository, or of all. None: it goes."""
        owners: tuple[dict[str, int], ...] = (
            {"schedule": self.schedules[0].pk},
            {"repository": self.repositories[0].pk},
            {},
        )
        whose: dict[str, int | None] = {"schedule": None, "repository": None, **some(owners, n)}
        of = {f"{name}_id": pk for name, pk in whose.items()}
        Budget.objects.filter(**of, period=period).delete()
        for pk, purse in list(self.book.purses.items()):
            if (purse.period, purse.schedule, purse.repository) == (period, whose["schedule"], whose["repository"]):
                del self.book.purses[pk]
        if limit is not None:
            made = Budget.objects.create(**of, period=period, limit_usd=limit)
            self.book.purses[made.pk] = Purse(period, limit, **whose)

    def change_repository(self, n: int, is_on: bool, most: int | None) -> None:
        pk = some(self.repositories, n).pk
        Repository.objects.filter(pk=pk).update(enabled=is_on, max_sessions=most)
        self.book.off = self.book.off - {pk} if is_on else self.book.off | {pk}
        self.book.own_most.pop(pk, None)
        if most is not None:
            self.book.own_most[pk] = most

    def edit(self, n: int, most: int, weight: int, of_run: str | None) -> None:
        terms = self.book.terms[some(self.schedules, n).pk]
        terms.most, terms.weight = most, weight
        terms.of_run = None if of_run is None else Decimal(of_run)
        Schedule.objects.filter(pk=terms.pk).update(max_sessions=most, weight=weight, max_run_usd=terms.of_run)

    def lift_hold(self, n: int) -> None:
        if not self.book.held:
            return
        name = some(list(self.book.held), n)
        quota.lift(name, by="ada", now=self.now)
        del self.book.held[name]

    # --- looking

    @invariant()
    def look(self) -> None:
        self.compare()
        self.steps += 1
        if self.steps % self.looks_every == 0:
            look_at_what_is_told(self.book)

    def see_all_through(self) -> None:
        """Nothing is in anybody's way any more: then all of it ends, and nothing is held."""
        self._clear_the_way()
        for _ in range(3 * len(self.book.sessions) + 9):
            if not any(row.is_open for row in self.book.sessions.values()):
                break
            self.keep_up()
            self.compare()
            while self.messages:
                self.hand_over(self.messages.pop(0), self.takers()[0])
            self.compare()
            for worker, session in self.running():
                self.finish(worker, session, ENDS[0])
                self.compare()
            self.messages.clear()
            self.pass_time(90 * MINUTE)
        else:
            self.keep_up()
        self.compare()
        assert not [row for row in self.book.sessions.values() if row.is_open]
        assert not [run for run in self.book.runs.values() if run.is_open]
        look_at_spending()
        places = Places.read(now=self.now, when_full=True)
        held = (places.schedules, places.repositories, places.runs, places.taken, places.trying)
        assert not any(held), "something is held, and nobody is there"
        assert places.free == min(places.slots, MOST)
        assert not any(account.reserved for account in places.ledger.accounts())

    def _clear_the_way(self) -> None:
        self.stop_all(False, False)
        for _ in list(self.book.windows):
            self.thaw(0)
        for _ in list(self.book.pools):
            self.change_pool(0, 9)
            self.change_pool(0, None)
        for number in range(3):
            for period in ("day", "month"):
                self.change_budget(number, period, None)
        for number in range(len(self.schedules)):
            self.steer(number, "active")
            self.compare()
            self.edit(number, 3, 1, None)
        for number in range(len(self.repositories)):
            self.change_repository(number, True, None)
        self.broker(False)
        for pk, hand in self.book.hands.items():
            if hand.is_silent or hand.holds_back:
                hand.is_dead, self.in_hand[pk] = True, {}
        self.messages.clear()
        self.pass_time(9 * 24 * 60 * MINUTE)
        self.join(9, "host-3")
