"""A queued session becomes a process, and a recorded outcome.

    claim ► workspace ► prompt ► shim ► follow ► verdict ► keep ► finish ► settle ► clear

A worker that leaves in the middle of `follow` leaves the session to its shim, and the next one goes on from the same
place (`adopt`). Whatever fails on the way ends in a finished row with a reason: a session is never started twice.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
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
from schedules.ending import end, settle
from schedules.following import Clock, Follower, LeaseLost, Wish
from schedules.models import Reason, Run, Schedule, Session, WorkerHeartbeat
from schedules.patience import patiently
from schedules.prepared import Update, given
from schedules.readiness import facts_for_report
from schedules.retrying import goes_on
from schedules.returning import after_death
from schedules.safekeeping import Safekeeping
from schedules.transcript import storable
from schedules.workplace import Workplace

logger = logging.getLogger(__name__)

_MOST_RESULT = 200_000  # characters

_COUNTED = Update(
    lambda: Schedule.objects.filter(pk=given("pk", Schedule)), Schedule, "last_run_at", run_count=F("run_count") + 1
)


class _Stopped(Exception):
    """It was asked to end before its process began."""


def execute(
    session_id: int,
    *,
    worker: WorkerHeartbeat,
    task_id: str,
    wish: Callable[[], Wish],
    clock: Clock,
    about_to_end: Callable[[], None] = lambda: None,
) -> str:
    """Claim a session and see it to its end. Returns its status, `not claimed`, `left` to its shim or `taken` away.

    `wish` says what is wanted of it meanwhile. `about_to_end` is called before its end is on record, where this call
    then returns soon: no checkout is to be removed. Raises nothing but for a database that stays away.
    """
    now = clock()
    if not Session.objects.claim(session_id, worker=worker, task_id=task_id, now=now):
        return "not claimed"
    session = patiently(lambda: _begun(session_id, now))
    logger.info("%s: begins", _told(session), extra={"action": "claimed"})
    execution = _Execution(session, worker, wish, clock)
    if session.repository_id is None:
        execution.about_to_end = about_to_end
    return execution.see_through(execution.begin)


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
    execution = _Execution(session, worker, wish, clock)
    return execution.see_through(execution.go_on)


def _begun(session_id: int, now: datetime) -> Session:
    session = Session.objects.whole(session_id)
    if Run.objects.start(session.run_id, now=now):
        _COUNTED.carry_out({"last_run_at": now}, pk=session.schedule_id)
    return session


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
    follower: Follower
    safe: Safekeeping

    def __init__(self, session: Session, worker: WorkerHeartbeat, wish: Callable[[], Wish], clock: Clock) -> None:
        self.session = session
        self.worker = worker
        self.wish = wish
        self.clock = clock
        self.about_to_end: Callable[[], None] = lambda: None
        self._clean: Callable[[str], str] = str

    def see_through(self, begin: Callable[[], None]) -> str:
        """Every way out but `left` and `taken` ends with a finished row."""
        try:
            self._settle_in()
            begin()
            ending = self.follower.follow(self.place.folder, self.runner.read)
            return "left" if ending is None else self._end(ending)
        except LeaseLost:
            self._give_up()
            return "taken"
        except _Stopped as wish:
            ended = _result("cancelled", str(wish), "It was asked to end before it began.")
            return self._finish(self._without_lease(ended) if str(wish) == "lost" else ended, clear=True)
        except RunnerError as error:
            return self._fail(error.reason, str(error))
        except Exception as error:  # noqa: BLE001 - a bug is told, and fails this session alone
            self._log_fault("a fault in Rota", action="internal")
            return self._fail(Reason.INTERNAL, f"A fault in Rota: {type(error).__name__}: {error}")
        finally:
            if hasattr(self, "safe"):
                self.safe.end()

    def _settle_in(self) -> None:
        """Raises RunnerError."""
        self.runner = _runner_of(self.session)
        self.place = Workplace(self.session, self.runner)
        self._clean = self.place.clean
        self.safe = Safekeeping(self.session, self.place, self.runner, clock=self.clock)
        self.follower = Follower(
            self.session,
            self.place,
            worker=self.worker,
            wish=self.wish,
            clock=self.clock,
            look=self.safe.look,
        )

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
            "prompt": storable(self._clean(spec.prompt), _MOST_RESULT),
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
            self._log_fault("its work could not be kept", action=error.reason)
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
            self._log_fault("its work is on this machine alone", action="unparked")

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

    def _fail(self, reason: str, message: str) -> str:
        """End what may run still, keep what it did, and say why."""
        facts = self._kept() if hasattr(self, "place") and self.place.is_ours else None
        return self._finish(_result("failed", reason, message), clear=facts is not None, **(facts or {}))

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
        patiently(lambda: self._report_late(result, code))
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
        """Put the end on record, then settle, then remove what is not needed any more.

        In this order: whoever takes over from a worker that dies on the way finds everything, or a finished row, and
        a run is not kept open by a workspace that takes a minute to be removed; what is left of that is swept. And not
        in one transaction: two sessions of a run that end at once would each see the other one open.
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
            "structured": self.place.transcript.plain(result.structured) if result.structured is not None else None,
        }
        if "patch" in fields:
            fields["patch"] = storable(self._clean(fields["patch"]), len(fields["patch"]))
        if clear and result.outcome == "lost":  # what is lost, the sweep takes for left behind at once
            self._clear()
            clear = False
        self.about_to_end()
        patiently(lambda: self._record(result, fields))
        patiently(lambda: settle(self.session.run_id, now=self.clock()))
        if clear:
            self._clear()
        return result.outcome

    def _record(self, result: SessionResult, fields: Mapping[str, Any]) -> None:
        resets_at = datetime.fromtimestamp(result.resets_at, UTC) if result.resets_at else None
        finished = end(
            self.session,
            status=result.outcome,
            reason=result.reason,
            now=self.clock(),
            resets_at=resets_at,
            **fields,
        )
        if finished:
            said = f": {self._clean(result.message)}" if result.message else ""
            logger.info("%s: %s%s", _told(self.session), result.outcome, said, extra={"action": "finished"})
        else:
            self._report_late(result, fields.get("exit_code"))

    def _without_lease(self, result: SessionResult) -> SessionResult:
        message = f"{self.worker.name} could not renew its lease, for the database was away, and ended it."
        return replace(result, outcome="lost", reason=Reason.WORKER_DIED, message=message)

    def _report_late(self, result: SessionResult, exit_code: int | None) -> None:
        report = {
            "outcome": result.outcome,
            "reason": result.reason,
            "message": storable(self._clean(result.message), 1000),
            "at": self.clock().isoformat(),
            "worker": self.worker.name,
            "cost_usd": round(result.cost_usd, 6),
            "exit_code": exit_code,
        }
        Session.objects.report_late(self.session.pk, report)
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
