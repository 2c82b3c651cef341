"""Money: what a session reserves before it starts, what is left of each budget, and who is told when none is.

A session reserves its own money limit. Where it has none, it reserves the setting ROTA_RESERVE_USD, which is a guess
and no cap: nothing ends such a session when it costs more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from schedules.agents import rehearsed
from schedules.models import Budget, Incident, Repository, Run, Schedule, Spending
from schedules.models.incident import Cause
from schedules.spending import day_of

logger = logging.getLogger(__name__)

_NOTHING = Decimal(0)


def reservation(run: Run) -> Decimal:
    """US dollars that each session of the run reserves. Nothing where no model is asked that costs anything."""
    if run.is_rehearsal or not run.schedule.is_agent:
        return _NOTHING
    options = run.snapshot["options"]
    own = options.get("max_budget_usd")
    return _reserved(None if own is None else Decimal(own), run.schedule.max_run_usd)


def _reserved(own: Decimal | None, of_run: Decimal | None) -> Decimal:
    if own is not None:
        return own
    guess: Decimal = settings.ROTA_RESERVE_USD
    return guess if of_run is None else min(guess, of_run)


@dataclass(slots=True, kw_only=True)
class Account:
    """A budget in its present period. `spent` is settled; `reserved` is what those in flight may still cost."""

    budget: Budget
    whose: str  # for people
    spent: Decimal
    ends_at: datetime  # the next period begins
    reserved: Decimal = _NOTHING

    @property
    def left(self) -> Decimal:
        return self.budget.limit_usd - self.spent - self.reserved

    def never_holds(self, amount: Decimal) -> bool:
        """Even if all that is in flight turned out to cost nothing: there is no use in waiting for its end."""
        return amount > self.budget.limit_usd - self.spent

    @property
    def name(self) -> str:
        often = "daily" if self.budget.period == Budget.Period.DAY else "monthly"
        return f"{often} budget of {self.whose}"

    def told(self, amount: Decimal) -> str:
        """Why `amount` more is not to be had of it."""
        reserved = f", {self.reserved:.2f} reserved by what runs" if self.reserved else ""
        return (
            f"{self.name}: {self.spent:.2f} of {self.budget.limit_usd:.2f} USD spent{reserved}; "
            f"a session reserves {amount:.2f}"
        )


@dataclass(slots=True)
class Ledger:
    """The accounts of all budgets. Which of them a session draws on follows from its schedule and repository."""

    everybody: list[Account] = field(default_factory=list)
    schedules: dict[int, list[Account]] = field(default_factory=dict)
    repositories: dict[int, list[Account]] = field(default_factory=dict)

    @classmethod
    def read(cls, *, now: datetime) -> Ledger:
        """Three queries, or one where there is no budget.

        Read it after the sessions in flight: what ends in between is then counted twice for a moment, and never not at
        all.
        """
        ledger = cls()
        budgets = list(_budgets())
        if not budgets:
            return ledger
        today = day_of(now)
        sums = _Sums.read(budgets, today)
        ends = {period: _end(period, today) for period in Budget.Period}
        for budget in budgets:
            ledger._add(
                Account(
                    budget=budget,
                    whose=_whose(budget),
                    spent=sums.of(budget),
                    ends_at=ends[Budget.Period(budget.period)],
                )
            )
        return ledger

    def _add(self, account: Account) -> None:
        budget = account.budget
        if budget.schedule_id is not None:
            self.schedules.setdefault(budget.schedule_id, []).append(account)
        elif budget.repository_id is not None:
            self.repositories.setdefault(budget.repository_id, []).append(account)
        else:
            self.everybody.append(account)

    def of(self, schedule: int, repository: int | None) -> Iterator[Account]:
        yield from self.schedules.get(schedule, ())
        if repository is not None:
            yield from self.repositories.get(repository, ())
        yield from self.everybody

    def reserve(self, amount: Decimal, *, schedule: int, repository: int | None) -> None:
        for account in self.of(schedule, repository):
            account.reserved += amount

    def refusing(self, amount: Decimal, *, schedule: int, repository: int | None) -> Account | None:
        """The account that does not hold this much more, the one that opens last first."""
        if not amount:
            return None
        short = [account for account in self.of(schedule, repository) if account.left < amount]
        return max(short, key=lambda account: (account.never_holds(amount), account.ends_at), default=None)

    def accounts(self) -> Iterator[Account]:
        for accounts in (*self.schedules.values(), *self.repositories.values(), self.everybody):
            yield from accounts


def _budgets() -> Iterable[Budget]:
    rows = Budget.objects.select_related("schedule", "repository")
    return rows.only("period", "limit_usd", "updated_at", "schedule__name", "repository__slug")


def _whose(budget: Budget) -> str:
    if budget.schedule:
        return f"the schedule {budget.schedule.name}"
    return f"the repository {budget.repository.slug}" if budget.repository else "all"


@dataclass(slots=True)
class _Sums:
    """What was spent today and this month, by (schedule, repository); of neither: in all."""

    today: dict[tuple[int | None, int | None], Decimal] = field(default_factory=dict)
    month: dict[tuple[int | None, int | None], Decimal] = field(default_factory=dict)

    @classmethod
    def read(cls, budgets: Collection[Budget], today: date) -> _Sums:
        sums = cls()
        since = Spending.objects.filter(day__gte=today.replace(day=1), day__lte=today)
        repositories = [budget.repository_id for budget in budgets if budget.repository_id is not None]
        schedules = [budget.schedule_id for budget in budgets if budget.schedule_id is not None]
        wide = since.filter(Q(repository=None) | Q(repository__in=repositories), schedule=None)
        for day, repository, cost in wide.order_by().values_list("day", "repository_id", "cost_usd"):
            sums._add((None, repository), cost, is_today=day == today)
        if schedules:
            narrow = since.filter(schedule__in=schedules)
            for day, schedule, cost in narrow.order_by().values_list("day", "schedule_id", "cost_usd"):
                sums._add((schedule, None), cost, is_today=day == today)
        return sums

    def _add(self, key: tuple[int | None, int | None], cost: Decimal, *, is_today: bool) -> None:
        self.month[key] = self.month.get(key, _NOTHING) + cost
        if is_today:
            self.today[key] = self.today.get(key, _NOTHING) + cost

    def of(self, budget: Budget) -> Decimal:
        sums = self.today if budget.period == Budget.Period.DAY else self.month
        return sums.get((budget.schedule_id, budget.repository_id), _NOTHING)


def _end(period: str, today: date) -> datetime:
    """When the period that a day is in is over."""
    following = today + timedelta(days=1)
    if period == Budget.Period.MONTH:
        following = (today.replace(day=1) + timedelta(days=32)).replace(day=1)
    return datetime.combine(following, time(), ZoneInfo(settings.TIME_ZONE))


# --- At fire time -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusals:
    """Which due times can't run for want of money."""

    ledger: Ledger

    def refusal(self, schedule: Schedule, repository: Repository | None) -> Cause | None:
        """The incident, whose message is that of a `skipped` run with the reason `budget`; None: there is money.

        A budget refuses when it could not hold one session even if all that is in flight cost nothing. While it is
        merely reserved, the run is queued and waits.
        """
        place = (schedule.pk, repository.pk if repository else None)
        accounts = list(self.ledger.of(*place))
        if not accounts or not schedule.is_agent or rehearsed(schedule.runner):
            return None
        amount = _reserved(schedule.max_budget_usd, schedule.max_run_usd)
        spent = [account for account in accounts if account.never_holds(amount)]
        return _cause(max(spent, key=lambda account: account.ends_at), amount) if spent else None


