"""A queued session becomes a process, and a recorded outcome.

    claim ► workspace ► prompt ► shim ► follow ► verdict ► keep ► finish ► clear ► settle

A worker that leaves in the middle of `follow` leaves the session to its shim, and the next one goes on from the same
place (`adopt`). Whatever fails on the way ends in a finished row with a reason: a session is never started twice.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import F, Max

from runners import (
    Ending,
    Event,
    OptionsInvalid,
    Runner,
    RunnerError,
    SessionResult,
    add_event,
    ending_or_died,
    is_over_budget,
    kill,
    load_runner,
    read_lines,
    request_stop,
    spent,
    start,
)
from schedules.models import Reason, Run, Schedule, Session, SessionEvent, WorkerHeartbeat
from schedules.readiness import facts_for_report
from schedules.settling import settle_run
from schedules.transcript import storable
from schedules.workplace import Workplace

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Clock = Callable[[], datetime]
Wish = Literal["", "cancelled", "shutdown", "detach"]

_LOOK_EVERY = 0.1  # seconds between two looks into the session's folder
_WRITE_EVERY = 0.4  # seconds between two writes of events
_READ_AT_ONCE = 1 << 20  # bytes
_MOST_RESULT = 200_000  # characters
_DATABASE_PATIENCE = 600.0  # seconds that a claimed session and an outcome wait for a database that is away


class _LeaseLost(Exception):
    """The row says that the session is not this worker's any more."""


class _Stopped(Exception):
    """It was asked to end before its process began."""


def execute(session_id: int, *, worker: WorkerHeartbeat, task_id: str, wish: Callable[[], Wish], clock: Clock) -> str:
    """Claim a session and see it to its end. Returns its status, `not claimed`, `left` to its shim or `taken` away.

    `wish` says what is wanted of it meanwhile. Raises nothing but for a database that stays away.
    """
    now = clock()
    if not Session.objects.claim(session_id, worker=worker, task_id=task_id, now=now):
        return "not claimed"
    session = _patiently(lambda: _begun(session_id, now))
    logger.info("%s: begins", _told(session), extra={"action": "claimed"})
    execution = _Execution(session, worker, wish, clock)
    return execution.see_through(execution.begin)


def adopt(session_id: int, *, of: int | None, worker: WorkerHeartbeat, wish: Callable[[], Wish], clock: Clock) -> str:
    """Go on following a session that a worker of this machine left to its shim. Returns as `execute` does."""
    if not Session.objects.adopt(session_id, of=of, worker=worker):
        return "not claimed"
    logger.info("Session %d goes on under %s", session_id, worker.name, extra={"action": "adopted"})
    execution = _Execution(_patiently(lambda: _loaded(session_id)), worker, wish, clock)
    return execution.see_through(execution.go_on)


def _begun(session_id: int, now: datetime) -> Session:
    session = _loaded(session_id)
    if Run.objects.start(session.run_id, now=now):
        Schedule.objects.filter(pk=session.schedule_id).update(last_run_at=now, run_count=F("run_count") + 1)
    return session


def _loaded(session_id: int) -> Session:
    return Session.objects.select_related("run", "schedule", "repository").get(pk=session_id)


def _told(session: Session) -> str:
    where = f" in {session.repository}" if session.repository else ""
    rehearsed = ", rehearsed" if session.is_rehearsal else ""
    return f"Session {session.pk} of {session.schedule}{where}{rehearsed}"


def _runner_of(session: Session) -> Runner:
    name = session.run.snapshot["runner"]
    if name not in settings.ROTA_RUNNERS:
        raise OptionsInvalid({"runner": f"This worker has no runner “{name}”: see its ROTA_RUNNERS."})
    return load_runner(settings.ROTA_RUNNERS[name])


