"""What the lines mean that Codex prints with `codex exec --json`. Pure: bytes in, events out.

Written against what Codex 0.169.0 prints; tests/runners/streams holds recordings of it. Nothing here raises, and what
is not known becomes an `output` event with the head of the line. When a usage limit is lifted stands in a sentence
(`runners.codex_limits`). The stream does not tell the model, how often it was asked, what it cost, and not every
command: `runners.codex_rollout` reads what Codex keeps besides.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final

from runners import codex_limits, plain_lines
from runners.agent_lines import describe_tool, event, frame_of, not_understood, number, shortened, text_of
from runners.base import Event, EventKind, Line

# What of a sentence tells its cause: in the words of `verdict.REASON_OF_FAULT`. The first that is found counts.
_FAULTS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), fault)
    for pattern, fault in (
        (r"overloaded|at capacity", "overloaded"),
        (r"usage limit|rate limit", "rate_limit"),
        (r"quota exceeded|billing|out of credits|spend(ing)? (cap|limit)", "billing_error"),
        (r"missing environment variable|api key|unauthorized|not logged in|log ?in again", "authentication_failed"),
        (r"\bmodel\b.*(does not exist|not found|not supported)", "model_not_found"),
    )
)
_STOPS: Final = (
    (re.compile(r"context window|context_length", re.IGNORECASE), "prompt_too_long"),
    (re.compile(r"content_filter|flagged", re.IGNORECASE), "refusal"),
)
_STATUS: Final = re.compile(r"(?:unexpected|last) status:? (\d{3})\b")
_REROUTED: Final = re.compile(r"model rerouted: (\S+) -> (\S+)")
_LOGGED: Final = re.compile(rb"\S+ +ERROR codex_core::tools::router: error=(.*)", re.DOTALL)
_REJECTED: Final = re.compile(r'Rejected\(\\*"(.*?)\\*"\)', re.DOTALL)
_SHELLS: Final = frozenset({"bash", "sh", "zsh", "dash"})


def read(line: Line) -> list[Event]:
    """The events of one line. Never raises."""
    if line.stream != "out":
        return [_denied(line) or plain_lines.read(line)]
    frame = frame_of(line)
    if frame is None:
        return [not_understood(line)]
    reader = _READERS.get(text_of(frame, "type"))
    events = reader(line, frame) if reader else None
    return [not_understood(line, {"type": text_of(frame, "type")})] if events is None else events


def fault_of(text: str) -> dict[str, Any]:
    """What a sentence of Codex tells of a fault: data = {fault, status, stop}."""
    status = _STATUS.search(text)
    return {
        "fault": next((fault for pattern, fault in _FAULTS if pattern.search(text)), "unknown"),
        "status": int(status[1]) if status else None,
        "stop": next((stop for pattern, stop in _STOPS if pattern.search(text)), ""),
    }


def _started(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    return [event("init", line, "Codex", {"agent_session_id": text_of(frame, "thread_id")})]


def _turn_started(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    return []


def _turn_completed(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    usage = frame.get("usage")
    data = {"subtype": "success", "is_error": False, **tokens(usage if isinstance(usage, dict) else {}), **_NO_PRICE}
    return [event("result", line, "", data)]


def _turn_failed(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    error = frame.get("error")
    text = text_of(error, "message") if isinstance(error, dict) else ""
    return [event("result", line, text, {"subtype": "failed", "is_error": True, **fault_of(text), **_NO_PRICE})]


def _error(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    text = text_of(frame, "message")
    return [event("error", line, text, fault_of(text)), *_usage_limit(line, text)]


def _usage_limit(line: Line, text: str) -> list[Event]:
    """Where it says when the limit is lifted: others who draw on it wait until then."""
    lifted_at = codex_limits.lifted_at(text, told_at_ms=line.at_ms)
    if lifted_at is None:
        return []
    data = {"status": "rejected", "resets_at": lifted_at, "model": codex_limits.limited_model(text)}
    return [event("rate_limit", line, "The usage limit: rejected", data)]


def _item(line: Line, frame: Mapping[str, Any]) -> list[Event] | None:
    item = frame.get("item")
    if not isinstance(item, dict):
        return None
    is_over = text_of(frame, "type") == "item.completed"
    reader = _ITEM_READERS.get(text_of(item, "type"))
    return reader(line, item, is_over) if reader else None


def _said(kind: EventKind) -> Callable[[Line, Mapping[str, Any], bool], list[Event]]:
    def said(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
        return [event(kind, line, text_of(item, "text"))] if is_over else []

    return said


def _command(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    command = _without_shell(text_of(item, "command"))
    if not is_over:
        return [_used(line, item, "command", {"command": command})]
    events = [_returned(line, item, text_of(item, "aggregated_output"))]
    if item.get("status") == "declined":
        events.append(event("error", line, f"Denied: {command}", {"denied": f"command: {command}"}))
    return events


def _file_change(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    given = item.get("changes")
    changes = [change for change in given if isinstance(change, dict)] if isinstance(given, list) else []
    told = "\n".join(f"{text_of(change, 'kind')} {text_of(change, 'path')}" for change in changes)
    return [_returned(line, item, told) if is_over else _used(line, item, "patch", {"changes": told})]


def _mcp_call(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    if not is_over:
        name = f"mcp__{text_of(item, 'server')}__{text_of(item, 'tool')}"
        return [_used(line, item, name, item.get("arguments"))]
    error, result = item.get("error"), item.get("result")
    if isinstance(error, dict):
        return [_returned(line, item, text_of(error, "message"))]
    content = result.get("content") if isinstance(result, dict) else None
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return [_returned(line, item, "\n".join(text_of(part, "text") or f"({text_of(part, 'type')})" for part in parts))]


def _subagent(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    if is_over:
        return [_returned(line, item, "")]
    return [_used(line, item, text_of(item, "tool"), {"prompt": text_of(item, "prompt")})]


def _web_search(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    query = text_of(item, "query")
    return [_returned(line, item, query) if is_over else _used(line, item, "web search", {"query": query})]


def _plan(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    steps = item.get("items")
    if is_over or not isinstance(steps, list):
        return []
    marked = (f"[{'x' if s.get('completed') else ' '}] {text_of(s, 'text')}" for s in steps if isinstance(s, dict))
    return [event("note", line, "Plan:\n" + "\n".join(marked))]


def _warning(line: Line, item: Mapping[str, Any], is_over: bool) -> list[Event]:
    """A remark that does not end the turn, also that another model answers than was asked."""
    text = text_of(item, "message")
    rerouted = _REROUTED.search(text)
    data = {"model": rerouted[1], "ran": rerouted[2]} if rerouted else {}
    return [event("note", line, text, data)] if is_over else []


def _used(line: Line, item: Mapping[str, Any], name: str, given: Any) -> Event:
    data = {"id": text_of(item, "id"), "name": name, "input": shortened(given)}
    return event("tool_use", line, describe_tool(name, given), data)


def _returned(line: Line, item: Mapping[str, Any], text: str) -> Event:
    data = {"id": text_of(item, "id"), "is_error": item.get("status") in ("failed", "declined")}
    return event("tool_result", line, text, data)


def _denied(line: Line) -> Event | None:
    """What its sandbox or its rules refuse, Codex tells on standard error alone."""
    logged = _LOGGED.match(line.data[:2000])
    text = logged[1].decode("utf-8", "replace").strip() if logged else ""
    if "rejected" not in text:
        return None
    if quoted := _REJECTED.search(text):
        text = quoted[1]
    return event("error", line, f"Denied: {text}", {"denied": text[:300]})


def _without_shell(command: str) -> str:
    """`/bin/bash -lc 'git log'` is `git log`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    is_shell = len(words) == 3 and words[0].rpartition("/")[2] in _SHELLS and words[1] in ("-c", "-lc")
    return words[2] if is_shell else command


