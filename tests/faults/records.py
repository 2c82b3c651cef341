"""What is on record of schedules that live through something, compared with what has to be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import models

from schedules.models import Incident, Repository, Run, Schedule, Session
from tests.faults.oracle import MOST_DUE, Expected, Halt, Life

Place = tuple[int, int | None]
Row = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """The tables before an act."""

    runs: dict[int, Row]
    sessions: dict[int, Row]
    schedules: dict[int, Row]

    @classmethod
    def read(cls) -> Seen:
        return cls(rows_of(Run), rows_of(Session), rows_of(Schedule))

    def open_runs(self, place: Place) -> list[Row]:
        return [
            run
            for run in self.runs.values()
            if run["status"] in Run.OPEN
            and run["trigger"] != Run.Trigger.BACKFILL
            and (run["schedule_id"], run["repository_id"]) == place
        ]


def rows_of(model: type[models.Model]) -> dict[int, Row]:
    """By their ids, the newest first, as far as a life changes them."""
    names = [field.attname for field in model._meta.concrete_fields if not isinstance(field, models.JSONField)]
    return {row["id"]: row for row in model._default_manager.order_by("-pk").values(*names)}


@dataclass(slots=True)
class Act:
    """What one act has to leave on record, and what it may."""

    expected: list[tuple[Life, Expected]] = field(default_factory=list)
    by_hand: list[tuple[int, int | None, datetime, str]] = field(default_factory=list)
    goes: set[int] = field(default_factory=set)  # rows that are deleted
    cut: dict[int, list[datetime]] = field(default_factory=dict)  # rows that stand for less than before
    unknown: set[int] = field(default_factory=set)  # the same, where an edit since keeps anybody from saying for what

    def add(self, life: Life, *found: Expected) -> None:
        self.expected += [(life, one) for one in found]


class Records:
    """Lives as they should be, and what is on record of their due times; after each act the tables are compared."""

    now: datetime
    seen: Seen
    before: Seen
    repositories: list[Repository]

    def __init__(self) -> None:
        super().__init__()
        self.lives: list[Life] = []
        self.halts: list[Halt] = []
        self.on_record: defaultdict[Place, dict[datetime, int]] = defaultdict(dict)  # nominal time → its row
        self.stands_for: dict[int, list[datetime]] = {}  # rows of due times that nothing ran for
        self.when: dict[int, tuple[Any, ...]] = {}  # of these rows from what that follows
        self.jumps: set[int] = set()  # of these rows those of a clock that jumped

    @contextmanager
    def act(self) -> Iterator[Act]:
        self.before, act = self.seen, Act()
        yield act
        self.seen = after = Seen.read()
        self._compare_cuts(act, after)
        self._compare_runs(act, after)
        self._compare_ended(self.before.runs, after.runs, act)
        self._compare_ended(self.before.sessions, after.sessions, Act())
        self._compare_schedules(after)

    def _compare_cuts(self, act: Act, after: Seen) -> None:
        for pk in act.unknown:
            left, times = after.runs[pk], self.stands_for[pk]
            self._forget(pk, [time for time in times if time > self.now])
            assert left["scheduled_for"] <= left["missed_until"] <= self.now, left
            assert left["missed_count"] <= self.before.runs[pk]["missed_count"], left
            self.stands_for[pk], self.when[pk] = [time for time in times if time <= self.now], ()
            self.before.runs[pk] = left
        for pk, times in act.cut.items():
            self._forget(pk, [time for time in self.stands_for[pk] if time not in times])
            if times:
                left = after.runs[pk]
                assert left["missed_until"] == times[-1], left
                assert left["missed_count"] == len(times) or pk in self.jumps, left
                self.stands_for[pk] = times
                self.before.runs[pk] = left
            else:
                assert pk not in after.runs, f"{after.runs[pk]} is to come"
                act.goes.add(pk)
                self.jumps.discard(pk)
                del self.stands_for[pk]

    def _forget(self, pk: int, times: Sequence[datetime]) -> None:
        run = self.before.runs[pk]
        known = self.on_record[run["schedule_id"], run["repository_id"]]
        for time in times:
            if known.get(time) == pk:
                del known[time]

    def _compare_runs(self, act: Act, after: Seen) -> None:
        new = [run for pk, run in sorted(after.runs.items()) if pk not in self.before.runs]
        fired = [run for run in new if run["trigger"] == "schedule"]
        by_hand = [(run["schedule_id"], run["repository_id"], run["scheduled_for"], run["trigger"]) for run in new]
        told = [one for one in by_hand if one[3] != "schedule"]
        assert sorted(told, key=str) == sorted(act.by_hand, key=str)
        for life, expected in act.expected:
            mine = [run for run in fired if run["schedule_id"] == life.pk]
            queued = False
            for place in life.places:
                rows = [run for run in mine if run["repository_id"] == place and _is_of(run, expected)]
                queued |= self._compare_place(life, place, expected, rows)
                fired = [run for run in fired if run not in rows]
            life.fired += queued
        assert not fired, f"nobody is to have recorded {fired}"
        sessions = [session for session in after.sessions.values() if session["id"] not in self.before.sessions]
        firsts = sorted(session["run_id"] for session in sessions if session["attempt"] == 1)
        assert firsts == sorted(run["id"] for run in new if run["items_found"]), "one session for each that is to run"

    def _compare_place(self, life: Life, place: int | None, expected: Expected, rows: Sequence[Row]) -> bool:
        """Each time that is not on record yet is, once, as it has to be. True: it runs."""
        known = self.on_record[life.pk, place]
        wanted = {time: kind for time, kind in expected.kinds.items() if time not in known}
        queued = False
        for run in rows:
            until = run["missed_until"] or run["scheduled_for"]
            times = [time for time in expected.kinds if run["scheduled_for"] <= time <= until]
            assert times, run
            assert (times[0], times[-1]) == (run["scheduled_for"], until), "it is from a nominal time to one"
            kinds = {wanted.pop(time, "on record already") for time in times}
            assert len(kinds) == 1, f"{run} is of {kinds}"
            self._compare_kind(life, place, expected, run, kinds.pop(), times)
            row_id: int = run["id"]
            known.update(dict.fromkeys(times, row_id))
            queued |= run["status"] == "queued" or bool(run["items_found"])
        assert not wanted, f"{life.fields} in {place}: nothing is on record of {wanted}; there is {rows}"
        return queued

    def _compare_kind(
        self,
        life: Life,
        place: int | None,
        expected: Expected,
        run: Row,
        kind: str,
        times: Sequence[datetime],
    ) -> None:
        said = f"{run['status']}:{run['reason']}"
        if kind == "due":
            assert (run["missed_until"], run["missed_count"]) == (None, 0)
            halted = self.halted(life.pk, expected.due_at[times[0]], self.now)
            outcome = self.outcome(life, place, expected.overlap)
            if halted:
                assert said in {f"skipped:{reason}" for reason in halted}
            else:
                assert run["status" if outcome == "queued" else "reason"] == outcome, (run, outcome)
            if run["items_found"] and expected.overlap == "cancel_other":
                others = [other["id"] for other in self.before.open_runs((life.pk, place))]
                assert not Run.objects.filter(pk__in=others, cancel_requested_at=None).exists()
            return
        self.stands_for[run["id"]], self.when[run["id"]] = list(times), expected.when
        whole = [halt.reason for halt in self._halts() if all(halt.covers(life.pk, expected.due_at[t]) for t in times)]
        if kind == "missed:clock_jumped":
            self.jumps.add(run["id"])
            assert said == kind
            assert run["missed_count"] <= MOST_DUE
            told = Incident.objects.open().filter(kind="clock_jumped").exists()
            assert told or life.is_active or not expected.heeds_halts, "who takes it off needs no alarm"
            return
        assert run["missed_count"] == len(times), (run, times)
        if expected.heeds_halts and kind.startswith("missed:") and whole:
            assert said in {f"skipped:{reason}" for reason in whole}
            return
        assert said == kind, (run, kind)
        alarm = {"missed:outside_window": "missed", "skipped:broken": "schedule_broken"}.get(said)
        if alarm and expected.heeds_halts:
            assert Incident.objects.open().filter(kind=alarm, subject=expected.name).count() == 1

    def outcome(self, life: Life, place: int | None, overlap: str) -> str:
        """What becomes of a due time that nothing halts: its status, or why it is skipped."""
        if place not in self.places_that_are_on(life):
            return "disabled"
        ahead = self.before.open_runs((life.pk, place))
        waiting = [run for run in ahead if run["status"] == "queued"]
        if (overlap == "skip" and ahead) or (overlap == "queue_one" and waiting):
            return "overlap"
        return "queued"

    def _halts(self) -> list[Halt]:
        """One that is in force is, also where the clock was set back since it was set."""
        return [
            Halt(halt.reason, min(halt.begins_at, self.now), None) if halt.ends_at is None else halt
            for halt in self.halts
        ]

    def halted(self, schedule: int, *instants: datetime) -> list[str]:
        return [halt.reason for halt in self._halts() if any(halt.covers(schedule, at) for at in instants)]

    def _compare_ended(self, before: dict[int, Row], after: dict[int, Row], act: Act) -> None:
        """What has ended stays as it is."""
        for pk, row in before.items():
            if row["status"] not in Run.OPEN and not (pk in act.goes or row.get("run_id") in act.goes):
                assert after.get(pk) == row
            if pk in after and row["status"] == "running":
                assert after[pk]["status"] != "queued"

    def _compare_schedules(self, after: Seen) -> None:
        for life in self.lives:
            row = after.schedules[life.pk]
            found = {name: row[name] for name in ("status", "next_run_at", "due_at", "fired_count")}
            following = life.next() if life.is_active else None
            assert found == {
                "status": life.status,
                "next_run_at": following,
                "due_at": None if following is None else life.due_for(following),
                "fired_count": life.fired,
            }, life

    # --- what changes what is on record

    def forget_what_is_to_come(self, act: Act, life: Life) -> None:
        for pk, times in self.stands_for.items():
            of_it = self.before.runs[pk]["schedule_id"] == life.pk
            if not of_it or times[-1] <= self.now or (pk in self.jumps and not life.is_active):
                continue
            left = [time for time in times if time <= self.now]
            if left and self.when[pk] != life.when():
                act.unknown.add(pk)
            else:
                act.cut[pk] = left

    def take_back_jumps(self, act: Act, life: Life) -> None:
        """What a clock that was wrong passed over has not come yet, or has."""
        rows = [pk for pk in self.jumps if self.before.runs[pk]["schedule_id"] == life.pk]
        ahead = [pk for pk in rows if self.stands_for[pk][-1] > self.now]
        act.cut |= {pk: [] for pk in ahead}
        if ahead:
            life.since = min(life.since, min(self.stands_for[pk][0] for pk in ahead) - datetime.resolution)
        # The others have come; a repository that was linked since then has no part in them.
        told = [self.stands_for[pk] for pk in rows if pk not in ahead and self.stands_for[pk][0] <= life.since]
        life.since = max([life.since, *(times[-1] for times in told)])

    def heed_what_is_settled(self, act: Act, life: Life) -> None:
        """Planned anew after a small correction of the clock: what is on record as not run does not come again."""
        rows = [pk for pk in self.stands_for if self.before.runs[pk]["schedule_id"] == life.pk and pk not in act.cut]
        if life.since == self.now:
            life.since = max([self.now, *(self.stands_for[pk][-1] for pk in rows)])

    def places_that_are_on(self, life: Life) -> list[int | None]:
        off = {place.pk for place in self.repositories if not place.enabled}
        return [place for place in life.places if place not in off]


def _is_of(run: Row, expected: Expected) -> bool:
    return bool(expected.kinds) and run["scheduled_for"] <= max(expected.kinds)
