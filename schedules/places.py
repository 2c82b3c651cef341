"""What is left of every limit at one moment, and which of them keeps a session from starting.

One object of it serves one admission, which takes places until there are none; or one look at why sessions wait.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Literal, NamedTuple

from django.conf import settings
from django.db.models import DateTimeField, Exists, Q, QuerySet, Sum

from schedules import pools, quota
from schedules.budgets import Account, Ledger
from schedules.models import Budget, Hold, Pool, Session, WorkerHeartbeat
from schedules.prepared import Select, given

_MOST_TERMS = 100  # SQLite nests each OR one deeper, and has enough of it at 1000
_NOTHING = Decimal(0)

Kind = Literal["slots", "schedule", "repository", "pool", "hold", "budget", "run_budget"]


class Candidate(NamedTuple):
    """What admission has to know of a session, in the order of FIELDS."""

    pk: int
    priority: int
    run: int
    schedule: int
    repository: int | None
    credential: str
    model: str
    is_rehearsal: bool
    reserves: Decimal
    cost: Decimal
    admitted_at: datetime | None
    most_of_schedule: int
    weight: int
    run_limit: Decimal | None
    most_of_repository: int | None


FIELDS = (
    *("pk", "priority", "run_id", "schedule_id", "repository_id", "credential", "model_asked", "is_rehearsal"),
    *("reserved_usd", "cost_usd", "admitted_at"),
    *("schedule__max_sessions", "schedule__weight", "schedule__max_run_usd", "repository__max_sessions"),
)


def candidates(sessions: QuerySet[Session]) -> list[Candidate]:
    return [Candidate(*row) for row in sessions.values_list(*FIELDS)]


_IN_FLIGHT = Select(lambda: Session.objects.in_flight().values_list("worker", *FIELDS))
_WORKERS = Select(  # each with its slots, and with what there is to be read besides
    lambda: (
        WorkerHeartbeat.objects.heard_of_since(given("since", DateTimeField()))
        .filter(kind=WorkerHeartbeat.Kind.SESSIONS)
        .order_by()
        .values_list(
            *("pk", "concurrency", "holds_back"),
            Exists(Pool.objects.all()),
            Exists(Hold.objects.exclude(until=None)),
            Exists(Budget.objects.all()),
        )
    )
)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The limit that is in the way, with a sentence for people, and when it is over where that is known."""

    kind: Kind
    text: str
    until: datetime | None = None


