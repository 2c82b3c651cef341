"""Random lives of schedules: as beat fires them (`on_the_rota`), people and faults do to them whatever may be done."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from schedules import steering, stopping, watch
from schedules.backfilling import MOST_AT_ONCE, backfill
from schedules.editing import save_edited
from schedules.firing import Refused, trigger
from schedules.models import Run, Schedule, Session
from schedules.timetable import TimetableError
from tests.faults.happenings import ANY, CHANGES, MINUTELY, ON, OUTCOMES, SECOND, TO_DUE, spans
from tests.faults.on_the_rota import OnTheRota
from tests.faults.oracle import Halt, Life
from tests.faults.records import Place


class Lives(OnTheRota):
    """What may happen, one rule each."""

    # --- people

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
            if (life.status == "broken" and change) or (not life.is_active and life.moves(change)):
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

    @rule(which=ANY, times=st.integers(1, 3), span=ON, is_off=st.booleans())
    def it_ends_with_a_due_time(self, which: int, times: int, span: timedelta, is_off: bool) -> None:
        """That one still is, and none after it."""
        life, last = self._life(which), self.now
        if not life.fields["cron"]:
            return
        for _ in range(times):
            last = life.line().next_after(last)
        self.somebody_edits(which, {"ends_at": last - self.now})
        if is_off:
            self.it_is_off_for_a_while(which, "pause", last - self.now + span)
        else:
            self.an_outage_ends(last - self.now + span)

    @rule(which=ANY, span=spans(1000, 1001, 1230), is_put_right=st.booleans())
    def the_clock_is_far_ahead(self, which: int, span: timedelta, is_put_right: bool) -> None:
        """As many due times at once as an outage may have, and more."""
        self.somebody_edits(which, MINUTELY)
        self.an_outage_ends(span)
        if is_put_right:
            self.the_clock_is_set_back(span)

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

    # --- looking

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
