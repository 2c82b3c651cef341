"""How long after it is due a session's process starts: through beat, broker and worker, by the clock.

Each schedule is due once, at an instant that no tick knows of beforehand. Its session is `date`, so that the process
itself says when it began; the rows say when each step before that was reached.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from django.utils import timezone

from bench.figures import spreads
from bench.rows import small_repository
from schedules.models import Repository, Schedule, Session
from tests.processes import until

EVERY = timedelta(milliseconds=450)  # longer than one session takes: they do not wait for each other
_AHEAD = timedelta(seconds=2)
_NEVER_AGAIN = "0 0 29 2 *"


def measure(*, quick: bool) -> dict[str, object]:
    """Milliseconds, for sessions without a repository and for those with a checkout of a small one."""
    count = 8 if quick else 110
    return {
        "without_repository_ms": _measure(None, count),
        "with_repository_ms": _measure(small_repository(), count),
    }


def _measure(repository: Repository | None, count: int) -> dict[str, dict[str, float]]:
    schedules = _due_one_by_one(repository, count)
    sessions = Session.objects.filter(schedule__in=[schedule.pk for schedule in schedules])
    time.sleep(
        (_AHEAD + EVERY * count).total_seconds()
    )  # rather than to ask again and again, which would be measured too
    until(lambda: sessions.filter(finished_at__isnull=False).count() == count, within=30, what="all have run")
    due_at = {schedule.pk: schedule.due_at for schedule in schedules if schedule.due_at}
    return spreads([_steps(due_at[session.schedule_id], session) for session in sessions.select_related("run")])


def _due_one_by_one(repository: Repository | None, count: int) -> Sequence[Schedule]:
    chance = random.Random(count)
    first = timezone.now() + _AHEAD
    where = repository.slug if repository else "nowhere"
    schedules = []
    for number in range(count):
        due_at = first + EVERY * number + EVERY * chance.random() / 2
        schedules.append(
            Schedule(
                name=f"bench-{where}-{number}",
                runner="script",
                argv=["date", "+%s%N"],
                cron=_NEVER_AGAIN,
                next_run_at=due_at,
                due_at=due_at,
            )
        )
    links = Schedule.repositories.through
    Schedule.objects.bulk_create(schedules)
    if repository:
        links.objects.bulk_create([links(schedule=schedule, repository=repository) for schedule in schedules])
    return schedules


def _steps(due_at: datetime, session: Session) -> dict[str, float]:
    """Milliseconds of each step, in their order, and from its first to its last instant."""
    if session.status != Session.Status.SUCCEEDED or not (session.admitted_at and session.claimed_at):
        raise RuntimeError(f"{session} {session.status}: {session.message}")
    began = datetime.fromtimestamp(int(session.result) / 1e9, tz=UTC)
    instants = {
        "beat_wakes": session.run.queued_at,
        "recorded": session.admitted_at,
        "claimed": session.claimed_at,
        "process_started": began,
    }
    steps, before = {}, due_at
    for name, instant in instants.items():
        steps[name] = _ms(instant - before)
        before = instant
    return {**steps, "in_all": _ms(began - due_at)}


def _ms(span: timedelta) -> float:
    return span / timedelta(milliseconds=1)
