"""What is logged, on standard error: a fault that comes again every second fills no disk.

Named in the setting LOGGING. Beat and workers try again what fails, once a second and for as long as it takes; told
each time with its traceback, that was a gigabyte a day.
"""

from __future__ import annotations

import copy
import logging
from collections import OrderedDict
from dataclasses import dataclass

QUIET = 60.0  # seconds in which a warning that is told again is only counted
TRACEBACK_AGAIN = 3600.0  # seconds after which its traceback is told again
MOST = 500  # different ones that are remembered


@dataclass(slots=True)
class _Told:
    at: float  # when it was told last, in seconds since 1970
    traceback_at: float
    more: int = 0  # that were not, since


class Console(logging.StreamHandler):  # type: ignore[type-arg]
    """Tells the same warning, or worse, once a minute, and how many there were; its traceback once an hour."""

    def __init__(self) -> None:
        super().__init__()
        self._told: OrderedDict[tuple[str, int, str, str], _Told] = OrderedDict()

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            super().emit(record)
        elif (worth_telling := self._seldom(record)) is not None:
            super().emit(worth_telling)

    def _seldom(self, record: logging.LogRecord) -> logging.LogRecord | None:
        """The record, with what there is to say of those like it; None: it is only counted."""
        words = record.getMessage()
        key = (record.name, record.levelno, words, repr(record.exc_info[1]) if record.exc_info else "")
        known = self._told.get(key)
        if known is None or record.created < known.at:  # a clock that was turned back
            self._told[key] = _Told(record.created, record.created)
            if len(self._told) > MOST:
                self._told.popitem(last=False)
            return record
        if record.created - known.at < QUIET:
            known.more += 1
            return None
        told = copy.copy(record)
        if known.more:
            since = record.created - known.at
            told.msg, told.args = f"{words} ({known.more} times more in {since:.0f} s)", None
        if record.exc_info and record.created - known.traceback_at < TRACEBACK_AGAIN:
            told.exc_info = told.exc_text = None
        else:
            known.traceback_at = record.created
        known.at, known.more = record.created, 0
        self._told.move_to_end(key)
        return told
