"""What must be true of sessions, reckoned from what was done to them: one by one, from all rows, without Rota's limits.

It is slow and plain on purpose. What it knows of a session is its row; of all else what a test did.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from schedules.models import Run, Session
from tests.faults.entries import (
    INFRASTRUCTURE,
    LONGEST_QUOTA,
    NEVER_AGAIN,
    NOTHING,
    OVERLOADED,
    Hand,
    Held,
    Limit,
    Money,
    Purse,
    Row,
    RunRow,
    Terms,
    Window,
    is_of_model,
)

_SESSION = (
    *("pk", "run_id", "schedule_id", "repository_id", "number", "attempt", "retry_of_id", "status", "reason"),
    *("message", "priority", "credential", "model_asked", "is_rehearsal", "reserved_usd", "cost_usd", "not_before"),
    *("cancel_requested_at", "admitted_at", "claimed_at", "finished_at", "worker_id", "late_report"),
)
_RUN = (
    *("pk", "schedule_id", "repository_id", "trigger", "overlap", "status", "reason", "cost_usd"),
    *("cancel_requested_at", "finished_at"),
)


@dataclass
class Book:
    """All that is known, and what follows from it."""

    now: datetime
    most: int
    most_in_repository: int
    terms: dict[int, Terms] = field(default_factory=dict)
    pools: dict[int, Limit] = field(default_factory=dict)
    purses: dict[int, Purse] = field(default_factory=dict)
    hands: dict[int, Hand] = field(default_factory=dict)
    windows: dict[int, Window] = field(default_factory=dict)
    held: defaultdict[str, Held] = field(default_factory=lambda: defaultdict(Held))
    repositories: dict[int, str] = field(default_factory=dict)  # their names
    off: set[int] = field(default_factory=set)
    own_most: dict[int, int] = field(default_factory=dict)  # of repositories
    is_stopped: bool = False
    spent: defaultdict[tuple[date, int, int | None], Money] = field(default_factory=lambda: defaultdict(Money))
    unsettled: set[int] = field(default_factory=set)  # runs whose last session's worker died before it settled
    sessions: dict[int, Row] = field(default_factory=dict)
    runs: dict[int, RunRow] = field(default_factory=dict)

    # --- what there is

    @staticmethod
    def read_sessions() -> dict[int, Row]:
        rows = map(Row._make, Session.objects.order_by("pk").values_list(*_SESSION))
        return {row.pk: row for row in rows}

    @staticmethod
    def read_runs() -> dict[int, RunRow]:
        rows = map(RunRow._make, Run.objects.order_by("pk").values_list(*_RUN))
        return {row.pk: row for row in rows}

    def of_run(self, run: int) -> list[Row]:
        return [row for row in self.sessions.values() if row.run == run]

    def in_flight(self) -> list[Row]:
        return [row for row in self.sessions.values() if row.is_in_flight]

    def waiting(self) -> list[Row]:
        """Those that wait for a place, in their order, whatever else holds them back."""
        rows = [
            row
            for row in self.sessions.values()
            if row.status == "queued"
            and row.admitted_at is None
            and row.cancel_requested_at is None
            and (row.not_before is None or row.not_before <= self.now)
        ]
        return sorted(rows, key=lambda row: (-row.priority, row.pk))

    # --- what keeps a session from starting, whatever is free

    def halts(self, row: Row) -> dict[str, datetime | None]:
        """Each as it is told, or as that begins, with the time when it is over."""
        found: dict[str, datetime | None] = {}
        terms = self.terms[row.schedule]
        if self.is_stopped:
            found["everything was stopped by ada: "] = None
        for window in self.windows.values():
            if window.covers(row.schedule, self.now):
                found[f"a freeze window: {window.reason}"] = window.ends_at
        if not self.is_on_the_rota(row):
            found[f"{terms.name} is {terms.status}"] = None
        if row.repository in self.off and row.repository is not None:
            found[f"the repository {self.repositories[row.repository]} is off"] = None
        if row.not_before and row.not_before > self.now:
            found["it is a retry, not tried before its time"] = row.not_before
        for run in self.runs_before(row):
            found[f"run {run} of the same schedule is still open"] = None
        return found

    def is_on_the_rota(self, row: Row) -> bool:
        status = self.terms[row.schedule].status
        return status != "disabled" and not (status == "paused" and self.runs[row.run].trigger == "schedule")

    def is_claimable(self, row: Row) -> bool:
        halted = self.is_stopped or any(one.covers(row.schedule, self.now) for one in self.windows.values())
        ready = row.status == "queued" and row.admitted_at is not None and row.cancel_requested_at is None
        return ready and not halted and self.is_on_the_rota(row) and row.repository not in self.off

    def runs_before(self, row: Row) -> list[int]:
        """The open runs that its own lets go first."""
        mine = self.runs[row.run]
        others = [
            run
            for run in self.runs.values()
            if run.is_open and run.pk != mine.pk and (run.schedule, run.repository) == (mine.schedule, mine.repository)
        ]
        if mine.trigger == "backfill":
            return [run.pk for run in others if run.trigger != "backfill" or run.pk < mine.pk]
        if mine.overlap == "allow":
            return []
        return [run.pk for run in others if run.pk < mine.pk and run.overlap != "allow"]

    # --- limits

    def slots(self) -> int:
        return sum(hand.slots for hand in self.hands.values() if hand.counts(self.now) and not hand.holds_back)

    def free(self, taken: Sequence[Row]) -> int:
        """Places of all. What runs on a worker that holds back takes none of the others' slots."""
        leaving = {pk for pk, hand in self.hands.items() if hand.counts(self.now) and hand.holds_back}
        engaged = sum(row.worker not in leaving for row in taken)
        return min(self.slots() - engaged, self.most - len(taken))

    def pools_of(self, row: Row) -> list[Limit]:
        provider = row.credential.partition("/")[0]
        return [
            pool
            for pool in self.pools.values()
            if row.schedule in pool.named_by
            or (pool.provider and pool.provider == provider)
            or (not row.is_rehearsal and is_of_model(pool.model, row.model))
        ]

    def places_taken(self, pool: Limit, taken: Iterable[Row]) -> int:
        return sum(self.terms[row.schedule].weight for row in taken if pool in self.pools_of(row))

    def most_here(self, repository: int) -> int:
        return self.own_most.get(repository, self.most_in_repository)

    def spent_of(self, purse: Purse) -> Money:
        today = self.now.date()
        return sum(
            (
                cost
                for (day, schedule, repository), cost in self.spent.items()
                if purse.is_of(schedule, repository)
                and (day == today if purse.period == "day" else (day.year, day.month) == (today.year, today.month))
            ),
            NOTHING,
        )

    def reserved_of(self, purse: Purse, taken: Iterable[Row]) -> Money:
        return sum((row.money for row in taken if purse.is_of(row.schedule, row.repository)), NOTHING)

    def is_short(self, run: int, wanted: Money, taken: Sequence[Row]) -> bool:
        """The money of its run does not hold another session that reserves this much."""
        limit = self.terms[self.runs[run].schedule].of_run
        spent = sum((row.cost for row in self.of_run(run) if not row.is_open), NOTHING)
        reserved = sum((row.money for row in taken if row.run == run), NOTHING)
        return limit is not None and bool(wanted) and spent + reserved + wanted > limit

    def shut_by(self, row: Row, taken: Sequence[Row]) -> dict[str, datetime | None]:
        """Its service lets nobody in; or lets in one, which is there already."""
        found: dict[str, datetime | None] = {}
        for name, held in self.held.items():
            credential, _, model = name.partition(":")
            if not row.credential or credential != row.credential or (model and not is_of_model(model, row.model)):
                continue
            if held.is_shut(self.now):
                found[f"{name} lets nobody in: "] = held.until
            elif held.until and held.failures and any(self._tries(one, credential, held.until) for one in taken):
                found[f"{name} let nobody in: one session tries whether it does again"] = None
        return found

    def _tries(self, one: Row, credential: str, since: datetime) -> bool:
        return one.credential == credential and (one.admitted_at or self.now) >= since

    def obstacles(self, row: Row, taken: Sequence[Row]) -> dict[str, datetime | None]:
        """Every limit in its way, as it is told or as that begins or ends, with the time when it is over."""
        found = self.shut_by(row, taken)
        if row.reserved:
            for purse in self.purses.values():
                spent, reserved = self.spent_of(purse), self.reserved_of(purse, taken)
                if purse.is_of(row.schedule, row.repository) and spent + reserved + row.reserved > purse.limit:
                    ends_at = self._end_of(purse) if spent + row.reserved > purse.limit else None
                    found[self._told_of(purse, spent, reserved, row.reserved)] = ends_at
        if self.is_short(row.run, row.reserved, taken):
            found["money limit of its run: "] = None
        weight = self.terms[row.schedule].weight
        for pool in self.pools_of(row):
            held = self.places_taken(pool, taken)
            if not pool.places:
                found[f"pool {pool.name} is shut"] = None
            elif held + weight > pool.places:
                needs = f", it needs {weight}" if weight > 1 else ""
                found[f"pool {pool.name}: {held} of {pool.places} places taken{needs}"] = None
        beside = sum(one.schedule == row.schedule for one in taken)
        if beside >= (most := self.terms[row.schedule].most):
            found[f"its schedule: {beside} of {most} sessions at once run"] = None
        if row.repository is not None:
            here = sum(one.repository == row.repository for one in taken)
            if here >= (most := self.most_here(row.repository)):
                found[f"its repository: {here} of {most} sessions at once run"] = None
        if not self.slots():
            found["no worker takes sessions"] = None
        elif self.free(taken) <= 0:
            most = min(self.slots(), self.most)
            found[f"all places are taken: {most} of {most}"] = None
        return found

    def _end_of(self, purse: Purse) -> datetime:
        midnight = datetime.combine(self.now.date(), time(), UTC)
        if purse.period == "day":
            return midnight + timedelta(days=1)
        return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)

    def _told_of(self, purse: Purse, spent: Money, reserved: Money, wanted: Money) -> str:
        whose = "all"
        if purse.schedule is not None:
            whose = f"the schedule {self.terms[purse.schedule].name}"
        elif purse.repository is not None:
            whose = f"the repository {self.repositories[purse.repository]}"
        often = "daily" if purse.period == "day" else "monthly"
        held = f", {reserved:.2f} reserved by what runs" if reserved else ""
        return (
            f"{often} budget of {whose}: {spent:.2f} of {purse.limit:.2f} USD spent{held}; "
            f"a session reserves {wanted:.2f}"
        )

    def admissible(self) -> list[int]:
        """Who may start now: by priority and age, each as long as there is room for it."""
        taken, chosen = self.in_flight(), []
        for row in self.waiting():
            if self.free(taken) <= 0:
                break
            if not self.halts(row) and not self.obstacles(row, taken):
                taken.append(row._replace(admitted_at=self.now))
                chosen.append(row.pk)
        return chosen

    # --- what follows from an end

    def ended(self, credential: str, reason: str, *, is_answered: bool, resets_at: datetime | None) -> None:
        """What a session's end says of its service."""
        if not credential:
            return
        if reason == "rate_limited" and resets_at and resets_at > self.now:
            told = [one.until for name, one in self.held.items() if name.startswith(f"{credential}:")]
            if not any(until and until >= resets_at for until in told):
                self.hold_until(credential, resets_at)
        elif reason in OVERLOADED:
            self._fails(self.held[credential])
        elif is_answered:
            self.answers(credential)

    def hold_until(self, name: str, resets_at: datetime) -> None:
        held = self.held[name]
        until = min(resets_at, self.now + LONGEST_QUOTA)
        # By a quota for as long already; its share of the spread is the same each time.
        if resets_at > self.now and not (held.until and held.until >= until and not held.failures):
            held.until, held.failures = until, 0

    def _fails(self, held: Held) -> None:
        if held.is_shut(self.now):
            return
        held.failures += 1
        held.until = None
        if held.failures >= 3:
            minutes = min(2 ** (held.failures - 3), 30)
            held.until = self.now + timedelta(minutes=minutes)

    def answers(self, credential: str) -> None:
        held = self.held[credential]
        if held.failures:
            held.until, held.failures = None, 0

    def wants_another(self, row: Row, reason: str) -> bool:
        """Whether policy tries it anew, and nobody wants its end. `row`: as it was before it ended."""
        terms, run = self.terms[row.schedule], self.runs[row.run]
        asked = row.cancel_requested_at or run.cancel_requested_at
        if row.status != "running" or asked or not self.is_on_the_rota(row):
            return False
        if reason in ("ok", *NEVER_AGAIN) or row.attempt > terms.attempts:
            return False
        return terms.retry == "all" or (terms.retry == "infrastructure" and reason in INFRASTRUCTURE)

    def verdict(self, run: int) -> tuple[str, Money]:
        """The outcome of a run and what it cost, by its sessions, which are over."""
        last: dict[int, str] = {}
        for row in sorted(self.of_run(run), key=lambda one: one.attempt):
            if not (row.number in last and (row.status, row.reason) == ("cancelled", "budget")):
                last[row.number] = row.status
        cost = sum((row.cost for row in self.of_run(run)), NOTHING)
        return _outcome(last.values()), cost


def _outcome(statuses: Collection[str]) -> str:
    counted = Counter(statuses)
    if counted["succeeded"]:
        return "succeeded" if counted["succeeded"] == len(statuses) else "partial"
    return "cancelled" if counted["cancelled"] == len(statuses) else "failed"
