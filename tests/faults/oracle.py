"""What has to be on record of due times, said by somebody else than Rota: the cronsim package and plain lists."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim

ON_TIME = timedelta(seconds=10)
MOST_DUE = 1000
TIMING = frozenset({"cron", "at", "time_zone", "starts_at", "ends_at", "max_runs", "jitter"})

Kinds = dict[datetime, str]
"""Nominal time → what has to be on record of it: `due`, or `status:reason`."""


class Line:
    """The nominal times of a cron line from `begin` on, read from cronsim as far as they are asked for."""

    def __init__(self, cron: str, time_zone: str, begin: datetime) -> None:
        self._fires = CronSim(cron, begin.astimezone(ZoneInfo(time_zone)))
        self._known = [begin]

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """Those in `(after, until]`."""
        self._read(until)
        return self._known[bisect_right(self._known, after) : bisect_right(self._known, until)]

    def next_after(self, instant: datetime) -> datetime:
        self._read(instant)
        return self._known[bisect_right(self._known, instant)]

    def _read(self, until: datetime) -> None:
        while self._known[-1] <= until:
            fire = next(self._fires).astimezone(UTC)
            if fire > self._known[-1]:  # fixed times that the clock skips meet at one instant
                self._known.append(fire)


line = cache(Line)


@dataclass(slots=True, kw_only=True)
class Expected:
    """What one act has to leave on record of a schedule, in each of its places, but for what is on record there."""

    kinds: Kinds
    due_at: dict[datetime, datetime]
    overlap: str
    name: str
    when: tuple[Any, ...]
    heeds_halts: bool = False


@dataclass(slots=True, kw_only=True)
class Life:
    """A schedule as it should be. `since`: what became of its due times up to then is settled."""

    pk: int
    fields: dict[str, Any]
    since: datetime
    begin: datetime
    status: str = "active"
    fired: int = 0
    is_legible: bool = True
    places: list[int | None] = field(default_factory=lambda: [None])

    # --- when

    @property
    def is_active(self) -> bool:
        return self.status == "active"

    def when(self) -> tuple[Any, ...]:
        """What its nominal times follow from, as far as its row tells."""
        return (self.fields["cron"], self.fields["time_zone"], self.is_legible)

    def line(self) -> Line:
        return line(self.fields["cron"], self.fields["time_zone"], self.begin)

    def times(self, after: datetime, until: datetime) -> list[datetime]:
        """The nominal times in `(after, until]`, within start and end."""
        at = self.fields["at"]
        found = [at] if at and after < at <= until else [] if at else self.line().between(after, until)
        return [time for time in found if self._is_within(time)]

    def _is_within(self, time: datetime) -> bool:
        starts_at, ends_at = self.fields["starts_at"], self.fields["ends_at"]
        return (not starts_at or time >= starts_at) and (not ends_at or time <= ends_at)

    @property
    def is_exhausted(self) -> bool:
        return self.fields["max_runs"] is not None and self.fired >= self.fields["max_runs"]

    def next(self) -> datetime | None:
        if self.is_exhausted:
            return None
        if at := self.fields["at"]:
            return at if at > self.since and self._is_within(at) else None
        starts_at = self.fields["starts_at"]
        after = self.since if not starts_at else max(self.since, starts_at - datetime.resolution)
        found = self.line().next_after(after)
        return found if self._is_within(found) else None

    def due_for(self, time: datetime) -> datetime:
        """The same share of the room each time, that follows from its name."""
        room = self.fields["jitter"]
        if not room:
            return time
        if not self.fields["at"]:
            room = min(room, self.line().next_after(time) - time - timedelta(seconds=1))
        if ends_at := self.fields["ends_at"]:
            room = min(room, ends_at - time)
        share = int.from_bytes(hashlib.sha256(self.fields["name"].encode()).digest()[:4]) / 2**32
        due_at: datetime = time + max(room, timedelta()) * share
        return due_at

    def due_at(self) -> datetime | None:
        following = self.next()
        return None if following is None else self.due_for(following)

    def is_due(self, now: datetime) -> bool:
        due_at = self.due_at()
        return self.is_active and due_at is not None and due_at <= now

    # --- what has to be on record; each of these moves it on

    def expected(self, kinds: Kinds, *, heeds_halts: bool = False) -> Expected:
        due_at = {time: self.due_for(time) for time in kinds}
        return Expected(
            kinds=kinds,
            due_at=due_at,
            overlap=self.fields["overlap"],
            name=self.fields["name"],
            when=self.when(),
            heeds_halts=heeds_halts,
        )

    def fire(self, now: datetime, *, early: bool = False) -> Expected:
        """What is due is fired. `early`: also what its jitter alone holds back."""
        if not self.is_legible:
            first = self.next()
            assert first is not None
            self.since, self.status = now, "broken"
            return self.expected({first: "skipped:broken"})
        kinds = self._due(now, early=early)
        self.since = max(kinds)
        if "missed:clock_jumped" in kinds.values():
            self.status = "broken"
        return self.expected(kinds, heeds_halts=True)

    def _due(self, now: datetime, *, early: bool = False) -> Kinds:
        due = self.times(self.since, now)
        if not early and self.due_for(due[-1]) > now:
            due.pop()
        window = max(self.fields["catch_up"], ON_TIME)
        if len(due) > MOST_DUE:
            return dict.fromkeys(due, "missed:clock_jumped")
        kinds = {time: "missed:outside_window" if now - time > window else "missed:superseded" for time in due}
        if now - self.due_for(due[-1]) <= window:
            kinds[due[-1]] = "due"
        return kinds

    def take_off(self, status: str, now: datetime) -> Expected:
        """Paused or disabled."""
        kinds: Kinds = {}
        first = self.next()
        if not self.is_active:
            kinds, self.since = self._passed(now), now
        elif first is None:
            self.since = now
        elif self.due_for(first) > now:
            self.since = min(now, first - datetime.resolution)
        elif not self.is_legible:
            kinds, self.since = {first: f"skipped:{status}"}, now
        else:
            kinds = {time: kind.replace("due", f"skipped:{status}") for time, kind in self._due(now).items()}
            self.since = max(kinds)
        self.status = status
        return self.expected(kinds)

    def bring_back(self, now: datetime) -> Expected:
        """Resumed, or mended. What passed is on record and does not run."""
        kinds = self._passed(now)
        self.since, self.status = now, "active"
        return self.expected(kinds)

    def edit(self, change: dict[str, Any], now: datetime) -> list[Expected]:
        """What was due before it goes by the settings before it."""
        timing = self.moves(change)
        first, found = self.next(), []
        if timing and self.is_active and first and first <= now:
            found.append(self.fire(now, early=True))
        if self.status == "broken" and change:
            found.append(self.bring_back(now))
        elif timing and not self.is_active:
            found.append(self.expected(self._passed(now)))
        if timing:
            self.since = now
        self.fields, self.is_legible = self.fields | change, self.is_legible or "cron" in change
        return found

    def moves(self, change: dict[str, Any]) -> bool:
        """Whether an edit is one of when it runs. Its share of the jitter follows from its name."""
        jitter = change.get("jitter", self.fields["jitter"])
        return bool(TIMING & change.keys()) or ("name" in change and bool(jitter))

    def _passed(self, now: datetime) -> Kinds:
        if not self.is_legible or self.is_exhausted:
            return {}
        return dict.fromkeys(self.times(self.since, now), f"skipped:{self.status}")

    def turned_back(self, now: datetime) -> None:
        """The clock was set back: the times after `now` come again."""
        following = self.next()
        if not self.is_active:
            self.since = min(self.since, now)
        elif self.is_legible and (following is None or following > now):
            self.since = now


@dataclass(slots=True)
class Halt:
    """A stop or a freeze window. `names`: of these schedules, None of all."""

    reason: str
    begins_at: datetime
    ends_at: datetime | None
    names: Collection[int] | None = None

    def covers(self, schedule: int, at: datetime) -> bool:
        is_named = self.names is None or schedule in self.names
        return is_named and self.begins_at <= at and (self.ends_at is None or at < self.ends_at)
