"""A worker process: its lease, the sessions in its hands, and how it takes over and leaves.

One thread renews one row and reads, in one query a second, who is to be cancelled: that serves all its sessions.
Another one sweeps, which may take its time.
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
from schedules.upkeep import declare_forgotten

logger = logging.getLogger(__name__)

_LISTEN_EVERY = 1.0  # seconds
_SWEEP_EVERY = 60.0  # seconds


class Worker:
    """The one of this process. `dispatch` admits and publishes what may start next."""

    def __init__(self, *, kind: str, name: str, concurrency: int, version: str, dispatch: Callable[[], int]) -> None:
        self._facts = {"kind": kind, "name": name, "concurrency": concurrency, "version": version}
        self._dispatch = dispatch
        self._presence = self._register()
        self._in_hand: dict[int, Wish] = {}
        self._hands = threading.Lock()
        self._leaving: Wish = ""
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._listen, name="rota-presence", daemon=True)]
        if self._runs_sessions:
            self._threads.append(threading.Thread(target=self._keep_sweeping, name="rota-sweep", daemon=True))

    @property
    def row(self) -> WorkerHeartbeat:
        return self._presence.row

    def start(self) -> None:
        """Begin to renew and to sweep, and take over the sessions that a worker of this machine left behind."""
        for thread in self._threads:
            thread.start()
        if self._runs_sessions:
            for session_id, of in self._orphans():
                threading.Thread(target=self._adopt, args=(session_id, of), name=f"rota-adopted-{session_id}").start()
        self._dispatch()

    def execute(self, session_id: int, *, task_id: str) -> str:
        """Claim a session and see it through. Returns its status, or why there was nothing to do."""
        if self._leaving:
            Session.objects.release([session_id])
            return "not claimed: the worker is leaving"
        if not self._take(session_id):
            return "not claimed: it is in hand"
        try:
            return execution.execute(
                session_id,
                worker=self.row,
                task_id=task_id,
                wish=lambda: self._wish(session_id),
                clock=timezone.now,
            )
        finally:
            self._let_go(session_id)

    def leave(self, *, end_sessions: bool) -> None:
        """Claim nothing more. Sessions are ended, or left to their shims for the next worker of this machine."""
        self._leaving = "shutdown" if end_sessions else "detach"

    def stop(self) -> None:
        """The last thing: the row says that this process is gone."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=_LISTEN_EVERY * 3)
        self._presence.leave(timezone.now())

    @property
    def _runs_sessions(self) -> bool:
        return self._facts["kind"] == WorkerHeartbeat.Kind.SESSIONS

    def _take(self, session_id: int) -> bool:
        """Take a session in hand, before it is claimed. False: it is, and a message came twice."""
        with self._hands:
            if session_id in self._in_hand:
                return False
            self._in_hand[session_id] = ""
            return True

    def _let_go(self, session_id: int) -> None:
        with self._hands:
            del self._in_hand[session_id]

    def _wish(self, session_id: int) -> Wish:
        return self._leaving or self._in_hand.get(session_id, "")

    def _register(self) -> Presence:
        return Presence.register(**self._facts, now=timezone.now())  # type: ignore[arg-type]

    def _listen(self) -> None:
        while not self._stopped.wait(_LISTEN_EVERY):
            try:
                self._hear(timezone.now())
            except (DatabaseError, InterfaceError):
                logger.exception("The database is away", extra={"action": "worker_database_away"})
                connection.close()
            except Exception:  # without this thread all its sessions would be lost
                logger.exception("A fault in Rota: the worker goes on", extra={"action": "internal"})
        connection.close()

    def _hear(self, now: datetime) -> None:
        close_old_connections()
        if not self._presence.renew(now):
            self._presence = self._register()
        if not self._runs_sessions:
            return
        running = Session.objects.filter(worker=self.row, status=Session.Status.RUNNING)
        for session_id, asked_at in list(running.values_list("pk", "cancel_requested_at")):
            self._attend(session_id, is_to_end=asked_at is not None, now=now)

    def _attend(self, session_id: int, *, is_to_end: bool, now: datetime) -> None:
        """What this worker claimed it has in hand until it is over: else a fault has left it behind."""
        with self._hands:
            is_in_hand = session_id in self._in_hand
            if is_in_hand and is_to_end:
                self._in_hand[session_id] = "cancelled"
        if not is_in_hand and not self._leaving:
            declare_forgotten(session_id, worker=self.row, now=now)

    def _orphans(self) -> list[tuple[int, int | None]]:
        """Running sessions of this machine whose worker's process is gone: (session, worker row)."""
        running = Session.objects.filter(status=Session.Status.RUNNING, hostname=socket.gethostname())
        return [
            (session.pk, session.worker_id)
            for session in running.select_related("worker")
            if session.pid and not _is_at_work(session.worker)
        ]

    def _adopt(self, session_id: int, of: int | None) -> None:
        if not self._take(session_id):
            return
        try:
            execution.adopt(
                session_id,
                of=of,
                worker=self.row,
                wish=lambda: self._wish(session_id),
                clock=timezone.now,
            )
        finally:
            self._let_go(session_id)
            self._dispatch()
            connection.close()

    def _keep_sweeping(self) -> None:
        """Not in the thread that renews: what was left behind is archived first, and git may take minutes for that."""
        while True:
            try:
                self._sweep()
            except Exception:  # the next time it may go better
                logger.exception("The sweep failed", extra={"action": "sweep_failed"})
            connection.close()
            if self._stopped.wait(_SWEEP_EVERY):
                return

    def _sweep(self) -> None:
        ended = sweep(now=timezone.now())
        if ended:
            logger.warning("Ended %d processes of sessions that are over", ended, extra={"action": "swept"})


def _is_at_work(worker: WorkerHeartbeat | None) -> bool:
    if worker is None or worker.stopped_at:
        return False
    return is_alive(ProcessIdentity(pid=worker.pid, start_ticks=worker.start_ticks, boot_id=worker.boot_id))
