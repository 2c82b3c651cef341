"""An edit is never retroactive: what was due under the old settings goes on record before the new ones hold."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.db import transaction

from schedules.accounting import record_passed, settled_until
from schedules.firing import fire_one
from schedules.models import Schedule
from schedules.steering import BROUGHT_BACK, bring_back

# What others write of a schedule while somebody edits it.
_NOT_EDITED = (*BROUGHT_BACK, "fired_count", "overdue_at")


def save_edited(schedule: Schedule, changed: Collection[str], *, by: str, now: datetime) -> None:
    """Save the fields that a person changed, and plan anew where they say when it runs.

    `schedule` holds the new values, its row the old ones. Where its times change, what was due and not fired runs by
    the old ones, and what passed while it was off the rota is recorded by them. A broken schedule that was mended is
    active again. Raises TimetableError.
    """
    saved = {*changed, "updated_at"} if changed else set()
    # Its share of the jitter follows from its name.
    timing = bool(Schedule.TIMING_FIELDS & set(changed)) or ("name" in changed and bool(schedule.jitter))
    with transaction.atomic():
        Schedule.objects.filter(pk=schedule.pk).hold()
        if timing:
            fire_one(schedule.pk, now=now)
        _read_anew(schedule)
        broken = bool(changed) and schedule.status == Schedule.Status.BROKEN
        if broken or (timing and schedule.status != Schedule.Status.ACTIVE):
            record_passed(Schedule.objects.get(pk=schedule.pk), now=now)
        if broken:
            bring_back(schedule, by=by, now=now)
            saved |= set(BROUGHT_BACK)
        elif timing:
            schedule.plan(settled_until(schedule, now))
            if schedule.overdue_at:  # by the old times
                schedule.overdue_at = schedule.answers_by()
            saved |= {*Schedule.PLAN_FIELDS, "overdue_at"}
        schedule.save(update_fields=saved)


def _read_anew(schedule: Schedule) -> None:
    """What Rota wrote since the row was read."""
    row = Schedule.objects.values(*_NOT_EDITED).get(pk=schedule.pk)
    for name, value in row.items():
        setattr(schedule, name, value)
