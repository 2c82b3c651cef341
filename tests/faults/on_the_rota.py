"""Schedules on the rota, by a clock that is played: beat fires them, and their sessions are worked on or lost.

After each act all that is on record is compared with what the oracle says has to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from schedules import upkeep
from schedules.ending import end, settle
from schedules.firing import fire_due
from schedules.limits import admit
from schedules.models import Incident, Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.replanning import replan_ahead
from tests.faults.happenings import (
    ANY,
    FIELDS,
    HOUR,
    LATER,
    MINUTE,
    NIGHTS,
    ON,
    OUTCOMES,
    SECOND,
    TO_DUE,
    TO_EDGE,
    WHEN,
    spans,
)
from tests.faults.oracle import Halt, Life
from tests.faults.records import Act, Records, Row, Seen, rows_of
from tests.schedules.factories import make_repository, make_schedule, make_worker
from tests.schedules.faults import failing

_CORRECTED = timedelta(seconds=60)  # beat takes no notice of a clock that goes back by so little
_LONGEST = 21 * HOUR  # of one step forward


class OnTheRota(Records, RuleBasedStateMachine):
    """What happens by itself, one rule each."""

    def __init__(self) -> None:
        super().__init__()
        self._transaction = transaction.atomic()
        self._transaction.__enter__()
        self.windows: dict[int, Halt] = {}  # by their ids
        self.names = 0

    def teardown(self) -> None:
        if not connection.needs_rollback:
            connection.check_constraints()
        transaction.set_rollback(True)
        self._transaction.__exit__(None, None, None)

    @initialize(
        night=st.sampled_from(NIGHTS),
        before=spans(1, 31, 62, 185, 300),
        made=st.lists(
            st.tuples(WHEN, st.fixed_dictionaries(FIELDS), st.sampled_from([(), (0,), (0, 1)])), min_size=1, max_size=3
        ),
    )
    def begin(self, night: datetime, before: timedelta, made: list[tuple[dict[str, Any], dict[str, Any], Any]]) -> None:
        self.now = self.latest = night - before
        self.first = (night - timedelta(days=3)).replace(hour=12, minute=0)
        self.repositories = [make_repository("shop"), make_repository("stock")]
        self.worker = make_worker(now=self.now)
        for number, (when, fields, places) in enumerate(made):
            self._make(f"life-{number}", self._from_now(when | fields), [self.repositories[at] for at in places])
        self.seen = Seen.read()

    def _make(self, name: str, fields: dict[str, Any], places: list[Repository]) -> None:
        if fields["at"]:
            fields |= {"starts_at": None, "ends_at": None}
        if fields["starts_at"] and fields["ends_at"] and fields["starts_at"] >= fields["ends_at"]:
            fields["ends_at"] = None
        made = make_schedule(name, now=self.now, repositories=places, retry_backoff=MINUTE, **fields)
        life = Life(pk=made.pk, fields=fields | {"name": name}, since=self.now, begin=self.first)
        life.places = [place.pk for place in places] or [None]
        self.lives.append(life)

    def _from_now(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {
            name: (self.now + value).replace(microsecond=0) if name in LATER and value is not None else value
            for name, value in fields.items()
        }

    def _life(self, which: int) -> Life:
        return self.lives[which % len(self.lives)]

    # --- the clock and beat

    def _go_to(self, instant: datetime) -> None:
        self.now = max(self.now, min(instant, self.now + _LONGEST))
        self.latest = max(self.latest, self.now)

    def _go(self, to: Any) -> None:
        """So far; or to the moment at which one is due, or to the edge of its catch-up window."""
        if isinstance(to, timedelta):
            self._go_to(self.now + to)
        elif due_at := self._life(to[0]).due_at():
            window = max(self._life(to[0]).fields["catch_up"], 10 * SECOND) if len(to) > 2 else timedelta()
            self._go_to(due_at + to[1] + window)

    @rule(span=spans(0.2, 1, 1, 5))
    def time_passes(self, span: timedelta) -> None:
        self._go_to(self.now + span)

    @rule(
        to=TO_DUE | TO_DUE | TO_EDGE.map(lambda pair: (*pair, "edge")) | ON,
        most=st.sampled_from([1000, 1000, 1, 2]),
        collides=st.booleans(),
    )
    def beat_fires(self, to: Any, most: int, collides: bool) -> None:
        """`collides`: what is plain can't be recorded in bulk, and goes the way of the rest."""
        self._go(to)
        with failing('INSERT INTO "schedules_run"', times=int(collides), error=IntegrityError("somebody was faster")):
            self._fire(most)

    @rule(span=ON)
    def an_outage_ends(self, span: timedelta) -> None:
        self._go_to(self.now + span)
        self._fire(1000)

    @rule(minutes=st.integers(2, 6))
    def beat_fires_every_minute(self, minutes: int) -> None:
        for _ in range(minutes):
            self._go_to(self.now + MINUTE)
            self._fire(1000)

    @rule(by=st.sampled_from([5 * MINUTE, 20 * MINUTE, HOUR]), span=ON)
    def the_clock_is_set_back_and_beat_is_away(self, by: timedelta, span: timedelta) -> None:
        self.the_clock_is_set_back(by)
        self.an_outage_ends(span)

    def _fire(self, most: int) -> None:
        due = [life for life in self.lives if life.is_due(self.now)]
        with self.act() as act:
            fired = fire_due(now=self.now, limit=most)
            due_at = dict(Schedule.objects.values_list("pk", "due_at"))
            moved = [life for life in due if due_at[life.pk] != self.before.schedules[life.pk]["due_at"]]
            assert len(moved) == min(most, len(due)) == fired.schedules, "as many as it may are fired"
            for life in moved:
                act.add(life, life.fire(self.now))

    @rule(by=st.sampled_from([5 * SECOND, 40 * SECOND, 5 * MINUTE, 5 * MINUTE, HOUR, 3 * HOUR]))
    def the_clock_is_set_back(self, by: timedelta) -> None:
        then = max(self.now - by, self.first + 24 * HOUR)
        if by <= _CORRECTED:
            self.now = max(then, self.latest - _CORRECTED)
            return
        self.now = self.latest = then
        with self.act() as act:
            replan_ahead(now=self.now)
            for life in self.lives:
                self.forget_what_is_to_come(act, life)
                life.turned_back(self.now)

    # --- sessions

    @rule()
    def sessions_are_admitted(self) -> None:
        self._worker_lives()
        with self.act():
            for session in Session.objects.filter(pk__in=admit(now=self.now)).select_related("run", "repository"):
                assert not self._held_back(session)

    def _held_back(self, session: Session) -> bool:
        life = next(life for life in self.lives if life.pk == session.schedule_id)
        off = life.status == "disabled" or (life.status == "paused" and session.run.trigger == "schedule")
        place = session.repository
        lifted = [halt for halt in self.halts if halt.reason == "stopped" and halt.ends_at is not None]
        halted = any(halt.covers(life.pk, self.now) for halt in self._halts() if halt not in lifted)
        return halted or off or (place is not None and not place.enabled)

    def _worker_lives(self) -> None:
        WorkerHeartbeat.objects.filter(pk=self.worker.pk).update(last_seen_at=self.now)

    @rule(which=ANY)
    def one_is_claimed(self, which: int) -> None:
        self.sessions_are_admitted()
        queued = list(Session.objects.filter(status="queued", admitted_at__isnull=False).order_by("pk"))
        if not queued:
            return
        session = queued[which % len(queued)]
        with self.act():
            held_back = self._held_back(session)
            claimed = Session.objects.claim(session.pk, worker=self.worker, task_id="t", now=self.now)
            assert claimed != held_back
            if claimed:
                Session.objects.progress(session.pk, worker=self.worker, started_at=self.now)
                Run.objects.start(session.run_id, now=self.now)

    @rule(which=ANY, outcome=OUTCOMES)
    def one_ends(self, which: int, outcome: tuple[str, str]) -> None:
        running = list(Session.objects.filter(status="running").select_related("run").order_by("pk"))
        if not running:
            self.one_is_claimed(which)
            return
        session = running[which % len(running)]
        status, reason = ("cancelled", "cancelled") if session.cancel_requested_at else outcome
        with self.act() as act:
            assert end(session, status=status, reason=reason, now=self.now)
            settle(session.run_id, now=self.now)
            self._after_ends(act)

    @rule()
    def the_worker_dies(self) -> None:
        WorkerHeartbeat.objects.filter(pk=self.worker.pk).update(last_seen_at=self.now - settings.ROTA_LEASE - SECOND)
        with self.act() as act:
            upkeep.keep_up(now=self.now)
            self._after_ends(act)
        assert not Session.objects.filter(status="running").exists()

    def _after_ends(self, act: Act) -> None:
        """A schedule whose due times keep failing is paused."""
        runs = list(rows_of(Run).values())
        failed = {run["schedule_id"] for run in runs if self._has_just_failed(run)}
        for life in self.lives:
            most = life.fields["pause_after"]
            status_at = self.before.schedules[life.pk]["status_at"]
            if life.pk not in failed or not life.is_active or not most:
                continue
            of_it = [run for run in runs if run["schedule_id"] == life.pk and run["trigger"] == "schedule"]
            judged = [run for run in of_it if status_at is None or run["scheduled_for"] > status_at]
            if _failures_in_a_row(judged) >= most:
                act.add(life, life.take_off("paused", self.now))
                self.heed_what_is_settled(act, life)
                assert Incident.objects.open().filter(kind="paused_by_rota", schedule=life.pk).count() == 1

    def _has_just_failed(self, run: Row) -> bool:
        is_new = self.before.runs.get(run["id"], run)["status"] in Run.OPEN
        return is_new and run["status"] == "failed" and run["trigger"] == "schedule"


def _failures_in_a_row(runs: Sequence[Row]) -> int:
    """Its last due times that failed, the newest first: until one succeeded somewhere."""
    by_time: dict[datetime, set[str]] = {}
    for run in runs:
        if run["status"] in ("queued", "running", "succeeded", "partial", "failed"):
            by_time.setdefault(run["scheduled_for"], set()).add(run["status"])
    failed = 0
    for statuses in by_time.values():
        if "succeeded" in statuses or "partial" in statuses:
            break
        failed += statuses == {"failed"}
    return failed
