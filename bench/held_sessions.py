"""How much memory a running session costs beside its own program: its shim, its part of what shims are forked from, and
the growth of its worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psutil
from django.utils import timezone

from bench.rows import process_of
from schedules.firing import trigger
from schedules.models import Schedule, Session, SessionEvent, WorkerHeartbeat
from schedules.steering import cancel_session
from schedules.tasks import dispatch
from tests.processes import until

COUNTS = (1, 8, 32)
LINES = 200
_TALKS = f"yes 'A line of the length that is usual when an agent says something about the code.' | head -n {LINES}"
_SETTLE = 1.5  # seconds, for the last events to be written


def measure(*, quick: bool) -> dict[str, object]:
    """How many were held at once → megabytes for each. And one agent, whose own memory is not Rota's."""
    worker = process_of(WorkerHeartbeat.Kind.SESSIONS)
    script = Schedule.objects.create(
        name="bench-held",
        runner="script",
        argv=["sh", "-c", f"{_TALKS}; exec sleep 600"],
        overlap=Schedule.Overlap.ALLOW,
        max_sessions=100,
    )
    agent = Schedule.objects.create(
        name="bench-held-agent", runner="claude", prompt="Wait.", model="haiku", rehearsal_script=[{"hang": True}]
    )
    _let_go(_hold(script, 1))  # the worker imports and opens what it needs
    before = worker.memory_info().rss
    found: dict[str, object] = {}
    for count in COUNTS[:2] if quick else COUNTS:
        sessions = _hold(script, count)
        found[str(count)] = _memory(sessions, worker, before)
        _let_go(sessions)
    sessions = _hold(agent, 1)
    found["agent"] = _memory_of_agent(sessions[0])
    _let_go(sessions)
    return found


def _hold(schedule: Schedule, count: int) -> Sequence[Session]:
    """Sessions that run and have said what they have to say."""
    for _ in range(count):
        trigger(schedule, by="bench", now=timezone.now())
    dispatch()
    running = Session.objects.filter(schedule=schedule, status=Session.Status.RUNNING, started_at__isnull=False)
    until(lambda: running.count() == count, within=60, what=f"{count} sessions run")
    if schedule.runner == "script":
        said = SessionEvent.objects.filter(session__in=running, kind="output")
        until(lambda: said.count() == count * LINES, within=60, what="all has been said")
    time.sleep(_SETTLE)
    return list(running)


def _let_go(sessions: Sequence[Session]) -> None:
    for session in sessions:
        cancel_session(session.pk, by="bench", now=timezone.now())
    ours = Session.objects.open().filter(pk__in=[session.pk for session in sessions])
    until(lambda: not ours.exists(), within=60, what="they have ended")


def _memory(sessions: Sequence[Session], worker: psutil.Process, before: int) -> dict[str, float]:
    shims = [_pss(psutil.Process(session.pid)) for session in sessions]
    shim = sum(shims) / len(shims)
    forkers = {psutil.Process(session.pid).ppid() for session in sessions} - {worker.pid}
    forker = sum(_pss(psutil.Process(pid)) for pid in forkers) / len(sessions)
    growth = (worker.memory_info().rss - before) / len(sessions)
    return {
        "shim_pss_mb": _mb(shim),
        "forker_pss_mb": _mb(forker),
        "worker_growth_rss_mb": _mb(growth),
        "in_all_mb": _mb(shim + forker + growth),
    }


def _memory_of_agent(session: Session) -> dict[str, float]:
    """A rehearsed one: shim, what plays the model, and the agent program itself."""
    shim = psutil.Process(session.pid)
    rehearsal = shim.children()[0]
    agents = rehearsal.children(recursive=True)
    return {
        "shim_pss_mb": _mb(_pss(shim)),
        "rehearsal_pss_mb": _mb(_pss(rehearsal)),
        "agent_pss_mb": _mb(sum(_pss(agent) for agent in agents)),
    }


def _pss(process: psutil.Process) -> float:
    found: Any = process.memory_full_info()
    return float(found.pss)


def _mb(size: float) -> float:
    return round(size / 2**20, 2)
