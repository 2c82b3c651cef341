"""Lines that are nothing but text, for a runner whose program has no format of its own."""

from __future__ import annotations

import re

from runners.base import Event, EventKind, Line

TEXT_LENGTH = 4000  # characters of an event; the transcript has it all

# Escape sequences of a terminal; all control characters but the tab.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-_]")
_INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Codes of the shim's notes that do not tell of the session's end.
_REMARKS = frozenset({"line_cut", "memory", "truncated"})


def read(line: Line) -> Event:
    """The event of a line. Never raises."""
    if line.stream == "shim":
        return _note(line)
    kind: EventKind = "output" if line.stream == "out" else "stderr"
    return Event(kind=kind, at_ms=line.at_ms, text=printable(line.data))


def printable(data: bytes, *, length: int = TEXT_LENGTH) -> str:
    """Text that is safe to show and to store: UTF-8, no control characters, at most `length` long.

    Of a line that was written over, as progress bars do with carriage returns, the last state.
    """
    whole = data if len(data) <= 8 * length else data[: 8 * length]
    text = _CONTROL.sub("", whole.decode("utf-8", "replace")).rstrip("\r")
    text = _INVISIBLE.sub("", text.rpartition("\r")[2])
    if len(text) <= length and whole is data:
        return text
    return f"{text[:length]}… [{len(data)} bytes]"


def _note(line: Line) -> Event:
    """The shim writes `<code>: <sentence>` when it ends the session, and when it keeps not all."""
    code, _, sentence = printable(line.data).partition(": ")
    if code in _REMARKS or not sentence:
        return Event(kind="note", at_ms=line.at_ms, text=sentence or code)
    return Event(kind="limit", at_ms=line.at_ms, text=sentence, data={"ended_by": code})
