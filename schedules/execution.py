"""A queued session becomes a process, and a recorded outcome.

    claim ► workspace ► prompt ► shim ► follow ► verdict ► keep ► finish ► settle ► clear

A worker that leaves in the middle of `follow` leaves the session to its shim, and the next one goes on from the same
place (`adopt`). Whatever fails on the way ends in a finished row with a reason: a session is never started twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from django.conf import settings
from django.db.models import F, Max

from runners import (
    Ending,
    Event,
    OptionsInvalid,
    Runner,
    RunnerError,
    SessionResult,
    Unwanted,
    as_long_as,
    check_finding,
    end_checks,
    ending_or_died,
    kill,
    load_runner,
    read_check,
    start,
)
from schedules.following import Clock, Follower, LeaseLost, Wish
from schedules.models import Reason, Run, Schedule, Session, WorkerHeartbeat
from schedules.outcomes import MOST_KEPT, Record, told
from schedules.patience import patiently
from schedules.prepared import Update, given
from schedules.readiness import facts_for_report
from schedules.retrying import goes_on
from schedules.returning import after_death
from schedules.safekeeping import Safekeeping
from schedules.transcript import storable
from schedules.workplace import Workplace

logger = logging.getLogger(__name__)

_COUNTED = Update(
    lambda: Schedule.objects.filter(pk=given("pk", Schedule)), Schedule, "last_run_at", run_count=F("run_count") + 1
)


class _Stopped(Exception):
    """It was asked to end before its process began."""


def _nothing() -> None: ...


def execute(
    session_id: int,
    *,
    worker: WorkerHeartbeat,
    task_id: str,
    wish: Callable[[], Wish],
    clock: Clock,
    about_to_end: Callable[[], None] = _nothing,
) -> str:
    """Claim a session and see it to its end. Returns its status, `not claimed`, `left` to its shim or `taken` away.

    `wish` says what is wanted of it meanwhile. `about_to_end` is called before its end is on record, where this call
    then returns soon: no checkout is to be removed. Raises nothing but for a database that stays away.
    """
    now = clock()
    if not Session.objects.claim(session_id, worker=worker, task_id=task_id, now=now):
        return "not claimed"
    session = patiently(lambda: _begun(session_id, now))
    logger.info("%s: begins", told(session), extra={"action": "claimed"})
    end_soon = about_to_end if session.repository_id is None else _nothing
    return _see_through(Record(session, worker, clock), wish, _Execution.begin, about_to_end=end_soon)


def adopt(session_id: int, *, of: int | None, worker: WorkerHeartbeat, wish: Callable[[], Wish], clock: Clock) -> str:
    """Go on following a session that a worker of this machine left to its shim. Returns as `execute` does.

    One whose process is not on record is settled by `returning`: that worker's process must be gone.
    """
    if not Session.objects.adopt(session_id, of=of, worker=worker):
        return "not claimed"
    session = patiently(lambda: Session.objects.whole(session_id))
    if session.pid is None:
        return patiently(lambda: after_death(session, worker=worker, now=clock()))
    logger.info("Session %d goes on under %s", session_id, worker.name, extra={"action": "adopted"})
    return _see_through(Record(session, worker, clock), wish, _Execution.go_on)


def _begun(session_id: int, now: datetime) -> Session:
    session = Session.objects.whole(session_id)
    if Run.objects.start(session.run_id, now=now):
        _COUNTED.carry_out({"last_run_at": now}, pk=session.schedule_id)
    return session


def _runner_of(session: Session) -> Runner:
    name = session.run.snapshot["runner"]
    if name not in settings.ROTA_RUNNERS:
        raise OptionsInvalid({"runner": f"This worker has no runner “{name}”: see its ROTA_RUNNERS."})
    return load_runner(settings.ROTA_RUNNERS[name])


def _see_through(
    record: Record,
    wish: Callable[[], Wish],
    begin: Callable[[_Execution], None],
    *,
    about_to_end: Callable[[], None] = _nothing,
) -> str:
    """Every way out but `left` and `taken` ends with a finished row."""
    try:
        execution = _Execution(record, wish, about_to_end)
    except Exception as error:  # noqa: BLE001 - whatever the fault
        failed = record.failure(error)
        about_to_end()
        record.put(failed)
        return failed.outcome
    return execution.see_through(begin)


class _Execution:
    """One session in the hands of this worker. Raises RunnerError where it has no place there."""

    def __init__(self, record: Record, wish: Callable[[], Wish], about_to_end: Callable[[], None]) -> None:
        self.session, self.worker, self.clock = record.session, record.worker, record.clock
        self.wish = wish
        self.about_to_end = about_to_end
        self.runner = _runner_of(self.session)
        self.place = Workplace(self.session, self.runner)
        self.record = replace(record, clean=self.place.clean)
        self.safe = Safekeeping(self.session, self.place, self.runner, clock=self.clock)
        self.follower = Follower(
            self.session,
            self.place,
            worker=self.worker,
            wish=self.wish,
            clock=self.clock,
            look=self.safe.look,
        )

    def see_through(self, begin: Callable[[_Execution], None]) -> str:
        """From its beginning, or from where another worker left it, to its end."""
        try:
            begin(self)
            ending = self.follower.follow(self.place.folder, self.runner.read)
            return "left" if ending is None else self._end(ending)
        except LeaseLost:
            self._give_up()
            return "taken"
        except _Stopped as wish:
            ended = _result("cancelled", str(wish), "It was asked to end before it began.")
            return self._finish(self._without_lease(ended) if str(wish) == "lost" else ended, clear=True)
        except Exception as error:  # noqa: BLE001 - whatever the fault
            return self._fail(self.record.failure(error))
        finally:
            self.safe.end()

    # --- begin

    def begin(self) -> None:
        """Prepare everything and start the process."""
        self._prepare()
        spec = self.place.spec
        launch = self.place.launch()
        self._note()
        self._note_preparation()
        facts = {
            "activity": "starting",
            "base_commit": self.session.base_commit,
            "folder": self.place.folder.name,
            "prompt": storable(self.place.clean(spec.prompt), MOST_KEPT),
            "resumed_from": self.place.resumed_from,
            "program_version": self.place.program_version[:100],
            "program_before": self.place.program_before[:100],
        }
        patiently(lambda: self.follower.progress(**facts))  # before anything is started: see `returning`
        self._heed()
        self.place.transcript.begin_process()
        process = start(self.place.folder, launch, cwd=spec.workspace, limits=self.place.limits)
        begun = {
            "pid": process.pid,
            "start_ticks": process.start_ticks,
            "boot_id": process.boot_id,
            "started_at": self.clock(),
        }
        patiently(lambda: self.follower.progress(**begun))

    def _prepare(self) -> None:
        """A fetch may take minutes: whoever wants the end of the session does not wait for it."""
        try:
            with as_long_as(lambda: self.wish() in ("", "detach")):
                self.place.prepare()
        except Unwanted:
            self._heed()
            raise

    def _heed(self) -> None:
        """Nothing is started that somebody wants the end of. Raises LeaseLost, _Stopped."""
        wish = self.wish()
        if wish == "taken":
            raise LeaseLost
        if wish not in ("", "detach"):
            raise _Stopped(wish)

    def go_on(self) -> None:
        """Find the places of a session that another worker began."""
        written = patiently(lambda: self.session.events.aggregate(seq=Max("seq"))["seq"])
        self.place.reopen(written=written or 0)
        self.place.transcript.begin_process()
        self.follower.adopt()

    def _note(self) -> None:
        """Rota's own words of the preparation or the end."""
        if not self.place.notes:
            return
        now_ms = int(self.clock().timestamp() * 1000)
        self.place.transcript.add([Event(kind="note", at_ms=now_ms, text=text) for text in self.place.notes])
        self.place.notes.clear()

    def _note_preparation(self) -> None:
        """Where there was something to prepare, or somebody will ask."""
        seconds = self.place.seconds
        if self.session.repository is None and not self.session.is_rehearsal:
            return
        now_ms = int(self.clock().timestamp() * 1000)
        parts = ", ".join(f"{part} {took:.2f} s" for part, took in seconds.items())
        facts = facts_for_report(self.session, self.runner, seconds)
        self.place.transcript.add([Event(kind="note", at_ms=now_ms, text=f"Prepared: {parts}.", data=facts)])

    # --- end

    def _end(self, ending: Ending) -> str:
        self.safe.end()
        result = self.runner.judge(ending, self.place.tally, self.place.spec)
        if self.follower.is_lost and ending.ended_by == "shutdown":
            result = self._without_lease(result)
        if ending.ended_by == "shim_died":
            kill(self.place.folder)  # what it held may run still, and write
        try:
            facts: Mapping[str, Any] = self.place.keep()
        except RunnerError as error:
            self.record.tell_fault("its work could not be kept", action=error.reason)
            result = _unkept(result, error)
            return self._finish(result, clear=False, exit_code=ending.exit_code)
        checked = self._checked(result)
        if checked is None:
            return "left"
        result = checked
        interrupted = goes_on(self.session.run.snapshot, result.reason)
        if (interrupted or result.outcome == "succeeded") and not self.place.leaked:
            patiently(lambda: self.place.share_conversation(interrupted=interrupted, now=self.clock()))
        if self.safe.is_wanted:
            patiently(lambda: self._share_work(interrupted, result, str(facts.get("branch", ""))))
        self._note()
        with suppress(LeaseLost):  # declared lost meanwhile: it is told what it reported, and not believed
            self.follower.write()
        if self.place.leaked and result.outcome in ("succeeded", "failed"):
            result = replace(result, outcome="failed", reason=Reason.SECRET_LEAKED)
        return self._finish(result, clear=True, exit_code=ending.exit_code, **facts)

    def _share_work(self, interrupted: bool, result: SessionResult, branch: str) -> None:
        """For whoever goes on with it, or with nothing of it. What can't be shared is on this machine still."""
        if not interrupted or self.place.leaked:
            shared = result.outcome == "succeeded" and not self.place.leaked and self.place.resumes
            self.safe.forget(conversation=not shared)
            return
        try:
            self.safe.share(branch=branch)
        except (RunnerError, OSError):
            self.record.tell_fault("its work is on this machine alone", action="unparked")

    def _checked(self, result: SessionResult) -> SessionResult | None:
        """With what the schedule's checks say of it. None: the worker leaves, and a shim keeps the one that runs.

        Its work is kept by then, and so without what they leave in the checkout.
        """
        if result.outcome != "succeeded" or self.place.leaked or self.session.is_rehearsal:
            return result
        for number, command in enumerate(self.place.checks, start=1):
            folder = self.place.start_check(number, command)
            self._note()
            ending = self.follower.follow(folder, read_check)
            if ending is None:
                return None
            if finding := check_finding(ending, command, last=self.place.tally.activity):
                outcome, reason, message = finding
                if self.follower.is_lost and reason == Reason.SHUTDOWN:
                    return self._without_lease(result)
                return replace(result, outcome=outcome, reason=reason, message=f"{message} {result.message}".strip())
        return result

    def _fail(self, failed: SessionResult) -> str:
        """End what may run still, keep what it did, and say why."""
        facts = self._kept() if self.place.is_ours else None
        return self._finish(failed, clear=facts is not None, **(facts or {}))

    def _give_up(self) -> None:
        """Its row is another's, or finished. What it may have come to is told there, and changes nothing."""
        ended = ending_or_died(self.place.folder)
        result = _result("failed", Reason.WORKER_DIED, "It was still at work when its worker heard of that.")
        if ended:
            self.follower.read_rest(self.runner)
            result = self.runner.judge(ended, self.place.tally, self.place.spec)
        if self._kept() is not None:
            self._clear()
        code = ended.exit_code if ended else None
        patiently(lambda: self.record.put_late(result, exit_code=code))
        logger.warning(
            "Session %d was taken from this worker: ended here", self.session.pk, extra={"action": "lease_lost"}
        )

    def _kept(self) -> Mapping[str, Any] | None:
        """What is kept of what was ended. None where it can't be: it stays for the sweep, whatever the fault."""
        self.safe.close()
        try:
            kill(self.place.folder)
            end_checks(self.place.folder)
            return self.place.keep()
        except Exception:  # noqa: BLE001 - whatever the fault
            self.record.tell_fault("its work could not be kept", action="unkept")
            return None

    def _clear(self) -> None:
        """What can't be removed stays for the sweep: it changes nothing about how the session ended."""
        try:
            self.place.clear()
        except (RunnerError, OSError):
            logger.exception("Session %d: its workspace stays", self.session.pk, extra={"action": "uncleared"})

    def _finish(self, result: SessionResult, *, clear: bool, **facts: Any) -> str:
        """Put the end on record, which settles its run, then remove what is not needed any more.

        In this order: whoever takes over from a worker that dies on the way finds everything, or a finished row, and
        a run is not kept open by a workspace that takes a minute to be removed; what is left of that is swept.
        """
        said = result.structured
        structured = None if said is None else self.place.transcript.plain(said)
        if clear and result.outcome == "lost":  # what is lost, the sweep takes for left behind at once
            self._clear()
            clear = False
        self.about_to_end()
        self.record.put(result, remark=self.place.remark, structured=structured, **facts)
        if clear:
            self._clear()
        return result.outcome

    def _without_lease(self, result: SessionResult) -> SessionResult:
        message = f"{self.worker.name} could not renew its lease, for the database was away, and ended it."
        return replace(result, outcome="lost", reason=Reason.WORKER_DIED, message=message)


def _result(outcome: Literal["failed", "cancelled"], reason: str, message: str) -> SessionResult:
    return SessionResult(outcome=outcome, reason=reason, message=message)


def _unkept(result: SessionResult, error: RunnerError) -> SessionResult:
    """Work that can't be kept is no success; it stays in its workspace until upkeep can."""
    message = f"{result.message} Its changes could not be kept yet: {error}".strip()
    if result.outcome == "succeeded":
        return replace(result, outcome="failed", reason=error.reason, message=message)
    return replace(result, message=message)
