"""What a run needs around it (database, broker, workers), and the sentence for a person where it is missing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from django.conf import settings
from django.db import Error, ProgrammingError, connection
from django.db.migrations.executor import MigrationExecutor
from kombu import Connection
from kombu.exceptions import OperationalError as BrokerUnreachable

from schedules.models import Run, Session, WorkerHeartbeat

_BROKER_PATIENCE = 0.5  # seconds, to connect and again to answer


def database_problem(error: Error) -> str | None:
    """Why a query failed. None: neither for want of the database nor of its tables, so it is a fault of Rota."""
    try:
        connection.close_if_unusable_or_obsolete()
        executor = MigrationExecutor(connection)
        waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except Error as failure:
        return f"The database does not answer: {_first_line(failure)}. Start Rota with bin/up, or check DATABASE_URL."
    if waiting:
        return (
            f"The database is not set up: {waiting} migrations are to be applied. "
            "Start Rota with bin/up, or run bin/manage migrate."
        )
    if isinstance(error, ProgrammingError):
        return None
    return f"The database refused: {_first_line(error)}. Try again."


def hindrance(runs: Collection[Run], sessions: Collection[Session], *, now: datetime) -> str | None:
    """Why these open runs can't go on: no worker that could take them is alive, or the broker can't tell one."""
    without_sessions = {run.pk for run in runs if run.is_open} - {session.run_id for session in sessions}
    kinds = WorkerHeartbeat.Kind
    needed = [kinds.CONTROL] if without_sessions else []
    if any(session.is_open for session in sessions):
        needed.append(kinds.SESSIONS)
    for kind in needed:
        workers = WorkerHeartbeat.objects.filter(kind=kind)
        if not workers.alive(now=now, silent_after=settings.ROTA_LEASE).exists():
            return f"No “{kind}” worker is alive. Start Rota with bin/up"
    waiting = any(session.status == Session.Status.QUEUED for session in sessions)
    if (without_sessions or waiting) and not broker_answers():
        return "The broker does not answer. Start Rota with bin/up, or check REDIS_URL"
    return None


def broker_answers() -> bool:
    """Costs a second at most where it does not."""
    options = {
        **settings.CELERY_BROKER_TRANSPORT_OPTIONS,
        "socket_timeout": _BROKER_PATIENCE,
        "socket_connect_timeout": _BROKER_PATIENCE,
    }
    try:
        with Connection(settings.CELERY_BROKER_URL, transport_options=options) as broker:
            broker.ensure_connection(max_retries=1, interval_start=0)
    except BrokerUnreachable:
        return False
    return True


def _first_line(error: Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
