"""What agent programs have in common that print a JSON object in each line. Pure: bytes in, events out.

An agent's tools, its version or a crash may have put anything into a line: nothing here raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from runners.base import Event, EventKind, Line

TEXT_LENGTH: Final = 20_000  # characters of an event; the transcript has it all
RESULT_LENGTH: Final = 200_000
HEAD_LENGTH: Final = 2_000  # of a line that is not understood, and of one value of a tool's input
LINE_BYTES: Final = 16 * 1024 * 1024  # a longer line is not parsed

_INPUT_KEYS = ("command", "file_path", "notebook_path", "path", "pattern", "url", "query", "description", "skill")
_MOST = 2**53  # larger than any count, instant or sum of money that is meant
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x08\x0b-\x1f\x7f]")


def frame_of(line: Line) -> Mapping[str, Any] | None:
    """The object of a line, or None where it is none."""
    if len(line.data) > LINE_BYTES or not line.data.lstrip().startswith(b"{"):
        return None
    try:
        frame = json.loads(line.data)
    except (ValueError, RecursionError):
        return None
    return frame if isinstance(frame, dict) else None


def event(
    kind: EventKind, line: Line, text: str, data: Mapping[str, Any] | None = None, *, length: int = TEXT_LENGTH
) -> Event:
    return Event(kind=kind, at_ms=line.at_ms, text=cut(text, length), data=data or {})


def not_understood(line: Line, data: Mapping[str, Any] | None = None) -> Event:
    """An `output` event with the head of the line."""
    return event("output", line, line.data[: 4 * HEAD_LENGTH].decode("utf-8", "replace"), data, length=HEAD_LENGTH)


def text_of(frame: Mapping[str, Any], key: str) -> str:
    value = frame.get(key)
    return value if isinstance(value, str) else ""


def number(frame: Mapping[str, Any], key: str) -> float:
    """A number that can be meant, or 0."""
    value = frame.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST:
        return 0.0
    return value


def describe_tool(name: str, given: object) -> str:
    """A tool use in a few words: `Bash: git log -5`."""
    if not isinstance(given, dict):
        return name
    keys = [key for key in _INPUT_KEYS if isinstance(given.get(key), str)]
    text = given[keys[0]] if keys else next((v for v in given.values() if isinstance(v, str)), "")
    text = " ".join(text.split())
    return f"{name}: {cut(text, 200)}" if text else name


def shortened(value: Any, depth: int = 6) -> Any:
    """A tool's input with long texts, long lists and deep nests cut, so that it can stand in a row of a database."""
    match value:
        case str():
            return cut(value, HEAD_LENGTH)
        case bool() | int() | float() | None:
            return value
        case list() if depth:
            return [shortened(item, depth - 1) for item in value[:50]]
        case dict() if depth:
            return {clean(str(k))[:200]: shortened(v, depth - 1) for k, v in list(value.items())[:50]}
    return "…"


def cut(text: str, length: int) -> str:
    """Clean, and no longer than `length` and a remark."""
    more = len(text) - length
    return clean(text[:length]) + (f"… ({more} more characters)" if more > 0 else "")


def clean(text: str) -> str:
    """Without what no database column or page should hold: control characters, ANSI sequences, lone surrogates."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    return text.encode("utf-8", "replace").decode("utf-8")
