"""A worker process: its lease, the sessions in its hands, and how it takes over and leaves.

One thread renews one row and reads, in one query a second, who is to be cancelled: that serves all its sessions.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from datetime import datetime

from django.db import DatabaseError, InterfaceError, close_old_connections, connection
from django.utils import timezone

from runners import ProcessIdentity, is_alive
from schedules import execution
from schedules.execution import Wish
from schedules.models import Session, WorkerHeartbeat
from schedules.presence import Presence
from schedules.sweeping import sweep

logger = logging.getLogger(__name__)

_LISTEN_EVERY = 1.0  # seconds
_SWEEP_EVERY = 60  # listens


class Worker:
    """The one of this process. `dispatch` admits and publishes what may start next."""

    def __init__(self, *, kind: str, name: str, concurrency: int, version: str, dispatch: Callable[[], int]) -> None:
        self._facts = {"kind": kind, "name": name, "concurrency": concurrency, "version": version}
        self._dispatch = dispatch
        self._presence = self._register()
        self._in_hand: dict[int, Wish] = {}
        self._leaving: Wish = ""
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="rota-presence", daemon=True)

    @property
    def row(self) -> WorkerHeartbeat:
        return self._presence.row

    def start(self) -> None:
        """Begin to renew, and take over the sessions that a worker of this machine left behind."""
        self._thread.start()
        if self._facts["kind"] == WorkerHeartbeat.Kind.SESSIONS:
            self._sweep()
            for session_id, of in self._orphans():
                threading.Thread(target=self._adopt, args=(session_id, of), name=f"rota-adopted-{session_id}").start()
        self._dispatch()

    def execute(self, session_id: int, *, task_id: str) -> str:
        """Claim a session and see it through. Returns its status, or why there was nothing to do."""
        if self._leaving:
            Session.objects.release([session_id])
            return "not claimed: the worker is leaving"
        self._in_hand[session_id] = ""
        try:
            return execution.execute(
                session_id,
                worker=self.row,
                task_id=task_id,
                wish=lambda: self._wish(session_id),
                clock=timezone.now,
            )
        finally:
            self._in_hand.pop(session_id, None)

    def leave(self, *, end_sessions: bool) -> None:
        """Claim nothing more. Sessions are ended, or left to their shims for the next worker of this machine."""
        self._leaving = "shutdown" if end_sessions else "detach"

    def stop(self) -> None:
        """The last thing: the row says that this process is gone."""
        self._stopped.set()
        self._thread.join(timeout=_LISTEN_EVERY * 3)
        self._presence.leave(timezone.now())

    def _wish(self, session_id: int) -> Wish:
        return self._leaving or self._in_hand.get(session_id, "")

    def _register(self) -> Presence:
        return Presence.register(**self._facts, now=timezone.now())  # type: ignore[arg-type]

    def _listen(self) -> None:
        listens = 0
        while not self._stopped.wait(_LISTEN_EVERY):
            listens += 1
            try:
                self._hear(timezone.now())
                if listens % _SWEEP_EVERY == 0 and self._facts["kind"] == WorkerHeartbeat.Kind.SESSIONS:
                    self._sweep()
            except (DatabaseError, InterfaceError):
                logger.exception("The database is away", extra={"action": "worker_database_away"})
                connection.close()
        connection.close()

    def _hear(self, now: datetime) -> None:
        close_old_connections()
        if not self._presence.renew(now):
            self._presence = self._register()
        if self._in_hand:
            asked = Session.objects.filter(pk__in=list(self._in_hand), cancel_requested_at__isnull=False)
            for session_id in asked.values_list("pk", flat=True):
                if session_id in self._in_hand:
                    self._in_hand[session_id] = "cancelled"

    def _orphans(self) -> list[tuple[int, int | None]]:
        """Running sessions of this machine whose worker's process is gone: (session, worker row)."""
        running = Session.objects.filter(status=Session.Status.RUNNING, hostname=socket.gethostname())
        return [
            (session.pk, session.worker_id)
            for session in running.select_related("worker")
            if session.pid and not _is_at_work(session.worker)
        ]

    def _adopt(self, session_id: int, of: int | None) -> None:
        self._in_hand[session_id] = ""
        try:
            execution.adopt(
                session_id,
                of=of,
                worker=self.row,
                wish=lambda: self._wish(session_id),
                clock=timezone.now,
            )
        finally:
            self._in_hand.pop(session_id, None)
            self._dispatch()
            connection.close()

    def _sweep(self) -> None:
        ended = sweep(now=timezone.now())
        if ended:
            logger.warning("Ended %d processes of sessions that are over", ended, extra={"action": "swept"})


def _is_at_work(worker: WorkerHeartbeat | None) -> bool:
    if worker is None or worker.stopped_at:
        return False
    return is_alive(ProcessIdentity(pid=worker.pid, start_ticks=worker.start_ticks, boot_id=worker.boot_id))
