"""What sessions cost, added up by day: settled once, in the transaction that ends a session."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from schedules.models import Session, Spending


def settle(session: Session, cost_usd: Decimal | float, *, now: datetime) -> None:
    """Add what a session cost to the day it ended on. Call it once, in the transaction that finishes its row.

    Its reservation ends with that transaction, for only what is in flight reserves. A session that cost nothing pays no
    query.
    """
    cost = Decimal(str(cost_usd))
    if cost <= 0:
        return
    day = day_of(now)
    # In one order for all: two sessions that end at once wait for one another, and never in a circle.
    _add(day, session.schedule_id, session.repository_id, cost)
    if session.repository_id is not None:
        _add(day, None, session.repository_id, cost)
    _add(day, None, None, cost)


def day_of(now: datetime) -> date:
    """The day that money spent at this instant belongs to."""
    return now.astimezone(ZoneInfo(settings.TIME_ZONE)).date()


def _add(day: date, schedule: int | None, repository: int | None, cost: Decimal) -> None:
    row = Spending.objects.filter(day=day, schedule=schedule, repository=repository)
    if _increase(row, cost):
        return
    try:
        with transaction.atomic():
            row.create(day=day, schedule_id=schedule, repository_id=repository, cost_usd=cost, sessions=1)
    except IntegrityError:  # somebody else's session was the first of the day
        if not _increase(row, cost):
            raise


def _increase(row: QuerySet[Spending], cost: Decimal) -> bool:
    return row.update(cost_usd=F("cost_usd") + cost, sessions=F("sessions") + 1) == 1
