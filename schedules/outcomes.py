"""What a session came to goes on record, once and without secrets; and what its worker says of it too late."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runners import RunnerError, SessionResult
from schedules.ending import end, settle
from schedules.following import Clock
from schedules.models import Reason, Session, WorkerHeartbeat
from schedules.patience import patiently
from schedules.transcript import storable

logger = logging.getLogger(__name__)

MOST_KEPT = 200_000
"""Characters of what a row keeps of a prompt or a result."""


@dataclass(frozen=True, slots=True)
class Record:
    """Of one session, by the worker that has it in hand. `clean` takes the secrets out that it was given."""

    session: Session
    worker: WorkerHeartbeat
    clock: Clock
    clean: Callable[[str], str] = str

    def put(self, result: SessionResult, *, remark: str = "", **facts: Any) -> None:
        """Put its outcome on record, then settle its run. `remark` goes with the message, `facts` are columns.

        Not in one transaction: two sessions of a run that end at once would each see the other one open.
        """
        fields = facts | {
            "message": storable(self.clean(f"{result.message} {remark}".strip()), MOST_KEPT),
            "result": storable(self.clean(result.result), MOST_KEPT),
            "summary": storable(self.clean(result.summary), 200),
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
            fields["patch"] = storable(self.clean(fields["patch"]), len(fields["patch"]))
        patiently(lambda: self._put(result, fields))
        patiently(lambda: settle(self.session.run_id, now=self.clock()))

    def put_late(self, result: SessionResult, *, exit_code: int | None) -> None:
        """It had ended already, for others: what it reports is told, and changes nothing."""
        report = {
            "outcome": result.outcome,
            "reason": result.reason,
            "message": storable(self.clean(result.message), 1000),
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

    def failure(self, error: Exception) -> SessionResult:
        """What it came to, by the error that is being handled. A bug is told, and fails this session alone."""
        if isinstance(error, RunnerError):
            return SessionResult(outcome="failed", reason=error.reason, message=str(error))
        self.tell_fault("a fault in Rota", action="internal")
        message = f"A fault in Rota: {type(error).__name__}: {error}"
        return SessionResult(outcome="failed", reason=Reason.INTERNAL, message=message)

    def tell_fault(self, words: str, *, action: str) -> None:
        """With the traceback of what is being handled. It may quote what the session said."""
        traced = self.clean(traceback.format_exc())
        logger.error("Session %d: %s\n%s", self.session.pk, words, traced, extra={"action": action})

    def _put(self, result: SessionResult, fields: Mapping[str, Any]) -> None:
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
            said = f": {self.clean(result.message)}" if result.message else ""
            logger.info("%s: %s%s", told(self.session), result.outcome, said, extra={"action": "finished"})
        else:
            self.put_late(result, exit_code=fields.get("exit_code"))


def told(session: Session) -> str:
    """For the log: which one, of what and where."""
    where = f" in {session.repository}" if session.repository else ""
    rehearsed = ", rehearsed" if session.is_rehearsal else ""
    return f"Session {session.pk} of {session.schedule}{where}{rehearsed}"
