"""A worker process: its lease, the sessions in its hands, and how it takes over and leaves.

One thread renews one row and reads, in one query a second, who is to be cancelled: that serves all its sessions.
Another one sweeps, which may take its time; one holds the fence, and touches no database; one looks for what should
have happened; and with the control worker one keeps up the house, also while no message comes through.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from runners import ProcessIdentity, is_alive, request_stop
from schedules import execution
from schedules.agents import Programs, find_programs, tell_programs
from schedules.fencing import Fence
from schedules.folders import session_folder
from schedules.following import Wish
from schedules.hands import Hands
from schedules.models import Incident, Session, WorkerHeartbeat
from schedules.presence import Presence, keep_connection
from schedules.room import shortage
from schedules.sweeping import Later, sweep
from schedules.upkeep import Upkeep, declare_forgotten, uptime
from schedules.watch import LOOK_EVERY, Watch

logger = logging.getLogger(__name__)

_LISTEN_EVERY = 1.0  # seconds
_SWEEP_EVERY = 60.0  # seconds
_SWEEP_ALL_EVERY = 3600.0  # seconds: otherwise what was seen to be in order is not looked at again
_UPKEEP_EVERY = 10.0  # seconds
_ROOM_FOR = 0.5  # seconds: so long is a disk that had room not looked at again
_LEAVING = "It was told to end, and takes no more."
_FULL_AGAIN_AFTER = timedelta(minutes=10)  # the alarm of a disk that stays full is counted again


class Worker:
    """The one of this process. `dispatch` admits and publishes what may start next.

    `consume` turns its messages off and on again: a worker that holds back leaves them to others.
    """

    def __init__(
        self,
        *,
        kind: str,
        name: str,
        concurrency: int,
        version: str,
        dispatch: Callable[[], int],
        consume: Callable[[bool], None] = lambda _: None,
        upkeep: Upkeep | None = None,
    ) -> None:
        self._facts = {"kind": kind, "name": name, "concurrency": concurrency, "version": version}
        self._programs: Programs = {}
        self._dispatch = dispatch
        self._consume = consume
        self._upkeep = upkeep or Upkeep()
        self._presence = self._register()
        self._fence = Fence.of(settings.ROTA_LEASE, time.monotonic())
        self._watch = Watch()
        self._hands = Hands()
        self._heard: set[int] = set()  # the sessions that the last round found running under its row
        self._adopted: list[threading.Thread] = []
        self._swept: set[int] = set()
        self._later = Later()
        self._swept_all_at = time.monotonic()
        self._leaving: Wish = ""
        self._claims = True
        self._had_room_at = -math.inf  # monotonic
        self._stopped = threading.Event()
        duties: list[tuple[str, Callable[[], object]]] = [
            ("rota-presence", self._listen),
            ("rota-watch", lambda: self._keep(LOOK_EVERY, self._look)),
        ]
        if self._runs_sessions:
            duties += [("rota-sweep", self._tend), ("rota-fence", self._hold_fence)]
        else:
            duties.append(("rota-upkeep", lambda: self._keep(_UPKEEP_EVERY, self._keep_up)))
        self._threads = [threading.Thread(target=duty, name=name, daemon=True) for name, duty in duties]

    @property
    def row(self) -> WorkerHeartbeat:
        return self._presence.row

    def start(self) -> None:
        """Begin to renew and to sweep, and take over the sessions that a worker of this machine left behind.

        Where the database is just away, its threads do that later.
        """
        if self._runs_sessions:
            self._do(lambda: self._mind_room(timezone.now()))
            self._do(self._take_over)
        for thread in self._threads:
            thread.start()
        self._do(self._dispatch)

    def execute(self, session_id: int, *, task_id: str, about_to_end: Callable[[], None] = lambda: None) -> str:
        """Claim a session and see it through. Returns its status, or why there was nothing to do.

        `about_to_end` is called before its place is free, where nothing that takes long comes after.
        """
        if why := self._holds_back():
            Session.objects.release([session_id])
            return f"not claimed: {why}"
        if not self._hands.take(session_id):
            return "not claimed: it is in hand"
        try:
            return execution.execute(
                session_id,
                worker=self.row,
                task_id=task_id,
                wish=lambda: self._wish(session_id),
                clock=timezone.now,
                about_to_end=about_to_end,
            )
        finally:
            self._hands.let_go(session_id)

    @property
    def takes_more(self) -> bool:
        """Whether a slot that is free again may go on with another session: `execute` looks once more, and closer."""
        return self._claims and not self.row.holds_back

    def leave(self, *, end_sessions: bool, drain: bool = False) -> None:
        """Claim nothing more. Sessions are ended, or left to their shims for the next worker of this machine.

        `drain`: neither of the two, they go on here to their end.
        """
        self._claims = False
        if not drain:
            self._leaving = "shutdown" if end_sessions else "detach"

    def stop(self) -> None:
        """The last thing: the row says that this process is gone."""
        if self._claims:  # it ends without having been told to
            self.leave(end_sessions=False)
        for thread in self._adopted:  # Celery waits for those that it started
            thread.join()
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=_LISTEN_EVERY * 3)
        self._presence.leave(timezone.now())

    @property
    def _runs_sessions(self) -> bool:
        return self._facts["kind"] == WorkerHeartbeat.Kind.SESSIONS

    def _wish(self, session_id: int) -> Wish:
        return self._leaving or self._hands.wish_for(session_id)

    def _register(self) -> Presence:
        return Presence.register(**self._facts, programs=self._programs, now=timezone.now())  # type: ignore[arg-type]

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
        keep_connection()
        self._renew(now)
        if not self._runs_sessions:
            return
        running = Session.objects.filter(worker=self.row, status=Session.Status.RUNNING)
        found = dict(running.values_list("pk", "cancel_requested_at"))
        for session_id, asked_at in found.items():
            self._attend(session_id, is_to_end=asked_at is not None, now=now)
        # They ran under this worker's row, and do not any more: over by now, or declared lost behind its back.
        self._hands.give_away(self._heard - found.keys())
        self._heard = set(found)
        if not self._claims:
            self._tell_that_it_leaves()

    def _renew(self, now: datetime) -> None:
        """And what is to be seen to as often."""
        began, before = time.monotonic(), self._presence.renewed_at
        if not self._presence.renew(now):
            self._presence = self._register()
        if self._presence.renewed_at == before:
            return
        self._fence.renew(began)
        if self._runs_sessions and self._claims:
            self._mind_room(now)
            self._take_over()

    def _tell_that_it_leaves(self) -> None:
        """It may see its sessions through for hours: nothing more is for it, and people are to know."""
        if self.row.holds_back != _LEAVING:
            WorkerHeartbeat.objects.filter(pk=self.row.pk).update(holds_back=_LEAVING)
            self.row.holds_back = _LEAVING

    def _attend(self, session_id: int, *, is_to_end: bool, now: datetime) -> None:
        """What this worker claimed it has in hand until it is over: else a fault has left it behind."""
        is_in_hand = self._hands.cancel(session_id) if is_to_end else session_id in self._hands
        if not is_in_hand and not self._leaving:
            declare_forgotten(session_id, worker=self.row, now=now)

    def _hold_fence(self) -> None:
        """Needs neither the database nor a session's own thread, which may both hang just then."""
        while not self._stopped.wait(_LISTEN_EVERY):
            if self._fence.is_closed(time.monotonic()):
                self._end_all()

    def _end_all(self) -> None:
        for session_id in self._hands.lose_all():
            logger.error(
                "Session %d is ended: this worker could not renew its lease", session_id, extra={"action": "fenced"}
            )
            try:
                request_stop(session_folder(session_id), "shutdown")
            except OSError:  # not there yet: its own thread reads the wish before it starts a process
                logger.warning("Session %d has no process to be ended", session_id)

    def _holds_back(self) -> str:
        """Why it claims nothing now, or ""."""
        if not self._claims:
            return "the worker is leaving"
        at = time.monotonic()
        if self._fence.is_closed(at):
            return "the worker could not renew its lease"
        if at - self._had_room_at < _ROOM_FOR:
            return ""
        why = self._mind_room(timezone.now())
        self._had_room_at = -math.inf if why else at
        return why

    def _mind_room(self, now: datetime) -> str:
        """Hold back while a disk is full, and say so. Returns why, or "" while there is room."""
        why = shortage(
            [
                Path(folder)
                for folder in (
                    settings.ROTA_VAR,
                    settings.ROTA_SESSIONS_DIR,
                    settings.ROTA_WORKSPACES_DIR,
                    settings.ROTA_CACHE_DIR,
                )
            ],
            least_bytes=settings.ROTA_MIN_FREE_BYTES,
            least_inodes=settings.ROTA_MIN_FREE_INODES,
        )[:300]
        if bool(why) != bool(self.row.holds_back):
            WorkerHeartbeat.objects.filter(pk=self.row.pk).update(holds_back=why)
            self.row.holds_back = why
            self._consume(not why)
            if not why:
                Incident.objects.recover(Incident.Kind.DISK_FULL, self.row.hostname, now=now)
                self._dispatch()
        if why:
            message = f"{self.row.name} takes no session: {why}"
            Incident.objects.alarm(
                Incident.Kind.DISK_FULL,
                self.row.hostname,
                message=message,
                again_after=_FULL_AGAIN_AFTER,
                now=now,
            )
        return why

    def _take_over(self) -> None:
        """Adopt what a worker of this machine left behind."""
        if self._leaving or not self._claims:
            return
        self._adopted = [thread for thread in self._adopted if thread.is_alive()]
        for session_id, of in self._orphans():
            name = f"rota-adopted-{session_id}"
            if name not in {thread.name for thread in self._adopted}:
                self._adopted.append(threading.Thread(target=self._adopt, args=(session_id, of), name=name))
                self._adopted[-1].start()

    def _orphans(self) -> list[tuple[int, int | None]]:
        """Running sessions of this machine whose worker's process is gone: (session, worker row)."""
        running = Session.objects.filter(status=Session.Status.RUNNING, hostname=socket.gethostname())
        return [
            (session.pk, session.worker_id)
            for session in running.select_related("worker")
            if not _is_at_work(session.worker) and (session.pid or _is_dead(session.worker))
        ]

    def _adopt(self, session_id: int, of: int | None) -> None:
        if not self._hands.take(session_id):
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
            self._hands.let_go(session_id)
            self._dispatch()
            connection.close()

    def _keep(self, every: float, *duties: Callable[[], object]) -> None:
        """Do this again and again, in a thread of its own: what renews must not wait for it."""
        while not self._stopped.wait(every):
            for duty in duties:
                self._do(duty)
            connection.close()

    def _do(self, duty: Callable[[], object]) -> None:
        try:
            duty()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("The database is away: %s", error, extra={"action": "worker_database_away"})
            connection.close()
        except Exception:  # the next time it may go better
            logger.exception("A fault in Rota: the worker goes on", extra={"action": "internal"})

    def _tend(self) -> None:
        """What was left behind is archived before it is removed, and git may take minutes for that."""
        for duty in (self._look_at_programs, self._sweep):
            self._do(duty)
        connection.close()
        self._keep(_SWEEP_EVERY, self._look_at_programs, self._sweep)

    def _look(self) -> None:
        self._watch.look(now=timezone.now(), at=time.monotonic())

    def _keep_up(self) -> None:
        """As the periodic task does: that one waits for the broker."""
        self._upkeep.round(now=timezone.now(), at=uptime())
        self._dispatch()

    def _look_at_programs(self) -> None:
        """At its start, and again for what was updated meanwhile. Asking one that is broken takes half a minute."""
        found = find_programs()
        if found == self._programs:
            return
        tell_programs(found, before=self._programs)
        self._programs = found
        WorkerHeartbeat.objects.filter(pk=self.row.pk).update(programs=found)

    def _sweep(self) -> None:
        at = time.monotonic()
        if at - self._swept_all_at > _SWEEP_ALL_EVERY:
            self._swept.clear()
            self._swept_all_at = at
        ended = sweep(now=timezone.now(), done=self._swept, later=self._later)
        if ended:
            logger.warning("Ended %d processes of sessions that are over", ended, extra={"action": "swept"})


def _is_at_work(worker: WorkerHeartbeat | None) -> bool:
    if worker is None or worker.stopped_at:
        return False
    return not _is_dead(worker)


def _is_dead(worker: WorkerHeartbeat | None) -> bool:
    """By its process, and not by what its row says: one that is about to leave may still be at it."""
    if worker is None:
        return False
    return not is_alive(ProcessIdentity(pid=worker.pid, start_ticks=worker.start_ticks, boot_id=worker.boot_id))
