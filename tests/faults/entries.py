"""What the book has entries of: sessions and runs as the database has them, and all that a test made beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

LEASE = timedelta(seconds=60)
UNCLAIMED = timedelta(seconds=20)
LONGEST_QUOTA = timedelta(days=8)
SPREAD = timedelta(seconds=3)
OVERLOADED = ("overloaded", "api_error", "rate_limited")
INFRASTRUCTURE = (*OVERLOADED, "worker_died", "shutdown", "crashed", "fetch_failed")
NEVER_AGAIN = ("cancelled", "paused", "disabled")
OPEN = ("queued", "running")

FAMILIES = {
    "opus": ("opus", "claude-opus-4-5", "claude-opus-*"),
    "haiku": ("haiku", "claude-haiku-*"),
    "gpt": ("gpt-5", "gpt-*"),
}
"""Names of models, their aliases and patterns of them."""

Money = Decimal
NOTHING = Money(0)
GUESS = Money(1)  # ROTA_RESERVE_USD


class Row(NamedTuple):
    """A session, as the database has it."""

    pk: int
    run: int
    schedule: int
    repository: int | None
    number: int
    attempt: int
    retry_of: int | None
    status: str
    reason: str
    message: str
    priority: int
    credential: str
    model: str
    is_rehearsal: bool
    reserved: Money
    cost: Money
    not_before: datetime | None
    cancel_requested_at: datetime | None
    admitted_at: datetime | None
    claimed_at: datetime | None
    finished_at: datetime | None
    worker: int | None
    late_report: object

    @property
    def is_open(self) -> bool:
        return self.status in OPEN

    @property
    def is_in_flight(self) -> bool:
        return self.status == "running" or (self.status == "queued" and self.admitted_at is not None)

    @property
    def money(self) -> Money:
        return max(self.reserved, self.cost)


class RunRow(NamedTuple):
    """A run, as the database has it."""

    pk: int
    schedule: int
    repository: int | None
    trigger: str
    overlap: str
    status: str
    reason: str
    cost: Money
    cancel_requested_at: datetime | None
    finished_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


@dataclass
class Terms:
    """Of a schedule: what its sessions may take."""

    pk: int
    name: str
    credential: str
    weight: int
    most: int
    own: Money | None
    of_run: Money | None
    retry: str
    attempts: int
    status: str = "active"

    def reserves(self, *, is_rehearsal: bool) -> Money:
        if is_rehearsal or not self.credential:
            return NOTHING
        if self.own is not None:
            return self.own
        return GUESS if self.of_run is None else min(GUESS, self.of_run)


@dataclass
class Limit:
    """A pool, with the schedules that name it."""

    name: str
    places: int
    provider: str = ""
    model: str = ""
    named_by: set[int] = field(default_factory=set)


@dataclass
class Purse:
    """A budget."""

    period: str
    limit: Money
    schedule: int | None = None
    repository: int | None = None

    def is_of(self, schedule: int, repository: int | None) -> bool:
        if self.schedule is not None:
            return self.schedule == schedule
        return self.repository is None or self.repository == repository


@dataclass
class Hand:
    """A worker."""

    slots: int
    host: str
    seen_at: datetime
    is_gone: bool = False  # its row says that it stopped
    is_dead: bool = False  # its process is not there any more
    is_silent: bool = False  # its process can't reach the database
    holds_back: bool = False

    def counts(self, now: datetime) -> bool:
        return not self.is_gone and self.seen_at > now - LEASE


@dataclass
class Held:
    """What is known of a credential's service."""

    until: datetime | None = None
    failures: int = 0

    def is_shut(self, now: datetime) -> bool:
        return self.until is not None and self.until > now


@dataclass
class Window:
    """A freeze. No schedules: all of them."""

    starts_at: datetime
    ends_at: datetime
    reason: str
    schedules: set[int]

    def covers(self, schedule: int, now: datetime) -> bool:
        return self.starts_at <= now < self.ends_at and (not self.schedules or schedule in self.schedules)


def is_of_model(pattern: str, model: str) -> bool:
    return any(pattern in names and model in names for names in FAMILIES.values())
