"""Celery's way in: load, one call, publish. A message carries an id and nothing else."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Any

from celery import Task, shared_task
from celery import __version__ as celery_version
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from celery.worker import state
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone
from kombu.exceptions import OperationalError

from schedules import limits, publishing
from schedules import upkeep as keeping
from schedules.dispatching import Dispatcher, Slot
from schedules.models import Session, WorkerHeartbeat
from schedules.patience import patiently
from schedules.worker import Worker

logger = logging.getLogger(__name__)

_SESSIONS = "sessions"  # the queue
_ANNOUNCED_WITHIN = 1.0  # seconds: a lock that passes; whoever started this process starts it again
_GOES_ON = 10.0  # seconds after a task began: by then its result is to be on record
_upkeep = keeping.Upkeep()
_here: list[Worker] = []  # the worker of this process, while there is one


def _worker_of_this_process() -> Worker:
    if not _here:
        raise RuntimeError("Sessions run in a Celery worker: start one with -Q sessions.")
    return _here[0]


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    """Announce the worker, take over what another one left, and ask for work."""
    queues = set(sender.app.amqp.queues.consume_from)
    kind = WorkerHeartbeat.Kind.SESSIONS if _SESSIONS in queues else WorkerHeartbeat.Kind.CONTROL
    concurrency = sender.pool.num_processes if kind == WorkerHeartbeat.Kind.SESSIONS else 0
    try:
        worker = patiently(
            lambda: Worker(
                kind=kind,
                name=sender.hostname,
                concurrency=concurrency,
                version=f"celery {celery_version}",
                dispatch=dispatch,
                consume=lambda on: _consume(sender, on=on),
                upkeep=_upkeep,
            ),
            longest=_ANNOUNCED_WITHIN,
        )
    except (DatabaseError, InterfaceError) as error:
        # Celery would note an ordinary exception and go on, with a worker that nobody ever counts on.
        logger.critical("The worker ends: it can't say that it is there, for the database is away: %s", error)
        raise SystemExit(1) from error
    _here.append(worker)
    worker.start()


def _consume(consumer: Any, *, on: bool) -> None:
    """Take messages of sessions, or leave them to others. In the thread of Celery's consumer, as soon as it can."""

    def turn() -> None:
        if on:
            consumer.add_task_queue(_SESSIONS)
        else:
            consumer.task_consumer.cancel_by_queue(_SESSIONS)

    consumer.call_soon(turn)


@worker_shutting_down.connect
def _leave(**_: Any) -> None:
    leave(drain=settings.ROTA_DRAIN)


def leave(*, drain: bool) -> None:
    """The worker of this process claims nothing more, and lets go of its sessions unless it is to `drain`."""
    for worker in _here:
        worker.leave(end_sessions=settings.ROTA_END_SESSIONS_ON_EXIT, drain=drain)


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    while _here:
        _here.pop().stop()


def dispatch() -> int:
    """Admit what may start and hand it to the broker. Returns how many; 0 when the broker is away, and they wait.

    And 0 where another thread is at it: that one looks once more, and so finds what changed for this one.
    """
    return _dispatcher.dispatch()


def publish(session_ids: list[int]) -> int:
    """Hand admitted sessions to the broker. When it does not take them they go back to those that wait."""
    if not session_ids:
        return 0
    try:
        _outbox.publish(execute_session, session_ids)
    except OperationalError as error:
        Session.objects.release(session_ids)
        logger.warning(
            "The broker is away: %d sessions wait (%s)", len(session_ids), error, extra={"action": "broker_away"}
        )
        return 0
    return len(session_ids)


_outbox = publishing.Outbox(_SESSIONS)
_dispatcher = Dispatcher(admit=lambda: limits.admit(now=timezone.now(), about_to=_outbox.write_ahead), publish=publish)


# The session's row says that it runs; another one of Celery's would say so for ever when the worker dies.
@shared_task(bind=True, track_started=False)
def execute_session(self: Task[Any, Any], session_id: int) -> str:
    """Claim the session and see it through. Returns its status; a message that comes twice finds nothing to claim.

    Its slot goes on with what may start next, for a few seconds: of several sessions it returns how many ended how.
    """
    until, task_id, slot = time.monotonic() + _GOES_ON, str(self.request.id), Slot(_dispatcher)
    ends: list[str] = []
    following: int | None = session_id
    has_asked = False
    try:
        while following is not None:
            has_asked = False
            ends.append(_worker_of_this_process().execute(following, task_id=task_id, about_to_end=slot.expect))
            following = None
            if time.monotonic() < until and _goes_on(ends[-1]):
                following, has_asked = slot.take(), True
    finally:
        if not has_asked:
            slot.leave()
        close_old_connections()
    return ends[0] if len(ends) == 1 else ", ".join(f"{count} {end}" for end, count in Counter(ends).items())


def _goes_on(end: str) -> bool:
    """Not after what was not claimed; and not while messages wait in this process, that have their places already."""
    is_next = len(state.reserved_requests) <= len(state.active_requests)
    return end in Session.Status and is_next and _worker_of_this_process().takes_more


@shared_task
def upkeep() -> dict[str, int]:
    """Every few seconds: what was lost on its way is sent again, what died is declared so."""
    done = _upkeep.round(now=timezone.now(), at=keeping.uptime())
    return {**done, "published": dispatch()}


@shared_task
def prune() -> dict[str, int]:
    """Every hour: old rows go, in small batches."""
    return keeping.prune(now=timezone.now())