class _Execution:
    """One session in the hands of this worker."""

    runner: Runner
    place: Workplace

    def __init__(self, session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish], clock: Clock) -> None:
        self.session = session
        self.worker = worker
        self.wish = wish
        self.clock = clock
        self._clean: Callable[[str], str] = str

    def see_through(self, begin: Callable[[], None]) -> str:
        """Every way out but `left` and `taken` ends with a finished row."""
        try:
            self.runner = _runner_of(self.session)
            self.place = Workplace(self.session, self.runner)
            self._clean = self.place.redactor.text
            begin()
            ending = self._follow()
            return "left" if ending is None else self._end(ending)
        except _LeaseLost:
            self._give_up()
            return "taken"
        except _Stopped as wish:
            return self._finish(_result("cancelled", str(wish), "It was asked to end before it began."), clear=True)
        except RunnerError as error:
            return self._fail(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - a bug is told, and fails this session alone
            self._log_fault("a fault in Rota", action="internal")
            return self._fail(Reason.INTERNAL, f"A fault in Rota: {type(error).__name__}: {error}")

    # --- begin

    def begin(self) -> None:
        """Prepare everything and start the process."""
        self.place.prepare()
        spec = self.place.spec
        launch = self.place.launch()
        self._note()
        self._note_preparation()
        self._progress(
            activity="starting",
            base_commit=self.session.base_commit,
            folder=self.place.folder.name,
            prompt=storable(self._clean(spec.prompt), _MOST_RESULT),
            resumed_from=self.place.resumed_from,
        )
        wish = self.wish()
        if wish in ("cancelled", "shutdown"):
            raise _Stopped(wish)
        self.place.transcript.begin_process()
        process = start(self.place.folder, launch, cwd=spec.workspace, limits=self.place.limits)
        self._progress(
            pid=process.pid, start_ticks=process.start_ticks, boot_id=process.boot_id, started_at=self.clock()
        )

    def go_on(self) -> None:
        """Find the places of a session that another worker began."""
        written = self.session.events.aggregate(seq=Max("seq"))["seq"] or 0
        self.place.reopen(written=written)
        self.place.transcript.begin_process()

    def _note(self) -> None:
        """Rota's own words of the preparation or the end."""
        now_ms = int(self.clock().timestamp() * 1000)
        self.place.transcript.add([Event(kind="note", at_ms=now_ms, text=text) for text in self.place.notes])
        self.place.notes.clear()

    def _note_preparation(self) -> None:
        now_ms = int(self.clock().timestamp() * 1000)
        seconds = self.place.seconds
        parts = ", ".join(f"{part} {took:.2f} s" for part, took in seconds.items())
        facts = facts_for_report(self.session, self.runner, seconds)
        self.place.transcript.add([Event(kind="note", at_ms=now_ms, text=f"Prepared: {parts}.", data=facts)])

    # --- follow

    def _follow(self) -> Ending | None:
        """Read what it prints until it ended. None: the worker leaves, and the shim keeps the session."""
        folder, offset, asked, write_at = self.place.folder, 0, False, 0.0
        while True:
            ending = ending_or_died(folder)
            lines, offset = read_lines(folder, offset, max_bytes=_READ_AT_ONCE)
            for line in lines:
                # Without secrets from the start: what is cut or rewritten later would not be known for one.
                self._take_in(self.runner.read(replace(line, data=self.place.redactor.line(line.data))))
            if ending and not lines:
                self._tally(self.place.transcript.flush())
                return ending
            wish = self.wish()
            if wish == "detach":
                self._write()
                return None
            reason = wish or self._overrun()
            if reason and not asked:
                asked = True
                request_stop(folder, reason)
            if time.monotonic() >= write_at:
                self._write()
                write_at = time.monotonic() + _WRITE_EVERY
            if not lines:
                time.sleep(_LOOK_EVERY)

    def _overrun(self) -> Literal["", "budget"]:
        """The agent's own cap on money did not hold. While no worker follows, that and the shim's limits have to do."""
        tally = self.place.tally
        is_over = tally.result is None and is_over_budget(tally, self.place.spec.options)
        return "budget" if is_over else ""

    def _take_in(self, events: list[Event]) -> None:
        self._tally(self.place.transcript.add(events))

    def _tally(self, events: list[Event]) -> None:
        for event in events:
            add_event(self.place.tally, event)

    def _write(self) -> None:
        """What is new goes to the database; while that is away, it waits here."""
        rows = self.place.transcript.pending
        if not rows:
            return
        try:
            with transaction.atomic():
                # Some may be there already: a commit whose answer was lost with the connection.
                SessionEvent.objects.bulk_create(rows, ignore_conflicts=True)
                self._progress(**self._counters())
        except (OperationalError, InterfaceError) as error:
            logger.warning("Session %d: the database is away: %s", self.session.pk, error)
            connection.close()
        else:
            self.place.transcript.written(len(rows))

    def _counters(self) -> dict[str, Any]:
        tally = self.place.tally
        cost, source = (0.0, "") if self.session.is_rehearsal else spent(tally)
        return {
            "activity": storable(self._clean(tally.activity), 200),
            "model": tally.model[:100],
            "program_version": tally.program_version[:100],
            "turns": tally.turns,
            "input_tokens": tally.input_tokens,
            "output_tokens": tally.output_tokens,
            "cached_tokens": tally.cached_tokens,
            "cost_usd": round(cost, 6),
            "cost_source": source,
        }

    def _progress(self, **fields: Any) -> None:
        if not Session.objects.progress(self.session.pk, worker=self.worker, **fields):
            raise _LeaseLost

    # --- end

    def _end(self, ending: Ending) -> str:
        result = self.runner.judge(ending, self.place.tally, self.place.spec)
        if ending.ended_by == "shim_died":
            kill(self.place.folder)  # what it held may run still, and write
        try:
            facts: Mapping[str, Any] = self.place.keep()
        except RunnerError as error:
            self._log_fault("its work could not be kept", action=error.reason)
            result = _unkept(result, error)
            return self._finish(result, clear=False, exit_code=ending.exit_code)
        self._note()
        self._write()
        if self.place.leaked and result.outcome in ("succeeded", "failed"):
            result = replace(result, outcome="failed", reason=Reason.SECRET_LEAKED)
        return self._finish(result, clear=True, exit_code=ending.exit_code, **facts)

    def _fail(self, reason: str, message: str) -> str:
        """End what may run still, keep what it did, and say why."""
        facts = self._kept() if hasattr(self, "place") and self.place.is_ours else None
        return self._finish(_result("failed", reason, message), clear=facts is not None, **(facts or {}))

    def _give_up(self) -> None:
        if self._kept() is not None:
            self._clear()
        logger.warning(
            "Session %d was taken from this worker: ended here", self.session.pk, extra={"action": "lease_lost"}
        )

    def _kept(self) -> Mapping[str, Any] | None:
        """What is kept of what was ended. None where it can't be: it stays for the sweep, whatever the fault."""
        try:
            kill(self.place.folder)
            return self.place.keep()
        except Exception:  # noqa: BLE001 - whatever the fault
            self._log_fault("its work could not be kept", action="unkept")
            return None

    def _clear(self) -> None:
        """What can't be removed stays for the sweep: it changes nothing about how the session ended."""
        try:
            self.place.clear()
        except (RunnerError, OSError):
            logger.exception("Session %d: its workspace stays", self.session.pk, extra={"action": "uncleared"})

    def _log_fault(self, words: str, *, action: str) -> None:
        """With the traceback of what is being handled. It may quote what the session said."""
        told = self._clean(traceback.format_exc())
        logger.error("Session %d: %s\n%s", self.session.pk, words, told, extra={"action": action})

    def _finish(self, result: SessionResult, *, clear: bool, **facts: Any) -> str:
        """Put the end on record, then remove what is not needed any more, then settle.

        In this order: whoever takes over from a worker that dies on the way finds everything, or a finished row. And
        not in one transaction: two sessions of a run that end at once would each see the other one open.
        """
        remark = self.place.remark if hasattr(self, "place") else ""
        fields = facts | {
            "message": storable(self._clean(f"{result.message} {remark}".strip()), _MOST_RESULT),
            "result": storable(self._clean(result.result), _MOST_RESULT),
            "summary": storable(self._clean(result.summary), 200),
            "model": result.model[:100],
            "turns": result.turns,
            "input_tokens": result.input_tokens,
            "output_tokens": result.output_tokens,
            "cached_tokens": result.cached_tokens,
            "cost_usd": round(result.cost_usd, 6),
            "cost_source": result.cost_source,
            "denied": list(result.denied),
        }
        if "patch" in fields:
            fields["patch"] = storable(self._clean(fields["patch"]), len(fields["patch"]))
        _patiently(lambda: self._record(result, fields))
        if clear:
            self._clear()
        _patiently(lambda: settle_run(self.session.run_id, now=self.clock()))
        return result.outcome

    def _record(self, result: SessionResult, fields: Mapping[str, Any]) -> None:
        finished = Session.objects.finish(
            self.session.pk, status=result.outcome, reason=result.reason, now=self.clock(), **fields
        )
        if finished:
            said = f": {self._clean(result.message)}" if result.message else ""
            logger.info("%s: %s%s", _told(self.session), result.outcome, said, extra={"action": "finished"})
        else:
            logger.warning(
                "Session %d had ended already: its report of %s changes nothing",
                self.session.pk,
                result.outcome,
                extra={"action": "late_report"},
            )


def _result(outcome: Literal["failed", "cancelled"], reason: str, message: str) -> SessionResult:
    return SessionResult(outcome=outcome, reason=reason, message=message)


def _unkept(result: SessionResult, error: RunnerError) -> SessionResult:
    """Work that can't be kept is no success; it stays in its workspace until upkeep can."""
    message = f"{result.message} Its changes could not be kept yet: {error}".strip()
    if result.outcome == "succeeded":
        return replace(result, outcome="failed", reason=error.reason, message=message)
    return replace(result, message=message)


def _patiently(step: Callable[[], Answer]) -> Answer:
    """A session that is claimed, and its outcome, are worth waiting for a database that is away."""
    deadline, wait = time.monotonic() + _DATABASE_PATIENCE, 0.5
    while True:
        try:
            return step()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise
            logger.warning("The database is away: the session waits", exc_info=True)
            connection.close()
            time.sleep(wait)
            wait = min(wait * 2, 10.0)