def refusals(*, now: datetime) -> Refusals:
    """Read once for all that is due. One query where there is no budget."""
    return Refusals(Ledger.read(now=now))


# --- Incidents ----------------------------------------------------------------------------------


def alarm(spent: Iterable[tuple[Account, Decimal]], *, now: datetime) -> None:
    """One incident for each budget that can't hold a session in its period, with what that would reserve.

    For what is looked at again and again: one that is open already is left as it is.
    """
    causes = {cause.subject: cause for cause in (_cause(account, amount) for account, amount in spent)}
    if not causes:
        return
    told = Incident.objects.open().filter(kind=Incident.Kind.BUDGET_SPENT, subject__in=causes)
    new = causes.keys() - set(told.values_list("subject", flat=True))
    if new:
        with transaction.atomic():
            Incident.objects.alarm_all([causes[subject] for subject in new], now=now)
    for subject in new:
        logger.warning("%s", causes[subject].message, extra={"action": "budget_spent"})


def _cause(account: Account, amount: Decimal) -> Cause:
    message = f"The {account.told(amount)}. Nothing more starts until {account.ends_at:%Y-%m-%d %H:%M %Z}."
    return Cause(Incident.Kind.BUDGET_SPENT, _subject(account.budget.pk), message, account.budget.schedule)


def recover(*, now: datetime) -> int:
    """Close the incidents of budgets whose period is over, that were changed since, or that are gone. For upkeep."""
    spent = list(Incident.objects.open().filter(kind=Incident.Kind.BUDGET_SPENT))
    if not spent:
        return 0
    budgets = {_subject(budget.pk): budget for budget in _budgets()}
    recovered = 0
    for incident in spent:
        budget = budgets.get(incident.subject)
        if budget and budget.updated_at <= incident.first_at and now < _end(budget.period, day_of(incident.first_at)):
            continue
        recovered += Incident.objects.recover(incident.kind, incident.subject, now=now)
    return recovered


def _subject(budget: int) -> str:
    return f"budget {budget}"
