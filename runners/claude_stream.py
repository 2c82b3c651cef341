"""What the lines mean that Claude Code prints with `--output-format stream-json`. Pure: bytes in, events out.

Written against what Claude Code 2.1.327 prints; tests/runners/streams holds recordings of it. Nothing here raises, and
what is not known becomes an `output` event with the head of the line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from runners import plain_lines
from runners.agent_lines import HEAD_LENGTH, RESULT_LENGTH, describe_tool, frame_of, not_understood, shortened
from runners.agent_lines import event as _event
from runners.agent_lines import number as _number
from runners.agent_lines import text_of as _text_of
from runners.base import Event, Line
from runners.reckoning import tokens_in

SYNTHETIC: Final = "<synthetic>"  # the model of an answer that the program made up itself

_YEAR_2200 = 7_258_118_400
_FAMILIES: Final = frozenset({"haiku", "opus", "sonnet"})  # of models that have a limit of their own

# Frames of these kinds say nothing that a person watching or the verdict needs.
_IGNORED = frozenset({"stream_event", "tool_progress", "keep_alive", "tool_use_summary", "prompt_suggestion"})
_IGNORED_SYSTEM = frozenset(
    {
        "background_tasks_changed",
        "commands_changed",
        "hook_started",
        "hook_progress",
        "session_state_changed",
        "task_progress",
        "task_updated",
        "thinking_tokens",
    }
)


def read(line: Line) -> list[Event]:
    """The events of one line, most often one. Never raises."""
    if line.stream != "out":
        return [plain_lines.read(line)]
    frame = frame_of(line)
    if frame is None:
        return [not_understood(line)]
    kind = _text_of(frame, "type")
    if kind in _IGNORED:
        return []
    reader = _READERS.get(kind)
    events = reader(line, frame) if reader else None
    return [_unknown(line, frame)] if events is None else events


def _system(line: Line, frame: Mapping[str, Any]) -> list[Event] | None:
    subtype = _text_of(frame, "subtype")
    if subtype in _IGNORED_SYSTEM:
        return []
    reader = _SYSTEM_READERS.get(subtype)
    return reader(line, frame) if reader else None


def _init(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    tools = frame.get("tools")
    data = {
        "model": _text_of(frame, "model"),
        "tools": [str(tool) for tool in tools][:200] if isinstance(tools, list) else [],
        "agent_session_id": _text_of(frame, "session_id"),
        "version": _text_of(frame, "claude_code_version"),
        "permission_mode": _text_of(frame, "permissionMode"),
        "mcp_servers": {
            _text_of(server, "name"): _text_of(server, "status") for server in _objects(frame, "mcp_servers")
        },
        "plugin_faults": [_text_of(fault, "message") for fault in _objects(frame, "plugin_errors")],
    }
    return [_event("init", line, f"Claude Code {data['version']} with {data['model']}", data)]


def _api_retry(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    status = int(_number(frame, "error_status")) or None
    fault = _text_of(frame, "error")
    words = fault.replace("_", " ") or "fault"
    wait = _number(frame, "retry_delay_ms") / 1000
    attempt, most = int(_number(frame, "attempt")), int(_number(frame, "max_retries"))
    text = f"{words.capitalize()}{f' ({status})' if status else ''}: retry {attempt} of {most} in {wait:.1f} s"
    return [_event("error", line, text, {"fault": fault, "status": status})]


def _permission_denied(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    tool = _text_of(frame, "tool_name")
    data = {"denied": tool, "id": _text_of(frame, "tool_use_id")}
    return [_event("error", line, f"Denied: {tool}. {_text_of(frame, 'message')}", data)]


def _model_switch(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    asked, instead = _text_of(frame, "original_model"), _text_of(frame, "fallback_model")
    text = _text_of(frame, "content") or f"{asked} was replaced by {instead or 'no other model'}"
    return [_event("note", line, text, {"model": asked, "fallback_model": instead})]


def _informational(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    return [_event("note", line, _text_of(frame, "content"))]


def _status(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    status = _text_of(frame, "status") or _text_of(frame, "compact_result")
    return [_event("note", line, f"Conversation: {status}")] if status else []


def _compacted(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    return [_event("note", line, "The conversation was compacted.")]


def _hook(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    text = f"Hook {_text_of(frame, 'hook_name')}: {_text_of(frame, 'outcome')}"
    return [_event("note", line, text, {"exit_code": int(_number(frame, "exit_code"))})]


def _task(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    what = _text_of(frame, "summary") or _text_of(frame, "description")
    state = _text_of(frame, "status") or "started"
    return [_event("note", line, f"Task {state}: {what}")]


def _assistant(line: Line, frame: Mapping[str, Any]) -> list[Event] | None:
    message = frame.get("message")
    if not isinstance(message, dict):
        return None
    subagent = bool(frame.get("parent_tool_use_id"))
    blocks = _blocks(message)
    if fault := _text_of(frame, "error"):
        text = "\n".join(_text_of(block, "text") for block in blocks)
        return [_event("error", line, text, {"fault": fault})]
    events = [event for block in blocks if (event := _said(line, block, subagent=subagent))]
    model = _text_of(message, "model")
    if model != SYNTHETIC and isinstance(usage := message.get("usage"), dict):
        data = {"answer_id": _text_of(message, "id"), "model": model, "subagent": subagent, **_tokens(usage)}
        data["said_tokens"] = tokens_in(sum(_length(block) for block in blocks))
        events.append(_event("usage", line, "", data))
    return events


def _said(line: Line, block: Mapping[str, Any], *, subagent: bool) -> Event | None:
    data: dict[str, Any] = {"subagent": True} if subagent else {}
    match block.get("type"):
        case "text":
            return _event("text", line, _text_of(block, "text"), data)
        case "thinking":
            return _event("thinking", line, _text_of(block, "thinking"), data)
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            name, given = _text_of(block, "name"), block.get("input")
            data |= {"id": _text_of(block, "id"), "name": name, "input": shortened(given)}
            return _event("tool_use", line, describe_tool(name, given), data)
    return None


def _user(line: Line, frame: Mapping[str, Any]) -> list[Event] | None:
    message = frame.get("message")
    if not isinstance(message, dict):
        return None
    events = []
    for block in _blocks(message):
        if block.get("type") == "tool_result":
            data = {"id": _text_of(block, "tool_use_id"), "is_error": bool(block.get("is_error"))}
            events.append(_event("tool_result", line, _content_text(block.get("content")), data))
        elif block.get("type") == "text":  # the program's own words to the model
            events.append(_event("note", line, _text_of(block, "text"), length=HEAD_LENGTH))
    return events


def _rate_limit(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    info = frame.get("rate_limit_info")
    info = info if isinstance(info, dict) else {}
    resets_at = int(_number(info, "resetsAt"))
    family = _text_of(info, "rateLimitType").removeprefix("seven_day_")
    data = {
        "status": _text_of(info, "status"),
        "resets_at": resets_at if 0 < resets_at < _YEAR_2200 else None,
        "window": _text_of(info, "rateLimitType"),
        "utilization": _number(info, "utilization"),
        "overage": bool(info.get("isUsingOverage")),
        "model": family if family in _FAMILIES else "",
    }
    window = _text_of(info, "rateLimitType").replace("_", " ") or "rate"
    text = f"The {window} limit: {_text_of(info, 'status').replace('_', ' ')}"
    return [_event("rate_limit", line, text, data)]


def _result(line: Line, frame: Mapping[str, Any]) -> list[Event]:
    denials = frame.get("permission_denials")
    stop = _text_of(frame, "stop_reason")
    data: dict[str, Any] = {
        "subtype": _text_of(frame, "subtype"),
        "is_error": bool(frame.get("is_error")),
        "status": int(_number(frame, "api_error_status")) or None,
        "stop": stop if stop == "refusal" else _text_of(frame, "terminal_reason"),
        "turns": int(_number(frame, "num_turns")),
        "duration_ms": int(_number(frame, "duration_ms")),
        "denied": [
            describe_tool(_text_of(denial, "tool_name"), denial.get("tool_input"))
            for denial in (denials if isinstance(denials, list) else [])
            if isinstance(denial, dict)
        ],
        **_spent(frame),
        **({"structured": frame["structured_output"]} if "structured_output" in frame else {}),
    }
    errors = frame.get("errors")
    events = [_event("error", line, str(e)) for e in errors] if isinstance(errors, list) else []
    return [*events, _event("result", line, _text_of(frame, "result"), data, length=RESULT_LENGTH)]


def _spent(frame: Mapping[str, Any]) -> dict[str, Any]:
    """Tokens and cost of this process, subagents and the program's own questions to a model included.

    `modelUsage` and `total_cost_usd` add up over a conversation that is gone on with; what came since the last result
    is, on a process's first result, all that this process spent.
    """
    since = frame.get("model_usage_since_last_result")
    first = frame.get("result_index", 0) == 0 and isinstance(since, dict)
    by_model = since if first else frame.get("modelUsage")
    used = {m: u for m, u in by_model.items() if isinstance(u, dict)} if isinstance(by_model, dict) else {}

    def total(*keys: str) -> float:
        return sum(_number(usage, key) for usage in used.values() for key in keys)

    return {
        "models": sorted(used),
        "input_tokens": int(total("inputTokens")),
        "output_tokens": int(total("outputTokens")),
        "cached_tokens": int(total("cacheReadInputTokens", "cacheCreationInputTokens")),
        "cost_usd": total("costUSD") if first else _number(frame, "total_cost_usd"),
    }


def _unknown(line: Line, frame: Mapping[str, Any]) -> Event:
    return not_understood(line, {"type": _text_of(frame, "type"), "subtype": _text_of(frame, "subtype")})


_Reader = Callable[[Line, Mapping[str, Any]], list[Event] | None]
_READERS: Final[Mapping[str, _Reader]] = {
    "system": _system,
    "assistant": _assistant,
    "user": _user,
    "rate_limit_event": _rate_limit,
    "result": _result,
}
_SYSTEM_READERS: Final[Mapping[str, _Reader]] = {
    "init": _init,
    "api_retry": _api_retry,
    "permission_denied": _permission_denied,
    "model_fallback": _model_switch,
    "model_refusal_fallback": _model_switch,
    "model_refusal_no_fallback": _model_switch,
    "informational": _informational,
    "status": _status,
    "compact_boundary": _compacted,
    "hook_response": _hook,
    "task_started": _task,
    "task_notification": _task,
}


def _objects(frame: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Those of a list, the first few."""
    given = frame.get(key)
    listed: list[Any] = given[:100] if isinstance(given, list) else []
    return [each for each in listed if isinstance(each, dict)]


def _blocks(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _content_text(content: object) -> str:
    """The text of a tool's result, which is a text or a list of blocks; what is no text is named by its kind."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    blocks = [block for block in content if isinstance(block, dict)]
    return "\n".join(_text_of(block, "text") or f"({_text_of(block, 'type')})" for block in blocks)


def _tokens(usage: Mapping[str, Any]) -> dict[str, int]:
    cached = _number(usage, "cache_read_input_tokens") + _number(usage, "cache_creation_input_tokens")
    kept = usage.get("cache_creation")
    return {
        "input_tokens": int(_number(usage, "input_tokens")),
        "output_tokens": int(_number(usage, "output_tokens")),
        "cached_tokens": int(cached),
        "cache_write_tokens": int(_number(usage, "cache_creation_input_tokens")),
        "cache_write_1h_tokens": int(_number(kept, "ephemeral_1h_input_tokens")) if isinstance(kept, dict) else 0,
    }


def _length(block: Mapping[str, Any]) -> int:
    """Characters that a model wrote for one block of an answer."""
    given = block.get("input")
    return len(_text_of(block, "text")) + len(_text_of(block, "thinking")) + (len(json.dumps(given)) if given else 0)
