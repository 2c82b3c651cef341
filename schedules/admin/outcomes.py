"""The strip of a schedule's last outcomes, for a whole page of schedules at once."""

from __future__ import annotations

from collections.abc import Collection
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING

from django.db.models import OuterRef, Q, Subquery

from schedules.models import Run, Schedule
from schedules.rendering.strip import STRIP

if TYPE_CHECKING:
    from django.db.models import QuerySet


def latest_runs(schedules: Collection[int], count: int = STRIP) -> dict[int, list[Run]]:
    """Schedule id → its newest runs, newest first: two queries, whatever the number of schedules and of runs.

    The first finds where each strip begins, by the index of a schedule's runs; the second reads only what is shown.
    """
    if not schedules:
        return {}
    newest = Run.objects.filter(schedule=OuterRef("pk")).order_by("-id").values("id")
    begins: QuerySet[Schedule, tuple[int, int | None]] = (
        Schedule.objects.filter(pk__in=schedules)
        .order_by()
        .annotate(begins=Subquery(newest[count - 1 : count]))
        .values_list("pk", "begins")
    )
    wanted = reduce(or_, (Q(schedule=pk, id__gte=at or 0) for pk, at in begins), Q(pk__in=[]))
    runs = Run.objects.filter(wanted).order_by("-id")
    found: dict[int, list[Run]] = {pk: [] for pk in schedules}
    for run in runs.only("schedule_id", "status", "reason", "scheduled_for", "finished_at", "is_rehearsal"):
        found[run.schedule_id].append(run)
    return found
