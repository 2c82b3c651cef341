"""Celery's way in: load, one call, publish. A message carries an id and nothing else."""

from __future__ import annotations

import logging
from typing import Any

from celery import Task, shared_task
from celery import __version__ as celery_version
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections
from django.utils import timezone
from kombu.exceptions import OperationalError

from schedules import limits
from schedules import upkeep as keeping
from schedules.models import Session, WorkerHeartbeat
from schedules.worker import Worker

logger = logging.getLogger(__name__)

_here: list[Worker] = []  # the worker of this process, while there is one


def _worker_of_this_process() -> Worker:
    if not _here:
        raise RuntimeError("Sessions run in a Celery worker: start one with -Q sessions.")
    return _here[0]


@worker_ready.connect
def _start(sender: Any, **_: Any) -> None:
    """Announce the worker, take over what another one left, and ask for work."""
    queues = set(sender.app.amqp.queues.consume_from)
    kind = WorkerHeartbeat.Kind.SESSIONS if "sessions" in queues else WorkerHeartbeat.Kind.CONTROL
    concurrency = sender.pool.num_processes if kind == WorkerHeartbeat.Kind.SESSIONS else 0
    try:
        worker = Worker(
            kind=kind,
            name=sender.hostname,
            concurrency=concurrency,
            version=f"celery {celery_version}",
            dispatch=dispatch,
        )
    except (DatabaseError, InterfaceError) as error:
        # Celery would note an ordinary exception and go on, with a worker that nobody ever counts on.
        logger.critical("The worker ends: it can't say that it is there, for the database is away: %s", error)
        raise SystemExit(1) from error
    _here.append(worker)
    worker.start()


@worker_shutting_down.connect
def _leave(**_: Any) -> None:
    for worker in _here:
        worker.leave(end_sessions=settings.ROTA_END_SESSIONS_ON_EXIT)


@worker_shutdown.connect
def _stop(**_: Any) -> None:
    while _here:
        _here.pop().stop()


def dispatch() -> int:
    """Admit what may start and hand it to the broker. Returns how many; 0 when the broker is away, and they wait."""
    return publish(limits.admit(now=timezone.now()))


def publish(session_ids: list[int]) -> int:
    """Hand admitted sessions to the broker. What it does not take goes back to those that wait."""
    for done, session_id in enumerate(session_ids):
        try:
            execute_session.apply_async((session_id,), retry=False)
        except OperationalError as error:
            left = session_ids[done:]
            Session.objects.release(left)
            logger.warning(
                "The broker is away: %d sessions wait (%s)",
                len(left),
                error,
                extra={"action": "broker_away"},
            )
            return done
    return len(session_ids)


@shared_task(bind=True)
def execute_session(self: Task[Any, Any], session_id: int) -> str:
    """Claim the session and see it through. Returns its status; a message that comes twice finds nothing to claim."""
    try:
        return _worker_of_this_process().execute(session_id, task_id=str(self.request.id))
    finally:
        dispatch()
        close_old_connections()


@shared_task
def upkeep() -> dict[str, int]:
    """Every few seconds: what was lost on its way is sent again, what died is declared so."""
    done = keeping.keep_up(now=timezone.now())
    return {**done, "published": dispatch()}


@shared_task
def prune() -> dict[str, int]:
    """Every hour: old rows go, in small batches."""
    return keeping.prune(now=timezone.now())
