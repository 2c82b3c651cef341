"""How long after a line was printed its event can be read from the database."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from django.utils import timezone

from bench.figures import spread
from schedules.firing import trigger
from schedules.models import Run, Schedule, SessionEvent
from schedules.tasks import dispatch
from tests.processes import until

COUNTS = (1, 8, 32)
_LATE = 1000  # rows: so far behind may one come that was numbered earlier and committed later
_PAUSES = (0.02, 0.9)  # seconds between two lines, at random
_SAYS_WHEN = "for pause; do sleep $pause; date +%s%N; done"


def measure(*, quick: bool) -> dict[str, object]:
    """Number of sessions that talk at once → milliseconds from the line, which is the time itself, to its row."""
    counts, lines = (COUNTS[:2], 20) if quick else (COUNTS, 60)
    return {str(count): _measure(count, lines) for count in counts}


def _measure(count: int, lines: int) -> dict[str, float]:
    chance = random.Random(count)
    runs = [_talk([f"{chance.uniform(*_PAUSES):.3f}" for _ in range(lines)]) for _ in range(count)]
    dispatch()
    seen: dict[int, float] = {}
    until(lambda: _look(runs, seen) == count * lines, within=60 + lines, what="all has been said")
    settled = Run.objects.filter(pk__in=[run.pk for run in runs], finished_at__isnull=False)
    until(lambda: settled.count() == count, within=60, what="they have ended")
    return spread(list(seen.values()))


def _talk(pauses: Sequence[str]) -> Run:
    schedule = Schedule.objects.create(
        name=f"bench-talks-{Schedule.objects.count()}", runner="script", argv=["sh", "-c", _SAYS_WHEN, "sh", *pauses]
    )
    return trigger(schedule, by="bench", now=timezone.now())[0]


def _look(runs: Sequence[Run], seen: dict[int, float]) -> int:
    """Note what is new, with its age in milliseconds. Returns how many are known. `until` calls it every 20 ms."""
    newest = max(seen, default=0)
    events = SessionEvent.objects.filter(session__run__in=runs, kind="output", pk__gt=newest - _LATE)
    found = list(events.values_list("pk", "text"))
    now = time.time_ns()
    for pk, text in found:
        seen.setdefault(pk, (now - int(text)) / 1e6)
    return len(seen)
