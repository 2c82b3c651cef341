"""What another machine needs to go on with a session is kept in the database, should this one go away.

Its conversation and its work, now and then while it runs (see `parking`), and as they are when it was interrupted. Only
of an agent whose schedule wants it gone on with; of any other session nothing is kept here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from io import BytesIO

from runners import CONVERSATION_BYTES, Redactor, Runner, bundle, bundle_branch, open_conversation
from schedules import conversations
from schedules.folders import cache
from schedules.models import Session
from schedules.parking import Parking
from schedules.workplace import Workplace

_CONVERSATION, _WORK, _LEFT = "parked.jsonl", "parked.bundle", "left.bundle"  # there for a moment


class Safekeeping:
    """Of one session, in its place on this machine."""

    def __init__(self, session: Session, place: Workplace, runner: Runner, *, clock: Callable[[], datetime]) -> None:
        self._session = session
        self._place = place
        self._runner = runner
        self._clock = clock
        self._kept_size = 0  # bytes that the conversation had when it was last kept
        self._is_over = False
        self.is_wanted = runner.is_agent and bool(session.run.snapshot.get("continue_interrupted"))
        self._parking = Parking.of(conversation=self.keep_conversation, work=self.keep_work, at=time.monotonic())

    def look(self, at: float) -> None:
        """While it runs, often: keep what is due to be kept. `at`: seconds of the monotonic clock."""
        if self.is_wanted and not self._is_over:
            self._parking.look(at)

    def close(self) -> None:
        """What is being kept just now is kept no more: the session is over, or another's."""
        self._is_over = True

    def end(self) -> None:
        """The same, after a while for what is being kept."""
        self._parking.end()
        self.close()

    def share(self, *, branch: str) -> None:
        """It was interrupted: keep what it left on a branch of this machine's cache. Raises RunnerError, OSError."""
        repository, file = self._session.repository, self._place.folder / _LEFT
        if not (repository and branch):
            return
        try:
            if bundle_branch(cache(), repository.slug, branch, base=self._session.run.commit, into=file):
                conversations.keep_work(self._session, file, now=self._clock())
        finally:
            file.unlink(missing_ok=True)

    def forget(self, *, conversation: bool) -> None:
        """It ended by itself, and nobody goes on with its work. `conversation`: nor with that."""
        conversations.forget(self._session, conversation=conversation)

    def keep_conversation(self) -> None:
        """What it has said so far, up to the last whole line. Raises OSError."""
        conversation = self._runner.conversation(self._place.spec)
        size = conversation.file.stat().st_size if conversation else 0
        if conversation is None or size == self._kept_size or not self._still_runs():
            return
        kept, redactor = self._place.folder / _CONVERSATION, Redactor(self._place.hidden.values())
        try:
            with open_conversation(conversation) as said, kept.open("wb") as file:
                lines = BytesIO(said.read(CONVERSATION_BYTES))
                file.writelines(redactor.line(line) for line in lines if line.endswith(b"\n"))
            if self._still_runs():
                conversations.keep(self._session, kept, runner=self._place.runs_with, now=self._clock())
                self._kept_size = size
        finally:
            kept.unlink(missing_ok=True)

    def keep_work(self) -> None:
        """What it has changed so far. Raises RunnerError, OSError."""
        workspace = self._place.workspace
        if workspace is None or not self._still_runs():
            return
        file, base = self._place.folder / _WORK, self._session.run.commit
        try:
            made = bundle(workspace, cache(), base=base, into=file, secrets=self._place.hidden)
            if made and self._still_runs():
                conversations.keep_work(self._session, file, now=self._clock())
        finally:
            file.unlink(missing_ok=True)

    def _still_runs(self) -> bool:
        """Here. After its end what was kept before it is kept no more: somebody may have forgotten it already."""
        if self._is_over:
            return False
        running = Session.objects.filter(status=Session.Status.RUNNING, worker=self._session.worker_id)
        return running.filter(pk=self._session.pk).exists()
