"""Schedules that live through whatever may happen to them, by a clock that is played: a machine for Hypothesis.

After each act all that is on record is compared with what the oracle says has to be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from schedules import steering, stopping, upkeep, watch
from schedules.backfilling import MOST_AT_ONCE, backfill
from schedules.editing import save_edited
from schedules.ending import end, settle
from schedules.firing import Refused, fire_due, trigger
from schedules.limits import admit
from schedules.models import Incident, Repository, Run, Schedule, Session, WorkerHeartbeat
from schedules.replanning import replan_ahead
from schedules.timetable import TimetableError
from tests.faults.happenings import (
    ANY,
    CHANGES,
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
from tests.faults.records import Act, Place, Records, Row, Seen, rows_of
from tests.schedules.factories import make_repository, make_schedule, make_worker
from tests.schedules.faults import failing

_CORRECTED = timedelta(seconds=60)  # beat takes no notice of a clock that goes back by so little
_LONGEST = 21 * HOUR  # of one step forward


class Lives(Records, RuleBasedStateMachine):
    """What may happen, one rule each."""

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

    # --- people

    def _life(self, which: int) -> Life:
        return self.lives[which % len(self.lives)]

    @rule(which=ANY, change=CHANGES)
    def somebody_edits(self, which: int, change: dict[str, Any]) -> None:
        life, schedule = self._life(which), Schedule.objects.get(pk=self._life(which).pk)
        change = self._from_now(change)
        if "name" in change:
            self.names += 1
            change["name"] = f"{change['name']}-{self.names}"
        if not life.is_legible and "cron" not in change:
            return
        for name, value in change.items():
            setattr(schedule, name, value)
        try:
            schedule.full_clean()
        except ValidationError:
            return
        with self.act() as act:
            if life.status == "broken" or (not life.is_active and life.moves(change)):
                self.take_back_jumps(act, life)
            save_edited(schedule, change, by="ada", now=self.now)
            act.add(life, *life.edit(change, self.now))
            self.heed_what_is_settled(act, life)

    @rule(to=TO_DUE, change=CHANGES)
    def somebody_edits_it_as_it_is_due(self, to: tuple[int, timedelta], change: dict[str, Any]) -> None:
        self._go(to)
        self.somebody_edits(to[0], change)

    @rule(to=TO_DUE, verb=st.sampled_from(["pause", "disable"]))
    def somebody_takes_it_off_as_it_is_due(self, to: tuple[int, timedelta], verb: str) -> None:
        self._go(to)
        self.somebody_takes_it_off(to[0], verb)

    @rule(which=ANY, verb=st.sampled_from(["pause", "disable"]))
    def somebody_takes_it_off(self, which: int, verb: str) -> None:
        life, status = self._life(which), {"pause": "paused", "disable": "disabled"}[verb]
        weaker = ("active", "broken") if verb == "pause" else ("active", "broken", "paused")
        with self.act() as act:
            schedule = Schedule.objects.get(pk=life.pk)
            done = getattr(steering, verb)([schedule], by="ada", reason="", now=self.now)
            assert done == (life.status in weaker)
            if done:
                if not life.is_active:
                    self.take_back_jumps(act, life)
                act.add(life, life.take_off(status, self.now))
                self.heed_what_is_settled(act, life)
        waiting = Session.objects.filter(schedule=life.pk, status="queued")
        if life.status == "paused":
            waiting = waiting.filter(run__trigger="schedule")
        if life.status in ("paused", "disabled"):
            assert not waiting.exists()

    @rule(which=ANY)
    def somebody_resumes(self, which: int) -> None:
        life = self._life(which)
        with self.act() as act:
            try:
                with transaction.atomic():
                    done = steering.resume([Schedule.objects.get(pk=life.pk)], by="ada", now=self.now)
            except TimetableError:
                assert not life.is_legible
                return
            assert done == (not life.is_active)
            if done:
                self.take_back_jumps(act, life)
                act.add(life, life.bring_back(self.now))
                self.heed_what_is_settled(act, life)

    @rule(which=ANY, verb=st.sampled_from(["pause", "disable"]), span=ON)
    def it_is_off_for_a_while(self, which: int, verb: str, span: timedelta) -> None:
        self.somebody_takes_it_off(which, verb)
        self._go_to(self.now + span)
        self.somebody_resumes(which)

    @rule(which=ANY)
    def the_clock_is_corrected_as_it_comes_back(self, which: int) -> None:
        self.somebody_takes_it_off(which, "pause")
        if self._life(which).fields["cron"]:
            self._go_to(self._life(which).line().next_after(self.now) + 5 * SECOND)
        self.somebody_resumes(which)
        self.the_clock_is_set_back(40 * SECOND)
        self.somebody_takes_it_off(which, "pause")
        self.somebody_resumes(which)

    @rule(which=ANY, repository=st.integers(0, 1))
    def a_repository_is_linked_or_not(self, which: int, repository: int) -> None:
        life, place = self._life(which), self.repositories[repository]
        linked = Schedule.objects.get(pk=life.pk).repositories
        with self.act():
            if place.pk in life.places:
                linked.remove(place)
            else:
                linked.add(place)
            life.places = [*linked.order_by("pk").values_list("pk", flat=True)] or [None]

    @rule(repository=st.integers(0, 1))
    def a_repository_is_turned_off_or_on(self, repository: int) -> None:
        place = self.repositories[repository]
        place.enabled = not place.enabled
        place.save(update_fields=["enabled"])

    @rule(which=ANY, change=st.sampled_from([{"cron": "61 * * * *"}, {"time_zone": "Mars/Olympus"}]))
    def sql_breaks_it(self, which: int, change: dict[str, str]) -> None:
        life = self._life(which)
        if life.is_active and life.next() and not life.fields["at"]:
            Schedule.objects.filter(pk=life.pk).update(**change)
            life.is_legible = False

    @rule()
    def all_is_stopped_or_let_go(self) -> None:
        stops = [halt for halt in self.halts if halt.reason == "stopped" and halt.ends_at is None]
        with self.act():
            if stops:
                assert stopping.lift(by="ada", now=self.now)
                stops[0].ends_at = self.now
            else:
                stopping.stop(by="ada", reason="noise", now=self.now)
                self.halts.append(Halt("stopped", self.now, None))

    @rule(begins=spans(0, 0, 5, 60), lasts=spans(2, 30, 240), which=st.none() | ANY)
    def a_window_is_frozen(self, begins: timedelta, lasts: timedelta, which: int | None) -> None:
        named = [] if which is None else [self._life(which).pk]
        begins_at, ends_at = self.now + begins, self.now + begins + lasts
        with self.act():
            schedules = list(Schedule.objects.filter(pk__in=named))
            window = stopping.freeze(starts_at=begins_at, ends_at=ends_at, reason="sale", schedules=schedules, by="ada")
        self.windows[window.pk] = Halt("frozen", begins_at, ends_at, named or None)
        self.halts.append(self.windows[window.pk])

    @precondition(lambda self: self.windows)
    @rule(which=ANY)
    def a_window_is_thawed(self, which: int) -> None:
        pk, window = sorted(self.windows.items())[which % len(self.windows)]
        with self.act():
            thawed = stopping.thaw(pk, now=self.now)
        assert thawed == (window.ends_at is not None and window.ends_at > self.now)
        if thawed and window.begins_at >= self.now:
            self.halts.remove(self.windows.pop(pk))
        elif thawed:
            window.ends_at = self.now

    @rule(which=ANY)
    def somebody_runs_it_by_hand(self, which: int) -> None:
        life = self._life(which)
        with self.act() as act:
            schedule = Schedule.objects.get(pk=life.pk)
            try:
                trigger(schedule, by="ada", now=self.now)
            except Refused:
                assert not self._may_run_by_hand(life)
            else:
                assert self._may_run_by_hand(life)
                act.by_hand += [(life.pk, place, self.now, "manual") for place in life.places]

    def _may_run_by_hand(self, life: Life) -> bool:
        return (
            life.is_legible
            and life.status != "disabled"
            and not self.halted(life.pk, self.now)
            and all(self.outcome(life, place, life.fields["overlap"]) == "queued" for place in life.places)
        )

    @rule(which=ANY, since=spans(3, 60, 600), lasts=spans(0, 4, 40, 700))
    def somebody_fills_in(self, which: int, since: timedelta, lasts: timedelta) -> None:
        life, begin = self._life(which), max(self.now - since, self.first)
        with self.act() as act:
            schedule, wanted = Schedule.objects.get(pk=life.pk), self._to_fill_in(life, begin, begin + lasts)
            try:
                made, left = backfill(schedule, since=begin, until=begin + lasts, by="ada", now=self.now)
            except (Refused, TimetableError):
                is_off = life.status == "disabled" or not life.is_legible or self.halted(life.pk, self.now)
                assert is_off or not self.places_that_are_on(life)
                return
            assert left == len(wanted[MOST_AT_ONCE:])
            assert len(made) == len(wanted) - left
            act.by_hand += wanted[:MOST_AT_ONCE]

    def _to_fill_in(self, life: Life, since: datetime, until: datetime) -> list[tuple[int, int | None, datetime, str]]:
        done = {
            (run["repository_id"], run["scheduled_for"])
            for run in self.before.runs.values()
            if run["schedule_id"] == life.pk
            and run["trigger"] in ("schedule", "backfill")
            and run["status"] in ("queued", "running", "succeeded")
        }
        times = life.times(since - datetime.resolution, min(until, self.now))
        places = self.places_that_are_on(life)
        return [(life.pk, place, time, "backfill") for time in times for place in places if (place, time) not in done]

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
        return bool(self.halted(life.pk, self.now)) or off or (place is not None and not place.enabled)

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

    @rule(which=ANY, ends=st.lists(OUTCOMES, max_size=2))
    def due_times_run(self, which: int, ends: list[tuple[str, str]]) -> None:
        """One after another, and the last one is still at it when the next one is due."""
        self.somebody_resumes(which)
        for outcome in [*ends, None]:
            self._go((which, timedelta()))
            self._fire(1000)
            self.one_is_claimed(which)
            if outcome:
                self.one_ends(which, outcome)
        self._go((which, timedelta()))
        self._fire(1000)

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

    @rule(which=ANY)
    def a_run_is_cancelled(self, which: int) -> None:
        runs = list(Run.objects.open().order_by("pk").values_list("pk", flat=True))
        if runs:
            with self.act():
                assert steering.cancel_run(runs[which % len(runs)], by="ada", now=self.now)

    @rule()
    def the_watch_looks(self) -> None:
        with self.act():
            watch.look(now=self.now)

    @invariant()
    def an_open_run_has_an_open_session(self) -> None:
        open_runs = set(Run.objects.open().values_list("pk", flat=True))
        assert open_runs == set(Session.objects.open().values_list("run_id", flat=True))

    @invariant()
    def the_overlap_policies_are_kept(self) -> None:
        rows = Run.objects.open().exclude(overlap="allow").exclude(trigger="backfill")
        found: defaultdict[Place, list[tuple[str, str]]] = defaultdict(list)
        for schedule, repository, overlap, status in rows.values_list(
            "schedule_id", "repository_id", "overlap", "status"
        ):
            found[schedule, repository].append((overlap, status))
        for place, runs in found.items():
            assert sum(status == "running" for _, status in runs) <= 1, (place, runs)
            assert sum(overlap == "skip" for overlap, _ in runs) <= 1, (place, runs)
            assert runs.count(("queue_one", "queued")) <= 1, (place, runs)


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
