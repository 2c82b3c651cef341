"""A session's events on their way to the database: numbered, redacted, capped, in batches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from runners import Event, Redactor
from schedules.models import Session, SessionEvent

# Rota's own notes before the process starts have the numbers below; the process's events the numbers from here. So an
# adopted session, read again from the start, gives each event the number that it had.
FIRST_OF_PROCESS = 100
MOST_EVENTS = 5000
MOST_TEXT = 20_000
MOST_DATA = 20_000
_ALWAYS_KEPT = frozenset({"result", "limit", "error", "note"})


class Transcript:
    """Collects events and writes them. `written` is the highest number in the database already."""

    def __init__(self, session: Session, redactor: Redactor, *, next_seq: int, written: int = 0) -> None:
        self._session = session
        self._redactor = redactor
        self._next_seq = next_seq
        self._written = written
        self._pending: list[SessionEvent] = []
        self._is_full = False

    def add(self, events: Sequence[Event]) -> None:
        for event in events:
            seq = self._next_seq
            self._next_seq += 1
            if seq > self._written and self._has_room(event, seq):
                self._pending.append(self._row(event, seq))

    def begin_process(self) -> None:
        self._next_seq = FIRST_OF_PROCESS

    @property
    def pending(self) -> list[SessionEvent]:
        """What is to be written now. The caller writes it in its transaction and says so afterwards."""
        return list(self._pending)

    def written(self, count: int) -> None:
        """The first `count` of what was pending is in the database."""
        del self._pending[:count]

    def _has_room(self, event: Event, seq: int) -> bool:
        if seq < FIRST_OF_PROCESS + MOST_EVENTS or event.kind in _ALWAYS_KEPT:
            return True
        if not self._is_full:
            self._is_full = True
            text = f"The live view keeps {MOST_EVENTS} events; the rest is in the transcript."
            self._pending.append(self._row(Event(kind="note", at_ms=event.at_ms, text=text), seq))
        return False

    def _row(self, event: Event, seq: int) -> SessionEvent:
        return SessionEvent(
            session=self._session,
            seq=seq,
            at=at(event.at_ms),
            kind=event.kind,
            text=storable(self._redactor.text(event.text), MOST_TEXT),
            data=self._data(event.data),
        )

    def _data(self, data: Any) -> Any:
        written = storable(self._redactor.text(json.dumps(dict(data), default=str)), MOST_DATA + 1)
        return json.loads(written) if len(written) <= MOST_DATA else {"cut": True}


def at(at_ms: int) -> datetime:
    """Unix milliseconds as an aware instant in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def storable(text: str, most: int) -> str:
    """Text that both databases take: without NUL and lone surrogates, at most `most` characters."""
    if len(text) > most:
        text = f"{text[: most - 2]} …"
    return text.replace("\0", "␀").encode(errors="replace").decode()
