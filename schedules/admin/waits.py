"""What queued rows of a list wait for, as their `waits`: read once for the page, and not at all where nothing waits."""

from __future__ import annotations

from django.db.models import Min
from django.http import HttpRequest
from django.utils import timezone

from schedules.admin.newest_first import NewestFirst
from schedules.models import Run, Session
from schedules.waiting import Waiting, waiting


class SessionList(NewestFirst):
    """The page of sessions."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        waits = waiting(self.result_list, now=timezone.now())
        for session in self.result_list:
            session.waits = waits.get(session.pk)


class RunList(NewestFirst):
    """The page of runs. A run waits for what the first of its waiting sessions waits for."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        queued = [run.pk for run in self.result_list if run.status == Run.Status.QUEUED]
        waits = _of_runs(queued) if queued else {}
        for run in self.result_list:
            run.waits = waits.get(run.pk)


def _of_runs(runs: list[int]) -> dict[int, Waiting]:
    waiting_ones = Session.objects.filter(run__in=runs, status=Session.Status.QUEUED).order_by()
    first = waiting_ones.values("run").annotate(first=Min("pk")).values_list("first", flat=True)
    sessions = list(Session.objects.filter(pk__in=list(first)).only("run", "status"))
    found = waiting(sessions, now=timezone.now())
    return {session.run_id: found[session.pk] for session in sessions if session.pk in found}


def told(row: Run | Session) -> str:
    """The sentence for a row of these lists, or ""."""
    waits: Waiting | None = getattr(row, "waits", None)
    return waits.told if waits else ""