def tokens(usage: Mapping[str, Any]) -> dict[str, int]:
    """Codex counts what it read from the cache, or wrote there, among the input."""
    cached = number(usage, "cached_input_tokens") + number(usage, "cache_write_input_tokens")
    return {
        "input_tokens": int(max(0, number(usage, "input_tokens") - cached)),
        "output_tokens": int(number(usage, "output_tokens")),
        "cached_tokens": int(cached),
        "cache_write_tokens": int(number(usage, "cache_write_input_tokens")),
    }


# Codex does not reckon what a session costs.
_NO_PRICE: Final[Mapping[str, Any]] = {"cost_usd": 0.0, "cost_known": False}

_Reader = Callable[[Line, Mapping[str, Any]], list[Event] | None]
_READERS: Final[Mapping[str, _Reader]] = {
    "thread.started": _started,
    "turn.started": _turn_started,
    "turn.completed": _turn_completed,
    "turn.failed": _turn_failed,
    "item.started": _item,
    "item.updated": _item,
    "item.completed": _item,
    "error": _error,
}
_ITEM_READERS: Final[Mapping[str, Callable[[Line, Mapping[str, Any], bool], list[Event]]]] = {
    "agent_message": _said("text"),
    "reasoning": _said("thinking"),
    "plan": _said("text"),
    "command_execution": _command,
    "file_change": _file_change,
    "mcp_tool_call": _mcp_call,
    "collab_tool_call": _subagent,
    "web_search": _web_search,
    "todo_list": _plan,
    "error": _warning,
}
