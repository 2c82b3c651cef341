"""A session's process is followed: what it prints becomes events, counters, and what others know of its service."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from django.db import InterfaceError, OperationalError, connection, transaction

from runners import (
    Ending,
    Event,
    Line,
    Runner,
    Tally,
    add_event,
    await_end,
    ending_or_died,
    is_over_budget,
    read_lines,
    request_stop,
    spent,
)
from schedules import quota
from schedules.models import Session, SessionEvent, WorkerHeartbeat
from schedules.prepared import Insert
from schedules.transcript import storable
from schedules.workplace import Workplace

logger = logging.getLogger(__name__)

Clock = Callable[[], datetime]
Wish = Literal["", "cancelled", "shutdown", "detach", "lost", "taken"]
"""End it, for a person or with Rota; leave it to its shim; end it, for its lease can't be renewed; it is another's."""

_LOOK_EVERY = 0.1  # seconds between two looks into the session's folder
_WRITE_EVERY = 0.4  # seconds between two writes of events
_READ_AT_ONCE = 1 << 20  # bytes
_LAST_LINES = 50  # of what is read at once, where no more of it is shown

_TAKEN_IN = Insert(SessionEvent, "session_id", "seq", "at", "kind", "text", "data")


class LeaseLost(Exception):
    """The row says that the session is not this worker's any more."""


class Follower:
    """Of one session, in its place on this machine.

    `wish` says what is wanted of it meanwhile. `look` is called often, with seconds of the monotonic clock.
    """

    def __init__(
        self,
        session: Session,
        place: Workplace,
        *,
        worker: WorkerHeartbeat,
        wish: Callable[[], Wish],
        clock: Clock,
        look: Callable[[float], object],
    ) -> None:
        self._session = session
        self._place = place
        self._worker = worker
        self._wish = wish
        self._clock = clock
        self._look = look
        self._told_reset: int | None = None  # what others know already of the quota that it draws on
        self._told_answer = False
        self.is_lost = False  # it is ended here, because the database could not be told that this worker is there

    def adopt(self) -> None:
        """Another worker began. An answer from before says nothing of the service as it is now."""
        self._told_answer = True

    def follow(self, folder: Path, read: Callable[[Line], list[Event]]) -> Ending | None:
        """Read what it prints until it ended. None: the worker leaves, and the shim keeps the session.

        Raises LeaseLost.
        """
        offset, asked, write_at = 0, False, 0.0
        while True:
            ending = ending_or_died(folder)
            lines, offset = read_lines(folder, offset, max_bytes=_READ_AT_ONCE)
            for line in self._worth_reading(lines):
                # Without secrets from the start: what is cut or rewritten later would not be known for one.
                events = read(replace(line, data=self._place.redactor.line(line.data)))
                self._tally(self._place.transcript.add(events))
            if ending and not lines:
                self._tally(self._place.transcript.flush())
                return ending
            wish = self._wish()
            if wish == "detach":
                self.write()
                return None
            if wish == "taken":
                raise LeaseLost
            reason = wish or self._overrun()
            if reason and not asked:
                asked = True
                self.is_lost = reason == "lost"
                request_stop(folder, "shutdown" if reason == "lost" else reason)
            if time.monotonic() >= write_at and self.write():
                write_at = time.monotonic() + _WRITE_EVERY
            self._look(time.monotonic())
            if not lines:
                await_end(folder, _LOOK_EVERY)

    def read_rest(self, runner: Runner) -> None:
        """What it printed and nobody read, for the verdict alone."""
        offset, self._place.tally = 0, Tally()
        while True:
            lines, offset = read_lines(self._place.folder, offset, max_bytes=_READ_AT_ONCE)
            if not lines:
                return
            for line in lines:
                self._tally(runner.read(replace(line, data=self._place.redactor.line(line.data))))

    def write(self) -> bool:
        """What is new goes to the database; while that is away, it waits here. Returns whether there was something.

        Raises LeaseLost.
        """
        rows = self._place.transcript.pending
        if not rows:
            return False
        try:
            with transaction.atomic():
                # Some may be there already: a commit whose answer was lost with the connection.
                _TAKEN_IN.unless_there(rows)
                self.progress(**self._counters())
                if self._session.credential:
                    self._tell_quota()
        except (OperationalError, InterfaceError) as error:
            logger.warning("Session %d: the database is away: %s", self._session.pk, error)
            connection.close()
        else:
            self._place.transcript.written(len(rows))
        return True

    def progress(self, **fields: Any) -> None:
        """Live facts of the session. Raises LeaseLost."""
        if not Session.objects.progress(self._session.pk, worker=self._worker, **fields):
            raise LeaseLost

    def _worth_reading(self, lines: Sequence[Line]) -> Iterator[Line]:
        """All of them; of a flood of plain lines, which nobody is shown any more, the last ones.

        A worker has other sessions to follow. What is passed over counts as the one event that it would have been, so
        that whoever takes over gives the same numbers.
        """
        last, passed = len(lines) - _LAST_LINES, 0
        for place, line in enumerate(lines):
            if place < last and self._place.transcript.is_full and _is_plain(line):
                passed += 1
                continue
            if passed:
                self._tally(self._place.transcript.pass_over(passed))
                passed = 0
            yield line

    def _overrun(self) -> Literal["", "budget"]:
        """The agent's own cap on money did not hold. While no worker follows, that and the shim's limits have to do."""
        tally = self._place.tally
        is_over = tally.result is None and is_over_budget(tally, self._place.spec.options)
        return "budget" if is_over else ""

    def _tally(self, events: list[Event]) -> None:
        for event in events:
            add_event(self._place.tally, event)

    def _tell_quota(self) -> None:
        """What others who wait for the same service are to know before this session ends."""
        tally, credential = self._place.tally, self._session.credential
        resets_at = tally.rate_limit_resets_at
        if resets_at and resets_at != self._told_reset:
            lifted_at = datetime.fromtimestamp(resets_at, UTC)
            quota.hold_until(credential, lifted_at, model=tally.rate_limit_model, now=self._clock())
            self._told_reset = resets_at
        if tally.turns and not self._told_answer:
            quota.answered(credential, now=self._clock())
            self._told_answer = True

    def _counters(self) -> dict[str, Any]:
        tally = self._place.tally
        cost, source = (0.0, "") if self._session.is_rehearsal else spent(tally)
        return {
            "activity": storable(self._place.clean(tally.activity), 200),
            "model": tally.model[:100],
            "program_version": (tally.program_version or self._place.program_version)[:100],
            "turns": tally.turns,
            "input_tokens": tally.input_tokens,
            "output_tokens": tally.output_tokens,
            "cached_tokens": tally.cached_tokens,
            "cost_usd": round(cost, 6),
            "cost_source": source,
        }


def _is_plain(line: Line) -> bool:
    return line.stream != "shim" and not line.data.lstrip().startswith(b"{")
