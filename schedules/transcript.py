"""A session's events on their way to the database: numbered, redacted, capped, in batches."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
_DEEPEST = 20  # levels of an event's data
_ALWAYS_KEPT = frozenset({"result", "limit", "error", "note"})
_LINES = ("output", "stderr")
_MOST_WAITING = 20  # events, for one line: a reader waits with them


class Transcript:
    """Collects events and writes them. `written` is the highest number in the database already."""

    def __init__(self, session: Session, redactor: Redactor, *, next_seq: int, written: int = 0) -> None:
        self._session = session
        self._redactor = redactor
        self._next_seq = next_seq
        self._written = written
        self._pending: list[SessionEvent] = []
        self._lines = {kind: redactor.lines() for kind in _LINES}
        # In order, each with whether it is sure: not a line while a secret may go on in the next one of its kind.
        self._waiting: list[tuple[Event, bool]] = []
        self._is_full = False

    def add(self, events: Sequence[Event]) -> list[Event]:
        """Take events in. Returns those that everybody else may know by now, without secrets, the oldest first.

        Lines in which a secret seems to begin wait for the one that follows.
        """
        return self._number([ready for event in events for ready in self._ready(event)])

    def flush(self) -> list[Event]:
        """Those that waited: nothing follows."""
        for kind in _LINES:
            self._settle(kind, self._lines[kind].flush())
        return self._number(self._sure())

    def _number(self, redacted: list[Event]) -> list[Event]:
        for event in redacted:
            seq = self._next_seq
            self._next_seq += 1
            if seq > self._written and self._has_room(event, seq):
                self._pending.append(self._row(event, seq))
        return redacted

    @property
    def is_full(self) -> bool:
        """No ordinary event is kept any more."""
        return self._next_seq >= FIRST_OF_PROCESS + MOST_EVENTS

    def pass_over(self, count: int) -> list[Event]:
        """So many events are not taken in, and have their numbers all the same. Returns those that waited."""
        waited = self.flush()
        self._next_seq += count
        return waited

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

    def _ready(self, event: Event) -> list[Event]:
        if event.kind not in _LINES:
            self._waiting.append((self._redacted(event), True))
        else:
            self._waiting.append((event, False))
            self._settle(event.kind, self._lines[event.kind].feed(event.text))
        if len(self._waiting) > _MOST_WAITING:
            for kind in _LINES:
                self._settle(kind, self._lines[kind].flush())
        return self._sure()

    def _settle(self, kind: str, texts: list[str]) -> None:
        """These are what the lines of a kind that wait may say: all of them, or none yet."""
        said = iter(texts)
        for at, (event, is_sure) in enumerate(self._waiting):
            if event.kind == kind and not is_sure and (text := next(said, None)) is not None:
                self._waiting[at] = (self._redacted(replace(event, text=text)), True)

    def _sure(self) -> list[Event]:
        """The first of those that wait, as many as nothing more can come to."""
        count = next((at for at, (_, is_sure) in enumerate(self._waiting) if not is_sure), len(self._waiting))
        sure = [event for event, _ in self._waiting[:count]]
        del self._waiting[:count]
        return sure

    def _redacted(self, event: Event) -> Event:
        return replace(event, text=self._redactor.text(event.text), data=self._plain(event.data, _DEEPEST))

    def plain(self, value: Any) -> Any:
        """JSON that both databases take, and its texts without secrets."""
        return self._plain(value, _DEEPEST)

    def _plain(self, value: Any, depth: int) -> Any:
        match value:
            case str():
                return _takeable(self._redactor.text(value))
            case float():
                return value if math.isfinite(value) else None
            case bool() | int() | None:
                return value
            case Mapping() if depth:
                return {self._plain(str(name), 0): self._plain(inner, depth - 1) for name, inner in value.items()}
            case list() | tuple() if depth:
                return [self._plain(inner, depth - 1) for inner in value]
            case Mapping() | list() | tuple():
                return "…"
        return self._plain(str(value), 0)

    def _row(self, event: Event, seq: int) -> SessionEvent:
        return SessionEvent(
            session=self._session,
            seq=seq,
            at=at(event.at_ms),
            kind=event.kind,
            text=storable(event.text, MOST_TEXT),
            data=self._data(event.data),
        )

    def _data(self, data: Mapping[str, Any]) -> Any:
        """Whole or not at all: a secret that is still there is a number."""
        written = json.dumps(data)
        is_fit = len(written) <= MOST_DATA and self._redactor.text(written) == written
        return data if is_fit else {"cut": True}


def at(at_ms: int) -> datetime:
    """Unix milliseconds as an aware instant in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, tz=UTC)


def storable(text: str, most: int) -> str:
    """Text that both databases take, at most `most` characters."""
    return _takeable(text if len(text) <= most else f"{text[: most - 2]} …")


def _takeable(text: str) -> str:
    """Without NUL and lone surrogates."""
    return text.replace("\0", "␀").encode(errors="replace").decode()