@dataclass(slots=True)
class Places:
    """What is left of each limit. `free`: of all; the other counts are of what is taken."""

    now: datetime
    slots: int
    free: int
    schedules: Counter[int] = field(default_factory=Counter)
    repositories: Counter[int] = field(default_factory=Counter)
    runs: Counter[int] = field(default_factory=Counter)
    pools: list[Pool] = field(default_factory=list)
    taken: Counter[int] = field(default_factory=Counter)  # pool → places
    holds: dict[str, Hold] = field(default_factory=dict)
    trying: set[str] = field(default_factory=set)  # credentials that are half open, and whose one session tries
    ledger: Ledger = field(default_factory=Ledger)
    spent: list[tuple[Account, Decimal]] = field(default_factory=list)  # budgets that never held what was wanted
    short_runs: set[int] = field(default_factory=set)  # runs whose own budget holds no session more
    _most: dict[int, int] = field(default_factory=dict)  # schedule → its own limit
    _most_here: dict[int, int] = field(default_factory=dict)  # repository → its own limit
    _named: dict[int, list[int]] = field(default_factory=dict)  # schedule → pools that it names
    _refusing: set[int] = field(default_factory=set)  # pools that have places, but not as many as were wanted
    _refusing_accounts: dict[int, Account] = field(default_factory=dict)  # by their budgets' ids
    _run_costs: dict[int, Decimal] = field(default_factory=dict)  # what the finished sessions of a run cost
    _run_reserved: defaultdict[int, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    @classmethod
    def read(cls, *, now: datetime, when_full: bool = False) -> Places:
        """Two queries where no place is free, unless `when_full`; else up to seven, however many sessions wait."""
        rows = _IN_FLIGHT.all()
        workers = _WORKERS.all(since=now - settings.ROTA_LEASE)
        slots = sum(concurrency for _, concurrency, held, *_ in workers if not held)
        holding_back = {pk for pk, _, held, *_ in workers if held}
        engaged = sum(worker not in holding_back for worker, *_ in rows)  # they see through what they have
        places = cls(now=now, slots=slots, free=min(slots - engaged, settings.ROTA_MAX_SESSIONS - len(rows)))
        if places.free > 0 or when_full:
            in_flight = [Candidate(*row) for _, *row in rows]
            places._read_limits(in_flight, *workers[0][3:] if workers else (True, True, True))
        return places

    def _read_limits(self, in_flight: Collection[Candidate], has_pools: bool, is_held: bool, has_budgets: bool) -> None:
        self.pools = list(Pool.objects.all()) if has_pools else []
        self.holds = quota.held() if is_held else {}
        self.ledger = Ledger.read(now=self.now) if has_budgets else Ledger()  # after those in flight: see there
        self.know(in_flight)
        for candidate in in_flight:
            self._hold(candidate)

    def know(self, found: Collection[Candidate]) -> None:
        """Read what is to be known of these before they are judged: the pools that are named, and their runs' costs."""
        if self.pools and (new := {one.schedule for one in found} - self._named.keys()):
            self._named |= {schedule: [] for schedule in new} | pools.memberships(new)
        limited = {one.run for one in found if one.run_limit is not None} - self._run_costs.keys()
        if limited:
            finished = Session.objects.filter(run__in=limited).exclude(status__in=Session.OPEN).order_by()
            sums = dict(finished.values_list("run").annotate(cost=Sum("cost_usd")))
            self._run_costs |= {run: sums.get(run) or _NOTHING for run in limited}

    # --- judging

    def take(self, wanted: Candidate) -> bool:
        """Give it its places, if all that it needs are there."""
        if self.obstacle(wanted):
            return False
        self.free -= 1
        self._hold(wanted)
        return True

    def obstacle(self, wanted: Candidate) -> Obstacle | None:
        """The first limit that is in its way: what lasts longest first."""
        return (
            self._held(wanted)
            or self._over_budget(wanted)
            or self._over_run_budget(wanted)
            or self._full_pool(wanted)
            or self._full_schedule(wanted)
            or self._full_repository(wanted)
            or self._no_slot()
        )

    def _held(self, wanted: Candidate) -> Obstacle | None:
        hold = self._hold_on(wanted) if self.holds and wanted.credential else None
        if hold is None or hold.until is None:
            return None
        if hold.until > self.now:
            return Obstacle("hold", f"{hold.credential} lets nobody in: {_clause(hold.reason)}", hold.until)
        if hold.failures and wanted.credential in self.trying:
            return Obstacle("hold", f"{hold.credential} let nobody in: one session tries whether it does again")
        return None

    def _hold_on(self, wanted: Candidate) -> Hold | None:
        """That of the model it asks for alone, or that of its credential."""
        for name, hold in self.holds.items():
            credential, _, model = name.partition(":")
            if not model or credential != wanted.credential or not pools.is_of(model, wanted.model):
                continue
            if hold.until and hold.until > self.now:
                return hold
        return self.holds.get(wanted.credential)

    def _over_budget(self, wanted: Candidate) -> Obstacle | None:
        account = self.ledger.refusing(wanted.reserves, schedule=wanted.schedule, repository=wanted.repository)
        if account is None:
            return None
        self._refusing_accounts[account.budget.pk] = account
        is_spent = account.never_holds(wanted.reserves)
        if is_spent:
            self.spent.append((account, wanted.reserves))
        return Obstacle("budget", account.told(wanted.reserves), account.ends_at if is_spent else None)

    def _over_run_budget(self, wanted: Candidate) -> Obstacle | None:
        if wanted.run_limit is None or not wanted.reserves:
            return None
        spent, reserved = self._run_costs[wanted.run], self._run_reserved[wanted.run]
        if spent + reserved + wanted.reserves <= wanted.run_limit:
            return None
        if not self.runs[wanted.run]:
            self.short_runs.add(wanted.run)
        return Obstacle(
            "run_budget",
            f"money limit of its run: {spent:.2f} of {wanted.run_limit:.2f} USD spent, {reserved:.2f} reserved; "
            f"a session reserves {wanted.reserves:.2f}",
        )

    def _full_pool(self, wanted: Candidate) -> Obstacle | None:
        for pool in self._pools_of(wanted):
            taken = self.taken[pool.pk]
            if not pool.places:
                return Obstacle("pool", f"pool {pool.name} is shut")
            if taken + wanted.weight > pool.places:
                self._refusing.add(pool.pk)
                needs = f", it needs {wanted.weight}" if wanted.weight > 1 else ""
                return Obstacle("pool", f"pool {pool.name}: {taken} of {pool.places} places taken{needs}")
        return None

    def _full_schedule(self, wanted: Candidate) -> Obstacle | None:
        held = self.schedules[wanted.schedule]
        if held < wanted.most_of_schedule:
            return None
        return Obstacle("schedule", f"its schedule: {held} of {wanted.most_of_schedule} sessions at once run")

    def _full_repository(self, wanted: Candidate) -> Obstacle | None:
        if wanted.repository is None:
            return None
        held, most = self.repositories[wanted.repository], _most_here(wanted)
        return (
            Obstacle("repository", f"its repository: {held} of {most} sessions at once run") if held >= most else None
        )

    def _no_slot(self) -> Obstacle | None:
        if self.free > 0:
            return None
        most = min(self.slots, settings.ROTA_MAX_SESSIONS)
        return Obstacle("slots", f"all places are taken: {most} of {most}")

    def _pools_of(self, one: Candidate) -> Iterable[Pool]:
        if not self.pools:
            return ()
        return pools.pools_of(
            self.pools,
            named=self._named[one.schedule],
            credential=one.credential,
            model=one.model,
            is_rehearsal=one.is_rehearsal,
        )

    def _hold(self, one: Candidate) -> None:
        self.runs[one.run] += 1
        self.schedules[one.schedule] += 1
        self._most[one.schedule] = one.most_of_schedule
        if one.repository is not None:
            self.repositories[one.repository] += 1
            self._most_here[one.repository] = _most_here(one)
        for pool in self._pools_of(one):
            self.taken[pool.pk] += one.weight
        hold = self.holds.get(one.credential)
        # One that began before it was held tells nothing of what comes after.
        if hold and hold.until and hold.failures and (one.admitted_at or self.now) >= hold.until:
            self.trying.add(one.credential)
        money = max(one.reserves, one.cost)
        self._run_reserved[one.run] += money
        if money:
            self.ledger.reserve(money, schedule=one.schedule, repository=one.repository)

    # --- leaving out

    def full_schedules(self) -> list[int]:
        """Those whose sessions certainly can't start."""
        return [schedule for schedule, held in self.schedules.items() if held >= self._most[schedule]]

    def full_repositories(self) -> list[int]:
        return [place for place, held in self.repositories.items() if held >= self._most_here[place]]

    def shut(self) -> Q:
        """Of the others those that certainly can't start, as a condition.

        However many of a full limit wait, none of them is read. It need not tell of all: who can't start is refused
        when it is read. An empty Q: nothing is full.
        """
        return reduce(or_, [*self._shut_counts(), *self._shut_pools(), *self._shut_budgets()], Q())

    def _shut_counts(self) -> Iterable[Q]:
        if self.short_runs:
            yield Q(run__in=self.short_runs)
        held = [name.partition(":") for name, hold in self.holds.items() if hold.until and hold.until > self.now]
        if closed := [*(credential for credential, _, model in held if not model), *self.trying]:
            yield Q(credential__in=closed)
        yield from (Q(credential=credential) & pools.asking_for(model) for credential, _, model in held if model)

    def _shut_pools(self) -> Iterable[Q]:
        for pool in self.pools[:_MOST_TERMS]:
            free = pool.places - self.taken[pool.pk]
            if free <= 0:
                yield pools.members(pool)
            elif pool.pk in self._refusing:
                yield pools.members(pool) & Q(schedule__weight__gt=free)

    def _shut_budgets(self) -> Iterable[Q]:
        """Those that refused already: the first one of each is read, so that its budget is told of."""
        refusing = self._refusing_accounts.values()
        yield from (
            Q(**_draws_on(one), reserved_usd__gt=max(one.left, _NOTHING)) for one in list(refusing)[:_MOST_TERMS]
        )


def _clause(sentence: str) -> str:
    return f"{sentence[:1].lower()}{sentence[1:]}".rstrip(".")


def _draws_on(account: Account) -> dict[str, int]:
    """The lookups for the sessions that draw on it."""
    budget = account.budget
    of = {"schedule": budget.schedule_id, "repository": budget.repository_id}
    return {name: pk for name, pk in of.items() if pk is not None}


def _most_here(one: Candidate) -> int:
    return one.most_of_repository or settings.ROTA_MAX_SESSIONS_PER_REPOSITORY
