"""Deleting a schedule: the page counts what goes with it, and what goes, goes in small batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from schedules import steering
from schedules.admin.unfolded import ModelAdmin
from schedules.models import Run, Schedule, Session, SessionEvent

logger = logging.getLogger(__name__)

_BATCH = 200
_MOST_NAMED = 5


class NotDeleted(Exception):
    """A schedule stays. The message is for people: why, and what to do."""


class ForgettingAdmin(ModelAdmin[Schedule]):
    """Deletes a schedule with its history, whatever the length of that."""

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Not in one transaction, as Django does it: that would hold the database for as long as it takes."""
        try:
            response: HttpResponse = self._delete_view(request, object_id, extra_context)
        except NotDeleted as why:
            return self._kept(request, why)
        return response

    def response_action(self, request: HttpRequest, queryset: QuerySet[Schedule], *args: Any, **options: Any) -> Any:
        """A selection is deleted here: those before one that stays are gone."""
        try:
            return super().response_action(request, queryset, *args, **options)
        except NotDeleted as why:
            return self._kept(request, why)

    def _kept(self, request: HttpRequest, why: NotDeleted) -> HttpResponse:
        self.message_user(request, str(why), messages.ERROR)
        return redirect(request.get_full_path())

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Not before it is done, as Django does it: a schedule may stay."""

    def get_deleted_objects(
        self, objs: Iterable[Schedule] | QuerySet[Schedule], request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """Names and counts, where Django would read and list every row. What is open keeps its schedule."""
        schedules = list(objs)
        ids = [schedule.pk for schedule in schedules]
        counts = {
            "schedules": len(schedules),
            "runs": Run.objects.filter(schedule__in=ids).count(),
            "sessions": Session.objects.filter(schedule__in=ids).count(),
        }
        lines = [f"{schedule}, with its runs, sessions and their transcripts" for schedule in schedules[:100]]
        open_runs = Run.objects.open().filter(schedule__in=ids).select_related("schedule")[:_MOST_NAMED]
        kept = [
            f"{run} of {run.schedule}: it is still {run.get_status_display()}. Cancel it first." for run in open_runs
        ]
        may = request.user.has_perm("schedules.delete_schedule")
        return lines, counts, set() if may else {"schedule"}, kept

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Raises NotDeleted."""
        try:
            forget(obj, by=request.user.get_username(), now=timezone.now())
        except (OperationalError, IntegrityError) as error:  # somebody else wrote at the same time
            logger.warning("%s could not be deleted", obj, exc_info=True, extra={"action": "not_deleted"})
            raise NotDeleted(
                f"{obj} is still there: the database was busy with something else. It may be disabled by now, and a "
                "part of its history gone. Delete it again, or resume it."
            ) from error
        deleted: Any = [obj]
        super().log_deletions(request, deleted)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        for schedule in queryset:
            self.delete_model(request, schedule)


def forget(schedule: Schedule, *, by: str, now: datetime) -> None:
    """Delete a schedule and all that ran of it. It is disabled first, so that nothing new begins meanwhile.

    Raises NotDeleted where something of it began just before that.
    """
    steering.disable([schedule], by=by, reason="Is being deleted.", now=now)
    if running := Run.objects.open().filter(schedule=schedule).first():
        raise NotDeleted(
            f"{schedule} is still there, and disabled: run {running.pk} of it began just now. Cancel that and delete "
            "it again, or resume it."
        )
    sessions = Session.objects.filter(schedule=schedule).order_by("pk")
    while ids := list(sessions.values_list("pk", flat=True)[:_BATCH]):
        SessionEvent.objects.filter(session__in=ids).delete()
        Session.objects.filter(pk__in=ids).only("pk").delete()
    runs = Run.objects.filter(schedule=schedule).order_by("pk")
    while ids := list(runs.values_list("pk", flat=True)[:_BATCH]):
        Run.objects.filter(pk__in=ids).only("pk").delete()
    with transaction.atomic():
        itself = Schedule.objects.filter(pk=schedule.pk)
        itself.hold()  # before its freeze windows, as whoever edits these does: else the two would wait for each other
        itself.delete()
